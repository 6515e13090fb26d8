"""The processes of `finetune`: latents, drawings before, LoRA steps, drawings after.

`python -m ffpdata.training.trainer job.json`. Each part looks for what is already there and makes the rest, so that a
start after a kill goes on. With several processes samples and drawings are shared out among them, and each step takes
samples of all.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ffpdata.core.errors import FatalError, FfpdataError
from ffpdata.core.keys import digest
from ffpdata.media.codec import read_masks, read_video, video_info, write_video
from ffpdata.models.gpu_memory import GpuMemoryError, gpu_memory, release
from ffpdata.models.settings import parse_settings
from ffpdata.models.vace import control_inputs, make_request
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.loading import load, stdout_to_stderr
from ffpdata.models.weights import torch_device
from ffpdata.training import checkpoints
from ffpdata.training.atomic_files import make_whole, write_whole
from ffpdata.training.checkpoints import Progress
from ffpdata.training.job import LORA, TRAINED, Job, Sample, file_digest
from ffpdata.training.launch import report, tell
from ffpdata.training.preflight import preflight

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ffpdata.models.vace import VaceSettings
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.training import Latents, LoraTraining

LIBRARIES = ("torch", "diffsynth", "peft", "accelerate")
"""Whose versions the lineage tells."""

ENCODERS = ("text_encoder", "vae")

REMEDY = "Set gradient_checkpointing to offload, lower the rank, train on a smaller clip, or on a larger card."

WAIT = timedelta(hours=12)
"""How long processes wait for one another: one may still be drawing a clip while the others are through."""


def main(config: Path) -> int:
    """Do a job; what is raised of ours is reported to the process that waits for it."""
    try:
        Trainer(Job.read(config)).run()
    except GpuMemoryError as err:
        report(config, FatalError(str(err)))
        return 1
    except FfpdataError as err:
        report(config, err)
        return 1
    return 0


class Trainer:
    """One of a job's processes."""

    def __init__(self, job: Job) -> None:
        self.job, self.settings = job, job.settings
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.backend = cast("Any", job.spec.load_class())
        self.device = self._device()
        runtime = {**job.spec.runtime, "device": str(self.device), "sequence_parallel": 1}
        self.spec = job.spec.model_copy(update={"runtime": runtime})
        self._turn: tuple[int, list[Sample]] = (-1, [])
        self.role: VaceSettings = parse_settings(self.backend.Settings, job.spec)

    def run(self) -> None:
        """Do all parts."""
        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        preflight(self.job, plan, self.device, self.say)
        self.encode()
        self.draw("")
        revision = self.learn()
        self.draw(revision)

    def say(self, line: str) -> None:
        """Tell of progress, once for all processes."""
        if self.rank == 0:
            tell(line)

    def share(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """This process's part of all samples, whatever is done of them: others are at work meanwhile."""
        return samples[self.rank :: self.world]

    # --- latents ---

    def encode(self) -> None:
        """Write the latents that are missing, with the VAE and the text encoder alone in memory."""
        wanted = (*self.job.samples, *self.job.measured)
        mine = [sample for sample in self.share(wanted) if not self.job.latents_file(sample).is_file()]
        self.say(f"latents: {len(mine)} to make, by each process")
        if not mine:
            return
        from safetensors.torch import save

        from ffpdata.models.wan.training import Encoding

        with self._loaded(ENCODERS) as pipe:
            encoding = Encoding(pipe)
            for done, sample in enumerate(mine, 1):
                request, target = self.request(sample), read_video(sample.target_video)
                with self._memory(f"encoding {sample.item_id}, {request}"):
                    latents = encoding(request, target)
                write_whole(self.job.latents_file(sample), save(latents))
                self.say(f"latents: {done} of {len(mine)}")

    def request(self, sample: Sample) -> Request:
        """What the remover is asked for at work, word for word and pixel for pixel (`VaceRoles.edit`)."""
        frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
        if not masks.any():
            raise FatalError(f"{sample.item_id}: its mask is empty, nothing can be learned from it: leave it out")
        shown: dict[str, Any] = control_inputs(frames, masks)
        return make_request(self.role, frames.shape, sample.prompt, negative=sample.negative, seed=sample.seed, **shown)

    # --- drawings ---

    def draw(self, revision: str) -> None:
        """Have the remover draw held-out samples, with the LoRA of `revision` or, where that is "", without it."""
        mine = [sample for sample in self.share(self.job.drawn) if not self.job.drawing(sample, revision).is_file()]
        if not mine:
            return
        loras = list(self.job.spec.settings.get("loras", []))
        if revision:
            loras.append({"model": str(self.job.folder / LORA)})
        spec = self.spec.model_copy(update={"settings": {**self.spec.settings, "loras": loras}})
        model = self.backend(spec)
        try:
            for done, sample in enumerate(mine, 1):
                self.say(f"drawing {'after' if revision else 'before'}: {done} of {len(mine)}")
                frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
                told = {"prompt": sample.prompt, "negative": sample.negative, "seed": sample.seed}
                edit = model.edit(frames, masks, **told)
                fps = video_info(sample.source_video).fps
                make_whole(self.job.drawing(sample, revision), partial(write_video, frames=edit.frames, fps=fps))
        finally:
            model.close()

    # --- learning ---

    def learn(self) -> str:
        """Take the steps that are missing, write the LoRA and `trained.json`, and return the revision."""
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
        from safetensors.torch import save

        waits = InitProcessGroupKwargs(timeout=WAIT)
        on_cpu = self.device.type == "cpu"
        accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[waits])
        self._wait()
        with self._loaded((TRANSFORMER,)) as pipe:
            module = self._module(pipe)
            progress = self._steps(accelerator, module)
            if self.rank == 0:
                state = {name: value.detach().to("cpu").contiguous() for name, value in module.learned().items()}
                write_whole(self.job.folder / LORA, save(state, metadata={"format": "pt"}))
                self._write_result(progress)
        self._wait()
        return file_digest(self.job.folder / LORA)

    def _module(self, pipe: Any) -> LoraTraining:
        from ffpdata.models.wan.training import LoraTraining

        settings = self.settings
        return LoraTraining(
            pipe,
            rank=settings.rank,
            targets=settings.layers,
            checkpointing=settings.gradient_checkpointing,
            control_scale=self.role.control_scale,
            seed=settings.seed,
        )

    def _steps(self, accelerator: Accelerator, module: LoraTraining) -> Progress:
        from ffpdata.models.wan.training import MasterWeights

        settings, folder, fingerprint = self.settings, self.job.folder / "checkpoints", self.job.fingerprint
        masters = MasterWeights(module.learned(), settings.learning_rate, settings.weight_decay)
        progress = Progress()
        if found := checkpoints.load(folder, fingerprint, settings.steps):
            progress, state = found
            masters.load(state)
            self.say(f"going on after step {progress.step}")
        else:
            self._measure(accelerator, module, progress)
        model = accelerator.prepare_model(module)
        while progress.step < settings.steps:
            began = time.monotonic()
            loss = self._step(accelerator, model, progress.step)
            norm = masters.step()
            progress.step += 1
            if not math.isfinite(norm):
                raise FatalError(f"step {progress.step}: the gradient is not finite ({norm}): lower learning_rate")
            progress.losses.append((progress.step, loss))
            last = progress.step == settings.steps
            if last or progress.step % settings.measure_every == 0:
                self._measure(accelerator, module, progress)
            progress.seconds += time.monotonic() - began
            if self.rank == 0 and (last or progress.step % settings.save_every == 0):
                checkpoints.save(folder, fingerprint, progress, masters.state())
            now = progress.held_out and progress.held_out[-1][0] == progress.step
            held = f", held out {progress.held_out[-1][1]:.4f}" if now else ""
            left = progress.seconds / progress.step * (settings.steps - progress.step) / 60
            self.say(f"step {progress.step} of {settings.steps}: loss {loss:.4f}{held}, about {left:.0f} min left")
        return progress

    def _step(self, accelerator: Accelerator, model: Any, step: int) -> float:
        """Gather the gradients of one step and return its mean loss over all processes."""
        import torch

        settings = self.settings
        total = torch.zeros((), device=self.device)
        for micro in range(settings.accumulate):
            index = (step * settings.accumulate + micro) * self.world + self.rank
            sample = self.sample_at(index)
            together = micro == settings.accumulate - 1
            waits = contextlib.nullcontext() if together else accelerator.no_sync(model)
            with self._memory(f"step {step + 1} on {sample.item_id}"), waits:
                loss = model(self._latents(sample), number(settings.seed, "noise", index))
                if not torch.isfinite(loss):
                    raise FatalError(
                        f"step {step + 1}: the loss of {sample.item_id} is not finite ({float(loss)}): lower "
                        "learning_rate, or leave the sample out if it is the first step that it takes part in"
                    )
                accelerator.backward(loss / settings.accumulate)
            total += loss.detach() / settings.accumulate
        return float(accelerator.reduce(total, "mean"))

    def sample_at(self, index: int) -> Sample:
        """The sample that is looked at as number `index`: all of them once, in an order of each turn's own."""
        turn, place = divmod(index, len(self.job.samples))
        return self._in_turn(turn)[place]

    def _in_turn(self, turn: int) -> list[Sample]:
        if self._turn[0] != turn:  # there may be thousands: they are put in order once a turn
            keys, seed = self.job.keys, self.settings.seed
            ordered = sorted(self.job.samples, key=lambda one: digest("order", seed, turn, keys[one.item_id]))
            self._turn = turn, ordered
        return self._turn[1]

    def _measure(self, accelerator: Accelerator, module: LoraTraining, progress: Progress) -> None:
        """Note the loss of the held-out samples: the same noise at the same timesteps whenever it is measured."""
        import torch

        measured, draws = self.job.measured, self.settings.measure_draws
        if not measured:
            return
        found = torch.zeros(len(measured) * draws, device=self.device)
        tasks = [(sample, draw) for sample in measured for draw in range(draws)]
        with torch.no_grad():
            for index in range(self.rank, len(tasks), self.world):
                sample, draw = tasks[index]
                seed = number(self.settings.seed, "held out", self.job.keys[sample.item_id], draw)
                with self._memory(f"measuring {sample.item_id}"):
                    found[index] = module(self._latents(sample), seed, (draw / draws, (draw + 1) / draws))
        progress.held_out.append((progress.step, float(accelerator.reduce(found, "sum").mean())))

    def _latents(self, sample: Sample) -> Latents:
        from safetensors.torch import load_file

        found: Latents = load_file(self.job.latents_file(sample))
        return found

    def _write_result(self, progress: Progress) -> None:
        import torch

        card = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        result = {
            "fingerprint": self.job.fingerprint,
            "revision": file_digest(self.job.folder / LORA),
            **vars(progress),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "device": card,
        }
        write_whole(self.job.folder / TRAINED, json.dumps(result).encode())

    # --- processes and devices ---

    def _device(self) -> torch.device:
        import torch

        if self.settings.gpus == 0:
            return torch.device("cpu")
        device = torch_device(self.job.spec)
        if device.type == "cpu":
            return device
        if self.world == 1:
            os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
            return device
        local = int(os.environ["LOCAL_RANK"])
        if torch.cuda.device_count() < self.world:
            raise FatalError(f"gpus is {self.world}, but {torch.cuda.device_count()} are visible here: set fewer")
        torch.cuda.set_device(local)
        return torch.device("cuda", local)

    @contextlib.contextmanager
    def _loaded(self, parts: Sequence[str]) -> Iterator[Any]:
        plan = self.backend.training_plan(self.spec, parts)
        with stdout_to_stderr(), self._memory(f"loading {' and '.join(parts)}"):
            pipe = load(plan)
        try:
            yield pipe
        finally:
            for name, _ in list(pipe.named_children()):
                setattr(pipe, name, None)
            release(self.device)

    def _memory(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return gpu_memory(self.device, doing, REMEDY)

    def _wait(self) -> None:
        import torch

        if self.world > 1:
            torch.distributed.barrier()


def number(*parts: Any) -> int:
    """Hash parts into a seed, below 2^60."""
    return int(digest(*parts)[:15], 16)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""The processes of `finetune`: latents, drawings before, the steps of a LoRA over VACE, drawings after.

`python -m ffpdata.training.vace_lora job.json`. Each part skips what earlier starts have made, so a training that was
killed resumes. Several processes share samples and drawings among them, and each step takes samples of all.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ffpdata.core.errors import FatalError, FfpdataError
from ffpdata.media.codec import read_masks, read_video, video_info, write_video
from ffpdata.models.gpu_memory import GpuMemoryError
from ffpdata.models.settings import parse_settings
from ffpdata.models.vace import control_inputs, make_request
from ffpdata.models.wan.attention import resolve, select
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.loading import load, stdout_to_stderr
from ffpdata.training.atomic_files import make_atomically, write_atomically
from ffpdata.training.checkpoints import Progress
from ffpdata.training.job import LORA, TRAINED, Job
from ffpdata.training.launch import report_error
from ffpdata.training.loop import TrainingLoop
from ffpdata.training.preflight import preflight
from ffpdata.training.process import TrainingProcess
from ffpdata.training.removal_sample import RemovalSample, file_digest

if TYPE_CHECKING:
    from ffpdata.models.vace import VaceSettings
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.training import Latents, LoraTraining

LIBRARIES = ("torch", "diffsynth", "peft", "accelerate")
"""Libraries whose versions the lineage records."""

ENCODERS = ("text_encoder", "vae")

LONGEST_WAIT = timedelta(hours=12)
"""How long processes wait for one another: one may still draw a clip when the others have finished."""


def main(config: Path) -> int:
    """Do a job and return the exit status; errors of ffpdata are reported to the process that waits in `launch`."""
    try:
        VaceTrainer(Job.read(config)).run()
    except GpuMemoryError as err:
        report_error(config, FatalError(str(err)))
        return 1
    except FfpdataError as err:
        report_error(config, err)
        return 1
    return 0


class VaceTrainer:
    """Trains a LoRA over VACE in one of the job's processes."""

    def __init__(self, job: Job) -> None:
        self.job, self.process = job, TrainingProcess(job)
        self.backend = cast("Any", job.spec.load_class())
        runtime = {**job.spec.runtime, "device": str(self.process.device), "sequence_parallel": 1}
        self.spec = job.spec.model_copy(update={"runtime": runtime})
        self.role: VaceSettings = parse_settings(self.backend.Settings, job.spec)

    def run(self) -> None:
        """Do all parts, each after the other."""
        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        preflight(self.job, plan, self.process.device, self.process.report)
        self.encode()
        self.draw("")
        revision = self.train()
        self.draw(revision)

    # --- latents ---

    def encode(self) -> None:
        """Write the latents that are missing, with the VAE and the text encoder alone in memory."""
        samples = (*self.job.samples, *self.job.measured)
        missing = [s for s in self.process.share(samples) if not self.job.latents_file(s).is_file()]
        self.process.report(f"latents: {len(missing)} to make, by each process")
        if not missing:
            return
        from safetensors.torch import save

        from ffpdata.models.wan.training import Encoding

        with self._loaded(ENCODERS) as pipe:
            encoding = Encoding(pipe)
            for count, sample in enumerate(missing, 1):
                request, target = self.request(sample), read_video(sample.target_video)
                with self.process.memory(f"encoding {sample.item_id}, {request}"):
                    latents = encoding(request, target)
                write_atomically(self.job.latents_file(sample), save(latents))
                self.process.report(f"latents: {count} of {len(missing)}")

    def request(self, sample: RemovalSample) -> Request:
        """Return the request that the remover gets when it makes this removal (`VaceRoles.edit`).

        Raises:
            FatalError: the sample's mask is empty.
        """
        frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
        if not masks.any():
            raise FatalError(f"{sample.item_id}: its mask is empty, nothing can be learned from it: leave it out")
        shown: dict[str, Any] = control_inputs(frames, masks)
        return make_request(self.role, frames.shape, sample.prompt, negative=sample.negative, seed=sample.seed, **shown)

    # --- drawings ---

    def draw(self, revision: str) -> None:
        """Write the clips that the remover makes of held-out samples.

        Args:
            revision: of the trained LoRA, which is used; "" draws without it.
        """
        missing = [s for s in self.process.share(self.job.drawn) if not self.job.drawing(s, revision).is_file()]
        if not missing:
            return
        loras = list(self.job.spec.settings.get("loras", []))
        if revision:
            loras.append({"model": str(self.job.folder / LORA)})
        spec = self.spec.model_copy(update={"settings": {**self.spec.settings, "loras": loras}})
        model = self.backend(spec)
        try:
            for count, sample in enumerate(missing, 1):
                self.process.report(f"drawing {'after' if revision else 'before'}: {count} of {len(missing)}")
                frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
                edit = model.edit(frames, masks, prompt=sample.prompt, negative=sample.negative, seed=sample.seed)
                fps = video_info(sample.source_video).fps
                make_atomically(self.job.drawing(sample, revision), partial(write_video, frames=edit.frames, fps=fps))
        finally:
            model.close()

    # --- training ---

    def train(self) -> str:
        """Take the steps that are missing, write the LoRA and `trained.json`, and return the LoRA's revision."""
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
        from safetensors.torch import load_file, save

        from ffpdata.models.wan.training import MasterWeights

        def latents(sample: RemovalSample) -> Latents:
            tensors: Latents = load_file(self.job.latents_file(sample))
            return tensors

        patience = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
        on_cpu = self.process.device.type == "cpu"
        accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[patience])
        self.process.wait()
        with self._loaded((TRANSFORMER,)) as pipe:
            module = self._module(pipe)
            settings = self.job.settings
            weights = MasterWeights(module.learned(), settings.learning_rate, settings.weight_decay)
            loop = TrainingLoop(
                self.job,
                self.process,
                accelerator=accelerator,
                module=module,
                weights=weights,
                load_tensors=latents,
            )
            progress = loop.run()
            if self.process.rank == 0:
                state = {name: value.detach().to("cpu").contiguous() for name, value in module.learned().items()}
                write_atomically(self.job.folder / LORA, save(state, metadata={"format": "pt"}))
                self._write_result(progress)
        self.process.wait()
        return file_digest(self.job.folder / LORA)

    def _module(self, pipe: Any) -> LoraTraining:
        from ffpdata.models.wan.training import LoraTraining

        settings = self.job.settings
        return LoraTraining(
            pipe,
            rank=settings.rank,
            targets=settings.layers,
            checkpointing=settings.gradient_checkpointing,
            control_scale=self.role.control_scale,
            seed=settings.seed,
        )

    def _write_result(self, progress: Progress) -> None:
        import torch

        device = self.process.device
        result = {
            "fingerprint": self.job.fingerprint,
            "revision": file_digest(self.job.folder / LORA),
            **vars(progress),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        }
        write_atomically(self.job.folder / TRAINED, json.dumps(result).encode())

    @contextlib.contextmanager
    def _loaded(self, parts: Sequence[str]) -> Iterator[Any]:
        """Load some parts of the pipeline for the length of a with block."""
        plan = self.backend.training_plan(self.spec, parts)
        with stdout_to_stderr(), self.process.memory(f"loading {' and '.join(parts)}"):
            pipe = load(plan)
        kernel = resolve(self.role.attention)
        select("sdpa" if kernel == "sage" else kernel)  # SageAttention has no backward pass
        try:
            yield pipe
        finally:
            for name, _ in list(pipe.named_children()):
                setattr(pipe, name, None)
            self.process.release_memory()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""The training loop, whatever the model: gradient steps over all processes, held-out losses, and checkpoints.

The order of the samples, the noise, the timesteps and the learning rate follow from the seed and the number of a step
alone, so a training that was killed and resumed ends in the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ffpdata.core.errors import FatalError
from ffpdata.training import checkpoints
from ffpdata.training.checkpoints import Progress
from ffpdata.training.order import SampleOrder, seed_of

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ffpdata.training.job import Job
    from ffpdata.training.latents import LatentCache
    from ffpdata.training.method import Learner
    from ffpdata.training.process import TrainingProcess

    Tensors = Mapping[str, torch.Tensor]


class LearnedWeights(Protocol):
    """The weights that are trained, with their optimizer."""

    def step(self, number: int) -> float:
        """Take optimizer step `number`, from 0, along the gradients, clear them, and return their norm."""

    def state(self) -> Tensors:
        """Return all that the next steps depend on, for a checkpoint."""

    def load(self, state: Tensors) -> None:
        """Continue from what `state` returned."""


class TrainingLoop:
    """Trains one model on a job's samples.

    Args:
        job: samples, settings and folder.
        process: this one of the job's processes.
        accelerator: connects the processes.
        learner: the torch module that returns the loss of one sample.
        weights: those of the module that are trained.
        latents: what the module needs of each sample.
    """

    def __init__(
        self,
        job: Job[Any, Any],
        process: TrainingProcess,
        *,
        accelerator: Accelerator,
        learner: Learner,
        weights: LearnedWeights,
        latents: LatentCache,
    ) -> None:
        self._job, self._settings, self._process = job, job.settings, process
        self._accelerator, self._learner, self._weights = accelerator, learner, weights
        self._latents = latents
        self._order = SampleOrder(job.samples, job.keys, job.settings.seed, job.settings.samples_per_step)
        self._fingerprint = job.fingerprint

    def run(self) -> Progress:
        """Take the steps that are missing, from the newest checkpoint on.

        Raises:
            FatalError: a loss or a gradient is not finite; the message names the step, and the sample of the loss.
            GpuMemoryError: the device is full.
        """
        settings, steps, folder = self._settings, self._job.steps, self._job.folder / "checkpoints"
        progress = Progress()
        if found := checkpoints.load(folder, self._fingerprint, steps):
            progress, state = found
            self._weights.load(state)
            self._process.report(f"resuming after step {progress.step}")
        else:
            self._measure(progress)
        model = self._accelerator.prepare_model(self._learner)
        while progress.step < steps:
            self._latents.reach(progress.step)
            began = time.monotonic()
            loss = self._gradients(model, progress)
            norm = self._weights.step(progress.step)
            progress.step += 1
            if not math.isfinite(norm):
                raise FatalError(f"step {progress.step}: the gradient is not finite ({norm}): lower learning_rate")
            progress.losses.append((progress.step, loss))
            last = progress.step == steps
            if last or progress.step % settings.measure_every == 0:
                self._measure(progress)
            progress.seconds += time.monotonic() - began
            if self._process.rank == 0 and (last or progress.step % settings.save_every == 0):
                checkpoints.save(folder, self._fingerprint, progress, self._weights.state())
            self._process.report(_progress_line(progress, steps))
        return progress

    def _gradients(self, model: Any, progress: Progress) -> float:
        """Add up the gradients of the next step and return its mean loss over all processes; notes its terms."""
        import torch

        settings, process, step = self._settings, self._process, progress.step
        total = torch.zeros((), device=process.device)
        terms: list[dict[str, float]] = []
        for micro in range(settings.accumulate):
            index = (step * settings.accumulate + micro) * process.world + process.rank
            sample = self._order.sample(index)
            last = micro == settings.accumulate - 1
            synchronised = contextlib.nullcontext() if last else self._accelerator.no_sync(model)
            with process.memory(f"step {step + 1} on {sample.item_id}"), synchronised:
                loss = model(self._latents.load(sample), seed_of(settings.seed, "noise", index))
                if not torch.isfinite(loss):
                    raise FatalError(
                        f"step {step + 1}: the loss of {sample.item_id} is not finite ({float(loss)}): lower "
                        "learning_rate, or leave the sample out if it is the first step that it takes part in"
                    )
                self._accelerator.backward(loss / settings.accumulate)
            total += loss.detach() / settings.accumulate
            terms.append(dict(self._learner.terms))
        self._note(progress, terms)
        return float(self._accelerator.reduce(total, "mean"))

    def _note(self, progress: Progress, terms: list[dict[str, float]]) -> None:
        """Add the mean of each term over all samples of a step to `progress`."""
        if self._process.world > 1:
            from accelerate.utils import gather_object

            terms = gather_object(terms)
        for name in sorted({name for each in terms for name in each}):
            values = [each[name] for each in terms if name in each]
            progress.terms.setdefault(name, []).append((progress.step + 1, math.fsum(values) / len(values)))

    def _measure(self, progress: Progress) -> None:
        """Add the mean loss of the held-out samples to `progress`, always at the same noise and timesteps."""
        import torch

        measured, draws = self._job.measured, self._settings.measure_draws
        if not measured:
            return
        losses = torch.zeros(len(measured) * draws, device=self._process.device)
        tasks = [(sample, draw) for sample in measured for draw in range(draws)]
        with torch.no_grad():
            for index in self._process.share(range(len(tasks))):
                sample, draw = tasks[index]
                seed = seed_of(self._settings.seed, "held out", self._job.keys[sample.item_id], draw)
                with self._process.memory(f"measuring {sample.item_id}"):
                    window = (draw / draws, (draw + 1) / draws)
                    losses[index] = self._learner(self._latents.load(sample), seed, window)
        progress.held_out.append((progress.step, float(self._accelerator.reduce(losses, "sum").mean())))


def _progress_line(progress: Progress, steps: int) -> str:
    measured = progress.held_out and progress.held_out[-1][0] == progress.step
    held_out = f", held out {progress.held_out[-1][1]:.4f}" if measured else ""
    left = progress.seconds / progress.step * (steps - progress.step) / 60
    loss = progress.losses[-1][1]
    return f"step {progress.step} of {steps}: loss {loss:.4f}{held_out}, about {left:.0f} min left"

"""The training loop, whatever the model: gradient steps over all processes, held-out losses, and checkpoints.

The order of the samples, the noise and the timesteps follow from the seed and the number of a step alone, so a training
that was killed and resumed ends in the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import digest
from ffpdata.training import checkpoints
from ffpdata.training.checkpoints import Progress

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ffpdata.training.job import Job
    from ffpdata.training.process import TrainingProcess
    from ffpdata.training.removal_sample import RemovalSample

    Tensors = Mapping[str, torch.Tensor]


class LearnedWeights(Protocol):
    """The weights that are trained, with their optimizer."""

    def step(self) -> float:
        """Take one optimizer step along the gradients, clear them, and return their norm."""

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
        module: a torch module that returns the loss of one sample, a scalar, for the tensors of the sample, the seed of
            its noise and, where given, the part of the timesteps (begin, end in 0..1) that one is drawn from.
        weights: those of the module that are trained.
        load_tensors: reads what the module needs of a sample.
    """

    def __init__(
        self,
        job: Job,
        process: TrainingProcess,
        *,
        accelerator: Accelerator,
        module: Any,
        weights: LearnedWeights,
        load_tensors: Callable[[RemovalSample], Tensors],
    ) -> None:
        self._job, self._settings, self._process = job, job.settings, process
        self._accelerator, self._module, self._weights = accelerator, module, weights
        self._load_tensors = load_tensors
        self._order = SampleOrder(job)

    def run(self) -> Progress:
        """Take the steps that are missing, from the newest checkpoint on.

        Raises:
            FatalError: a loss or a gradient is not finite; the message names the step, and the sample of the loss.
            GpuMemoryError: the device is full.
        """
        settings, folder = self._settings, self._job.folder / "checkpoints"
        progress = Progress()
        if found := checkpoints.load(folder, self._job.fingerprint, settings.steps):
            progress, state = found
            self._weights.load(state)
            self._process.report(f"resuming after step {progress.step}")
        else:
            self._measure(progress)
        model = self._accelerator.prepare_model(self._module)
        while progress.step < settings.steps:
            began = time.monotonic()
            loss = self._gradients(model, progress.step)
            norm = self._weights.step()
            progress.step += 1
            if not math.isfinite(norm):
                raise FatalError(f"step {progress.step}: the gradient is not finite ({norm}): lower learning_rate")
            progress.losses.append((progress.step, loss))
            last = progress.step == settings.steps
            if last or progress.step % settings.measure_every == 0:
                self._measure(progress)
            progress.seconds += time.monotonic() - began
            if self._process.rank == 0 and (last or progress.step % settings.save_every == 0):
                checkpoints.save(folder, self._job.fingerprint, progress, self._weights.state())
            self._process.report(_progress_line(progress, settings.steps))
        return progress

    def _gradients(self, model: Any, step: int) -> float:
        """Add up the gradients of one step and return its mean loss over all processes."""
        import torch

        settings, process = self._settings, self._process
        total = torch.zeros((), device=process.device)
        for micro in range(settings.accumulate):
            index = (step * settings.accumulate + micro) * process.world + process.rank
            sample = self._order.sample(index)
            last = micro == settings.accumulate - 1
            synchronised = contextlib.nullcontext() if last else self._accelerator.no_sync(model)
            with process.memory(f"step {step + 1} on {sample.item_id}"), synchronised:
                loss = model(self._load_tensors(sample), seed_of(settings.seed, "noise", index))
                if not torch.isfinite(loss):
                    raise FatalError(
                        f"step {step + 1}: the loss of {sample.item_id} is not finite ({float(loss)}): lower "
                        "learning_rate, or leave the sample out if it is the first step that it takes part in"
                    )
                self._accelerator.backward(loss / settings.accumulate)
            total += loss.detach() / settings.accumulate
        return float(self._accelerator.reduce(total, "mean"))

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
                    losses[index] = self._module(self._load_tensors(sample), seed, window)
        progress.held_out.append((progress.step, float(self._accelerator.reduce(losses, "sum").mean())))


class SampleOrder:
    """The order in which samples are trained on: all of them once per epoch, shuffled anew in each."""

    def __init__(self, job: Job) -> None:
        self._samples, self._keys, self._seed = job.samples, job.keys, job.settings.seed
        self._epoch: tuple[int, list[RemovalSample]] = (-1, [])

    def sample(self, index: int) -> RemovalSample:
        """Return sample number `index` of the training, from 0."""
        epoch, place = divmod(index, len(self._samples))
        return self._shuffled(epoch)[place]

    def _shuffled(self, epoch: int) -> list[RemovalSample]:
        if self._epoch[0] != epoch:  # there may be thousands: they are sorted once per epoch
            samples = sorted(self._samples, key=lambda s: digest("order", self._seed, epoch, self._keys[s.item_id]))
            self._epoch = epoch, samples
        return self._epoch[1]


def seed_of(*parts: Any) -> int:
    """Hash parts into a seed, 0 to 2^60 - 1."""
    return int(digest(*parts)[:15], 16)


def _progress_line(progress: Progress, steps: int) -> str:
    measured = progress.held_out and progress.held_out[-1][0] == progress.step
    held_out = f", held out {progress.held_out[-1][1]:.4f}" if measured else ""
    left = progress.seconds / progress.step * (steps - progress.step) / 60
    loss = progress.losses[-1][1]
    return f"step {progress.step} of {steps}: loss {loss:.4f}{held_out}, about {left:.0f} min left"

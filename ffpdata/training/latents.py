"""The latents of the samples on disk: those of all, or, where these would take too much, those of the next steps.

A part of the steps is planned from the estimated sizes alone, so all processes agree on it, and a training that is
resumed in the middle of a part makes what is missing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import ConfigError
from ffpdata.training.atomic_files import write_atomically
from ffpdata.training.order import SampleOrder

if TYPE_CHECKING:
    import torch

    from ffpdata.training.job import Job
    from ffpdata.training.method import Method
    from ffpdata.training.process import TrainingProcess

    Tensors = Mapping[str, torch.Tensor]


class LatentCache:
    """Makes latents before they are needed, and removes what is not.

    Args:
        job: its `settings.latent_cache_gb` is the limit.
        method: encodes.
        process: this one of the job's processes.
    """

    def __init__(self, job: Job[Any, Any], method: Method[Any], process: TrainingProcess) -> None:
        self._job, self._method, self._process = job, method, process
        limit = job.settings.latent_cache_gb
        self._room = None if limit is None else limit * 1e9 - self._bytes(job.measured)
        everything = self._bytes((*job.samples, *job.measured)) if limit is not None else 0
        self.whole = limit is None or everything <= limit * 1e9
        """Whether the latents of all samples are kept."""
        step = job.settings.samples_per_step
        self._order = SampleOrder(job.samples, job.keys, job.settings.seed, step)
        self._reached = 0

    def _bytes(self, samples: Sequence[Any]) -> int:
        return sum(self._method.latent_bytes(sample) for sample in {s.item_id: s for s in samples}.values())

    def make(self) -> None:
        """Before the first step: make those of all samples, or of the held-out ones alone."""
        self._make((*(self._job.samples if self.whole else ()), *self._job.measured))

    def reach(self, step: int) -> None:
        """Before step `step`, from 0: make what is needed from it on.

        Raises:
            ConfigError: the limit is too small for one step.
        """
        if self.whole or step < self._reached:
            return
        begin, end = self._part(step)
        per_step = self._job.settings.samples_per_step
        indices = range(begin * per_step, end * per_step)
        samples = {sample.item_id: sample for index in indices if (sample := self._order.sample(index))}
        wanted = {self._job.latents_file(sample) for sample in (*samples.values(), *self._job.measured)}
        self._process.wait()
        if self._process.rank == 0:
            for file in (self._job.folder / "latents").glob("[!.]*.safetensors"):
                if file not in wanted:
                    file.unlink(missing_ok=True)
        self._process.wait()
        self._make(list(samples.values()))
        self._process.wait()
        self._reached = end

    def load(self, sample: Any) -> Tensors:
        """Return a sample's latents."""
        from safetensors.torch import load_file

        tensors: Tensors = load_file(self._job.latents_file(sample))
        return tensors

    def _part(self, step: int) -> tuple[int, int]:
        """Return the part of the steps that holds a step: its first one, and the one after its last."""
        begin = 0
        while (end := self._end(begin)) <= step:
            begin = end
        return begin, end

    def _end(self, begin: int) -> int:
        """Return the end of the part that begins at a step: as many steps as fit."""
        per_step, steps = self._job.settings.samples_per_step, self._job.steps
        room, kept, step = float(self._room or 0), set[str](), begin
        while step < steps:
            new = {
                sample.item_id: sample
                for index in range(step * per_step, (step + 1) * per_step)
                if (sample := self._order.sample(index)).item_id not in kept
            }
            room -= self._bytes(list(new.values()))
            if room < 0:
                break
            kept |= set(new)
            step += 1
        if step == begin:
            limit = float(self._job.settings.latent_cache_gb or 0)
            raise ConfigError(
                f"latent_cache_gb is {limit:g}, and the latents of the held-out samples and of one step take "
                f"{limit - room / 1e9:.3g} GB: give more"
            )
        return step

    def _make(self, samples: Sequence[Any]) -> None:
        """Write those that are missing, with the encoders alone in memory."""
        missing = [s for s in self._process.share(samples) if not self._job.latents_file(s).is_file()]
        self._process.report(f"latents: {len(missing)} to make, by each process")
        if not missing:
            return
        from safetensors.torch import save

        with self._method.encoder() as encode:
            for count, sample in enumerate(missing, 1):
                with self._process.memory(f"encoding {sample.item_id}"):
                    latents = encode(sample)
                write_atomically(self._job.latents_file(sample), save(dict(latents)))
                self._process.report(f"latents: {count} of {len(missing)}")

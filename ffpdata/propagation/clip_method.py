"""The tuning to one clip on the training loop: what is encoded, and what learns (LoRA-Edit)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from ffpdata.core.errors import ConfigError
from ffpdata.models.settings import parse_settings
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.memory_estimate import BLOCKS, LATENT_CHANNELS, TEXT_TOKENS, ClipSize, Network
from ffpdata.propagation.clip_job import ClipJob, ClipSample
from ffpdata.propagation.method import CLIP_NUMBERS
from ffpdata.training.method import Method
from ffpdata.training.preflight import network_of, preflight
from ffpdata.training.process import TrainingProcess
from ffpdata.training.wan_parts import loaded, on_device

if TYPE_CHECKING:
    from ffpdata.models.loraedit.settings import LoraEditSettings
    from ffpdata.models.protocols import Frames
    from ffpdata.training.method import Learner, Tensors

CONDITION_CHANNELS = 4 + LATENT_CHANNELS
"""Channels of mask and conditional video."""


class ClipMethod(Method[ClipSample]):
    """Tunes an image-to-video model to a clip."""

    def __init__(self, job: ClipJob, process: TrainingProcess) -> None:
        super().__init__(job, process)
        self.clip_job = job
        self.backend = cast("Any", job.spec.load_class())
        self.spec = on_device(job.spec, process)
        self.role: LoraEditSettings = parse_settings(self.backend.Settings, job.spec)
        self._network: Network | None = None
        self._item_bytes = 2

    def preflight(self) -> None:
        """Compare memory and disk with what is free."""
        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        self._network, self._item_bytes = network_of(plan, BLOCKS, self.process.report)
        if self._network is not None:
            tuning = self.clip_job.tuning
            self._network.check_targets(tuning.layers)
            learned = self._network.learned(tuning.rank, tuning.layers)
            preflight(self, self._network, learned, self._item_bytes, clip_size)

    def latent_bytes(self, sample: ClipSample) -> int:
        """Return the bytes of condition, target, text and image tokens; 0 where the weights are pickles."""
        if self._network is None:
            return 0
        numbers = (CONDITION_CHANNELS + LATENT_CHANNELS) * clip_size(sample).latents
        numbers += TEXT_TOKENS * self._network.text_width
        return self._item_bytes * (numbers + (CLIP_NUMBERS if self.role.clip_embedding == "on" else 0))

    @contextlib.contextmanager
    def encoder(self) -> Iterator[Callable[[ClipSample], Tensors]]:
        """Load VAE, text encoder and, where it is wanted, image encoder."""
        from ffpdata.models.loraedit.training import LoraEditEncoding

        parts = tuple(part for part in self.role.parts if part != TRANSFORMER)
        with loaded(self.backend.training_plan(self.spec, parts), self.process, self.role.attention) as pipe:
            encoding = LoraEditEncoding(pipe, clip_embedding=self.role.clip_embedding == "on")
            yield lambda sample: encoding(*sample.arrays(), sample.text)

    @contextlib.contextmanager
    def learner(self) -> Iterator[Learner]:
        """Load the transformer, and put a LoRA on it, or the one that the tuning goes on from."""
        from ffpdata.models.loraedit.training import LoraEditTraining

        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        with loaded(plan, self.process, self.role.attention) as pipe:
            yield LoraEditTraining(pipe, settings=self.clip_job.tuning, begin=self.clip_job.begin)

    def drawer(self, revision: str) -> contextlib.AbstractContextManager[Callable[[ClipSample], tuple[Frames, float]]]:
        """Raise ConfigError: a tuning has no held-out samples, and draws nothing."""
        raise ConfigError(f"a tuning draws nothing of its own ({revision or 'untrained'}): set validation to 0")


def clip_size(sample: ClipSample) -> ClipSize:
    """Return the size of a sample; of one frame it is that of an image."""
    return ClipSize(*sample.size)

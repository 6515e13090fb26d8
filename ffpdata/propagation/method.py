"""First-frame propagation on the training loop: what is encoded, what learns, and how it draws."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from ffpdata.models.propagation.model_folder import SETTINGS, Base, base_digest, settings_text
from ffpdata.models.propagation.propagator import PARTS
from ffpdata.models.settings import parse_settings
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.memory_estimate import BLOCKS, LATENT_CHANNELS, TEXT_TOKENS, ClipSize, Network, aligned_bytes
from ffpdata.propagation.sample import PropagationSample
from ffpdata.training.atomic_files import write_atomically
from ffpdata.training.method import Method
from ffpdata.training.preflight import network_of, preflight
from ffpdata.training.process import TrainingProcess
from ffpdata.training.results import plain_name
from ffpdata.training.wan_parts import loaded, on_device

if TYPE_CHECKING:
    from ffpdata.models.propagation.propagator import PropagatorSettings
    from ffpdata.models.protocols import Frames
    from ffpdata.propagation.job import PropagationJob
    from ffpdata.training.method import Learner, Tensors

CLIP_NUMBERS = 257 * 1280
"""Numbers of CLIP's tokens of one image."""


class PropagationMethod(Method[PropagationSample]):
    """Trains FreeProp on Fun-Control."""

    def __init__(self, job: PropagationJob, process: TrainingProcess) -> None:
        super().__init__(job, process)
        self.propagation, self.model = job, job.model
        self.backend = cast("Any", job.spec.load_class())
        self.spec = on_device(job.spec, process)
        self.role: PropagatorSettings = parse_settings(self.backend.Settings, job.spec)
        self._network: Network | None = None
        self._item_bytes = 2

    def preflight(self) -> None:
        """Compare memory and disk with what is free."""
        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        self._network, self._item_bytes = network_of(plan, BLOCKS, self.process.report)
        if self._network is None:
            return
        network, model = self._network, self.model
        network.check_targets(model.layers)
        learned = network.learned(model.rank, model.layers) if model.rank else network.weights
        preflight(self, network, learned, self._item_bytes, clip_size, self._aligned)

    def _aligned(self, clip: ClipSize) -> int:
        """Return the bytes of self-distillation on a clip."""
        if not self.model.distillation or self._network is None:
            return 0
        return aligned_bytes(self._network, clip, self.model.pool, self._item_bytes)

    def latent_bytes(self, sample: PropagationSample) -> int:
        """Return the bytes of source, target, first frame, texts and image tokens; 0 where the weights are pickles."""
        if self._network is None:
            return 0
        latents = clip_size(sample).latents
        per_frame = ClipSize(1, sample.sample.height, sample.sample.width).latents
        numbers = LATENT_CHANNELS * (2 * latents + per_frame) + 2 * TEXT_TOKENS * self._network.text_width
        return self._item_bytes * (numbers + (CLIP_NUMBERS if self.model.clip_embedding == "on" else 0))

    @contextlib.contextmanager
    def encoder(self) -> Iterator[Callable[[PropagationSample], Tensors]]:
        """Load VAE, text encoder and, where it is wanted, image encoder."""
        from ffpdata.models.propagation.training import PropagationEncoding

        parts = tuple(part for part in PARTS if part != TRANSFORMER)
        if self.model.clip_embedding != "on":
            parts = tuple(part for part in parts if part != "image_encoder")
        with loaded(self.backend.training_plan(self.spec, parts), self.process, self.role.attention) as pipe:
            encoding = PropagationEncoding(pipe, self.model)
            yield lambda s: encoding(s.source(), s.target(), s.first_frame(), s.text())

    @contextlib.contextmanager
    def learner(self) -> Iterator[Learner]:
        """Load the transformer, and put on it what learns."""
        from ffpdata.models.propagation.training import PropagationTraining

        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        with loaded(plan, self.process, self.role.attention) as pipe:
            module = PropagationTraining(
                pipe, settings=self.model, heads=self.propagation.heads(), seed=self.job.settings.seed
            )
            try:
                yield module
            finally:
                module.close()

    def write_beside(self) -> None:
        """Write the model's settings and its base, without which the weights say nothing."""
        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        base = Base(base_digest(plan.parts), plain_name(self.job.spec.model), self.job.spec.revision)
        write_atomically(self.job.folder / SETTINGS, settings_text(self.model, base).encode())

    @contextlib.contextmanager
    def drawer(self, revision: str) -> Iterator[Callable[[PropagationSample], tuple[Frames, float]]]:
        """Load the propagator: the base as it comes or, for a revision, the trained model."""
        trained = {"trained": str(self.job.folder)} if revision else {"trained": ""}
        model = self.backend(self.spec.model_copy(update={"settings": {**self.spec.settings, **trained}}))

        def draw(sample: PropagationSample) -> tuple[Frames, float]:
            edit = model.propagate(sample.source(), sample.first_frame(), prompt=sample.text(), seed=0)
            return edit.frames, sample.sample.fps

        try:
            yield draw
        finally:
            model.close()


def clip_size(sample: PropagationSample) -> ClipSize:
    """Return the size of what is learned from a sample."""
    return ClipSize(sample.frames, sample.sample.height, sample.sample.width)

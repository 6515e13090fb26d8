"""A LoRA over VACE that learns removals: the remover's own requests, with accepted clips as targets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import read_masks, read_video, video_info
from ffpdata.models.settings import parse_settings
from ffpdata.models.vace import control_inputs, make_request
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.memory_estimate import VACE_BLOCKS, ClipSize, Network, latent_bytes
from ffpdata.training.job import Job
from ffpdata.training.method import Method
from ffpdata.training.preflight import network_of, preflight
from ffpdata.training.process import TrainingProcess
from ffpdata.training.removal_sample import CLIPS, RemovalSample
from ffpdata.training.settings import LoraSettings
from ffpdata.training.wan_parts import loaded, on_device

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames
    from ffpdata.models.vace import VaceSettings
    from ffpdata.models.wan.request import Request
    from ffpdata.training.method import Learner, Tensors

ENCODERS = ("text_encoder", "vae")

LORA = "lora"


@dataclass(frozen=True)
class VaceJob(Job[RemovalSample, LoraSettings]):
    """A training on accepted removals."""

    method = "ffpdata.training.vace_lora:VaceLora"
    base_settings = ("sources", "tiles", "dtype", "control_scale")

    @property
    def files(self) -> tuple[str, ...]:
        """The LoRA."""
        return (LORA,)

    def data(self) -> dict[str, Any]:
        """Return the samples, with absolute paths of this machine."""
        parts = {name: [asdict(sample) for sample in getattr(self, name)] for name in ("samples", "held_out")}
        return {**parts, "keys": self.keys}

    @classmethod
    def of(cls, data: Mapping[str, Any], spec: ModelSpec, folder: Path) -> Self:
        """Return the job of `data`."""

        def samples(name: str) -> tuple[RemovalSample, ...]:
            return tuple(RemovalSample(**entry | {clip: Path(entry[clip]) for clip in CLIPS}) for entry in data[name])

        settings = LoraSettings(**data["settings"])
        return cls(samples("samples"), samples("held_out"), data["keys"], spec, settings, folder)


class VaceLora(Method[RemovalSample]):
    """Trains a LoRA over VACE."""

    def __init__(self, job: VaceJob, process: TrainingProcess) -> None:
        super().__init__(job, process)
        self.settings = job.settings
        self.backend = cast("Any", job.spec.load_class())
        self.spec = on_device(job.spec, process)
        self.role: VaceSettings = parse_settings(self.backend.Settings, job.spec)
        self._network: Network | None = None
        self._item_bytes = 2

    def preflight(self) -> None:
        """Compare memory and disk with what is free."""
        plan = self.backend.training_plan(self.spec, (TRANSFORMER,))
        self._network, self._item_bytes = network_of(plan, VACE_BLOCKS, self.process.report)
        if self._network is not None:
            self._network.check_targets(self.settings.layers)
            learned = self._network.learned(self.settings.rank, self.settings.layers)
            preflight(self, self._network, learned, self._item_bytes, clip_size)

    def latent_bytes(self, sample: RemovalSample) -> int:
        """Return the bytes of control input, target and prompt; 0 where the weights are pickles."""
        return latent_bytes(self._network, clip_size(sample), self._item_bytes) if self._network else 0

    @contextlib.contextmanager
    def encoder(self) -> Iterator[Callable[[RemovalSample], Tensors]]:
        """Load VAE and text encoder."""
        from ffpdata.models.wan.training import Encoding

        with loaded(self.backend.training_plan(self.spec, ENCODERS), self.process, self.role.attention) as pipe:
            encoding = Encoding(pipe)
            yield lambda sample: encoding(self.request(sample), read_video(sample.target_video))

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

    @contextlib.contextmanager
    def learner(self) -> Iterator[Learner]:
        """Load the transformer with VACE, and put a LoRA on it."""
        from ffpdata.models.wan.training import LoraTraining

        settings = self.settings
        with loaded(self.backend.training_plan(self.spec, (TRANSFORMER,)), self.process, self.role.attention) as pipe:
            yield LoraTraining(
                pipe,
                rank=settings.rank,
                targets=settings.layers,
                checkpointing=settings.gradient_checkpointing,
                control_scale=self.role.control_scale,
                seed=settings.seed,
            )

    @contextlib.contextmanager
    def drawer(self, revision: str) -> Iterator[Callable[[RemovalSample], tuple[Frames, float]]]:
        """Load the remover with the profile's LoRAs and, for a revision, the trained one."""
        loras = list(self.job.spec.settings.get("loras", []))
        if revision:
            loras.append({"model": str(self.job.weights_file(LORA))})
        spec = self.spec.model_copy(update={"settings": {**self.spec.settings, "loras": loras}})
        model = self.backend(spec)

        def draw(sample: RemovalSample) -> tuple[Frames, float]:
            frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
            edit = model.edit(frames, masks, prompt=sample.prompt, negative=sample.negative, seed=sample.seed)
            return edit.frames, video_info(sample.source_video).fps

        try:
            yield draw
        finally:
            model.close()


def clip_size(sample: RemovalSample) -> ClipSize:
    """Return a sample's number of frames, height and width."""
    info = video_info(sample.target_video)
    return ClipSize(info.frames, info.height, info.width)

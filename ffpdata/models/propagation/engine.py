"""Run Fun-Control with what was trained over it: one clip and its edited first frame to frames.

Importing this module imports torch and diffsynth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ffpdata.core.errors import FatalError
from ffpdata.models.gpu_memory import gpu_memory
from ffpdata.models.propagation.alpha_predictor import AlphaPredictor
from ffpdata.models.propagation.conditioning import encode_inputs, encode_text
from ffpdata.models.propagation.heads import read_heads
from ffpdata.models.propagation.model_folder import HEADS, PROPAGATION, TrainedModel, base_digest, check_base
from ffpdata.models.propagation.patch_embedding import STATE, prepare
from ffpdata.models.propagation.sampling import Positions, Sampling, sample
from ffpdata.models.propagation.training import PREDICTOR
from ffpdata.models.protocols import Edit
from ffpdata.models.wan.attention import resolve, using
from ffpdata.models.wan.engine import DiffsynthEngine, to_frames
from ffpdata.models.wan.loading import LoadPlan, stdout_to_stderr
from ffpdata.models.wan.settings import REMEDY, Lora

if TYPE_CHECKING:
    from ffpdata.models.propagation.settings import PropagationSettings
    from ffpdata.models.protocols import Frames, Image
    from ffpdata.models.wan.settings import Tiles


class PropagationEngine(DiffsynthEngine):
    """A Fun-Control pipeline in this process.

    Args:
        plan: of the base.
        settings: of the model; a trained model's are its own.
        trained: what is laid over the base; None for the base alone.

    Raises:
        FatalError: the model was trained over another base, or a file of it does not fit.
    """

    def __init__(self, plan: LoadPlan, settings: PropagationSettings, trained: TrainedModel | None) -> None:
        if trained is not None:
            files = dict(plan.parts.files)["transformer"]
            check_base(trained, base_digest(plan.parts), files[0])
        super().__init__(plan)
        self.settings = settings
        self.positions: Positions | None = None
        self._own: list[Lora] = []
        prepare(self.pipe.dit, settings)
        if trained is not None:
            self._lay_over(trained)

    def _lay_over(self, trained: TrainedModel) -> None:
        """Load what was trained."""
        dit, settings = self.pipe.dit, self.settings
        latent = dit.head.head.out_features // math.prod(dit.patch_size)
        own = _read(trained.folder / PROPAGATION) if settings.mask_channels or settings.ast_rope else {}
        if settings.mask_channels:
            _load(dit.patch_embedding, {"mask": own.pop(STATE, None)}, trained, strict=False)
        if settings.ast_rope:
            predictor = AlphaPredictor(latent, settings)
            _load(predictor, {name.removeprefix(PREDICTOR): value for name, value in own.items()}, trained)
            heads = read_heads(trained.folder / HEADS)
            self.positions = Positions(predictor.to(self.device).eval(), heads.temporal)
        if settings.rank:
            self._own = [Lora(model=str(trained.weights))]
        else:
            _load(dit, _read(trained.weights), trained, strict=False)

    def propagate(
        self,
        frames: Frames,
        edited_first_frame: Image,
        *,
        prompt: str,
        negative: str,
        seed: int,
        sampling: Sampling,
        loras: Sequence[Lora] = (),
        tiles: Tiles | None = None,
        attention: str = "auto",
    ) -> Edit:
        """Return the edited clip; arguments as for `protocols.Propagator`.

        Args:
            frames: uint8 (T, H, W, 3).
            edited_first_frame: uint8 (H, W, 3).
            prompt: what the edited clip shows.
            negative: what it shall not show.
            seed: of the noise.
            sampling: how the steps are taken.
            loras: laid over the transformer beside the model's own.
            tiles: of the VAE.
            attention: the setting of this name.

        Raises:
            As `DiffsynthEngine.run`.
        """
        if self.pipe is None:
            raise RuntimeError("the model was closed")
        height, width = frames.shape[1:3]
        cut: dict[str, Any] = {"tiled": tiles is not None}
        if tiles is not None:
            cut |= {"tile_size": tiles.size, "tile_stride": tiles.stride}
        what = f"{width} x {height} x {len(frames)}"
        with (
            torch.no_grad(),
            stdout_to_stderr(),
            gpu_memory(self.device, what, REMEDY),
            using(resolve(attention, self.plan.ranks)),
        ):
            self.use_loras([*self._own, *loras])
            try:
                latents = encode_inputs(self.pipe, frames, edited_first_frame, prompt, self.settings, tiles=cut)
                away = encode_text(self.pipe, negative)[0] if sampling.guidance != 1 else None
                found, facts = sample(
                    self.pipe,
                    latents,
                    self.settings,
                    seed=seed,
                    sampling=sampling,
                    negative=away,
                    positions=self.positions,
                )
                self._clear_vae_cache()
                self.pipe.load_models_to_device(["vae"])
                video = self.pipe.vae.decode(found, device=self.device, **cut)
                self.pipe.load_models_to_device([])
            finally:
                self._clear_vae_cache()
            return Edit(to_frames(video), facts)


def _read(path: Any) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as err:
        raise FatalError(f"{path}: not a readable safetensors file ({err})") from err
    return state


def _load(
    module: torch.nn.Module, state: Mapping[str, torch.Tensor | None], trained: TrainedModel, *, strict: bool = True
) -> None:
    """Load a state, whose every tensor must have its place.

    Raises:
        FatalError: a tensor is missing, or has no place or another shape.
    """
    own = dict(module.named_parameters())
    for name, value in state.items():
        if value is None or name not in own or own[name].shape != value.shape:
            found = "lacks it" if value is None else f"has {tuple(value.shape)}"
            wanted = tuple(own[name].shape) if name in own else "nothing of this name"
            raise FatalError(f"{trained.folder}: {name}: the model {found}, the network {wanted}: another base?")
    if strict and (lacking := sorted(own.keys() - state.keys())):
        raise FatalError(f"{trained.folder}: {len(lacking)} tensors of the predictor are missing, e.g. {lacking[0]}")
    with torch.no_grad():
        for name, value in state.items():
            if value is not None:
                own[name].copy_(value)

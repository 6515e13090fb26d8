"""Classify the heads of a Fun-Control on some pairs, before it is trained (paper, section 8.1).

The base is asked as it will be trained: source as control, edited first frame, the target's latent with noise, with its
text. What a clip showed is kept beside the result, so that a study that was killed goes on with the next clip.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.errors import ConfigError
from ffpdata.core.keys import digest
from ffpdata.models.propagation.heads import Heads
from ffpdata.models.propagation.settings import PRESETS, PropagationSettings
from ffpdata.storage.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Image

    Densities = NDArray[np.float32]

CLIPS = 10
"""Clips that vote (the paper's)."""

TIMESTEP = 500
"""Middle of the 1000, at which half of the input is noise; the paper names none."""

KEPT = "clips"
"""Folder of what each clip showed."""


@dataclass(frozen=True)
class StudyPair:
    """A pair that votes.

    Attributes:
        name: of the pair.
        source: uint8 (T, H, W, 3).
        target: likewise.
        edited_first_frame: uint8 (H, W, 3).
        text: what the target shows.
    """

    name: str
    source: Frames
    target: Frames
    edited_first_frame: Image
    text: str


@dataclass(frozen=True)
class StudyOptions:
    """How the heads are looked at.

    Attributes:
        timesteps: of 1000; densities are averaged over them.
        epsilon: weight above which a token counts (the paper's is 1e-6).
        rows_per_frame: queries of each frame; 0 for all.
        seed: of the noise.
    """

    timesteps: tuple[int, ...] = (TIMESTEP,)
    epsilon: float = 1e-6
    rows_per_frame: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.timesteps or not all(0 < step <= 1000 for step in self.timesteps):
            raise ConfigError(f"timesteps {list(self.timesteps)}: name some of 1 to 1000")
        if not 0 < self.epsilon < 1:
            raise ConfigError(f"epsilon {self.epsilon:g}: a share of attention, above 0 and below 1")


def study(
    spec: ModelSpec,
    pairs: Iterable[StudyPair],
    out: Path,
    options: StudyOptions,
    say: Callable[[str], None] = lambda _: None,
) -> Heads:
    """Let pairs of one size vote on the heads of a base.

    Args:
        spec: names the base; a `propagator.FunControl`.
        pairs: as many as shall vote.
        out: folder that keeps what each clip showed.
        options: how the heads are looked at.
        say: is told of every clip.

    Raises:
        ConfigError: there is no pair, or they differ in size.
        FatalError: the checkpoint is not one of Fun-Control.
        GpuMemoryError: a pair does not fit the GPU.
    """
    from ffpdata.models.propagation.model_folder import base_digest

    backend: Any = spec.load_class()
    plan = backend.training_plan(spec)
    base = base_digest(plan.parts)
    store, found, sizes, names = Store(out), [], set(), []
    pipe: Any = None
    for pair in pairs:
        names.append(pair.name)
        sizes.add(pair.source.shape[:3])
        if len(sizes) > 1:
            raise ConfigError(f"pairs of several sizes, {sorted(sizes)}: heads are classified for one size and length")
        content = [digest_of_array(array) for array in (pair.source, pair.target, pair.edited_first_frame)]
        key = digest(base, content, pair.text, vars(options))
        kept = f"{KEPT}/{key}.npy"
        if store.exists(kept):
            say(f"{pair.name}: kept")
        else:
            if pipe is None:
                pipe = load_base(plan)
            _keep(store, kept, densities(pipe, pair, options))
            say(f"{pair.name}: looked at")
        found.append(np.load(store.fetch(kept)))
    if not found:
        raise ConfigError("no pair to classify heads by: name an export with pairs")
    [(frames, height, width)] = sizes
    return vote(found, names, (frames, height, width), base=base, model=spec.model, options=options)


def load_base(plan: Any) -> Any:
    """Load a base for the study."""
    import torch

    from ffpdata.models.gpu_memory import gpu_memory
    from ffpdata.models.propagation.patch_embedding import prepare
    from ffpdata.models.wan.loading import load, stdout_to_stderr
    from ffpdata.models.wan.settings import REMEDY

    with stdout_to_stderr(), gpu_memory(torch.device(plan.device), "loading the model", REMEDY):
        pipe = load(plan)
    prepare(pipe.dit, base_settings(5))
    return pipe


def base_settings(frames: int) -> PropagationSettings:
    """Return the settings of a base that is not trained yet: without mask, with its own positions."""
    return PropagationSettings(**{**PRESETS["baseline"], "mask_channels": 0, "frames": frames})


def densities(pipe: Any, pair: StudyPair, options: StudyOptions) -> Densities:
    """Return the densities of every head on a pair, float32 (layers, heads, F', F')."""
    import torch

    from ffpdata.models.gpu_memory import gpu_memory
    from ffpdata.models.propagation.training import PropagationEncoding
    from ffpdata.models.wan.attention import DEFAULT, using
    from ffpdata.models.wan.loading import stdout_to_stderr
    from ffpdata.models.wan.settings import REMEDY

    frames = pair.source.shape[0]
    settings = base_settings(frames)
    what = f"{pair.name}, {pair.source.shape[2]} x {pair.source.shape[1]} x {frames}"
    with stdout_to_stderr(), gpu_memory(torch.device(pipe.device), what, REMEDY), using(DEFAULT):
        latents = PropagationEncoding(pipe, settings)(pair.source, pair.target, pair.edited_first_frame, pair.text)
        return latent_densities(pipe, latents, settings, options)


def latent_densities(pipe: Any, latents: Any, settings: PropagationSettings, options: StudyOptions) -> Densities:
    """Return the densities of every head on the latents of a pair, of `training.PropagationEncoding`."""
    import torch

    from ffpdata.models.propagation.conditioning import model_inputs
    from ffpdata.models.propagation.head_density import DensityProbe
    from ffpdata.models.propagation.sampling import leading_tokens

    placed = {
        name: value.to(pipe.device, pipe.torch_dtype if value.is_floating_point() else value.dtype)
        for name, value in latents.items()
    }
    target = placed["target"]
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(options.seed)).to(target.device)
    inputs = model_inputs(placed, settings)
    total: Any = 0
    pipe.load_models_to_device(["dit"])
    probe = DensityProbe(
        pipe.dit,
        target.shape[2],
        epsilon=options.epsilon,
        rows_per_frame=options.rows_per_frame,
        skipped=leading_tokens(target, settings),
    )
    with torch.no_grad(), probe:
        for step in options.timesteps:
            sigma = step / 1000
            noisy = ((1 - sigma) * target.float() + sigma * noise).to(target.dtype)
            timestep = torch.tensor([step], device=pipe.device, dtype=pipe.torch_dtype)
            pipe.model_fn(dit=pipe.dit, latents=noisy, timestep=timestep, **inputs)
            layers = [probe.densities[layer] for layer in range(len(pipe.dit.blocks))]
            total = total + torch.stack(layers)
    answer: Densities = (total / len(options.timesteps)).numpy()
    return answer


def vote(
    found: Sequence[Densities],
    names: Sequence[str],
    size: tuple[int, int, int],
    *,
    base: str,
    options: StudyOptions,
    model: str = "",
) -> Heads:
    """Return the classes that most clips vote for; an even vote is spatial, the rule's "otherwise".

    Args:
        found: densities (layers, heads, F', F') of each clip.
        names: of the clips.
        size: frames, height and width of the clips.
        base: digest of the base.
        options: how the heads were looked at.
        model: name of the base.
    """
    margins = np.stack([margin_of(one) for one in found])
    votes = (margins > 0).sum(0)
    temporal = 2 * votes > len(found)
    density = np.mean(found, axis=0)
    return Heads(
        base=base,
        model=model,
        width=size[2],
        height=size[1],
        frames=size[0],
        epsilon=options.epsilon,
        timesteps=options.timesteps,
        rows_per_frame=options.rows_per_frame,
        clips=tuple(names),
        temporal=temporal.tolist(),
        votes=votes.tolist(),
        margins=margins.astype(float).round(6).tolist(),
        density=density.astype(float).round(4).tolist(),
    )


def margin_of(density: Densities) -> NDArray[np.float32]:
    """Return the largest density between frames less the smallest within one, of (..., F', F'); -1 for one frame."""
    frames = density.shape[-1]
    if frames < 2:
        return np.full(density.shape[:-2], -1, np.float32)
    apart = ~np.eye(frames, dtype=bool)
    return density[..., apart].max(-1) - np.diagonal(density, axis1=-2, axis2=-1).min(-1)


def _keep(store: Store, path: str, found: Densities) -> None:
    data = io.BytesIO()
    np.save(data, found)
    store.write(path, data.getvalue())


def digest_of_array(array: NDArray[np.uint8]) -> str:
    """Hash an array's bytes and shape."""
    return f"{array.shape}:{hashlib.sha256(np.ascontiguousarray(array)).hexdigest()}"

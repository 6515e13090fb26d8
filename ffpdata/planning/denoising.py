"""How the seconds of a diffusion model follow its steps, guidance and clip size, by counted arithmetic.

A profile names the seconds of its own settings. Where a plan changes `steps`, `guidance` or the clip, they are scaled
by the ratio of the arithmetic: passes of the network over the clip's tokens, and the VAE. The counts are those of
benchmarks/results/gpu_models.md at 1280x720 and 81 frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ffpdata.core.stage import ModelSpec
from ffpdata.media.geometry import Geometry

FULL = Geometry(width=1280, height=720, fps=16, frames=81)


@dataclass(frozen=True)
class Counted:
    """TFLOP of a model at 1280x720 and 81 frames: a pass of its network, and its VAE for one clip.

    `attention` is the share of the pass that grows with the square of the tokens.
    """

    network: float
    vae: float
    attention: float


COUNTS = {
    "VACE-14B": Counted(7864, 1402, 0.71),
    "VACE-1.3B": Counted(1881, 1402, 0.84),
    "I2V-14B": Counted(6540, 1021, 0.72),
}
"""Part of a checkpoint's name to what was counted. Attention is 4 x tokens^2 x width x layers: 5120 x 48, 1536 x 45 and
5120 x 40 of them."""


def pixels(clip: Geometry) -> float:
    """Pixels of a clip, as a share of 1280x720 and 81 frames."""
    return clip.width * clip.height * clip.frames / (FULL.width * FULL.height * FULL.frames)


def tokens(clip: Geometry) -> int:
    """Tokens of a clip: the VAE takes 8x8 pixels and four frames together, the network 2x2 of these."""
    return (1 + (clip.frames - 1) // 4) * -(-clip.height // 16) * -(-clip.width // 16)


def relative_cost(now: ModelSpec | None, before: ModelSpec | None, clip: Geometry, was: Geometry) -> float:
    """What an item costs by settings and clip of now, over what it cost before.

    1 where another model fills the role: its own seconds hold then, scaled by the clip alone.
    """
    same = now is not None and before is not None and (now.backend, now.model) == (before.backend, before.model)
    counted = _counted(now)
    if now is None or counted is None:
        return pixels(clip) / pixels(was)
    old = before.settings if same and before is not None else now.settings
    return _tflop(counted, now.settings, clip) / _tflop(counted, old, was)


def _counted(spec: ModelSpec | None) -> Counted | None:
    if spec is None or "steps" not in spec.settings:
        return None
    return next((count for name, count in COUNTS.items() if name in spec.model), None)


def _tflop(counted: Counted, settings: Mapping[str, Any], clip: Geometry) -> float:
    ratio = tokens(clip) / tokens(FULL)
    once = counted.network * (counted.attention * ratio**2 + (1 - counted.attention) * ratio)
    passes = 2 if float(settings.get("guidance", 1.0)) != 1.0 else 1
    return float(settings["steps"]) * passes * once + counted.vae * pixels(clip)

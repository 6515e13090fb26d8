"""The classes of a transformer's heads, and the file that holds them with what they were decided by (section 8.1).

A head is temporal where a clip's densities say so for most of the clips (`propagation.head_density`). The classes hold
for one base, size and number of frames; they are made once, before training, and go with every model trained by them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ffpdata.core.errors import FatalError

ONE_SIDED = 0.95
"""Share of one class above which the classes say little: diffuse heads are decided by noise, mostly as temporal."""


class Heads(BaseModel):
    """The classes, and how they were found.

    Attributes:
        base: digest of the transformer (`model_folder.base_digest`).
        model: its name, for people.
        width: of the clips, pixels.
        height: likewise.
        frames: of the clips.
        epsilon: weight above which a token counts as attended to.
        timesteps: of 1000, at which the transformer was asked.
        rows_per_frame: queries of a frame that were looked at; 0 for all.
        clips: names of the clips.
        temporal: per layer and head, True for temporal.
        votes: per layer and head the number of clips for temporal.
        margins: per clip, layer and head: largest density between frames less the smallest within one.
        density: per layer and head the densities (F', F'), the mean over the clips.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    model: str = ""
    width: int
    height: int
    frames: int
    epsilon: float
    timesteps: tuple[int, ...]
    rows_per_frame: int = 0
    clips: tuple[str, ...]
    temporal: list[list[bool]]
    votes: list[list[int]]
    margins: list[list[list[float]]]
    density: list[list[list[list[float]]]]

    @property
    def share(self) -> float:
        """Share of the heads that are temporal."""
        kinds = [kind for layer in self.temporal for kind in layer]
        return sum(kinds) / max(1, len(kinds))

    def warning(self) -> str:
        """Say what speaks against the classes; empty where nothing does."""
        one_sided = max(self.share, 1 - self.share)
        if one_sided <= ONE_SIDED:
            return ""
        kind = "temporal" if self.share > 0.5 else "spatial"
        return (
            f"{one_sided:.0%} of the heads are {kind}: at {self.frames} frames of {self.width}x{self.height} nearly "
            f"every weight is on one side of epsilon {self.epsilon:g}"
        )

    def text(self) -> str:
        """Return the content of the file, a line per key; the same classes give the same bytes."""
        found = self.model_dump(mode="json")
        return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(found.items())) + "\n}\n"


def read_heads(path: Path) -> Heads:
    """Read the file of classes.

    Raises:
        FatalError: it is missing, or not such a file.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return Heads.model_validate(found)
    except FileNotFoundError:
        raise FatalError(f"{path} is not there: make it by `ffpdata heads`") from None
    except (OSError, ValueError, ValidationError) as err:
        raise FatalError(f"{path}: not the classes of heads ({str(err).splitlines()[0]})") from err


def check_heads(heads: Heads, base: str, path: Path) -> None:
    """Raise for classes of another base; both digests are named."""
    if heads.base != base:
        raise FatalError(f"{path} is of the base {heads.base}, the model is {base}: classify its own heads")

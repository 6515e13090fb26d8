"""What a layout is: the metadata files that one trainer wants, over media that lie the same way for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ffpdata.core.errors import UsageError, nearest
from ffpdata.core.plugins import import_object
from ffpdata.export.pair_record import FIRST_FRAME, MASK, SOURCE, TARGET

REFERENCE = "reference.png"
"""Member with the style image of a stylization, where the export adds it (`export.members`)."""


@dataclass(frozen=True)
class LayoutPair:
    """One pair as a layout sees it.

    Attributes:
        key: its name, unique in the export.
        split: `train`, ...
        task: of the edit.
        instruction: of the edit.
        captions: `source` and `target`, where they are known.
        width, height, frames, fps: of its clips.
        files: member (`source.mp4`) to the path of its file, relative to the export.
    """

    key: str
    split: str
    task: str
    instruction: str
    captions: Mapping[str, str]
    width: int
    height: int
    frames: int
    fps: float
    files: Mapping[str, str]

    @property
    def source(self) -> str:
        """Path of the source clip."""
        return self.files[SOURCE]

    @property
    def target(self) -> str:
        """Path of the edited clip."""
        return self.files[TARGET]

    @property
    def first_frame(self) -> str:
        """Path of the edited first frame, a PNG."""
        return self.files[FIRST_FRAME]

    @property
    def mask(self) -> str | None:
        """Path of the video of the object's masks, white = object; None for a stylization."""
        return self.files.get(MASK)

    @property
    def reference(self) -> str | None:
        """Path of the style image, where the export has it."""
        return self.files.get(REFERENCE)


class Layout(Protocol):
    """Metadata files for one trainer. A class of your own is named by its import path, `my_package.module:MyLayout`."""

    name: str
    """Begins the name of each of its files, so that several layouts share one export."""

    def documents(self, split: str, pairs: Sequence[LayoutPair]) -> Mapping[str, str]:
        """Write the metadata of one split.

        Args:
            split: its name.
            pairs: its pairs, in order.

        Returns:
            File name to text. Paths in it are relative to the export's folder.
        """
        ...


SHIPPED = {
    "diffsynth": "ffpdata.export.layouts.diffsynth:DiffSynth",
    "kiwi": "ffpdata.export.layouts.kiwi:Kiwi",
    "musubi": "ffpdata.export.layouts.musubi:Musubi",
    "videox-fun": "ffpdata.export.layouts.videox_fun:VideoXFun",
}


def load_layouts(names: Sequence[str]) -> list[Layout]:
    """Make layouts by their names, or by the import paths of classes.

    Raises:
        UsageError: there is no such layout.
        ConfigError: a class cannot be imported.
    """
    made = []
    for name in names:
        if name not in SHIPPED and ":" not in name:
            raise UsageError(f"--layout {name!r}: no such layout{nearest(name, [*SHIPPED, 'webdataset'])}")
        found: Any = import_object(SHIPPED.get(name, name), "")
        made.append(found())
    return made

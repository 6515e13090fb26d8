"""What this process decoded of the item that it is at, so that the item's next stages need not decode it again.

A worker that serves several stages mostly takes an item through them one after the other, and each reads the same
source, target and masks. They are kept until it turns to another item: never more than the clips of one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata.core.keys import is_of
from ffpdata.media.codec import read_masks, read_video

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Masks = NDArray[np.bool_]


def see_video(path: Path) -> Frames:
    """Decode a clip as `read_video` does, or return what is at hand: uint8 (T, H, W, 3) RGB, not to be written to."""
    return _see(path, read_video)


def see_masks(path: Path) -> Masks:
    """Decode masks as `read_masks` does, or return what is at hand: bool (T, H, W), not to be written to."""
    return _see(path, read_masks)


def turn_to(item_id: str) -> None:
    """Say which item is next; what was decoded of another one is dropped, unless this one was fanned out of it.

    Before the first call, and after `turn_to("")`, nothing is kept. For processes that are at one item at a time.
    """
    global _item  # noqa: PLW0603
    if not _item or not is_of(item_id, _item):
        _arrays.clear()
    _item = item_id


def held_gb() -> float:
    """What is kept now, GB."""
    return sum(array.nbytes for array in _arrays.values()) / 1e9


_item = ""
_arrays: dict[tuple[Any, ...], NDArray[Any]] = {}


def _see(path: Path, decode: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    name = (decode, str(path), path.stat().st_mtime_ns) if _item and path.exists() else ()
    if name in _arrays:
        return _arrays[name]
    array = decode(path)
    array.setflags(write=False)
    if name:
        _arrays[name] = array
    return array

"""Decoded clips of the current item, kept in memory so that the item's next stages need not decode them again.

A worker that runs several stages mostly runs them one after the other on the same item, and each reads the same source,
target and masks. The arrays are kept until another item starts: never more than the clips of one item.
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


def cached_video(path: Path) -> Frames:
    """Decode a clip as `read_video` does, or return the array decoded before: uint8 (T, H, W, 3) RGB, read-only."""
    return _cached(path, read_video)


def cached_masks(path: Path) -> Masks:
    """Decode masks as `read_masks` does, or return the array decoded before: bool (T, H, W), read-only."""
    return _cached(path, read_masks)


def start_item(item_id: str) -> None:
    """Set the current item and drop the arrays of the one before, unless the new item was fanned out of it.

    Before the first call, and after `start_item("")`, nothing is kept. Only for processes that run one item at a time.
    """
    global _item  # noqa: PLW0603
    if not _item or not is_of(item_id, _item):
        _arrays.clear()
    _item = item_id


def cached_gb() -> float:
    """Return the size of all arrays kept now, 10^9 bytes."""
    return sum(array.nbytes for array in _arrays.values()) / 1e9


_item = ""
_arrays: dict[tuple[Any, ...], NDArray[Any]] = {}


def _cached(path: Path, decode: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    name = (decode, str(path), path.stat().st_mtime_ns) if _item and path.exists() else ()
    if name in _arrays:
        return _arrays[name]
    array = decode(path)
    array.setflags(write=False)
    if name:
        _arrays[name] = array
    return array

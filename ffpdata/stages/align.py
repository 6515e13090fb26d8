"""Bring an output and its source together: frame by frame, or by time where they differ in length."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.errors import FatalError, FfpdataError, RetryableError
from ffpdata.core.stage import Artifact, Reject, Row, Stage
from ffpdata.media.codec import read_video, write_image, write_video
from ffpdata.media.images import decode_image
from ffpdata.media.probe import probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]


class Align(Stage):
    """Write the two clips that are scored. The output is a copy, byte for byte; so is a source of as many frames.

    Another source is cut to the output's frames: for each the one of the source that stands at its time. The size of
    either stays as it is: no metric resizes a clip as a whole.
    """

    name, version = "align", 1
    reads = ("target_sha", "source_sha", "image_sha")
    uses = ("root", "path", "source_path", "image_path")
    optional = ("source_sha", "image_sha", "source_path", "image_path")
    writes = {
        "target_video": Artifact("mp4"),
        "source_video": Artifact("mp4"),
        "edited_first_frame": Artifact("png"),
        **dict.fromkeys(("width", "height", "frames", "source_width", "source_height", "source_frames"), int),
        **dict.fromkeys(("fps", "source_fps"), float),
        "aligned_by": str,
        "held_frames": int,
        "source_fault": str,
    }

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the clips and what they are; `source_fault` where the item is scored without its source.

        Raises:
            Reject: `broken_output`: it is no mp4 that can be decoded to its end.
        """
        path = row.input(row["path"])
        try:
            rate, decoded = _decoded(path)
        except (RetryableError, FatalError):
            raise
        except FfpdataError as err:
            raise Reject("broken_output", str(err)) from None
        shape = decoded.shape
        del decoded  # a long clip is gigabytes, and so is its source
        columns: dict[str, Any] = {"target_video": row.new_file("target_video"), "fps": rate}
        columns |= {"frames": shape[0], "height": shape[1], "width": shape[2]}
        shutil.copyfile(path, columns["target_video"])
        columns |= self._source(row, rate, shape[0])
        if row.get("image_sha"):
            columns["edited_first_frame"] = row.new_file("edited_first_frame")
            write_image(columns["edited_first_frame"], decode_image(row.input(row["image_path"])))
        return columns

    def _source(self, row: Row, rate: float, count: int) -> dict[str, Any]:
        if not row.get("source_path"):
            return {"source_fault": "no_source"}
        if not row.get("source_sha"):
            return {"source_fault": "missing_source"}
        path, target = row.input(row["source_path"]), row.new_file("source_video")
        try:
            own, frames = _decoded(path)
        except (RetryableError, FatalError):
            raise
        except FfpdataError as err:
            return {"source_fault": f"broken_source: {err}"}
        found: dict[str, Any] = {"source_video": target, "source_fps": own, "source_frames": len(frames)}
        found |= {"source_height": frames.shape[1], "source_width": frames.shape[2]}
        if len(frames) == count:
            shutil.copyfile(path, target)
            return {**found, "aligned_by": "index", "held_frames": 0}
        at = indices_at(count, rate, own)
        write_video(target, _even(frames[np.minimum(at, len(frames) - 1)]), rate)
        return {**found, "aligned_by": "time", "held_frames": int((at >= len(frames)).sum())}


def indices_at(count: int, rate: float, source_rate: float) -> NDArray[np.int64]:
    """Index of the source's frame at the time of each frame of an output, int64 (T,); it may lie behind its end.

    Args:
        count: number of the output's frames.
        rate: its frames per second.
        source_rate: likewise of the source.
    """
    return np.round(np.arange(count) / rate * source_rate).astype(np.int64)


def _decoded(path: Path) -> tuple[float, Frames]:
    """Frames per second and frames of a foreign clip, uint8 (T, H, W, 3) RGB.

    Raises:
        FfpdataError: it cannot be decoded; a Reject among them.
    """
    rate = probe(path).fps
    if not rate > 0:
        raise Reject("no_rate", f"{path.name} plays at {rate} frames per second")
    return rate, read_video(path)


def _even(frames: Frames) -> Frames:
    """Repeat the last row or column of frames of an odd size, which an mp4 cannot hold."""
    odd = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    return np.pad(frames, odd, mode="edge") if any(after for _, after in odd) else frames

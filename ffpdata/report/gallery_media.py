"""Small pictures and videos of pairs for the report: source, edited region and target side by side in one video."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from ffpdata.core.errors import FfpdataError
from ffpdata.core.keys import digest
from ffpdata.media import ffmpeg
from ffpdata.media.codec import BT709, read_first_frame, read_image, video_info
from ffpdata.media.filter_graph import chain, graph, video_filter
from ffpdata.storage.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "report/previews"
VERSION = 1
"""Raised when previews change: older ones are then made again."""

PANEL_PIXELS = 480 * 270
"""Pixels of one panel; 480x270 for 16:9. In smaller ones people miss artifacts."""

CRF = 25
"""x264 quality: at this panel size 0.1 to 0.5 MB per pair of five seconds."""

DIM = 0.3
"""Brightness, 0..1, of the middle panel outside the edited region."""

SECONDS = 120.0
THUMB_WIDTH = 320
JPEG_QUALITY = 78


@dataclass(frozen=True)
class Preview:
    """A pair as one video of three panels, and its first frame.

    Attributes:
        video: mp4 (H.264).
        poster: JPEG.
        width: of the video in pixels, three panels.
        height: in pixels.
        middle: what the middle panel shows: `mask`, `reference` or `before`; empty where there is none.
    """

    video: bytes
    poster: bytes
    width: int
    height: int
    middle: str

    @property
    def panels(self) -> int:
        """Number of panels."""
        return 3 if self.middle else 2


def preview(store: Store, row: Mapping[str, Any]) -> Preview:
    """Return the preview of a pair; it is made once and stored in the run folder.

    Args:
        store: the run folder.
        row: of `items`, with `source_video`, `target_video` and, if there is one, `mask_video` or `reference_image`; or
            with `before_video`, the target that another model made.

    Raises:
        FfpdataError: a file cannot be read.
        FileNotFoundError: a file is missing.
    """
    middle = next((name for name, column in _COLUMN.items() if row.get(column)), "")
    paths = [row["source_video"], *([row[_COLUMN[middle]]] if middle else []), row["target_video"]]
    name = f"{FOLDER}/{digest(VERSION, PANEL_PIXELS, CRF, middle, paths)}"
    with local_files(store, paths) as files:
        info = video_info(files[0])
        width, height = _panel(info.width, info.height)
        if not (store.exists(f"{name}.mp4") and store.exists(f"{name}.jpg")):
            _compose(store, files, _graph(middle, width, height), info.fps, name)
    panels = len(paths)
    return Preview(store.read(f"{name}.mp4"), store.read(f"{name}.jpg"), width * panels, height, middle)


_COLUMN = {"mask": "mask_video", "reference": "reference_image", "before": "before_video"}


def thumbnail(store: Store, path: str) -> bytes:
    """Return the first frame of a clip, or an image, as a small JPEG. Errors as for `preview`."""
    with local_files(store, [path]) as (file,):
        image = read_image(file) if path.endswith(".png") else read_first_frame(file)
    return _jpeg(image)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    height = max(1, round(image.shape[0] * THUMB_WIDTH / image.shape[1]))
    small = cv2.resize(image, (THUMB_WIDTH, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise FfpdataError("a thumbnail could not be encoded")
    return data.tobytes()


def _panel(width: int, height: int) -> tuple[int, int]:
    """Return width and height of a panel: even, in the clip's aspect ratio, not larger than the clip."""
    scale = min(1.0, (PANEL_PIXELS / (width * height)) ** 0.5)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _graph(middle: str, width: int, height: int) -> str:
    """Return the filters that put panels of `width` x `height` side by side, twice: as `[video]` and `[still]`."""
    size = video_filter("scale", width, height, flags="area")
    rgb, square = video_filter("format", "gbrp"), video_filter("setsar", 1)
    panel = chain(size, rgb, square)
    if middle == "mask":  # what is edited keeps its colours, the rest goes dark
        darken = video_filter("lutrgb", **dict.fromkeys("rgb", f"val*{DIM}"))
        chains = [
            chain(panel, video_filter("split", 3), inputs=["0:v"], outputs=["left", "bright", "rest"]),
            chain(darken, inputs=["rest"], outputs=["dark"]),
            chain(size, video_filter("format", "gray"), rgb, square, inputs=["1:v"], outputs=["mask"]),
            chain(video_filter("maskedmerge"), inputs=["dark", "bright", "mask"], outputs=["middle"]),
            chain(panel, inputs=["2:v"], outputs=["right"]),
        ]
        names, joined = ["left", "middle", "right"], video_filter("hstack", 3)
    else:
        names = ["left", "middle", "right"] if middle else ["left", "right"]
        chains = [chain(panel, inputs=[f"{number}:v"], outputs=[name]) for number, name in enumerate(names)]
        joined = video_filter("hstack", 3, shortest=1) if middle else video_filter("hstack", 2)
    to_clip = [
        video_filter("scale", out_color_matrix="bt709", out_range="tv"),
        video_filter("format", "yuv420p"),
        video_filter("setparams", **BT709),
        video_filter("split", 2),
    ]
    return graph(*chains, chain(joined, *to_clip, inputs=names, outputs=["video", "still"]))


def _compose(store: Store, files: list[Path], filters: str, fps: float, name: str) -> None:
    video, poster = store.temp_file("preview.mp4"), store.temp_file("preview.jpg")
    inputs = []
    for file in files:
        loop = ["-loop", "1", "-framerate", f"{fps:g}"] if file.suffix == ".png" else []
        inputs += [*loop, "-i", ffmpeg.file_url(file)]
    x264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(CRF), "-movflags", "+faststart", "-f", "mp4"]
    try:
        ffmpeg.run(
            [
                *inputs,
                *("-filter_complex", filters),
                *("-map", "[video]", *x264, ffmpeg.file_url(video)),
                *("-map", "[still]", "-frames:v", "1", "-c:v", "mjpeg", "-q:v", "4", "-f", "image2"),
                *("-update", "1", ffmpeg.file_url(poster)),
            ],
            timeout_s=SECONDS,
        )
        store.commit(poster, f"{name}.jpg")
        store.commit(video, f"{name}.mp4")
    finally:
        video.unlink(missing_ok=True)
        poster.unlink(missing_ok=True)


@contextlib.contextmanager
def local_files(store: Store, paths: list[str]) -> Iterator[list[Path]]:
    """Yield local copies of artifacts, removed afterwards; for a local run, the files themselves."""
    if store.local:
        files = [store.own_file(path) for path in paths]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(file)
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="ffpdata-report-") as folder:
        files = [Path(folder) / f"{i}{Path(path).suffix}" for i, path in enumerate(paths)]
        for file, path in zip(files, paths, strict=True):
            file.write_bytes(store.read(path))
        yield files

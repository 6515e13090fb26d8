"""Videos of the review page: source, target and mask as panels of one video, so that they stay in step.

A preview has the clip's own resolution, a key frame every `KEY_FRAMES` frames for quick scrubbing, and few enough bytes
for a slow line; the page links to the full files. It is made once, some pairs ahead of the reviewers, and stored in
the run folder.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import cv2

from ffpdata.core.errors import FfpdataError
from ffpdata.core.keys import digest
from ffpdata.media import ffmpeg
from ffpdata.media.codec import BT709, read_image, video_info
from ffpdata.media.filter_graph import chain, graph, video_filter
from ffpdata.storage.store import Store

FOLDER = "review"
VERSION = 1
"""Raised when previews change: older ones are then made again."""

CRF, PRESET, KEY_FRAMES = 26, "superfast", 16
MAX_RATE = "4M"
"""Bits per second. A pair of 81 frames of 1280x720 has 1.5 to 2.5 MB and takes 2.5 CPU seconds: at 1 MB/s the next one
arrives while a reviewer who judges 1,000 an hour looks at the one before."""

PANELS = ("source", "target", "mask")
POSTER_SCALE = 0.5
REFERENCE_WIDTH, JPEG_QUALITY = 960, 85
SECONDS = 120.0
WORKERS = 2

VIDEO, POSTER, REFERENCE = "mp4", "jpg", "reference.jpg"


class Previews:
    """Makes previews in the background, each once.

    Args:
        store: the run folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="preview")
        self._making: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def prepare(self, files: Mapping[str, str]) -> Future[None]:
        """Start making the preview of a pair, unless it exists.

        Args:
            files: kind to path of the pair's files.
        """
        name = preview_name(files)
        with self._lock:
            if name not in self._making:
                self._making[name] = self._pool.submit(self._make, dict(files), name)
            made = self._making[name]
            if made.done() and made.exception():  # the next request tries again
                del self._making[name]
            return made

    def path(self, files: Mapping[str, str], kind: str) -> str:
        """Return the path of a pair's `VIDEO`, `POSTER` or `REFERENCE` in the run folder, once it is made.

        Raises:
            FfpdataError: a file of the pair cannot be read.
            FileNotFoundError: a file is missing.
        """
        self.prepare(files).result()
        return f"{preview_name(files)}.{kind}"

    def close(self) -> None:
        """Make no more previews; those that have begun are finished."""
        self._pool.shutdown(cancel_futures=True)

    def _make(self, files: Mapping[str, str], name: str) -> None:
        if self._store.exists(f"{name}.{VIDEO}"):  # written last
            return
        if "reference" in files:
            self._make_reference(files["reference"], name)
        video, poster = self._store.temp_file("preview.mp4"), self._store.temp_file("preview.jpg")
        try:
            with self._store.hold() as held:
                clips = [self._store.fetch(files[panel], held) for panel in PANELS if panel in files]
                info = video_info(clips[0])
                inputs = [word for clip in clips for word in ("-i", ffmpeg.file_url(clip))]
                x264 = ["-c:v", "libx264", "-preset", PRESET, "-crf", str(CRF), "-g", str(KEY_FRAMES)]
                x264 += ["-maxrate", MAX_RATE, "-bufsize", MAX_RATE]
                x264 += ["-movflags", "+faststart", "-f", "mp4"]
                ffmpeg.run(
                    [
                        *inputs,
                        *("-filter_complex", _graph(len(clips), info.width, info.height)),
                        *("-map", "[video]", *x264, ffmpeg.file_url(video)),
                        *("-map", "[still]", "-frames:v", "1", "-c:v", "mjpeg", "-q:v", "5", "-f", "image2"),
                        *("-update", "1", ffmpeg.file_url(poster)),
                    ],
                    timeout_s=SECONDS,
                )
            self._store.commit(poster, f"{name}.{POSTER}")
            self._store.commit(video, f"{name}.{VIDEO}")
        finally:
            video.unlink(missing_ok=True)
            poster.unlink(missing_ok=True)

    def _make_reference(self, path: str, name: str) -> None:
        with self._store.hold() as held:
            image = read_image(self._store.fetch(path, held))
        height = max(1, round(image.shape[0] * REFERENCE_WIDTH / image.shape[1]))
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if image.shape[1] > REFERENCE_WIDTH:
            bgr = cv2.resize(bgr, (REFERENCE_WIDTH, height), interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise FfpdataError(f"{path}: could not be encoded as a JPEG")
        self._store.write(f"{name}.{REFERENCE}", data.tobytes())


def in_a_column(width: int, height: int) -> bool:
    """Return whether the panels of a clip are in a column (landscape) or in a row (portrait)."""
    return width >= height


def _graph(panels: int, width: int, height: int) -> str:
    """Return the filters that join the clips to one picture, as `[video]`, and its smaller copy, as `[still]`."""
    alike = [video_filter("scale", width, height), video_filter("format", "yuv420p"), video_filter("setsar", 1)]
    names = [f"p{number}" for number in range(panels)]
    stack = "vstack" if in_a_column(width, height) else "hstack"
    return graph(
        *(chain(*alike, inputs=[f"{number}:v"], outputs=[name]) for number, name in enumerate(names)),
        chain(
            video_filter(stack, panels, shortest=1),
            video_filter("setparams", **BT709),
            video_filter("split", 2),
            inputs=names,
            outputs=["video", "whole"],
        ),
        chain(video_filter("scale", f"iw*{POSTER_SCALE}", -1), inputs=["whole"], outputs=["still"]),
    )


def preview_name(files: Mapping[str, str]) -> str:
    """Return the path of a pair's previews in the run folder, without the suffix."""
    key = digest(VERSION, CRF, PRESET, KEY_FRAMES, MAX_RATE, {kind: files[kind] for kind in sorted(files)})
    return f"{FOLDER}/{key[:2]}/{key}"

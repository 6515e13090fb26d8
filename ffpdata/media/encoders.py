"""The encoders that clips may be written with, and whether this machine has them.

Measured once on 41 grainy frames of 1280x720, CPU seconds and size scaled to 81, and PSNR: `fast` 5.6 s, 12.3 MB,
39.8 dB; `veryfast` 2.6 s, 10.0 MB, 37.1 dB; `superfast` 1.8 s, 12.5 MB, 38.0 dB; `ultrafast` 1.0 s, 21.6 MB, 38.2 dB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ffpdata.core.errors import FatalError, RetryableError

Encoder = Literal["fast", "veryfast", "superfast", "ultrafast", "h264_nvenc"]
DEFAULT: Encoder = "fast"
"""`medium` buys nothing over it, `veryfast` is 0.7 to 4 dB worse at the same size."""

HARDWARE = ("h264_nvenc",)
"""They need a GPU driver, and with it more address space than an ffmpeg that reads foreign files may have."""


def _x264(preset: str) -> tuple[str, ...]:
    return ("-c:v", "libx264", "-preset", preset, "-crf", "16", "-pix_fmt", "yuv420p", "-threads", "1")


ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    **{name: _x264(name) for name in get_args(Encoder) if name not in HARDWARE},
    "h264_nvenc": ("-c:v", "h264_nvenc", "-preset", "p5", "-rc", "constqp", "-qp", "18", "-pix_fmt", "yuv420p"),
}
"""ffmpeg's arguments. The thread count shapes the bytes of x264; those of a card are the same on the same card only."""


@cache
def check_encoder(name: Encoder) -> None:
    """Try an encoder that not every machine has.

    Raises:
        FatalError: this machine's ffmpeg or GPU lacks it.
    """
    if name not in HARDWARE:
        return
    from ffpdata.media.codec import write_video

    with tempfile.TemporaryDirectory() as folder:
        try:
            write_video(Path(folder) / "trial.mp4", np.zeros((2, 256, 256, 3), np.uint8), 16, encoder=name)
        except RetryableError as err:
            others = ", ".join(other for other in get_args(Encoder) if other not in HARDWARE)
            raise FatalError(
                f"encoder {name!r} does not work here: {err}. It needs an ffmpeg with it and an NVIDIA card with an "
                f"encoder (L4, L40S, A10, RTX; not A100, H100, H200). Choose another: {others}"
            ) from err

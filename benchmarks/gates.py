"""Error of every gate on labelled pictures and clips: how many of the bad are kept out, and how many of the good.

    python -m benchmarks.gates [--width 1280 --height 720 --frames 5]

Gates whose network is not on this machine are left out, with the command that installs it. The bounds are those of the
defaults; the tests hold the same at a smaller size.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from benchmarks import labelled
from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.media.geometry import Geometry
from ffpdata.media.phash import clip_hashes
from ffpdata.models.packaged.location import missing
from ffpdata.models.pretrained.copy_embedder import CopyEmbedder
from ffpdata.models.pretrained.faces import FaceGate
from ffpdata.models.pretrained.object_detector import NamedObjects
from ffpdata.models.pretrained.packaged_backend import PackagedBackend
from ffpdata.models.pretrained.text_gate import TextGate
from ffpdata.stages.redetect import RedetectSettings, judge, look

B = TypeVar("B", bound=PackagedBackend)

Case = tuple[str, bool, Callable[[], object]]
"""What it is, whether it is bad, and the judgement, which may raise Reject."""
SAME_BITS = 10
SAME_COSINE = 0.5


@dataclass
class Tally:
    """What a gate said of labelled things.

    Attributes:
        gate: its name.
        bounds: least recall and precision.
        caught, missed: number of the bad.
        kept_out, passed: number of the good.
        wrong: what was judged wrongly.
        seconds: CPU seconds of each judgement on the mean.
    """

    gate: str
    bounds: tuple[float, float]
    caught: int = 0
    missed: int = 0
    kept_out: int = 0
    passed: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, *, bad: bool, rejected: bool, what: str) -> None:
        """Count a judgement."""
        self.caught += bad and rejected
        self.missed += bad and not rejected
        self.kept_out += rejected and not bad
        self.passed += not rejected and not bad
        if bad != rejected:
            self.wrong.append(what)

    @property
    def recall(self) -> float:
        """Part of the bad that was rejected."""
        return self.caught / max(1, self.caught + self.missed)

    @property
    def precision(self) -> float:
        """Part of the rejected that was bad."""
        return self.caught / max(1, self.caught + self.kept_out)

    @property
    def holds(self) -> bool:
        """Whether both are within their bounds."""
        return self.recall >= self.bounds[0] and self.precision >= self.bounds[1]


def judged(gate: str, bounds: tuple[float, float], cases: Iterable[Case]) -> Tally:
    """Let a gate judge cases."""
    tally = Tally(gate, bounds)
    count, spent = 0, 0.0
    for what, bad, judgement in cases:
        start, rejected = time.process_time(), False
        try:
            judgement()
        except Reject:
            rejected = True
        spent, count = spent + time.process_time() - start, count + 1
        tally.add(bad=bad, rejected=rejected, what=what)
    tally.seconds = spent / max(1, count)
    return tally


def opened(backend: type[B], **settings: float) -> B:
    return backend(ModelSpec.of(backend, settings=settings))


def text(size: tuple[int, int], frames: int, count: int = 28) -> Tally:
    """Clips with words laid over, in several fonts, sizes, opacities and places, against the same without."""
    gate = opened(TextGate)
    cases = (
        (f"{label or 'no text'} {number // 2}", bool(label), lambda clip=clip: gate.inspect(clip))
        for number, (clip, label) in enumerate(labelled.written_clips(size, frames, count))
    )
    return judged("text", (0.75, 0.95), cases)


def faces(size: tuple[int, int]) -> Tally:
    """Pictures with faces of several sizes, against animals, coins, drawings and things."""
    gate = opened(FaceGate)
    cases = (
        (f"{'face' if has else 'none'} {number}", has, lambda picture=picture: gate.inspect(picture[None]))
        for number, (picture, has) in enumerate(labelled.faces(size))
    )
    return judged("faces", (0.85, 0.9), cases)


def redetection(geometry: Geometry, worlds: int = 4) -> Tally:
    """Removals and modifications of a person, good ones and failed ones."""
    detector = opened(NamedObjects, min_score=0.15)
    settings = RedetectSettings(step=max(1, geometry.frames // 4))
    cases = (
        (f"{one.task}: {one.what}", one.bad, lambda one=one: _look_again(detector, one, settings))
        for one in labelled.edited_clips(geometry, worlds)
    )
    return judged("redetect", (0.8, 0.95), cases)


def _look_again(detector: NamedObjects, one: labelled.Edited, settings: RedetectSettings) -> None:
    sightings = look(detector, one.source, one.target, one.masks, settings)
    judge(sightings, settings, removes=one.task == "removal")


def copies(size: tuple[int, int]) -> Iterator[Tally]:
    """Changed copies of pictures against other pictures: by hashes, and by vectors where their network is here."""
    pictures = labelled.different_pictures(size)
    changed = [(name, k, change(p)) for name, change in labelled.CHANGES.items() for k, p in enumerate(pictures)]
    hashes = [_words(p) for p in pictures]
    by_hash, by_vector = Tally("copies by hash", (0.5, 1.0)), Tally("copies by vector", (0.97, 1.0))
    for name, k, picture in changed:
        plain, mirrored = _words(picture)
        for other, (its, _) in enumerate(hashes):
            near = min(int(np.bitwise_count(its ^ word)) for word in (plain, mirrored)) <= SAME_BITS
            by_hash.add(bad=k == other, rejected=near, what=name)
    yield by_hash
    if missing([CopyEmbedder.network]):
        return
    embedder = opened(CopyEmbedder)
    start = time.process_time()
    known = embedder.embed(pictures)
    by_vector.seconds = (time.process_time() - start) / len(pictures)
    for (name, k, _), vector in zip(changed, embedder.embed([p for *_, p in changed]), strict=True):
        for other, cosine in enumerate(known @ vector):
            by_vector.add(bad=k == other, rejected=bool(cosine >= SAME_COSINE), what=f"{name}, {cosine:.2f}")
    yield by_vector


def _words(picture: labelled.Image) -> tuple[np.uint64, np.uint64]:
    plain, _, _, mirrored, _, _ = clip_hashes(picture[None])
    return np.uint64(int(plain, 16)), np.uint64(int(mirrored, 16))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--count", type=int, default=28, help="pairs of clips with and without text")
    parser.add_argument("--worlds", type=int, default=4, help="places in which edits are looked at again")
    args = parser.parse_args()
    size = args.width, args.height
    geometry = Geometry(width=args.width, height=args.height, fps=16, frames=args.frames)
    tallies: list[Tally] = []
    for network, measure in (
        (TextGate.network, lambda: [text(size, args.frames, args.count)]),
        (FaceGate.network, lambda: [faces(size)]),
        (NamedObjects.network, lambda: [redetection(geometry, args.worlds)]),
        ("", lambda: copies(size)),
    ):
        if network and (why := missing([network])):
            print(f"left out: {why}")
            continue
        tallies += measure()
    print(f"{'gate':18} {'bad':>5} {'good':>5} {'recall':>7} {'precision':>10} {'bounds':>12} {'CPU s':>6}")
    for one in tallies:
        counts = f"{one.caught + one.missed:5} {one.kept_out + one.passed:5}"
        print(
            f"{one.gate:18} {counts} {one.recall:7.2f} {one.precision:10.2f} "
            f"{one.bounds[0]:5.2f}, {one.bounds[1]:.2f} {one.seconds:6.2f}"
        )
        for what in one.wrong:
            print(f"    wrong: {what}")
    return 0 if all(one.holds for one in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())

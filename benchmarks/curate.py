"""Curating a million finished pairs: variants, near-duplicates among all of them, caps, splits.

    python -m benchmarks.curate [--pairs 1000000] [--clip-pairs 2]

Bounds: 60 s and 2 GB for a million pairs on two cores. The time of a smaller number beside it gives the slope, and by
it what 10 million would take with the same code.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from typing import Any

import numpy as np

from ffpdata.core.sections import CurateSettings
from ffpdata.curate.curation import Hashes, decide
from ffpdata.curate.dedup import ClipHashes

COPIES = 0.02
SECONDS, MEGABYTES, FULL, PLANNED = 60.0, 2000, 1_000_000, 10_000_000
TASKS = ("removal", "modification", "stylization", "swap")
OBJECTS = [f"object {number}" for number in range(500)]


def made_up(count: int, clip_pairs: int) -> tuple[list[dict[str, Any]], Hashes, int]:
    """Pairs with random hashes, of which some clips are copies of others with a few bits changed."""
    rng = np.random.default_rng(0)
    clips = count // clip_pairs
    words = rng.integers(0, 2**64, (clips, 6), dtype=np.uint64)
    targets = rng.integers(0, 2**64, (clips, clip_pairs, 6), dtype=np.uint64)
    copies = np.unique(rng.choice(clips // 2, int(clips * COPIES)) + clips // 2)
    words[copies] = words[copies - clips // 2] ^ np.uint64(0b101)
    targets[copies] = targets[copies - clips // 2] ^ np.uint64(0b1001)
    scores, motions = rng.random(count).tolist(), rng.gamma(2, 1.5, count).tolist()
    pairs = []
    for number in range(count):
        clip, edit = divmod(number, clip_pairs)
        source = f"{clip:016x}"
        task = TASKS[edit % len(TASKS)]
        ids = {"item_id": f"{source}/00/{task}/{edit}", "parent_id": f"{source}/00", "source_id": source}
        known = {"track": "local", "task": task, "object": OBJECTS[clip % len(OBJECTS)], "score": scores[number]}
        pairs.append(ids | known | {"motion": motions[number], "width": 1280, "height": 720})
    of_pairs = words.repeat(clip_pairs, axis=0), targets.reshape(-1, 6)
    hashes = Hashes(*(ClipHashes(w[:, :3], w[:, 3:], np.ones(len(w), bool)) for w in of_pairs))
    return pairs, hashes, clip_pairs * len(copies)


def measure(count: int, clip_pairs: int) -> tuple[float, float, bool]:
    """Wall-clock and CPU seconds of one curation, and whether it found the copies."""
    pairs, hashes, copies = made_up(count, clip_pairs)
    settings = CurateSettings(caps={"object": max(1, count // 1000), "motion": count // 3})
    start, cpu = time.perf_counter(), time.process_time()
    decisions = decide(pairs, settings, hashes=hashes)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = sum(decision["reason"] == "near_duplicate" for decision in decisions)
    capped = sum(decision["reason"] == "over_cap" for decision in decisions)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"curate {count} pairs of {count // clip_pairs} clips: {seconds:.1f} s, {cpu:.1f} CPU s, {memory:.0f} MB in "
        f"all; {found} near-duplicates of {copies}, {capped} over a cap"
    )
    return seconds, cpu, found >= 0.999 * copies and capped > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=FULL)
    parser.add_argument("--clip-pairs", type=int, default=2)
    args = parser.parse_args()
    _, less, sound = measure(args.pairs // 4, args.clip_pairs)
    seconds, cpu, found = measure(args.pairs, args.clip_pairs)
    slope = math.log(cpu / less) / math.log(4)
    planned = cpu * (PLANNED / args.pairs) ** slope
    print(f"CPU seconds grow with the number of pairs to the power {slope:.2f}: {planned:.0f} CPU s for {PLANNED:,}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bounds = args.pairs < FULL or (seconds <= SECONDS and memory <= MEGABYTES)
    print(f"bounds of {FULL:,} pairs: {SECONDS:.0f} s and {MEGABYTES} MB")
    return 0 if sound and found and bounds else 1


if __name__ == "__main__":
    sys.exit(main())

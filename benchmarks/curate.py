"""Curating 300K finished pairs: variants, near-duplicates among all of them, splits.

    python -m benchmarks.curate [--pairs 300000]

No bound is set; every clip is compared with every other, so the time grows with the square of the number of clips.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from ffpdata.core.sections import CurateSettings
from ffpdata.curate.curation import decide

PAIRS_PER_CLIP = 2
COPIES = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=300_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    clips = args.pairs // PAIRS_PER_CLIP
    words = rng.integers(0, 2**63, (clips, 12), dtype=np.uint64)
    copies = rng.choice(clips // 2, int(clips * COPIES)) + clips // 2
    words[copies] = words[copies - clips // 2] ^ np.uint64(0b101)
    pairs = []
    for clip in range(clips):
        hashes = [f"{w:016x}" for w in words[clip].tolist()]
        for task in ("removal", "modification"):
            ids = {"item_id": f"{clip:016x}/00/{task}", "parent_id": f"{clip:016x}/00", "source_id": f"{clip:016x}"}
            known = {"track": "local", "task": task, "object": "dog", "score": float(rng.random())}
            pairs.append(ids | known | {"source_hash": hashes[:6], "target_hash": hashes[6:]})
    start = time.perf_counter()
    decisions = decide(pairs, CurateSettings())
    seconds = time.perf_counter() - start
    rejected = sum(d["reason"] == "near_duplicate" for d in decisions)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"curate {len(pairs)} pairs of {clips} clips: {seconds:.1f} s, {memory:.0f} MB, {rejected} near-duplicates")
    return 0 if rejected == 2 * len(set(copies.tolist())) else 1


if __name__ == "__main__":
    sys.exit(main())

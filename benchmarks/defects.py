"""Defects injected into the accepted pairs of runs: how many are caught, and how well the score ranks them.

    python -m benchmarks.defects RUN [RUN ...] [--numbers FILE] [--judge] [--part N] [--fit OUT.json]

Every accepted pair is damaged in each way of `defect_kinds`, encoded again, and goes through the stages that judge
pairs, under the pipelines' present limits. `--judge` asks the vision-language model too (`screen`, `verify`).
`--numbers` keeps what was measured: other limits or another fit then need no second pass. `--fit` writes the score that
comes with ffpdata, ffpdata/metrics/default_score.json; kinds in `HELD_OUT` are not fitted on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from benchmarks.defect_kinds import HELD_OUT, KINDS
from benchmarks.defect_pairs import accepted_pairs
from benchmarks.defect_report import fitted, report

CLEAN, RECODED = "clean", "recoded"
"""The pair as it is, and with a target that was encoded once more, as every damaged one is: both are good."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--numbers", type=Path, help="JSON lines of what was measured: read, and added to")
    parser.add_argument("--pairs", type=int, default=0, help="at most so many pairs of each track of a run")
    parser.add_argument("--only", default="", help="kinds of defects, with commas between")
    parser.add_argument(
        "--part", type=int, default=1, help="every so-manieth defect of a pair, other ones for each pair"
    )
    parser.add_argument("--judge", action="store_true", help="ask the vision-language model, too")
    parser.add_argument("--fit", type=Path, help="write the score's models there")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    known = [json.loads(line) for line in args.numbers.read_text().splitlines()] if _there(args.numbers) else []
    for run in args.runs:
        for row in measured(run, args, {_key(row) for row in known}):
            known.append(row)
            if args.numbers:
                with args.numbers.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
    if args.fit:
        args.fit.write_text(fitted(known).model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report(known)


def measured(run: Path, args: argparse.Namespace, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Yield a row per damaged pair that is not in `done`."""
    only = set(filter(None, args.only.split(",")))
    kinds = {name: kind for name, kind in (KINDS | HELD_OUT).items() if not only or name in only}
    for turn, pair in enumerate(accepted_pairs(run, judge=args.judge, most=args.pairs)):
        jobs = [(kind, strength) for kind in kinds for strength in (0, 1)]
        chosen = [job for number, job in enumerate(jobs) if (number + turn) % args.part == 0]
        for kind, strength in [(CLEAN, 0), (RECODED, 0), *chosen]:
            damaged = pair.example if kind in {CLEAN, RECODED} else kinds[kind](pair.example, strength)
            row = {"run": str(run), "item_id": pair.name, "kind": kind, "strength": strength}
            if damaged is None or _key(row) in done:
                continue
            shown = {name: pair.columns[name] for name in ("task", "track", "source_id")}
            yield row | shown | pair.judged(damaged, encode=kind == RECODED)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["run"], row["item_id"], row["kind"], row["strength"]


def _there(path: Path | None) -> bool:
    return path is not None and path.exists()


if __name__ == "__main__":
    sys.exit(main())

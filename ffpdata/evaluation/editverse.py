"""EditVerseBench: a folder that the user downloaded, and outputs as its own evaluation lays them out.

Layout of the results, the one that upstream scores: `<results>/<id>/generate.mp4`, and `video1.mp4`, the source as the
method saw it. `<results>/<id>/edited_first_frame.png` is ours: the image that a propagation was given.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffpdata.core.errors import UsageError
from ffpdata.evaluation.entries import Choice, Entry, chosen_ids
from ffpdata.evaluation.methods import methods_of

TEST = "test.json"
OUTPUT, SOURCE, FIRST_FRAME = "generate.mp4", "video1.mp4", "edited_first_frame.png"
LAYOUT = f"<id>/{OUTPUT}, with ids of {TEST}"

UNSTABLE = ("camera", "propagat", "depth", "pose", "sketch", "reason")
"""Words of types that are left out unless all is asked for. FFP (section 5) keeps 125 of the pairs, those "with stable
temporal structure", and publishes no list: this is our reading, so the number is always told."""
UNSTABLE_TOLD = "without camera changes, propagation, depth, pose, sketch and reasoning"


def read_editverse(results: Sequence[str], data: Path | None, *, ids: Path | None = None, full: bool = False) -> Choice:
    """Find the outputs of methods on EditVerseBench.

    Args:
        results: as of `methods_of`.
        data: folder with `test.json` and the videos.
        ids: file with the ids of the items that count, in place of the filter by type.
        full: take all items.

    Raises:
        UsageError: something is not there, cannot be read, or `ids` and `full` are both given.
    """
    if data is None:
        raise UsageError(f"--benchmark editverse needs --data FOLDER: the benchmark with its {TEST}")
    if ids and full:
        raise UsageError("--ids names the items and --full takes all: give one of them")
    items = _read(data / TEST)
    methods = methods_of(results, lambda folder: any((folder / one).is_dir() for one in items), LAYOUT)
    chosen, rule = _chosen(items, ids, full=full)
    left_out = Counter(_type(item) for name, item in items.items() if name not in chosen)
    entries = [_entry(method, at, one, items[one], data) for method, at in methods.items() for one in chosen]
    return Choice(entries, rule, len(chosen), len(items), dict(sorted(left_out.items())))


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        items = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file} is not there: --data names the folder of EditVerseBench") from None
    except (OSError, ValueError, RecursionError) as err:
        raise UsageError(f"{file} cannot be read as JSON ({err}): download it again") from err
    if not isinstance(items, dict) or not items:
        raise UsageError(f"{file}: expected an object with an entry per item, as EditVerseBench has it")
    for name, item in items.items():
        if not isinstance(item, dict) or not isinstance(item.get("<text>"), str):
            raise UsageError(f"{file}: entry {name!r} has no `<text>`: this is no test.json of EditVerseBench")
    return items


def _chosen(items: Mapping[str, Mapping[str, Any]], ids: Path | None, *, full: bool) -> tuple[list[str], str]:
    if ids:
        return chosen_ids(ids, items), f"ids of {ids.name}"
    if full:
        return list(items), "all"
    stable = [name for name, item in items.items() if not any(word in _type(item) for word in UNSTABLE)]
    if not stable:
        raise UsageError("every item is of a type that is left out by default: --full takes all")
    return stable, f"types {UNSTABLE_TOLD}"


def _type(item: Mapping[str, Any]) -> str:
    return str(item.get("type") or "").strip().lower()


def _entry(method: str, at: Path, name: str, item: Mapping[str, Any], data: Path) -> Entry:
    seen, image = at / name / SOURCE, at / name / FIRST_FRAME
    given = str(item.get("<video1>") or "")
    source = seen if seen.is_file() else data / given if given else None
    return Entry(
        method,
        name,
        at / name / OUTPUT,
        source,
        image if image.is_file() else None,
        _type(item),
        item["<text>"].strip(),
        str(item.get("target_prompt") or "").strip(),
    )

"""UNICBench: a folder that the user downloaded, with the outputs of methods beside the items.

Layout: `<Task>/<NNN>/` with `caption.txt`, `reference.mp4`, which we take for the source, and an output `<method>.mp4`.
Only the folder `Propagation` was seen when this was written, with an edited first frame `propagation.png` or `.jpg`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ffpdata.core.errors import UsageError
from ffpdata.evaluation.entries import Choice, Entry, chosen_ids
from ffpdata.evaluation.methods import existing_folder, named

CAPTION, SOURCE = "caption.txt", "reference.mp4"
NO_OUTPUT = ("reference", "origin")
"""Stems of clips that are no method's."""
FIRST_FRAMES = ("propagation.png", "propagation.jpg")
INSTRUCTIONS = "instructions.json"
"""Our side file in the benchmark's folder: `{"<Task>/<NNN>": "what to change"}`; the benchmark itself has captions."""
COMPARED = ("add", "delet", "remov", "chang", "swap", "styl")
"""Words of the tasks that FFP reports (add, delete, change, stylization; 128 videos, of which it publishes no list)."""
LAYOUT = f"<Task>/<NNN>/<method>.mp4 beside {CAPTION} and {SOURCE}"


def read_unic(results: Sequence[str], data: Path | None, *, ids: Path | None = None, full: bool = False) -> Choice:
    """Find the outputs of methods on UNICBench.

    Args:
        results: folders of the benchmark's layout, in which every clip but the source is a method's; with `NAME=FOLDER`
            it is `NAME.mp4` or `generate.mp4` alone.
        data: folder with captions and sources; by default the first of `results`.
        ids: file with the items that count, as `<Task>/<NNN>`.
        full: take all tasks.

    Raises:
        UsageError: something is not there, cannot be read, or has another layout.
    """
    if not results:
        raise UsageError(f"name the folder of the results: {LAYOUT}")
    if ids and full:
        raise UsageError("--ids names the items and --full takes all: give one of them")
    places = [(name, existing_folder(rest)) for name, rest in map(named, results)]
    home = data or places[0][1]
    items = sorted(file.parent.relative_to(home).as_posix() for file in home.glob(f"*/*/{CAPTION}"))
    if not items:
        raise UsageError(f"{home}: no {CAPTION} in it: expected {LAYOUT}")
    chosen, rule = _chosen(items, ids, full=full)
    told = _instructions(home / INSTRUCTIONS)
    entries = [
        _entry(method, at / item / file, home, item, told.get(item, ""))
        for method, at, file in _methods(places, items)
        for item in chosen
    ]
    left_out = Counter(item.partition("/")[0] for item in items if item not in chosen)
    notes = (f"the source is {SOURCE}", "without an instruction of its own an item has its task and caption")
    return Choice(entries, rule, len(chosen), len(items), dict(sorted(left_out.items())), notes)


def _chosen(items: list[str], ids: Path | None, *, full: bool) -> tuple[list[str], str]:
    if ids:
        return chosen_ids(ids, items), f"ids of {ids.name}"
    if full:
        return items, "all"
    chosen = [item for item in items if any(word in item.partition("/")[0].lower() for word in COMPARED)]
    if not chosen:
        tasks = ", ".join(sorted({item.partition("/")[0] for item in items}))
        raise UsageError(f"the tasks {tasks} are left out by default: --full takes all")
    return chosen, "tasks add, delete, change, stylization"


def _methods(places: Sequence[tuple[str, Path]], items: Sequence[str]) -> list[tuple[str, Path, str]]:
    """Name, folder and file of every method."""
    found: list[tuple[str, Path, str]] = []
    for name, at in places:
        files = Counter(file.stem for item in items for file in (at / item).glob("*.mp4"))
        stems = sorted(set(files) - set(NO_OUTPUT))
        if name:
            stems = [one for one in (name, "generate") if one in stems][:1]
        if not stems:
            raise UsageError(f"{at}: no output{f' {name}.mp4' if name else ''} in it: expected {LAYOUT}")
        found += [(name or stem, at, f"{stem}.mp4") for stem in stems]
    if twice := [name for name, count in Counter(name for name, _, _ in found).items() if count > 1]:
        raise UsageError(f"two methods are called {twice[0]!r}: name one of them, OTHER=FOLDER with OTHER.mp4 in it")
    return found


def _instructions(file: Path) -> Mapping[str, str]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise UsageError(f"{file} cannot be read as JSON ({err})") from err
    if not isinstance(found, dict):
        raise UsageError(f"{file}: expected an object from <Task>/<NNN> to an instruction")
    return {str(name): str(text) for name, text in found.items()}


def _entry(method: str, target: Path, home: Path, item: str, instruction: str) -> Entry:
    task = item.partition("/")[0]
    caption = (home / item / CAPTION).read_text(encoding="utf-8", errors="replace").strip()
    images = [home / item / name for name in FIRST_FRAMES if (home / item / name).is_file()]
    return Entry(
        method,
        item,
        target,
        home / item / SOURCE,
        images[0] if images else None,
        task,
        instruction or f"{task}: {caption}",
        caption,
    )

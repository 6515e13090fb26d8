"""The report page of a round: one HTML file that says whether the new model is better, by how much, and shows it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from ffpdata import __version__
from ffpdata.core.errors import FatalError, FfpdataError
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import literal
from ffpdata.refine.compared_measures import measure, names, screen_score, value
from ffpdata.refine.comparison import Comparison, count
from ffpdata.refine.removal_results import OK, RemovalResult, RemovalResults
from ffpdata.refine.round import RoundState
from ffpdata.refine.round_charts import bar, fates
from ffpdata.refine.round_pairs import GROUPS, SOURCE, TARGET, ComparedRemoval, choose
from ffpdata.report.gallery_media import preview
from ffpdata.report.page import data_uri, embedded, render
from ffpdata.storage.store import Store
from ffpdata.training.losses import Loss, loss_curve

TEMPLATE = "round.html.j2"
LABELS = ("source", "before", "after")
WIPE = "1 2"
"""A wipe lays before and after over each other, the second and the third panel."""

TOLD = ("object", "caption", "target_caption")
"""Columns of the run that are told of an item, where they are there."""


@dataclass(frozen=True)
class RoundFacts:
    """What is told of a round.

    Attributes:
        number: of the round, from 1.
        state: where it stands.
        when: it came to stand there; with a time zone.
        model_before: label of the model that made the removals before.
        model_after: label of the one that was made from it.
        trained_on: pairs that it was fine-tuned on.
        held_out: pairs that it was not, so that its loss could be measured on them.
        comparison: None where the removals have not been compared yet.
        losses: of the fine-tuning: step, loss, and the held-out loss where it was measured.
        sheet: the validation sheet, a JPEG; None where there is none.
        before: every removal under the old model.
        after: every removal under the new one.
        cost: what was spent on what, e.g. `("fine-tuning", "3.2 GPU hours")`.
    """

    number: int
    state: RoundState
    when: datetime
    model_before: str
    model_after: str
    trained_on: int = 0
    held_out: int = 0
    comparison: Comparison | None = None
    losses: Sequence[Loss] = ()
    sheet: bytes | None = None
    before: RemovalResults = ()
    after: RemovalResults = ()
    cost: Sequence[tuple[str, str]] = field(default_factory=tuple)


def write_round_report(run: RunFolder, path: str, facts: RoundFacts) -> str:
    """Write the page and return where it is: a path, or a URL where the run is not local.

    Args:
        run: the run folder; the videos of the pairs are read from it.
        path: where to write the page in it.
        facts: of the round.

    Raises:
        FatalError: the run cannot be written.
        ValueError: the path leaves the run.
    """
    where = run.store.url(path)
    shown = choose(facts.before, facts.after)
    texts = _texts(run, [pair.after.item_id for pair in shown])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cards = [card for card in pool.map(partial(_card, run.store, texts), shown) if card]
    changes = facts.comparison.changes if facts.comparison else ()
    page = render(
        TEMPLATE,
        run=PurePosixPath(run.store.root).name,
        version=__version__,
        facts=facts,
        verdict=verdict(facts),
        totals=[(measure(change.name), change) for change in changes if change.name in TOTALS],
        changes=[(measure(change.name), change, bar(change)) for change in changes],
        fates=fates(facts.before, facts.after),
        curve=loss_curve(facts.losses),
        sheet=data_uri("image/jpeg", facts.sheet) if facts.sheet else "",
        cards=cards,
        groups=[group for group in GROUPS if any(card["group"] == group for card in cards)],
        lost=len(shown) - len(cards),
    )
    run.store.write(path, page.encode())
    return where


TOTALS = ("acceptance", "yield", "screen_score")
"""Numbers in the head of the page."""


def verdict(facts: RoundFacts) -> str:
    """Say in a sentence what became of the round."""
    old, new = facts.model_before, facts.model_after
    missing = facts.comparison.missing if facts.comparison else 0
    return {
        RoundState.WAITING: f"{old} stays until the reviewers have decided"
        + (
            f": {count(missing, 'pair')} of {new} {'is' if missing == 1 else 'are'} still to be judged."
            if missing
            else "."
        ),
        RoundState.PROMOTED: f"{new} takes the place of {old}.",
        RoundState.NOT_PROMOTED: f"{old} stays.",
        RoundState.ROLLED_BACK: f"{new} was taken back: {old} makes the removals again.",
    }[facts.state]


def _texts(run: RunFolder, items: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the run tells of some items, by item."""
    if not items or not run.tracks():
        return {}
    with run.reading() as connection:
        view = connection.view("items")
        columns = [name for name in ("item_id", *TOLD) if name in view.columns]
        wanted = ", ".join(map(literal, items))
        rows = pa.table(view.filter(f"item_id in ({wanted})").project(", ".join(columns)).to_arrow_table()).to_pylist()
    return {row["item_id"]: row for row in rows}


def _card(store: Store, texts: Mapping[str, Mapping[str, Any]], shown: ComparedRemoval) -> dict[str, Any] | None:
    """What the gallery shows of one removal; None where its files are gone or damaged."""
    files = {
        SOURCE: shown.after.files.get(SOURCE) or shown.before.files[SOURCE],
        "before_video": shown.before.files[TARGET],
        TARGET: shown.after.files[TARGET],
    }
    try:
        made = preview(store, files)
    except FatalError:
        raise
    except (FfpdataError, FileNotFoundError):
        return None
    item = shown.after.item_id
    told = texts.get(item, {})
    sides = (shown.before, shown.after)
    rows = [
        (measure(name), *(value(name, outcome) for outcome in sides)) for name in names(sides) if name not in TOTALS
    ]
    return {
        "id": item,
        "group": shown.group,
        "title": f"Remove the {told['object']}" if told.get("object") else item,
        "caption": told.get("target_caption") or told.get("caption") or "",
        "captions": [(name, told[name]) for name in TOLD if told.get(name)],
        "sides": [(label, outcome, _fate(outcome)) for label, outcome in zip(LABELS[1:], sides, strict=True)],
        "scores": [screen_score(outcome) for outcome in sides],
        "numbers": [row for row in rows if row[1] is not None or row[2] is not None],
        "labels": LABELS,
        "wipe": WIPE,
        "preview": embedded(made),
    }


def _fate(outcome: RemovalResult) -> str:
    """What became of one removal."""
    return "passed all gates" if outcome.status == OK else f"{outcome.status} at {outcome.stage}: {outcome.reason}"

"""The report page of a round: one HTML file with the comparison of both models, the training and example removals."""

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
from ffpdata.manifests.sql_text import literal
from ffpdata.refine.compared_measures import measure, measure_names, measured_value, screen_score
from ffpdata.refine.comparison import Comparison, count
from ffpdata.refine.removal_results import OK, RemovalResult, RemovalResults
from ffpdata.refine.round import RoundState
from ffpdata.refine.round_charts import interval_bar, outcome_counts
from ffpdata.refine.round_pairs import GROUPS, SOURCE, TARGET, ComparedRemoval, choose_removals
from ffpdata.report.gallery_media import preview
from ffpdata.report.page import data_uri, embedded, render
from ffpdata.storage.store import Store
from ffpdata.training.losses import Loss, loss_curve

TEMPLATE = "round.html.j2"
LABELS = ("source", "before", "after")
WIPE = "1 2"
"""Numbers of the panels (from 0) that the page's wipe shows over each other: before and after."""

TEXTS = ("object", "caption", "target_caption")
"""Columns of the run that are shown of an item, where it has them."""


@dataclass(frozen=True)
class RoundFacts:
    """What the report shows of a round.

    Attributes:
        number: of the round, from 1.
        state: of the round.
        when: time of that state, with a time zone.
        model_before: label of the old model.
        model_after: label of the new one.
        trained_on: number of pairs that it was fine-tuned on.
        held_out: number of held-out pairs that its loss was measured on.
        comparison: of both models; None where they have not been compared.
        losses: step, training loss, and the held-out loss where it was measured.
        sheet: contact sheet of the validation, a JPEG; None where there is none.
        before: every removal under the old model.
        after: every removal under the new one.
        cost: purpose and amount, e.g. `("fine-tuning", "3.2 GPU hours")`.
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
    """Write the page.

    Args:
        run: the run folder; the videos of the pairs are read from it.
        path: of the page in the run folder.
        facts: of the round.

    Returns:
        The page's local path, or its URL where the run is not local.

    Raises:
        FatalError: the run cannot be written.
        ValueError: the path leaves the run folder.
    """
    location = run.store.url(path)
    shown = choose_removals(facts.before, facts.after)
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
        changes=[(measure(change.name), change, interval_bar(change)) for change in changes],
        outcomes=outcome_counts(facts.before, facts.after),
        curve=loss_curve(facts.losses),
        sheet=data_uri("image/jpeg", facts.sheet) if facts.sheet else "",
        cards=cards,
        groups=[group for group in GROUPS if any(card["group"] == group for card in cards)],
        lost=len(shown) - len(cards),
    )
    run.store.write(path, page.encode())
    return location


TOTALS = ("acceptance", "yield", "screen_score")
"""Measures in the head of the page."""


def verdict(facts: RoundFacts) -> str:
    """Return a sentence that says which model is used."""
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
    """Read the texts of some items from the run, by item id."""
    if not items or not run.tracks():
        return {}
    with run.reading() as connection:
        view = connection.view("items")
        columns = [name for name in ("item_id", *TEXTS) if name in view.columns]
        listed = ", ".join(map(literal, items))
        rows = pa.table(view.filter(f"item_id in ({listed})").project(", ".join(columns)).to_arrow_table()).to_pylist()
    return {row["item_id"]: row for row in rows}


def _card(store: Store, texts: Mapping[str, Mapping[str, Any]], shown: ComparedRemoval) -> dict[str, Any] | None:
    """Return the gallery's card of one removal; None where its files are missing or damaged."""
    files = {
        SOURCE: shown.after.files.get(SOURCE) or shown.before.files[SOURCE],
        "before_video": shown.before.files[TARGET],
        TARGET: shown.after.files[TARGET],
    }
    try:
        video = preview(store, files)
    except FatalError:
        raise
    except (FfpdataError, FileNotFoundError):
        return None
    item = shown.after.item_id
    text = texts.get(item, {})
    sides = (shown.before, shown.after)
    rows = [
        (measure(name), *(measured_value(name, result) for result in sides))
        for name in measure_names(sides)
        if name not in TOTALS
    ]
    return {
        "id": item,
        "group": shown.group,
        "title": f"Remove the {text['object']}" if text.get("object") else item,
        "caption": text.get("target_caption") or text.get("caption") or "",
        "captions": [(name, text[name]) for name in TEXTS if text.get(name)],
        "sides": [(label, result, _ending(result)) for label, result in zip(LABELS[1:], sides, strict=True)],
        "scores": [screen_score(result) for result in sides],
        "numbers": [row for row in rows if row[1] is not None or row[2] is not None],
        "labels": LABELS,
        "wipe": WIPE,
        "preview": embedded(video),
    }


def _ending(result: RemovalResult) -> str:
    """Say how a removal ended."""
    return "passed all gates" if result.status == OK else f"{result.status} at {result.stage}: {result.reason}"

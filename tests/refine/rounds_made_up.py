"""Outcomes of made-up models with known effects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ffpdata.curate.verdicts import Decision
from ffpdata.refine.removal_results import RemovalResult

ACCEPTED, REJECTED = Decision(1, 0), Decision(0, 1, ("artifacts",))
MEASURES = {"psnr_outside": 35.0, "flicker": 0.5, "colour_drift": 1.0, "structure": 0.8, "motion": 2.5}


def outcome(item: str, **facts: Any) -> RemovalResult:
    """A removal named `<source>/<edit>` that passed, unless told otherwise."""
    usual = RemovalResult(
        item_id=item,
        source_id=item.split("/", maxsplit=1)[0],
        pair=f"pair-{item}",
        status="ok",
        stage="verify",
        screen_score=7.0,
        measures=dict(MEASURES),
        files={"source_video": "s.mp4", "target_video": "t.mp4", "mask_video": "m.mp4"},
    )
    return replace(usual, **facts)


def scores(values: list[float] | np.ndarray, edits: int = 1) -> list[RemovalResult]:
    """Removals with these screening scores, so many of one source after another."""
    return [outcome(f"{n // edits:04d}/{n % edits}", screen_score=float(v)) for n, v in enumerate(values)]


def judged(accepted: list[bool] | np.ndarray, edits: int = 1) -> list[RemovalResult]:
    """Removals with these decisions."""
    told = [ACCEPTED if good else REJECTED for good in accepted]
    return [outcome(f"{n // edits:04d}/{n % edits}", decision=decision) for n, decision in enumerate(told)]


def both(seed: int, sources: int, edits: int, effect: float) -> tuple[list[RemovalResult], list[RemovalResult]]:
    """Screening scores of two models that differ by `effect`; what a source is like is shared by all of its edits.

    The edits of a source move together from one model to the next (standard deviation 1), beside what each edit does
    by itself (0.3).
    """
    draw = np.random.default_rng(seed)
    before = np.repeat(draw.normal(6, 1, sources), edits) + draw.normal(0, 0.3, sources * edits)
    moved = np.repeat(draw.normal(effect, 1, sources), edits) + draw.normal(0, 0.3, sources * edits)
    return scores(before, edits), scores(before + moved, edits)


def verdicts(seed: int, sources: int, before: float, after: float) -> tuple[list[RemovalResult], list[RemovalResult]]:
    """Reviewers' decisions on two models of which so large a share is accepted, one pair per source."""
    draw = np.random.default_rng(seed)
    return judged(draw.random(sources) < before), judged(draw.random(sources) < after)

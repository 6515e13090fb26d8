"""The files of one round of the refinement loop in the run folder; which of them exist tells how far the round is.

RUN/refine/round-001/plan.json           what is trained, on what, and what it is compared with
                     training.parquet    the accepted removals to train on, and `validation.parquet`
                     before.parquet      every removal of the old model
                     removal-round-1.safetensors, validation.jpg, losses.csv, lineage.json      the new model
                     after.parquet       every removal of the new model
                     comparison.json, report.html
                     decision.json       promoted or not: the round is over
                     rollback.json       it was rolled back later
RUN/refine/promoted.yaml                 the remover of the last promoted round, as a profile (an overlay)
RUN/refine/asked.json                    pairs that the loop waits to have judged (`review.requests`)
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.curate.verdicts import Decision as ReviewDecision
from ffpdata.refine import FOLDER, removal_results
from ffpdata.refine.removal_results import OK, RemovalResult
from ffpdata.refine.settings import RefineSettings
from ffpdata.storage.store import Store

ROLE = "remover"
REPORT = "report.html"

BEFORE, AFTER, TRAINING, VALIDATION = TABLES = ("before", "after", "training", "validation")
"""Tables of removals that a round stores."""


class RoundState(StrEnum):
    """State of a round."""

    WAITING = "waiting for reviews"
    PROMOTED = "promoted"
    NOT_PROMOTED = "not promoted"
    ROLLED_BACK = "rolled back"


class RoundPlan(BaseModel):
    """The plan of a round. It is written once; later verdicts count for the next round.

    Attributes:
        number: of the round, from 1.
        begun_at: ISO time, UTC.
        track: the track that makes the removals.
        parent: the remover in use when the round began.
        base: the model that is trained: the parent without the LoRAs of earlier rounds.
        settings: of the loop.
        held_out: groups of sources that are not trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    begun_at: str
    track: str
    parent: ModelSpec
    base: ModelSpec
    settings: RefineSettings
    held_out: list[str]


class RoundDecision(BaseModel):
    """How a round ended.

    Attributes:
        at: ISO time, UTC.
        promoted: whether its model is used from now on.
        why: one sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str
    promoted: bool
    why: str


class Round:
    """One round and its files.

    Args:
        store: the run folder.
        number: of the round, from 1.
    """

    def __init__(self, store: Store, number: int) -> None:
        self.store, self.number = store, number

    def path(self, name: str) -> str:
        """Return the path of one of its files in the run folder."""
        return f"{FOLDER}/round-{self.number:03d}/{name}"

    def has(self, name: str) -> bool:
        """Return whether one of its files exists."""
        return self.store.exists(self.path(name))

    @property
    def lora(self) -> str:
        """Name of its LoRA's file; the labels of models show it."""
        return f"removal-round-{self.number}.safetensors"

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of its JSON files; raises FatalError where it is damaged."""
        try:
            return dict(json.loads(self.store.read(self.path(name))))
        except (ValueError, TypeError, RecursionError) as err:
            raise FatalError(
                f"{self.store.root}/{self.path(name)} is damaged ({err}): put it back from a copy, or give the round "
                "up with `ffpdata refine RUN --rollback`"
            ) from None

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write one of its JSON files."""
        self.store.write(self.path(name), json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n")

    def table(self, name: str) -> list[RemovalResult]:
        """Read one of `TABLES`."""
        return removal_results.from_parquet(self.store.read(self.path(f"{name}.parquet")))

    def write_table(self, name: str, rows: Iterable[RemovalResult]) -> None:
        """Write one of `TABLES`."""
        self.store.write(self.path(f"{name}.parquet"), removal_results.to_parquet(rows))

    @property
    def plan(self) -> RoundPlan:
        """Its plan."""
        return RoundPlan.model_validate(self.read_json("plan.json"))

    @property
    def trained(self) -> bool:
        """Whether its model is trained."""
        return self.has("lineage.json")

    @property
    def regenerated(self) -> bool:
        """Whether its model has made every removal."""
        return self.has(f"{AFTER}.parquet")

    @property
    def decision(self) -> RoundDecision | None:
        """Its decision; None while it is not finished."""
        return RoundDecision.model_validate(self.read_json("decision.json")) if self.has("decision.json") else None

    @property
    def in_force(self) -> bool:
        """Whether it was promoted and not rolled back."""
        decision = self.decision
        return decision is not None and decision.promoted and not self.has("rollback.json")

    @property
    def state(self) -> RoundState:
        """Its state."""
        if self.decision is None:
            return RoundState.WAITING
        if self.has("rollback.json"):
            return RoundState.ROLLED_BACK
        return RoundState.PROMOTED if self.in_force else RoundState.NOT_PROMOTED

    def spec(self) -> ModelSpec:
        """Return the remover that it trained: the base with the round's LoRA."""
        plan, lineage = self.plan, self.read_json("lineage.json")
        lora = {"model": self.path(self.lora), "revision": lineage["revision"]}
        settings = plan.base.settings | {"loras": [*plan.base.settings.get("loras", []), lora]}
        runtime = plan.base.runtime | {"loras_root": self.store.root}
        return plan.base.model_copy(update={"settings": settings, "runtime": runtime})


def rounds(store: Store) -> list[Round]:
    """List the rounds that have begun, oldest first. A folder without a plan, left by a kill, is skipped."""
    names = [name.removeprefix("round-") for name in store.folders(FOLDER) if name.startswith("round-")]
    found = [Round(store, int(name)) for name in names if name.isdigit()]
    return [each for each in found if each.has("plan.json")]


def without_round_loras(spec: ModelSpec) -> ModelSpec:
    """Return a remover without the LoRAs of rounds; the same whether it then has no `loras` or an empty list."""
    loras = spec.settings.get("loras", [])
    kept = [lora for lora in loras if not str(lora["model"]).startswith(f"{FOLDER}/round-")]
    settings = {name: value for name, value in spec.settings.items() if name != "loras"}
    runtime = spec.runtime
    if len(kept) < len(loras):
        runtime = {name: value for name, value in runtime.items() if name != "loras_root"}
    return spec.model_copy(update={"settings": settings | ({"loras": kept} if kept else {}), "runtime": runtime})


def now() -> str:
    """Return the time as ISO text in UTC, to the second."""
    return datetime.now(UTC).isoformat("T", "seconds")


def results_to_compare(
    begun: Sequence[Round], decisions: Mapping[str, ReviewDecision], pairs: int
) -> list[list[RemovalResult]]:
    """Return the removals by which the newest round is compared: those of the old model, and those of the new one.

    They are of sources that no round trained on, and did not fail under either model: a failure (a broken machine, a
    service that did not answer) says nothing about a model. Only the pairs of the panel carry a decision.

    Args:
        begun: all rounds, oldest first; the newest has both tables.
        decisions: of the reviewers, by pair key.
        pairs: size of the panel.
    """
    current = begun[-1]
    tables = [current.table(name) for name in (BEFORE, AFTER)]
    failed = {each.item_id for table in tables for each in table if each.status == "failed"}
    both = {each.item_id for each in tables[0]} & {each.item_id for each in tables[1]} - failed
    items = {each.item_id for each in not_trained_on(tables[0], set(current.plan.held_out), begun)} & both
    chosen = panel(items, pairs, current.plan.settings.seed)
    return [
        [_with_decision(each, decisions) if each.item_id in chosen else each for each in table if each.item_id in items]
        for table in tables
    ]


def not_trained_on(
    results: Iterable[RemovalResult], held_out: Container[str], begun: Sequence[Round]
) -> list[RemovalResult]:
    """Return the removals of held-out groups whose source no round has trained on, also before it was held out."""
    trained = {each.source_id for one in begun for each in one.table(TRAINING)}
    return [each for each in results if each.group in held_out and each.source_id not in trained]


def panel(items: Iterable[str], size: int, seed: int) -> set[str]:
    """Return the items on which reviewers judge every model: a random sample, the same in every round.

    Acceptance is comparable on such a sample alone: on items chosen because one model did well on them, every later
    model would seem worse.

    Args:
        items: to choose from.
        size: of the panel.
        seed: of the sample.

    Returns:
        `size` items; none where there are fewer.
    """
    order = sorted(items, key=lambda item: digest("panel", seed, item))
    return set(order[:size]) if len(order) >= size else set()


def _with_decision(result: RemovalResult, decisions: Mapping[str, ReviewDecision]) -> RemovalResult:
    """Return the result with its decision; one that a stage rejected counts as rejected without any reviewer."""
    rejection = ReviewDecision(0, 1, (result.reason or "",)) if result.status == "rejected" else None
    return replace(result, decision=decisions.get(result.pair) or rejection)


def unjudged_pairs(results: Iterable[RemovalResult], decisions: Mapping[str, ReviewDecision]) -> list[str]:
    """Return the keys of the pairs that passed all stages and that nobody has judged."""
    return [each.pair for each in results if each.status == OK and each.pair not in decisions]

"""One round of the refinement loop as it lies in the run folder. What is there tells how far the round has come.

RUN/refine/round-001/plan.json           what is trained, on what, and what the round is held against
                     training.parquet    the accepted removals to train on, and `validation.parquet`
                     before.parquet      every removal as the model before made it
                     removal.safetensors, validation.jpg, lineage.json      the new model
                     after.parquet       every removal as the new model made it
                     report.html
                     decision.json       promoted or not: the round is over
                     rollback.json       taken back later
RUN/refine/promoted.yaml                 the remover in force, as a profile to lay over another
RUN/refine/asked.json                    pairs that the loop waits to be judged
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.curate.verdicts import Decision as Decided
from ffpdata.refine import FOLDER, removal_results
from ffpdata.refine.removal_results import OK, RemovalResult
from ffpdata.refine.settings import RefineSettings
from ffpdata.storage.store import Store

ROLE = "remover"
REPORT = "report.html"

BEFORE, AFTER, TRAINING, VALIDATION = TABLES = ("before", "after", "training", "validation")
"""Tables of removals that a round keeps."""


class RoundState(StrEnum):
    """Where a round stands."""

    WAITING = "waiting for reviews"
    PROMOTED = "promoted"
    NOT_PROMOTED = "not promoted"
    ROLLED_BACK = "rolled back"


class RoundPlan(BaseModel):
    """What a round sets out to do. It is written once: verdicts that come later are for the next round.

    Attributes:
        number: of the round, from 1.
        begun_at: ISO time, UTC.
        track: whose removals these are.
        parent: the remover in force when the round began.
        base: what is trained: the parent without what earlier rounds laid over it.
        settings: of the loop.
        held_out: groups of sources that were not trained on.
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
    """A round's files."""

    def __init__(self, store: Store, number: int) -> None:
        self.store, self.number = store, number

    def path(self, name: str) -> str:
        """Path of one of its files in the run folder."""
        return f"{FOLDER}/round-{self.number:03d}/{name}"

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return self.store.exists(self.path(name))

    @property
    def lora(self) -> str:
        """Name of its model's file: labels of models show it."""
        return f"removal-round-{self.number}.safetensors"

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of its JSON files."""
        return dict(json.loads(self.store.read(self.path(name))))

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write one of its JSON files."""
        self.store.write(self.path(name), json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n")

    def table(self, name: str) -> list[RemovalResult]:
        """Read one of `TABLES`."""
        return removal_results.parse(self.store.read(self.path(f"{name}.parquet")))

    def write_table(self, name: str, rows: Iterable[RemovalResult]) -> None:
        """Write one of `TABLES`."""
        self.store.write(self.path(f"{name}.parquet"), removal_results.dump(rows))

    @property
    def plan(self) -> RoundPlan:
        """What it set out to do."""
        return RoundPlan.model_validate(self.read_json("plan.json"))

    @property
    def trained(self) -> bool:
        """Whether its model is there."""
        return self.has("lineage.json")

    @property
    def regenerated(self) -> bool:
        """Whether every removal was made by its model."""
        return self.has(f"{AFTER}.parquet")

    @property
    def decision(self) -> RoundDecision | None:
        """How it ended; None while it goes on."""
        return RoundDecision.model_validate(self.read_json("decision.json")) if self.has("decision.json") else None

    @property
    def in_force(self) -> bool:
        """Whether it was promoted and not taken back."""
        decision = self.decision
        return decision is not None and decision.promoted and not self.has("rollback.json")

    @property
    def state(self) -> RoundState:
        """Where it stands."""
        if self.decision is None:
            return RoundState.WAITING
        if self.has("rollback.json"):
            return RoundState.ROLLED_BACK
        return RoundState.PROMOTED if self.in_force else RoundState.NOT_PROMOTED

    def spec(self) -> ModelSpec:
        """The remover that it made."""
        plan, made = self.plan, self.read_json("lineage.json")
        lora = {"model": self.path(self.lora), "revision": made["revision"]}
        settings = plan.base.settings | {"loras": [*plan.base.settings.get("loras", []), lora]}
        return plan.base.model_copy(update={"settings": settings, "runtime": self._rooted(plan.base)})

    def _rooted(self, spec: ModelSpec) -> dict[str, Any]:
        return spec.runtime | {"loras_root": self.store.root}


def rounds(store: Store) -> list[Round]:
    """The rounds that were begun, oldest first. A folder without a plan is what a killed one left: it begins anew."""
    names = [name.removeprefix("round-") for name in store.folders(FOLDER) if name.startswith("round-")]
    found = [Round(store, int(name)) for name in names if name.isdigit()]
    return [each for each in found if each.has("plan.json")]


def plain(spec: ModelSpec) -> ModelSpec:
    """A remover without the LoRAs that rounds laid over it; spelled alike whether it names none or an empty list."""
    loras = spec.settings.get("loras", [])
    kept = [lora for lora in loras if not str(lora["model"]).startswith(f"{FOLDER}/round-")]
    settings = {name: value for name, value in spec.settings.items() if name != "loras"}
    runtime = spec.runtime
    if len(kept) < len(loras):
        runtime = {name: value for name, value in runtime.items() if name != "loras_root"}
    return spec.model_copy(update={"settings": settings | ({"loras": kept} if kept else {}), "runtime": runtime})


def now() -> str:
    """This second, ISO, UTC."""
    return datetime.now(UTC).isoformat("T", "seconds")


def comparable(begun: Sequence[Round], decisions: Mapping[str, Decided], pairs: int) -> list[list[RemovalResult]]:
    """The newest round's removals before and after that it is compared by, in this order.

    They are of sources that no round trained on, and came to an end under both models: a failure (a machine that broke,
    a service that was away) says nothing about a model. Verdicts count on the panel alone.

    Args:
        begun: all rounds; the removals of the newest are made.
        decisions: of the reviewers, by pair.
        pairs: size of the panel.
    """
    current = begun[-1]
    tables = [current.table(name) for name in (BEFORE, AFTER)]
    failed = {each.item_id for table in tables for each in table if each.status == "failed"}
    both = {each.item_id for each in tables[0]} & {each.item_id for each in tables[1]} - failed
    fair = {each.item_id for each in unseen(tables[0], set(current.plan.held_out), begun)} & both
    asked = panel(fair, pairs, current.plan.settings.seed)
    return [
        [_on_panel(each, decisions) if each.item_id in asked else each for each in table if each.item_id in fair]
        for table in tables
    ]


def unseen(made: Iterable[RemovalResult], held_out: Container[str], begun: Sequence[Round]) -> list[RemovalResult]:
    """Removals of sources that are held out and were never trained on, whatever was held out then."""
    trained = {each.source_id for one in begun for each in one.table(TRAINING)}
    return [each for each in made if each.group in held_out and each.source_id not in trained]


def panel(items: Iterable[str], size: int, seed: int) -> set[str]:
    """Items on which reviewers judge every model: a sample by chance, the same in every round.

    Only so is acceptance comparable. Whoever judges what one model did well and asks what the next makes of it, finds
    every next model worse. It is empty where there are too few items.
    """
    order = sorted(items, key=lambda item: digest("panel", seed, item))
    return set(order[:size]) if len(order) >= size else set()


def _on_panel(outcome: RemovalResult, decisions: Mapping[str, Decided]) -> RemovalResult:
    """The outcome with its verdict: what a gate rejected need not be shown to anybody to be refused."""
    gated = Decided(0, 1, (outcome.reason or "",)) if outcome.status == "rejected" else None
    return replace(outcome, decision=decisions.get(outcome.pair) or gated)


def waiting(outcomes: Iterable[RemovalResult], decisions: Mapping[str, Decided]) -> list[str]:
    """Those pairs on the panel that somebody has to judge."""
    return [each.pair for each in outcomes if each.status == OK and each.pair not in decisions]

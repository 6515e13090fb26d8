"""What a round is held against: sources that no round saw, the panel, and the remover without its rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, UsageError
from ffpdata.core.stage import ModelSpec
from ffpdata.curate.verdicts import Decision
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine.removal_results import RemovalResult, from_parquet, to_parquet
from ffpdata.refine.round import (
    AFTER,
    BEFORE,
    TRAINING,
    Round,
    RoundPlan,
    not_trained_on,
    panel,
    results_to_compare,
    rounds,
    unjudged_pairs,
    without_round_loras,
)
from ffpdata.refine.rounds import LoopOptions, held_out_groups, refine, roll_back
from ffpdata.refine.settings import RefineSettings
from ffpdata.storage.store import Store

SPEC = ModelSpec(backend="ffpdata.models.vace:Vace", model="owner/vace", settings={"steps": 4})


def outcome(number: int, model: str = "old", **changes: object) -> RemovalResult:
    made = RemovalResult(
        item_id=f"{number}/00/removal/bbox",
        source_id=f"{number}",
        pair=f"{model} {number}",
        status="ok",
        stage="curate",
        screen_score=6.5,
        measures={"flicker": 0.25},
        seconds=2.0,
        files={"source_video": "a.mp4", "target_video": f"{model}.mp4"},
        group=f"{number}",
        prompt="A yard.",
        negative="dog",
        seed=number,
    )
    return replace(made, **changes)


def planned(store: Store, number: int, held_out: list[str]) -> Round:
    new = Round(store, number)
    plan = RoundPlan(
        number=number,
        begun_at="2026-01-01T00:00:00+00:00",
        track="local",
        parent=SPEC,
        base=SPEC,
        settings=RefineSettings(),
        held_out=held_out,
    )
    new.write_table(TRAINING, [])
    new.write_json("plan.json", plan.model_dump(mode="json"))
    return new


def test_outcomes_come_back_as_they_were_without_verdicts() -> None:
    rejected = outcome(2, status="rejected", stage="screen", reason="screened_out", screen_score=None, files={})
    judged = outcome(1, decision=Decision(1, 0))
    assert from_parquet(to_parquet([judged, rejected])) == [outcome(1), rejected]
    assert from_parquet(to_parquet([])) == []


def test_the_panel_is_the_same_whenever_and_however_it_is_asked_for() -> None:
    items = [f"item {n}" for n in range(50)]
    chosen = panel(items, 10, seed=0)
    assert len(chosen) == 10
    assert panel(reversed(items), 10, seed=0) == chosen
    assert panel(items, 10, seed=1) != chosen
    assert panel(items, 20, seed=0) > chosen
    assert panel(items[:9], 10, seed=0) == set()


def test_a_source_that_any_round_trained_on_judges_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = planned(store, 1, held_out=["1", "2"])
    first.write_table(TRAINING, [outcome(3)])
    made = [outcome(n) for n in (1, 2, 3, 4)]
    assert [each.source_id for each in not_trained_on(made, {"1", "3"}, rounds(store))] == ["1"]


def test_what_a_gate_rejected_counts_as_refused_on_the_panel_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    current = planned(store, 1, held_out=[str(n) for n in range(8)])
    gated = {"status": "rejected", "stage": "screen", "reason": "screened_out"}
    current.write_table(BEFORE, [outcome(n) for n in range(8)])
    current.write_table(AFTER, [outcome(n, "new", **(gated if n % 2 else {})) for n in range(8)])
    told = {
        f"{model} {n}": Decision(1, 0) for model in ("old", "new") for n in range(8) if model == "old" or n % 2 == 0
    }
    before, after = results_to_compare(rounds(store), told, pairs=4)
    chosen = panel((each.item_id for each in before), 4, 0)
    assert {each.item_id for each in before if each.decision} == chosen
    assert {each.item_id for each in after if each.decision} == chosen
    assert {each.item_id for each in after if each.accepted} == {e.item_id for e in after if e.status == "ok"} & chosen
    del told["new 0"], told["new 2"], told["new 4"], told["new 6"]
    before, after = results_to_compare(rounds(store), told, pairs=8)
    assert unjudged_pairs(after, told) == ["new 0", "new 2", "new 4", "new 6"]


def test_failures_and_removals_of_one_model_alone_compare_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    current = planned(store, 1, held_out=["1", "2", "3"])
    current.write_table(BEFORE, [outcome(1), outcome(2), outcome(4)])
    current.write_table(AFTER, [outcome(1, "new"), outcome(2, "new", status="failed"), outcome(3, "new")])
    before, after = results_to_compare(rounds(store), {}, pairs=0)
    assert [each.pair for each in before] == ["old 1"]
    assert [each.pair for each in after] == ["new 1"]


def test_held_out_sources_stay_held_out_when_others_come(tmp_path: Path) -> None:
    settings, run = RefineSettings(held_out=0.3), RunFolder(tmp_path)
    few = held_out_groups([outcome(n) for n in range(40)], settings, run)
    many = held_out_groups([outcome(n) for n in range(400)], settings, run)
    assert few == {group for group in many if int(group) < 40}
    assert np.isclose(len(many) / 400, 0.3, atol=0.08)


def test_the_plain_remover_keeps_its_own_loras_and_place() -> None:
    own, made = {"model": "owner/distilled"}, {"model": "refine/round-001/removal.safetensors", "revision": "ab"}
    over = SPEC.model_copy(
        update={"settings": SPEC.settings | {"loras": [own, made]}, "runtime": {"device": "cpu", "loras_root": "/run"}}
    )
    assert without_round_loras(over).settings == {"steps": 4, "loras": [own]}
    assert without_round_loras(over).runtime == {"device": "cpu"}
    assert without_round_loras(SPEC) == SPEC
    empty = SPEC.model_copy(update={"settings": SPEC.settings | {"loras": []}})
    assert without_round_loras(empty).identity() == without_round_loras(SPEC).identity()


def test_a_round_s_remover_has_one_key_wherever_the_run_lies(tmp_path: Path) -> None:
    specs = []
    for place in ("here", "there"):
        current = planned(Store(tmp_path / place), 1, held_out=[])
        current.write_json("lineage.json", {"revision": "abc"})
        specs.append(current.spec())
    assert specs[0].runtime["loras_root"] != specs[1].runtime["loras_root"]
    assert specs[0].identity() == specs[1].identity() != SPEC.identity()


def test_a_folder_that_a_killed_round_left_is_no_round(tmp_path: Path) -> None:
    store = Store(tmp_path)
    planned(store, 1, held_out=[])
    Round(store, 2).write_table(BEFORE, [outcome(1)])
    assert [each.number for each in rounds(store)] == [1]


def test_a_remover_that_cannot_be_trained_is_named_first(
    make: Callable[[int], RunFolder],
) -> None:
    run = make(3)
    with pytest.raises(ConfigError, match=r"TemporalFill cannot be fine-tuned: use .*Vace"):
        refine(run, RefineSettings(), LoopOptions(say=lambda _: None))
    assert rounds(run.store) == []
    with pytest.raises(UsageError, match="nothing to roll back"):
        roll_back(run)

from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.curate.curation import CurateResult, curate
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from tests.fixture_run import GOOD, MIRROR, RunMaker, copy_run, local_clip, pipelines


def items(run: RunFolder) -> dict[str, dict[str, Any]]:
    with run.connect() as connection:
        found = records(connection, "select * from items where stage = 'curate'")
    return {row["item_id"]: row for row in found}


def test_the_fixture_is_curated_as_expected(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    result = curate(run)
    assert result.rejected == {"near_duplicate": 2, "not_best_variant": 4}
    assert (result.pairs, result.sources, result.written) == (10, 4, 16)
    rows = items(run)
    loser = rows[f"{GOOD[0]}/00/removal/mask"]
    assert (loser["status"], loser["reason"]) == ("rejected", "not_best_variant")
    assert loser["error"] == f"{GOOD[0]}/00/removal/bbox is better: score 0.8 against 0.7"
    copy = rows[f"{MIRROR}/00/swap/mask"]
    assert (copy["status"], copy["reason"]) == ("rejected", "near_duplicate")
    assert copy["error"].startswith(f"{GOOD[0]}/00/swap/mask shows the same: score")
    assert copy["source_group"] == GOOD[0]
    homes: dict[str, set[str]] = {}
    for row in rows.values():
        homes.setdefault(row["source_group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in homes.values())
    assert {row["split"] for row in rows.values()} == {"train", "test"}
    assert sum(result.splits.values()) == 10


def test_a_second_call_writes_nothing(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    curate(run)
    parts = run.manifest.parts("curate")
    again = curate(run)
    assert again.written == 0
    assert run.manifest.parts("curate") == parts
    assert again.pairs == 10


def test_growth_writes_only_the_new_pairs_and_moves_nobody(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    curate(run)
    before = items(run)
    more = RunMaker(tmp_path / "run")
    more.start(*pipelines())
    local_clip(more, "a" * 16, 10)
    more.commit()
    assert curate(run).written == 3
    after = items(run)
    assert len(after) == len(before) + 3
    assert {k: (v["split"], v["status"]) for k, v in after.items() if k in before} == {
        k: (v["split"], v["status"]) for k, v in before.items()
    }


def test_going_back_to_an_earlier_setting_restores_the_decisions(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    curate(run)
    first = {k: (v["status"], v["split"]) for k, v in items(run).items()}
    local, style = pipelines()
    wide = local.model_copy(update={"curate": local.curate.model_copy(update={"variants": "all"})})
    run.record_start(wide, "clips", None)
    changed = curate(run)
    assert "not_best_variant" not in changed.rejected
    assert changed.written == 4
    run.record_start(style, "clips", None)
    curate(run)
    assert {k: (v["status"], v["split"]) for k, v in items(run).items()} == first


def test_a_run_without_finished_pairs_or_without_a_start_is_no_error(tmp_path: Path) -> None:
    assert curate(RunFolder(tmp_path / "none")) == CurateResult(splits={"train": 0, "validation": 0, "test": 0})
    make = RunMaker(tmp_path / "run")
    make.start(*pipelines())
    assert curate(make.commit()).pairs == 0


@pytest.mark.parametrize("splits", ["{}", "{train: -1}", "{train: 0}", "{'../x': 1}"])
def test_splits_that_cannot_be_are_refused(splits: str) -> None:
    from ffpdata.core.config import load_pipeline

    with pytest.raises(ConfigError, match=r"curate\.splits"):
        load_pipeline("local_editing", None, [f"curate.splits={splits}"])


def test_a_run_that_lost_its_folder_commits_no_decision(tmp_path: Path) -> None:
    def guard() -> None:
        raise FatalError("taken over")

    run = copy_run(tmp_path / "run")
    with pytest.raises(FatalError, match="taken over"):
        curate(run, guard)
    assert run.manifest.parts("curate") == []
    assert curate(run).written
    curate(run, guard)

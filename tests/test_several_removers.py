"""Several removers in one run: an item for each, the better one kept, and what became of each told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import FatalError
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.refine.rounds import removal_pipeline
from ffpdata.report.page import write_report
from ffpdata.runners.session import StartOptions, start, status
from tests.conftest import SMALL_SETTINGS

FILL = "ffpdata.models.classical.remover:TemporalFill"
SMEAR = """\
import cv2
import numpy as np

from ffpdata import Edit


class Smear:
    name, version = "smear", 1

    def __init__(self, spec):
        pass

    def edit(self, frames, masks, **asked):
        pairs = zip(frames, masks.astype(np.uint8), strict=True)
        return Edit(np.stack([cv2.inpaint(frame, mask, 5, cv2.INPAINT_TELEA) for frame, mask in pairs]))

    def close(self):
        pass
"""
PROFILE = f"""\
models:
  remover:
    - {{backend: "{FILL}"}}
    - {{backend: "{FILL}", name: again, settings: {{}}, model: again}}
    - {{backend: "smear:Smear"}}
"""


@pytest.fixture(scope="module")
def run(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """One clip, begun with one remover and gone on with three."""
    folder = tmp_path_factory.mktemp("removers")
    (folder / "smear.py").write_text(SMEAR)
    (folder / "three.yaml").write_text(PROFILE)
    made, clip = RunFolder(folder / "run"), str(samples / "clips" / "ball_static.mp4")
    settings = [*SMALL_SETTINGS, "propose.edits=[{task: removal, variant: bbox}]", "measure.limits={}"]
    start(made, load_pipeline("local_editing", None, settings), clip, StartOptions(quiet=True, stages="..measure"))
    profile = f"cpu,{folder / 'three.yaml'}"
    start(made, load_pipeline("local_editing", profile, settings), clip, StartOptions(quiet=True))
    return made


def rows(run: RunFolder, sql: str) -> list[dict]:
    with run.reading() as connection:
        return records(connection, sql)


def test_each_remover_has_an_item_and_one_is_kept(run: RunFolder) -> None:
    found = {row["back_end"]: row for row in rows(run, "from items")}
    assert {row["item_id"].split("/", 2)[2] for row in found.values()} == {
        *("removal/bbox-temporal_fill", "removal/bbox-again", "removal/bbox-smear"),
    }
    ends = {name: (row["status"], row["stage"], row["reason"]) for name, row in found.items()}
    assert ends["smear"] == ("rejected", "screen", "screened_out")
    assert sorted([ends["temporal_fill"], ends["again"]]) == [
        ("ok", "curate", None),
        ("rejected", "curate", "not_best_variant"),
    ]
    keys = {row["synthesize_key"] for row in found.values()}
    assert len(keys) == 3, "each has a content key of its own"
    assert len({row["segment_key"] for row in found.values()}) == 1
    assert len({row["seed"] for row in found.values()}) == 1
    assert {name: row["synthesize_model"] for name, row in found.items()} == {
        "temporal_fill": "temporal_fill@3",
        "again": "again@3",
        "smear": "smear@1",
    }


def test_what_the_one_remover_had_made_is_not_made_again(run: RunFolder) -> None:
    [made] = rows(run, "select distinct target_video from synthesize_history where item_id like '%/bbox'")
    [now] = rows(run, "select target_video from synthesize where item_id like '%temporal_fill'")
    assert now == made
    assert rows(run, "from items where item_id like '%/bbox'") == []


def test_what_became_of_each_is_told(run: RunFolder, tmp_path: Path) -> None:
    names = ("task", "back_end", "model", "tried", "made", "measure", "screen", "instruct", "accepted")
    found = [tuple(row[name] for name in names) for row in rows(run, "from yields order by accepted, screen, back_end")]
    first = found[0]
    assert first == ("removal", "smear", "smear@1", 1, 1, 1, 0, None, 0)
    assert sorted(row[3:] for row in found[1:]) == [(1, 1, 1, 1, 1, 0), (1, 1, 1, 1, 1, 1)]
    assert "discriminate" in rows(run, "from yields limit 1")[0], "a stage to which none came is there"
    state = status(run)
    assert sum(row["accepted"] for row in state.yields) == state.pairs == 1
    assert json.loads(json.dumps(state.yields))[0]["task"] == "removal"
    assert "smear" in str(state)
    page = Path(write_report(run)).read_text(encoding="utf-8")
    assert page.count("smear@1</td>") == 1
    assert "33.3&nbsp;%" not in page, "the shares are of each model"
    assert "100&nbsp;%" in page


def test_a_run_of_one_remover_tells_its_yield_in_the_report_alone(finished) -> None:
    run = RunFolder.existing(finished.run)
    assert status(run).yields == []
    found = rows(run, "select track, task, sum(accepted) as n from yields group by all order by all")
    tasks = {(row["track"], row["task"]) for row in found}
    assert tasks == {("local", "removal"), ("local", "swap"), ("style", "stylization")}
    assert sum(row["n"] for row in found) == status(run).pairs


def test_refinement_wants_one_remover(run: RunFolder) -> None:
    with pytest.raises(FatalError, match=r"several removers \(remover/temporal_fill, remover/again, remover/smear\)"):
        removal_pipeline(run)

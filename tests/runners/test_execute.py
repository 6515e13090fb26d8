"""One stage on one item: what its row says of it, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import RetryableError
from ffpdata.core.stage import Artifact, Item, Reject, Row, Stage
from ffpdata.runners import execute as module
from ffpdata.runners.execute import execute
from ffpdata.storage.store import Store


class Measures(Stage):
    """Notes and measures, then does as the item says."""

    name, version = "measures", 1
    reads = ("text",)
    writes = {"file": Artifact("txt"), "length": int, "found": dict}
    facts_column = "found"
    tries = 0

    def process(self, row: Row) -> Mapping[str, Any]:
        self.tries += 1
        row.notes["asked"] = {"tokens": 100 * self.tries, "odd": object}
        if row["text"] == "reject":
            raise Reject("too_bad", "as it says", {"area": np.float32(0.5), "length": 6})
        if row["text"] == "raise":
            raise ZeroDivisionError
        if row["text"] == "busy" and self.tries < 3:
            raise RetryableError("the service is busy")
        target = row.new_file("file")
        target.write_text(row["text"])
        return {"file": target}


def run(folder: Path, text: str, stage: Stage | None = None) -> dict[str, Any]:
    stage, item = stage or Measures(), Item("a", {"text": text})
    [row] = execute(stage, item, Store(str(folder))).rows(stage, item, "t")
    return row


def test_what_was_measured_before_a_rejection_is_kept(tmp_path: Path) -> None:
    row = run(tmp_path, "reject")
    assert (row["reason"], row["length"], row["found"]) == ("too_bad", 6, '{"area": 0.5}')


@pytest.mark.parametrize("text", ["good", "reject", "raise"])
def test_notes_are_kept_however_it_ended(tmp_path: Path, text: str) -> None:
    notes = run(tmp_path, text)["notes"]
    assert notes.startswith('{"asked": {"odd": "<class')
    assert '"tokens": 100' in notes


def test_the_attempt_is_the_one_that_ended_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    row = run(tmp_path, "busy")
    assert (row["status"], row["attempt"]) == ("ok", 3)
    assert '"tokens": 300' in row["notes"]


def test_an_adopted_outcome_brings_its_notes(tmp_path: Path) -> None:
    first, stage = run(tmp_path, "good"), Measures()
    assert run(tmp_path, "good", stage) == first
    assert stage.tries == 0

"""Which stages a start computes."""

from __future__ import annotations

import json
import time

import pytest

from ffpdata.core.errors import UsageError
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.runners.progress import PROGRESS_FILE
from ffpdata.runners.session import stage_range, status
from ffpdata.storage.lock import run_lock
from tests.s3_server import s3_proxy

NAMES = ["source", "ingest", "segment", "verify"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", [0, 1, 2, 3]),
        ("..", [0, 1, 2, 3]),
        ("ingest..segment", [1, 2]),
        ("ingest..", [1, 2, 3]),
        ("..ingest", [0, 1]),
        ("segment", [2]),
        ("segment..segment", [2]),
    ],
)
def test_ranges(text: str, numbers: list[int]) -> None:
    assert list(stage_range(text, NAMES)) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("segmnt..verify", "no stage 'segmnt'; did you mean 'segment'"),
        ("..nothing_like_it", "no stage 'nothing_like_it'"),
        ("verify..ingest", "'ingest' comes before 'verify'. The order is source, ingest, segment, verify"),
    ],
)
def test_ranges_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        stage_range(text, NAMES)
    assert message in str(error.value)


def test_whether_a_run_goes_on_is_told_by_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not by how late the clock of its machine is."""
    with s3_proxy(monkeypatch):
        run = RunFolder("s3://bucket/run")
        pool = {"stages": ["a"], "workers": 2, "starting": 0, "busy": 0.5}
        state = {"at": time.time() - 3600, "stages": {}, "pools": [pool]}
        with run_lock(run.store):
            run.store.write(PROGRESS_FILE, json.dumps(state).encode())
            assert status(run).pools == [pool]
        run.store.write(PROGRESS_FILE, json.dumps(state | {"at": time.time()}).encode())
        assert status(run).pools == [], "what a killed run left"

"""Requests for verdicts: the last one holds."""

from pathlib import Path

from ffpdata.review.requests import request_verdicts, requested_pairs
from ffpdata.storage.store import Store


def test_requests_are_read_back_and_replace_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert requested_pairs(store) == set()
    request_verdicts(store, ["b", "a"])
    assert requested_pairs(store) == {"a", "b"}
    assert (tmp_path / "refine" / "asked.json").read_text() == '["a", "b"]'  # the same bytes however they are ordered
    request_verdicts(store, [])
    assert requested_pairs(store) == set()

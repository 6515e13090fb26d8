"""Which stages a start computes."""

from __future__ import annotations

import pytest

from ffpdata.core.errors import UsageError
from ffpdata.runners.session import stage_range

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

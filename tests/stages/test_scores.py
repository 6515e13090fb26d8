"""What the stages of the trained scores share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.stage import Row
from ffpdata.stages import _scores
from tests.stages.alone import Alone, flat


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ({"target_caption": "a red wall", "style_caption": "as ink"}, "a red wall"),
        ({"target_caption": "", "style_caption": "as ink"}, "as ink"),
        ({"target_caption": None}, ""),
    ],
)
def test_the_first_caption_that_is_there_counts(row: dict[str, str | None], caption: str) -> None:
    assert _scores.caption_of(row) == caption


def test_every_column_is_filled_by_one_role() -> None:
    assert len(set(_scores.SCORES)) == len(_scores.SCORES)


class Overflowing:
    """A quality scorer in a dtype that is too small."""

    def score(self, frames: np.ndarray) -> np.ndarray:
        return np.full(len(frames), np.nan)


def test_a_score_that_is_not_finite_says_what_to_do(tmp_path: Path) -> None:
    row = Row({"target_video": str(Alone(tmp_path).video("target", flat(90)))})
    with pytest.raises(ValueError, match="image_quality is nan: set the dtype of the role quality_scorer to float32"):
        _scores.scores_by("quality_scorer", Overflowing(), row)

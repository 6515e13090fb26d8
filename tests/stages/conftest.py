"""Fixtures of the stages' tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stages.alone import Alone, flat, square


@pytest.fixture
def alone(tmp_path: Path) -> Alone:
    return Alone(tmp_path)


@pytest.fixture
def pair(alone: Alone) -> dict[str, Any]:
    """The columns of an edited pair: two flat clips, a mask, and what was measured."""
    return {
        "source_video": alone.video("source", flat(200)),
        "target_video": alone.video("target", flat(60)),
        "mask_video": alone.masks("mask", square()),
        "reference_image": alone.image("reference", flat(30)[0]),
        "object": "dog",
        "motion": 2.5,
        "edit_facts": {"unrevealed": 0.1},
    }

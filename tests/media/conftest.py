"""Hostile and odd files, written once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media import bad_inputs
from tests.shared import told_once


@pytest.fixture(scope="session")
def bad_files() -> dict[str, bad_inputs.BadInput]:
    return told_once("hostile", lambda folder: bad_inputs.bad(folder / "clips"))


@pytest.fixture(scope="session")
def odd_files() -> dict[str, Path]:
    return told_once("odd", lambda folder: bad_inputs.odd(folder / "clips"))


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A photograph, uint8 (400, 600, 3), not to be changed."""
    from skimage import data

    return np.asarray(Image.fromarray(data.coffee()).resize((600, 400)))

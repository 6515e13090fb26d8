"""The style network takes any picture size and is not fooled by another package's files."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.models.classical.stylizer import style_network
from ffpdata.models.classical.stylizer.style_network import FIXED_SHAPE, FREE_SHAPE, StyleNetwork, work_size
from tests.models.classical.toys import painting, texture


@pytest.mark.parametrize(("height", "width"), [(96, 160), (160, 96), (51, 77), (33, 200)])
def test_any_size(height: int, width: int) -> None:
    network = StyleNetwork()
    picture = network.apply(texture(height, width, 0), network.style(painting()), side=128)
    assert picture.shape == (*work_size(height, width, 128), 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.05


def test_work_sizes_are_multiples_of_four_and_never_larger() -> None:
    assert work_size(720, 1280, 960) == (540, 960)
    assert work_size(1280, 720, 640) == (640, 360)
    assert work_size(100, 98, 960) == (100, 96)
    assert work_size(5, 5, 960) == (32, 32)


def test_styles_differ_by_reference() -> None:
    network = StyleNetwork()
    first, second = network.style(painting()), network.style(np.full((64, 64, 3), 200, np.uint8))
    assert first.shape == (1, 1, 1, 100)
    assert not np.allclose(first, second, atol=0.01)


def test_a_graph_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style_network, "FIXED_SHAPE", b"nowhere in the file")
    with pytest.raises(FatalError, match="install version"):
        StyleNetwork()


def test_the_patch_changes_no_length() -> None:
    assert len(FIXED_SHAPE) == len(FREE_SHAPE)


def test_a_closed_network_says_so() -> None:
    network = StyleNetwork()
    network.close()
    with pytest.raises(FatalError, match="closed"):
        network.style(painting())

"""Tests that run a packaged network: they are skipped, with the command that installs it, where it is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from ffpdata.models.packaged.location import missing
from tests.conftest import use_networks

Test = TypeVar("Test", bound=Callable[..., None])


def needs_network(*names: str) -> Callable[[Test], Test]:
    """Mark tests that run these networks of the catalogue; for the length of such a test they are installed."""
    with pytest.MonkeyPatch.context() as patch:
        use_networks(patch, real=True)
        why = missing(names)

    def mark(test: Test) -> Test:
        return pytest.mark.skipif(bool(why), reason=why)(pytest.mark.usefixtures("packaged_models")(test))

    return mark

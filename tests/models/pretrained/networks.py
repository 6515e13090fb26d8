"""Tests that run a packaged network: they are skipped, with the command that installs it, where it is missing."""

from __future__ import annotations

import pytest

from ffpdata.models.packaged.location import missing


def needs_network(*names: str) -> pytest.MarkDecorator:
    """Mark tests that run these networks of the catalogue."""
    why = missing(names)
    return pytest.mark.skipif(bool(why), reason=why)

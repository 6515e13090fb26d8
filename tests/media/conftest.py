"""Hostile and odd files, written once for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.media import bad_inputs


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory) -> dict[str, bad_inputs.BadInput]:
    return bad_inputs.bad(tmp_path_factory.mktemp("hostile") / "clips")


@pytest.fixture(scope="session")
def odd_files(tmp_path_factory):
    return bad_inputs.odd(tmp_path_factory.mktemp("odd") / "clips")

"""What tests of propagation learn from: the export of a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffpdata.curate.curation import curate
from ffpdata.export.shards import export
from tests.fixture_run import copy_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    run = copy_run(folder / "run")
    curate(run)
    export(run, folder / "out")
    return folder / "out"

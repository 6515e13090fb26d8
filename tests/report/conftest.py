from pathlib import Path

import pytest

from ffpdata.curate.curation import curate
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.report.page import write_report
from tests.fixture_run import copy_run
from tests.shared import built_once


@pytest.fixture(scope="session")
def reported() -> RunFolder:
    """A curated run with its report. Tests must not change it."""

    def build(folder: Path) -> None:
        run = copy_run(folder / "run")
        curate(run)
        assert write_report(run) == Path(run.store.root) / "report" / "index.html"

    return RunFolder.existing(built_once("reported", build) / "run")

from pathlib import Path

import pytest

from ffpdata.curate.curation import curate
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.report.page import write_report
from tests.fixture_run import copy_run


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A curated run with its report. Tests must not change it."""
    run = copy_run(tmp_path_factory.mktemp("reported") / "run")
    curate(run)
    assert write_report(run) == Path(run.store.root) / "report" / "index.html"
    return run

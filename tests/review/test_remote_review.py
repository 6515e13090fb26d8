"""A run on S3 is reviewed through the scratch."""

from pathlib import Path

import fsspec
import pytest

from ffpdata.curate.verdicts import REVIEW
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.assignments import Assignments, GivenVerdict
from ffpdata.review.pairs import PairFilter
from ffpdata.review.panel_video import Previews
from ffpdata.review.routes import _media
from tests.review.many_pairs import make_pairs
from tests.s3_server import s3_proxy

pytestmark = pytest.mark.slow


def test_pairs_media_and_verdicts_of_a_run_on_s3(
    tmp_path: Path, tiny_clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = make_pairs(tmp_path / "run", 2, tiny_clips)
    with s3_proxy(monkeypatch):
        fsspec.filesystem("s3", skip_instance_cache=True).put(local.store.root, "bucket/run", recursive=True)
        run = RunFolder.existing("s3://bucket/run")
        desk, previews = Assignments(run), Previews(run.store)
        (pair,) = desk.lease("ann", PairFilter(), 1)
        files = desk.pairs.files(pair)
        assert Path(_media(run.store, previews, files, "source").path).read_bytes() == tiny_clips["source"].read_bytes()
        assert Path(_media(run.store, previews, files, "video").path).read_bytes()[4:8] == b"ftyp"
        desk.submit("ann", pair.key, GivenVerdict("accept"))
        assert len(run.manifest.parts(REVIEW)) == 1
        assert Assignments(run).progress()["reviewed"] == 1
        previews.close()

"""Runs and exports of strangers: files that are cut, paths and links that lead out, odd members of tars."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.curate.curation import curate
from ffpdata.export.dataset import Dataset, Shard
from ffpdata.export.loader import pairs
from ffpdata.export.reproducible_tar import DamagedTarError, read_tar
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.manifests.part_files import PartName, crc_of
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.report.gallery_media import preview
from ffpdata.review.assignments import Assignments
from ffpdata.review.panel_video import Previews
from ffpdata.review.routes import _media
from ffpdata.storage.store import OutsideError, Store
from tests.fixture_run import copy_run

TAR = "test/shard-000000.tar"


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = copy_run(tmp_path_factory.mktemp("hostile") / "run")
    curate(run)
    export(run, Path(run.store.root).parent / "out")
    return Path(run.store.root)


@pytest.fixture
def out(curated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(curated.parent / "out", tmp_path / "out"))


@pytest.fixture
def run(curated: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(curated, tmp_path / "run"))


@contextmanager
def quick() -> Iterator[None]:
    """What is refused is refused at once; the time is the processor's, for others may use it."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 3


CUT = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "binary": lambda data: b"\x89PNG\xff\x00" + data,
    "deep": lambda data: b"[" * 100_000,
    "other": lambda data: b"[1, 2]\n",
    "text": lambda data: b"hello\n",
}


@pytest.mark.parametrize("how", CUT)
def test_a_damaged_table_of_contents_is_one_message(out: Path, how: str) -> None:
    file = out / "dataset.json"
    file.write_bytes(CUT[how](file.read_bytes()))
    for read in (verify, lambda path: list(pairs(path))):
        with quick(), pytest.raises(FatalError, match=r"dataset\.json is damaged") as caught:
            read(out)  # type: ignore[operator]
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("how", CUT)
def test_a_damaged_run_file_is_one_message(run: RunFolder, tmp_path: Path, how: str) -> None:
    file = Path(run.store.root) / "run.yaml"
    file.write_bytes(CUT[how](file.read_bytes()))
    for read in (RunFolder.starts, RunFolder.connect, Assignments, lambda run: export(run, tmp_path / "x")):
        with quick(), pytest.raises(FatalError, match=r"(?s)run\.yaml is damaged: .*copy") as caught:
            read(RunFolder(run.store.root))  # type: ignore[operator]
        assert len(str(caught.value)) < 600
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: ingest", "name: ../../etc", "'../../etc' is no name of a stage"),
        ("track: local", "track: [1]", "pipeline.track is"),
        ("max_attempts: 3", "max_attempts: many", "pipeline.max_attempts: Input should be"),
        ("about:", "about: &a [*a]\nx:", "stands within itself"),
    ],
)
def test_a_run_file_that_says_what_cannot_be(run: RunFolder, old: str, new: str, message: str) -> None:
    file = Path(run.store.root) / "run.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with quick(), pytest.raises(FatalError, match=r"run\.yaml") as caught:
        RunFolder(run.store.root).pipelines()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "train/../../x.tar", "train/shard-0.tar", 5, None, "a\0"]
)
def test_a_shard_that_lies_elsewhere(out: Path, path: object) -> None:
    data = json.loads((out / "dataset.json").read_text())
    data["shards"][0]["path"] = path
    (out / "dataset.json").write_text(json.dumps(data))
    for read in (verify, lambda path: list(pairs(path))):
        with pytest.raises(FatalError, match="the path of a shard is"):
            read(out)  # type: ignore[operator]
    with pytest.raises(FatalError, match="the path of a shard is"):
        Dataset.load(Store(out))


@pytest.mark.parametrize("wrong", [{"bytes": -1}, {"pairs": True}, {"bytes": "1"}, {"split": []}, {"plan": None}])
def test_a_shard_with_wrong_facts(wrong: dict[str, Any]) -> None:
    good = {"path": TAR, "split": "test", "pairs": 1, "bytes": 1, "index_sha256": "", "plan": ""}
    assert Shard(**good).checked().twin == "test/shard-000000.parquet"
    with pytest.raises(ValueError, match="of a shard are"):
        Shard(**good | wrong).checked()


def special(kind: str, file: Path, secret: Path) -> None:
    """Put something else into the place of a file."""
    file.unlink()
    if kind == "link":
        file.symlink_to(secret)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()


@pytest.mark.parametrize("kind", ["link", "device", "pipe", "folder"])
@pytest.mark.parametrize("name", [TAR, "test/shard-000000.parquet"])
def test_a_shard_that_is_no_file(out: Path, tmp_path: Path, kind: str, name: str) -> None:
    secret = tmp_path / "secret"
    shutil.copyfile(out / name, secret)
    special(kind, out / name, secret)
    with quick():
        report = verify(out, decode=False)
    assert any(problem.startswith(name) for problem in report.problems), report.problems
    if name == TAR:
        with quick(), pytest.raises(OutsideError):
            list(pairs(out, "test"))


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), 0o644
    return info, data


MEMBERS = {
    "symlink": member("a.source.mp4", tarfile.SYMTYPE, link="/etc/passwd"),
    "hardlink": member("a.source.mp4", tarfile.LNKTYPE, link="/etc/passwd"),
    "device": member("a.source.mp4", tarfile.CHRTYPE),
    "pipe": member("a.source.mp4", tarfile.FIFOTYPE),
    "folder": member("a", tarfile.DIRTYPE),
    "above": member("../../../tmp/escaped.json", data=b"{}"),
    "absolute": member("/tmp/escaped.json", data=b"[" * 9000),
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_odd_members_of_a_tar_are_told_and_nothing_is_unpacked(out: Path, tmp_path: Path, kind: str) -> None:
    with tarfile.open(out / TAR, "w", format=tarfile.USTAR_FORMAT) as tar:
        info, data = MEMBERS[kind]
        tar.addfile(info, io.BytesIO(data))
    before = set(tmp_path.rglob("*"))
    with quick():
        report = verify(out, decode=False)
    assert any(problem.startswith(TAR) for problem in report.problems), report.problems
    with quick(), pytest.raises(FatalError):
        list(pairs(out, "test"))
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/tmp/escaped.json").exists()


@pytest.mark.parametrize("damage", ["size", "huge", "cut", "zeros", "name", "end"])
def test_damaged_tars_end_at_once(out: Path, damage: str) -> None:
    file = out / TAR
    data = bytearray(file.read_bytes())
    if damage in ("size", "huge"):  # a header that tells of 8 GB, or of more than a plain header can
        data[124:136] = b"77777777777\0" if damage == "size" else b"\x80" + b"\xff" * 11
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
    elif damage == "name":
        data[0] = 0xFF
    data = {"cut": data[:-5000], "zeros": bytearray(10240), "end": data + b"x"}.get(damage, data)
    file.write_bytes(data)
    with quick(), pytest.raises(DamagedTarError) if damage != "zeros" else quick(), file.open("rb") as stream:
        assert not list(read_tar(stream)) or damage != "zeros"
    with quick():
        assert verify(out, decode=False).problems
    if damage in ("size", "huge", "cut", "name"):
        with quick(), pytest.raises(FatalError, match=r"is damaged|leads|sample"):
            list(pairs(out, "test"))


def point(run: RunFolder, column: str, value: str) -> None:
    """Let the newest rows of every stage that writes a column name another file."""
    for stage in run.manifest.stages():
        for part in run.manifest.parts(stage):
            file = Path(run.store.root) / part
            table = pq.read_table(file)
            if column in table.column_names and table.column(column).null_count < table.num_rows:
                values = pa.array([value if v.is_valid else None for v in table.column(column)], pa.string())
                pq.write_table(table.set_column(table.column_names.index(column), column, values), file)
                file.rename(file.with_name(str(replace(PartName.of(part), crc=crc_of(file)))))  # as the stranger would


def test_a_manifest_that_names_a_file_elsewhere(run: RunFolder, tmp_path: Path) -> None:
    """Neither export nor review nor report reads it; `artifacts` itself may be a link to another disk."""
    root = Path(run.store.root)
    good = {kind: next((root / "artifacts" / f"{kind}_video").rglob("*.mp4")) for kind in ("source", "target")}
    files = {kind: str(path.relative_to(root)) for kind, path in good.items()}
    (tmp_path / "far").mkdir()
    for secret in (tmp_path / "secret.mp4", tmp_path / "far" / "secret.mp4"):
        shutil.copyfile(good["source"], secret)
    (root / "artifacts" / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "artifacts" / "far").symlink_to(tmp_path / "far")
    os.mkfifo(root / "artifacts" / "pipe")
    (root / "artifacts").rename(tmp_path / "disk")
    (root / "artifacts").symlink_to(tmp_path / "disk")
    assert export(run, tmp_path / "whole").complete
    previews = Previews(run.store)
    for where in ("../secret.mp4", "/etc/passwd", "artifacts/link.mp4", "artifacts/far/secret.mp4", "artifacts/pipe"):
        with pytest.raises(OutsideError):
            _media(run.store, previews, files | {"source": where}, "source")
        with pytest.raises(OutsideError):
            previews.prepare(files | {"source": where}).result()
        with pytest.raises(OutsideError):
            preview(run.store, {"source_video": where, "target_video": files["target"]})
        if where in ("../secret.mp4", "artifacts/far/secret.mp4"):
            point(run, "source_video", where)
            with quick(), pytest.raises(OutsideError, match=r"not a path inside|leads to"):
                export(run, tmp_path / "x")
    previews.close()
    assert not list((tmp_path / "x").rglob("*.tar"))

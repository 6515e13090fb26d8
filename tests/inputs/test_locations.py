"""An input on an object store lists like a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffpdata.core.errors import ConfigError, FatalError, Reject, UsageError
from ffpdata.core.sections import InputSettings
from ffpdata.core.stage import Row
from ffpdata.inputs import locations
from ffpdata.inputs.listing import list_inputs
from ffpdata.stages.source import Source, SourceSettings
from ffpdata.storage import scratch
from ffpdata.storage.scratch import process_scratch
from ffpdata.storage.store import Store
from tests.s3_server import FlakyProxy, s3_proxy

CLIPS, STYLED = InputSettings(), InputSettings(kind="styled")
FILES = {"b.mp4": b"bb", "a.mov": b"a", "sub/c.mkv": b"ccc", "notes.txt": b"n", ".hidden.mp4": b"h", "empty.mp4": b""}


@pytest.fixture(scope="module")
def server() -> Iterator[FlakyProxy]:
    with pytest.MonkeyPatch.context() as patch, s3_proxy(patch) as proxy:
        store = Store("s3://bucket")
        for name, data in FILES.items():
            store.write(f"clips/{name}", data)
            store.write(f"clipsy/{name}", data)
        for number in range(3):
            store.write(f"styled/content/c{number}.png", bytes([number]))
            store.write(f"styled/style/s{number}.png", bytes([number, 1]))
        yield proxy


@pytest.fixture
def folder(server: FlakyProxy, tmp_path: Path) -> Path:
    """The same files on the disk."""
    for name, data in FILES.items():
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "clips"


def below(items, root: object) -> list[str]:
    return [i.values["path"].removeprefix(f"{root}/") for i in items]


@pytest.mark.parametrize("pattern", ["", "/*.mp4", "/**/*.m*", "/b.mp4", "/sub"])
def test_it_lists_what_a_folder_lists(folder: Path, pattern: str) -> None:
    far, near = list_inputs(f"s3://bucket/clips{pattern}", CLIPS), list_inputs(f"{folder}{pattern}", CLIPS)
    assert below(far, "s3://bucket/clips") == below(near, folder)
    assert far
    assert [i.item_id for i in list_inputs(f"s3://bucket/clips{pattern}", CLIPS)] == [i.item_id for i in far]
    assert all("problem" not in i.values for i in far)
    sizes = [i.values["fingerprint"].partition("-")[0] for i in far]
    assert sizes == [i.values["fingerprint"].partition("-")[0] for i in near]
    assert below(list_inputs(f"file://{folder}{pattern}", CLIPS), folder) == below(near, folder)


def test_a_changed_file_has_another_fingerprint(server: FlakyProxy) -> None:
    store = Store("s3://bucket/changing")
    marks = []
    for data in (b"one", b"two"):
        store.write("a.mp4", data)
        marks.append(list_inputs("s3://bucket/changing", CLIPS)[0].values["fingerprint"])
    assert len(set(marks)) == 2
    assert "missing" not in marks


@pytest.mark.parametrize("source", ["s3://bucket/nowhere", "s3://bucket/nowhere/*.mp4", "s3://nobucket/x"])
def test_nothing_there(server: FlakyProxy, source: str) -> None:
    with pytest.raises(FatalError, match="no such"):
        list_inputs(source, CLIPS)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("where", ["s3://bucket/clips", "local"])
def test_a_table_may_name_urls_below_its_root(server: FlakyProxy, tmp_path: Path, suffix: str, where: str) -> None:
    named = [
        "b.mp4" if where != "local" else "s3://bucket/clips/b.mp4",
        "s3://bucket/clips/sub/c.mkv",
        "s3://bucket/clips/gone.mp4",
        "s3://bucket/clipsy/b.mp4",
        "s3://bucket/clips/../clipsy/b.mp4",
        "s3://other/b.mp4",
        "http://example.org/b.mp4",
        "/etc/passwd",
        "",
    ]
    table = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        table.write_text("path,object\n" + "".join(f'"{name}",ball\n' for name in named))
    else:
        pq.write_table(pa.table({"path": named, "object": ["ball"] * len(named)}), table)
    source = str(table)
    if where != "local":
        source = f"{where}/{table.name}"
        Store(where).write(table.name, table.read_bytes())
    settings = InputSettings(root="s3://bucket/clips") if where == "local" else CLIPS
    items = list_inputs(source, settings)
    if where != "local":
        Store(where).remove(table.name)
    assert [i.values.get("problem", [""])[0] for i in items] == [*[""] * 3, *["path_outside_input"] * 5, "missing_path"]
    marks = [i.values["fingerprint"] for i in items]
    assert marks[0].startswith("2-")
    assert marks[1].startswith("3-")
    assert set(marks[2:]) == {"missing"}
    assert items[0].values["given_object"] == "ball"


def test_a_local_table_must_be_told_to_leave_its_folder(server: FlakyProxy, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path\ns3://bucket/clips/b.mp4\n")
    [item] = list_inputs(str(tmp_path / "t.csv"), CLIPS)
    assert item.values["problem"][0] == "path_outside_input"
    assert "--set input.root=" in item.values["problem"][1]


def test_many_rows_of_one_folder_are_listed_and_not_asked_for(
    server: FlakyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations, "LISTED_AT_ONCE", 3)
    (tmp_path / "t.csv").write_text("path\nb.mp4\na.mov\nnotes.txt\ngone.mp4\nsub/c.mkv\n")
    server.requests.clear()
    items = list_inputs(str(tmp_path / "t.csv"), InputSettings(root="s3://bucket/clips"))
    assert [i.values["fingerprint"].partition("-")[0] for i in items] == ["2", "1", "1", "missing", "3"]
    assert server.requests == {"GET": 1, "HEAD": 1}


def test_styles(server: FlakyProxy) -> None:
    items = list_inputs("s3://bucket/styled", STYLED)
    assert below(items, "s3://bucket/styled") == [f"content/c{n}.png" for n in range(3)]
    for item in items:
        assert len(item.values["style_paths"]) == 2
        assert all(s.startswith("s3://bucket/styled/style/s") for s in item.values["style_paths"])
        assert "missing" not in item.values["style_fingerprints"]
    Store("s3://bucket/half").write("content/a.png", b"x")
    with pytest.raises(UsageError, match="no style/"):
        list_inputs("s3://bucket/half", STYLED)


# --- the bytes ---


def row(path: str, root: str = "s3://bucket/clips") -> Row:
    def fetch(url: str, most: float) -> Path:
        return locations.fetch_input(url, most)

    return Row({"path": f"{root}/{path}", "root": root}, open_input=fetch)


def test_the_source_stage_names_an_item_by_its_bytes(
    server: FlakyProxy, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scratch.FOLDER_VARIABLE, str(tmp_path / "scratch"))
    monkeypatch.setattr(scratch, "_process", {})
    for name in ("b.mp4", "sub/c.mkv"):
        [far] = Source().expand(row(name))
        [near] = Source().expand(Row({"path": str(folder / name), "root": str(folder)}))
        assert far == near
        assert far.columns["path"] == name
    for name, stage, reason in (
        ("gone.mp4", Source(), "missing_file"),
        ("sub", Source(), "not_a_regular_file"),
        ("empty.mp4", Source(), "empty_file"),
        ("b.mp4", Source(SourceSettings(max_gb=1e-9)), "too_large"),
    ):
        with pytest.raises(Reject) as caught:
            stage.expand(row(name))
        assert caught.value.reason == reason
        assert caught.value.facts == {"path": name}


def test_a_file_that_changed_is_fetched_again(server: FlakyProxy, tmp_path: Path) -> None:
    store, url = Store("s3://bucket/changing"), "s3://bucket/changing/b.mp4"
    store.write("b.mp4", b"one")
    assert locations.fetch_input(url, 10).read_bytes() == b"one"
    server.requests.clear()
    assert locations.fetch_input(url, 10).read_bytes() == b"one"
    assert server.requests == {"HEAD": 1}
    store.write("b.mp4", b"two")
    assert locations.fetch_input(url, 10).read_bytes() == b"two"
    assert process_scratch().size >= 6


def test_a_fault_of_the_scratch_is_not_the_inputs(
    server: FlakyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scratch.FOLDER_VARIABLE, str(tmp_path / "scratch"))
    monkeypatch.setattr(scratch, "_process", {})
    locations.fetch_input("s3://bucket/clips/b.mp4", 10)
    shutil.rmtree(tmp_path / "scratch")
    assert locations.fetch_input("s3://bucket/clips/b.mp4", 10).read_bytes() == b"bb"
    shutil.rmtree(tmp_path / "scratch")
    (tmp_path / "scratch").write_text("no folder")
    with pytest.raises(FatalError, match=f"{tmp_path}/scratch: .*FFPDATA_SCRATCH"):
        locations.fetch_input("s3://bucket/clips/b.mp4", 10)


def test_credentials_in_a_url_are_refused(server: FlakyProxy) -> None:
    for source in ("s3://key:secret@bucket/x", "s3://key:secret@bucket/x/*.mp4"):
        with pytest.raises(ConfigError, match="must not carry credentials") as caught:
            list_inputs(source, CLIPS)
        assert "secret@" not in str(caught.value)


def test_a_remote_folder_of_parts_is_a_table(server: FlakyProxy, tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["b.mp4", "../a.mov"]}), tmp_path / "part")
    Store("s3://bucket").write("clips-list/t.parquet/part-0.parquet", (tmp_path / "part").read_bytes())
    Store("s3://bucket").write("clips-list/b.mp4", b"x")
    near, beside = list_inputs("s3://bucket/clips-list/t.parquet", CLIPS)
    assert [item.values["path"] for item in (near, beside)] == [
        *("s3://bucket/clips-list/b.mp4", "s3://bucket/clips-list/a.mov"),
    ]
    assert (near.values["fingerprint"] != locations.MISSING, beside.values["fingerprint"]) == (True, locations.MISSING)

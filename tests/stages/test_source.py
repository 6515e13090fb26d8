"""`source`: an item is known by its bytes and by what the user says of them, and by no path."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from ffpdata.core.keys import digest
from ffpdata.core.stage import Reject
from ffpdata.stages.source import Source, SourceSettings
from tests.media.bad_inputs import ffmpeg, pattern
from tests.stages.alone import Alone


def write(folder: Path, name: str, data: bytes = b"moving pictures") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def only(alone: Alone, path: str, stage: Source | None = None, **values: object):
    """List an entry as the runner does, by a path that holds from the working directory; its one child."""
    [child] = alone.expand(stage or Source(), path=str(alone.folder / path), root=str(alone.folder), **values)
    return child


def refused(alone: Alone, path: str, stage: Source | None = None, **values: object) -> Reject:
    with pytest.raises(Reject) as caught:
        only(alone, path, stage, **values)
    assert caught.value.facts == {"path": path}, "where it was is kept"
    return caught.value


def test_an_item_is_named_by_its_bytes_wherever_they_lie(alone: Alone) -> None:
    first = only(alone, write(alone.folder, "a.mp4"))
    again = only(alone, write(alone.folder, "deep/b.mp4"))
    other = only(alone, write(alone.folder, "c.mp4", b"others"))
    sha = hashlib.sha256(b"moving pictures").hexdigest()
    assert sha.startswith(first.source_id)
    assert first.suffix == first.source_id == first.columns["sha"] == again.suffix != other.suffix
    assert first.columns["bytes"] == len(b"moving pictures")
    assert (first.columns["path"], again.columns["path"]) == ("a.mp4", "deep/b.mp4")


@pytest.mark.parametrize(
    ("name", "kind"), [("a.mp4", "video"), ("a.mkv", "video"), ("a.png", "image"), ("a.JPG", "image"), ("a", "video")]
)
def test_kind_follows_the_name(alone: Alone, name: str, kind: str) -> None:
    assert only(alone, write(alone.folder, name)).columns["kind"] == kind


def test_a_gif_is_a_video_where_it_moves(alone: Alone) -> None:
    for name, frames, kind in (("moves.gif", 12, "video"), ("still.GIF", 1, "image")):
        ffmpeg(*pattern(rate=12, seconds=1), "-frames:v", frames, alone.folder / name)
        assert only(alone, name).columns["kind"] == kind
    assert only(alone, write(alone.folder, "broken.gif", b"GIF89a")).columns["kind"] == "image"


def test_a_path_becomes_relative_to_the_root_from_anywhere(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    write(alone.folder, "deep/a.mp4")
    monkeypatch.chdir(alone.folder)
    for path, root in (("deep/a.mp4", "."), ("deep/a.mp4", str(alone.folder)), ("deep/../deep/a.mp4", ".")):
        [child] = alone.expand(Source(), path=path, root=root)
        assert child.columns["path"] == "deep/a.mp4"


def test_hints_make_another_item_of_the_same_bytes(alone: Alone) -> None:
    path = write(alone.folder, "a.mp4")
    plain, hinted = only(alone, path), only(alone, path, given_object="dog", licence="CC0-1.0")
    assert hinted.suffix == f"{plain.suffix}-{digest({'given_object': 'dog', 'licence': 'CC0-1.0'})[:6]}"
    assert hinted.source_id == plain.source_id, "it is still the same source"
    assert (hinted.columns["given_object"], hinted.columns["licence"]) == ("dog", "CC0-1.0")
    assert only(alone, path, given_object="cat").suffix != hinted.suffix


def test_where_it_is_from_makes_no_other_item(alone: Alone) -> None:
    path = write(alone.folder, "a.mp4")
    told = only(alone, path, url="https://example.org/a", meta={"camera": "hand"})
    assert told.suffix == only(alone, path).suffix
    assert (told.columns["url"], told.columns["meta"]) == ("https://example.org/a", {"camera": "hand"})


def test_styles_are_named_by_their_bytes_too(alone: Alone) -> None:
    path = write(alone.folder, "a.mp4")
    styles = [write(alone.folder, f"style/{n}.png", bytes([n])) for n in (1, 2)]
    columns = only(alone, path, style_paths=[str(alone.folder / style) for style in styles]).columns
    assert columns["style_paths"] == styles
    assert [hashlib.sha256(bytes([n])).hexdigest()[:16] for n in (1, 2)] == [s[:16] for s in columns["style_ids"]]
    err = refused(alone, path, style_paths=[str(alone.folder / "style/gone.png")])
    assert err.reason == "missing_file"
    assert "gone.png" in err.detail


def test_an_entry_with_a_problem_is_refused_by_it(alone: Alone) -> None:
    err = refused(alone, "a.mp4", problem=("bad_box", "box is 'x'"))
    assert (err.reason, err.detail) == ("bad_box", "box is 'x'")


def test_what_is_no_file_with_content_is_refused_without_waiting(alone: Alone) -> None:
    write(alone.folder, "empty.mp4", b"")
    (alone.folder / "folder.mp4").mkdir()
    os.mkfifo(alone.folder / "pipe.mp4")
    where = Path.cwd()
    os.chdir(alone.folder)  # the name of a socket has a limit
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket.mp4")
            found = {n: refused(alone, f"{n}.mp4") for n in ("empty", "folder", "pipe", "socket", "gone")}
    finally:
        os.chdir(where)
    assert {name: err.reason for name, err in found.items()} == {
        "empty": "empty_file",
        "folder": "not_a_regular_file",
        "pipe": "not_a_regular_file",
        "socket": "not_a_regular_file",
        "gone": "missing_file",
    }
    assert "is a pipe" in found["pipe"].detail
    assert "is a folder" in found["folder"].detail


def test_the_limit_of_size_is_a_setting(alone: Alone) -> None:
    path = write(alone.folder, "a.mp4", bytes(1001))
    stage = Source(SourceSettings(max_gb=1e-6))
    err = refused(alone, path, stage)
    assert err.reason == "too_large"
    assert "the limit is 1e-06 GB" in err.detail
    assert only(alone, write(alone.folder, "b.mp4", bytes(1000)), stage).columns["bytes"] == 1000

"""A file is under its final name whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.storage.store import Store


def test_write_read_list_remove(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    store.write("a/b.txt", b"one")
    store.write("a/b.txt", b"two")
    store.write("a/c.bin", b"")
    assert store.read("a/b.txt") == b"two"
    assert store.list("a") == ["a/b.txt", "a/c.bin"]
    assert store.list("a", ".bin") == ["a/c.bin"]
    assert store.list("nowhere") == []
    store.remove("a/b.txt")
    store.remove("a/b.txt")
    assert not store.exists("a/b.txt")
    with pytest.raises(FileNotFoundError):
        store.read("a/b.txt")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd"])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside"):
        Store(tmp_path).read(path)


def test_commit_moves_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    temp = store.temp_file("x.txt")
    temp.write_text("whole")
    store.commit(temp, "artifacts/x/ab/abc.txt")
    assert store.fetch("artifacts/x/ab/abc.txt").read_text() == "whole"
    assert not temp.exists()
    store.clean_temp()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["artifacts"]


def test_commit_from_another_file_system(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or os.stat(shm).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("this machine has one file system")
    temp = shm / f"ffpdata-test-{os.getpid()}"
    temp.write_text("far")
    Store(tmp_path).commit(temp, "a/b.txt")
    assert (tmp_path / "a/b.txt").read_text() == "far"
    assert not temp.exists()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_full_disk_is_one_clear_message(tmp_path: Path) -> None:
    """A real full device: a tiny tmpfs, or a file size limit where mounting is not allowed."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from ffpdata.core import errors\n"
        "from ffpdata.storage import store\n"
        "import errno, os\n"
        "errors._FULL.add(errno.EFBIG)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"store.Store({str(tmp_path)!r}).write('a.bin', b'x' * 5000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "no space left on the device" in done.stderr
    assert not (tmp_path / "a.bin").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises((FatalError, NotADirectoryError, FileExistsError)):
        Store(blocked / "run").write("a", b"x")


def test_a_memory_url_works_like_a_folder() -> None:
    store = Store("memory://run-of-a-test")
    store.write("a/b.txt", b"one")
    assert store.exists("a/b.txt")
    assert store.list("a") == ["a/b.txt"]
    temp = store.temp_file("c.txt")
    temp.write_text("two")
    store.commit(temp, "a/c.txt")
    assert store.fetch("a/c.txt").read_text() == "two"
    assert store.read("a/b.txt") == b"one"

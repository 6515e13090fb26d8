"""One writer per run folder, and a killed one leaves no lock behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError, RunLockedError
from ffpdata.storage.lock import is_locked, run_lock
from ffpdata.storage.store import Store

HOLD = (
    "import sys, time; from ffpdata.storage.lock import run_lock; from ffpdata.storage.store import Store\n"
    "with run_lock(Store(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
)


def test_a_second_writer_is_refused_and_a_kill_frees_the_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not is_locked(store)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_locked(store)
        with pytest.raises(RunLockedError, match=f"process {holder.pid} on .* since"), run_lock(store):
            pass
        holder.send_signal(signal.SIGKILL)
    assert not is_locked(store)
    with run_lock(store):
        pass


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def protected(path: Path) -> None:
    """Nobody may write there, root neither."""
    path.symlink_to("/proc/sys/kernel/ostype")


@pytest.mark.parametrize("name", ["run.lock", "review.lock"])
@pytest.mark.parametrize(
    ("lay", "says"),
    [
        (Path.mkdir, "expected a lock file, found a folder. Move it away, or name another --run folder"),
        (os.mkfifo, "expected a lock file, found something else. Move it away"),
        (
            loop,
            "this lock file cannot be used .Too many levels of symbolic links.. Remove it if no run is writing here",
        ),
        pytest.param(
            protected,
            r"this lock file cannot be opened .Permission denied.. Make it readable and writable for this user",
            marks=pytest.mark.skipif(not Path("/proc/sys/kernel/ostype").exists(), reason="no /proc/sys"),
        ),
    ],
)
def test_what_cannot_be_a_lock_is_named(tmp_path: Path, lay: Callable[[Path], None], says: str, name: str) -> None:
    lay(tmp_path / name)
    with pytest.raises(FatalError, match=f"^{tmp_path}/{name}: {says}"), run_lock(Store(tmp_path), name):
        pass
    if name == "run.lock" and lay is not protected:  # that one can be read
        with pytest.raises(FatalError, match=f"^{tmp_path}/run.lock: {says}"):
            is_locked(Store(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no JSON", b"\xff\xfe\x00", b"[1]", b"null", b'{"pid": 1}', b"[" * 100_000])
def test_a_damaged_lock(tmp_path: Path, content: bytes) -> None:
    """It is the process that holds a lock, not the text: held it says so, free it is taken."""
    store, path = Store(tmp_path), tmp_path / "run.lock"
    with run_lock(store):
        path.write_bytes(content)
        with pytest.raises(RunLockedError, match=f"{path} does not tell which: it is damaged"), run_lock(store):
            pass
        assert is_locked(store)
    assert not is_locked(store)
    with run_lock(store):
        assert f'"pid": {os.getpid()}' in path.read_text()


def test_an_error_of_the_work_is_not_one_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="of the work"), run_lock(Store(tmp_path)):
        raise PermissionError("of the work")
    with run_lock(Store(tmp_path)):
        pass

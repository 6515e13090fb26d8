"""Room for downloads: bounded, nothing in use is taken away, and dead processes leave nothing."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.storage.scratch import DownloadsInUse, Scratch, process_scratch


def fetch(scratch: Scratch, name: str, held: DownloadsInUse | None = None, size: int = 100) -> Path:
    return scratch.fetch(name, lambda path: path.write_bytes(b"x" * size) and None, held)


def files(scratch: Scratch) -> list[str]:
    return sorted(p.name for p in scratch.folder.rglob("*") if p.is_file())


def test_the_least_used_go_first(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, limit=250)
    for name in ("a", "b"):
        fetch(scratch, f"s3://x/{name}")
    fetch(scratch, "s3://x/a")
    fetch(scratch, "s3://x/c")
    assert files(scratch) == ["a", "c"]
    assert scratch.size == 200
    fetch(scratch, "s3://x/big", size=1000)
    assert files(scratch) == ["big"], "one file that does not fit is kept until the next one comes"


def test_what_an_item_uses_stays_until_it_is_through(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, limit=150)
    with scratch.hold() as held:
        paths = [fetch(scratch, f"s3://x/{name}", held) for name in "abc"]
        assert all(path.exists() for path in paths)
        with scratch.hold() as other:
            fetch(scratch, "s3://x/a", other)
        assert paths[0].exists(), "another item is through with it, this one is not"
    assert files(scratch) == ["a"]


def test_a_failed_download_leaves_nothing(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("cut")

    with pytest.raises(OSError, match="cut"):
        scratch.fetch("s3://x/a", fail)
    assert list(scratch.folder.iterdir()) == []
    assert fetch(scratch, "s3://x/a").read_bytes() == b"x" * 100


def test_a_copy_that_was_deleted_is_fetched_again(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    fetch(scratch, "s3://x/a").unlink()
    assert fetch(scratch, "s3://x/a").exists()
    assert scratch.size == 100


def test_threads_share_it(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, limit=300)
    wrong = []

    def work(seed: int) -> None:
        for number in range(100):
            with scratch.hold() as held:
                path = fetch(scratch, f"s3://x/{(seed * 7 + number) % 9}", held)
                if path.read_bytes() != b"x" * 100:
                    wrong.append(path)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert scratch.size <= 300
    assert len(files(scratch)) * 100 == scratch.size


HOLD = (
    "import sys, time; from pathlib import Path; from ffpdata.storage.scratch import Scratch\n"
    "s = Scratch(Path(sys.argv[1])); s.temp_file('x').write_text('half'); print(s.folder, flush=True); time.sleep(60)"
)


def test_the_folder_of_a_dead_process_is_removed_and_of_a_live_one_kept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        mine = Scratch(tmp_path)
        assert mine.folder.parent == theirs.parent
        assert theirs.exists()
        other.send_signal(signal.SIGKILL)
    third = Scratch(tmp_path)
    assert third.folder.exists()
    assert not theirs.exists()
    assert mine.folder.exists()
    for scratch in (mine, third):
        scratch.close()
    assert list(theirs.parent.iterdir()) == []


def test_a_process_that_ends_leaves_nothing(tmp_path: Path) -> None:
    code = "from ffpdata.storage.scratch import process_scratch; process_scratch().temp_file('x').write_text('half')"
    subprocess.run([sys.executable, "-c", code], env={"FFPDATA_SCRATCH": str(tmp_path)}, check=True)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_the_limit_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFPDATA_SCRATCH_GB", "much")
    with pytest.raises(ConfigError, match="FFPDATA_SCRATCH_GB='much'"):
        Scratch()
    monkeypatch.delenv("FFPDATA_SCRATCH_GB")
    assert process_scratch() is process_scratch()


def test_a_copy_that_was_fetched_anew_is_held_by_its_own_holder(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, limit=50)
    with ExitStack() as second:
        with scratch.hold() as first:
            fetch(scratch, "s3://x/a", first).unlink()
            path = fetch(scratch, "s3://x/a", second.enter_context(scratch.hold()))
        fetch(scratch, "s3://x/b")
        assert path.exists(), "the first holder, of the copy that was deleted, is through; the second is not"


def test_a_folder_that_was_cleaned_away_is_made_again(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    fetch(scratch, "s3://x/a")
    before = scratch.folder
    shutil.rmtree(tmp_path / before.parent.name)
    assert fetch(scratch, "s3://x/a").read_bytes() == b"x" * 100
    assert scratch.folder != before
    assert scratch.size == 100
    scratch.temp_file("b").write_text("half")


def test_its_own_faults_name_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FatalError, match=r"/file: .*FFPDATA_SCRATCH"):
        Scratch(tmp_path / "file").temp_file("x")
    scratch = Scratch(tmp_path)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def cleaned(path: Path) -> None:
        shutil.rmtree(path.parent)
        raise FileNotFoundError(errno.ENOENT, "not found", "s3://x/a")

    for fault, says in ((full, "No space left"), (cleaned, "not found")):
        with pytest.raises(FatalError, match=rf"{scratch.folder}: .*{says}.*FFPDATA_SCRATCH"):
            scratch.fetch("s3://x/a", fault)

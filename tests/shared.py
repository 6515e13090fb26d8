"""What several tests need is built once, for all processes of a test run."""

from __future__ import annotations

import atexit
import fcntl
import pickle
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_base: Path | None = None


def use(base: Path) -> None:
    """Say where shared folders lie: the same place in every process of a test run."""
    global _base  # noqa: PLW0603
    _base = base


def built_once(name: str, build: Callable[[Path], object]) -> Path:
    """Return the folder `name`, not to be changed: whoever comes first has `build` fill it, and others wait for that.

    Args:
        name: of the folder; one name, one content.
        build: is given the empty folder. Where it fails the folder is taken away, and the next one tries again.
    """
    folder = (_base or _own()) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


def told_once(name: str, build: Callable[[Path], Any]) -> Any:
    """Return what `build` returned when the folder `name` was built, e.g. the paths of what lies in it."""

    def write(folder: Path) -> None:
        (folder / "told.pickle").write_bytes(pickle.dumps(build(folder)))

    return pickle.loads((built_once(name, write) / "told.pickle").read_bytes())  # noqa: S301


@cache
def _own() -> Path:
    """A place for processes that no test run told where."""
    folder = Path(tempfile.mkdtemp(prefix="ffpdata-shared-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder

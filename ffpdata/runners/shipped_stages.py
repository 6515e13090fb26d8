"""The stages on their way to a worker, and with them the code of the user's own that they are made of.

A worker's node often has the folder of that code at the same path: it is the driver's machine, a shared disk, or the
copy that `ray job submit --working-dir` made. Where it has not, the worker uses the copy that comes with the stages.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import digest
from ffpdata.core.plugins import use_folder, used_folders
from ffpdata.core.stage import Stage
from ffpdata.storage.scratch import process_scratch

MOST_BYTES = 64e6
"""Of one folder so much code is sent; more lies on a shared disk or is installed."""


@dataclass(frozen=True)
class CodeFolder:
    """A folder of users' code.

    Attributes:
        folder: where it lies on the driver's machine.
        names: packages and modules that are needed there.
        files: what is sent, path in the folder to content; None where it is too much.
    """

    folder: str
    names: tuple[str, ...]
    files: Mapping[str, bytes] | None

    @classmethod
    def read(cls, folder: str, names: Sequence[str]) -> CodeFolder:
        """Read the packages and modules `names`, and every module beside them, which they may import."""
        root, files, size = Path(folder), {}, 0
        found = [*root.glob("*.py"), *(path for name in names for path in (root / name).rglob("*"))]
        for path in found:
            inside = path.relative_to(root)
            if not path.is_file() or any(part == "__pycache__" or part[0] == "." for part in inside.parts):
                continue
            size += path.stat().st_size
            if size > MOST_BYTES:
                return cls(folder, tuple(names), None)
            files[inside.as_posix()] = path.read_bytes()
        return cls(folder, tuple(names), files)

    def use(self) -> None:
        """Let this process import from the folder, or from the copy where this machine has not got it.

        Raises:
            FatalError: it has not, and the folder was too large to be sent.
        """
        root = Path(self.folder)
        there = all((root / name).is_dir() or any(root.glob(f"{name}.*")) for name in self.names)
        place = root if there else self._unpack()
        for name in self.names:
            use_folder(str(place), name)

    def _unpack(self) -> Path:
        if self.files is None:
            raise FatalError(
                f"this node has no {', '.join(self.names)} in {self.folder}, and what lies there is more than the "
                f"{MOST_BYTES / 1e6:.0f} MB that are sent: put the folder on a shared disk, or install the code"
            )
        place = process_scratch().folder / f"code-{digest(self.folder, self.names)[:12]}"
        for inside, content in self.files.items():
            target = place / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return place


class ShippedStages:
    """A list of stages that is pickled together with its code: unpickled, it is the list again."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        from ray import cloudpickle  # sends classes of a notebook, too

        self._folders = [CodeFolder.read(folder, sorted(names)) for folder, names in used_folders().items()]
        self._stages = cloudpickle.dumps(list(stages))  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickle as the stages."""
        return _unpacked, (self._folders, self._stages)


def _unpacked(folders: Sequence[CodeFolder], stages: bytes) -> list[Stage]:
    for folder in folders:
        folder.use()
    unpickled: list[Stage] = pickle.loads(stages)  # noqa: S301 - of the driver that started this worker
    return unpickled

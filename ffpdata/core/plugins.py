"""Code of the user's own: stages and back ends in a folder that is not installed.

What this Python can import anyway comes first. A module that it cannot import is sought in the folder of the pipeline
file, in those of the profile files and in the working directory, in this order. The folder that has it goes to the end
of `sys.path`, so that no file there hides an installed package or a module of Python. The folder is kept with the
entry in `run.yaml`, and later commands on the run import from it again.

What that means for run folders of other people: commands that need the stages (`retry`, `export`, `refine`) import what
`run.yaml` names from the folders that it names, as `make` runs what a Makefile says. No other folder is searched then:
not the run folder, not its neighbours, not the working directory. Only absolute folders are accepted, as a start by a
user writes them. Read the `code:` entries in the `run.yaml` of a stranger before you use it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from ffpdata.core.errors import ConfigError, nearest

INTERACTIVE = "__main__"
"""Module of the classes of a notebook or of the script that was started."""

PSEUDO = ("/proc", "/dev", "/sys")
"""Folders whose content depends on who looks: `/proc/self/cwd` is another one for each process."""

_used: dict[str, set[str]] = {}
"""Folders that this process imports users' code from, to the names of the packages and modules that it needs there."""


def search_folders(files: Iterable[Path]) -> list[Path]:
    """Folders in which a user's modules are sought at a start: those of `files`, then the working directory."""
    return list(dict.fromkeys([*(file.absolute().parent for file in files), Path.cwd()]))


def locate(path: str, folders: Sequence[Path]) -> str:
    """Find the folder of a class's module without importing the module.

    Args:
        path: `package.module:Class`.
        folders: where modules are sought that this Python cannot import; the first one that has it wins.

    Returns:
        The folder, to be kept with the entry; "" where the module is installed.

    Raises:
        ConfigError: the module is nowhere, or another package of its name comes first; with what to do.
    """
    module = _module_of(path)
    if module == INTERACTIVE:
        return ""
    top = module.partition(".")[0]
    elsewhere = ""
    importlib.invalidate_caches()  # a notebook may have written the module a moment ago
    if known := _find(module):
        elsewhere = str(_root(known, module))
        for folder in folders:
            if folder.resolve() == Path(elsewhere).resolve():
                return str(folder)
        if elsewhere not in _used:
            return ""
    for folder in folders:
        if _find(module, [str(folder)]):
            if hides := _hidden_by(module):
                raise ConfigError(
                    f"cannot import {module!r}: {folder} has it, but another {top!r} at {hides} comes first. "
                    "Give yours another name."
                )
            return str(folder)
    if elsewhere:
        return elsewhere
    raise ConfigError(
        f"cannot import {module!r}: it is not installed, and it is not in {', '.join(map(str, folders))}"
        f"{_nearest_module(module, folders)} Put {top!r} into the folder of the pipeline file, start from the folder "
        "that holds it, install it, or name that folder in PYTHONPATH."
    )


def import_object(path: str, folder: str = "") -> Any:
    """Import `package.module:Name`.

    Args:
        path: what to import.
        folder: where `locate` found the module; "" for what is installed.

    Raises:
        ConfigError: there is no such module or name, or the module raises when it is imported; with the file and the
            line in the module, and what to do.
    """
    name = _module_of(path)
    if folder:
        use_folder(folder, name.partition(".")[0])
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as err:
        if err.name and f"{name}.".startswith(f"{err.name}."):
            raise ConfigError(_why_missing(name, folder)) from err
        raise ConfigError(f"cannot import {name!r}: {_place(err)}{err.name!r} is not installed") from err
    except (Exception, SystemExit) as err:
        raise ConfigError(f"cannot import {name!r}: {_place(err)}{type(err).__name__}: {err}") from err
    _check_origin(name, folder)
    attribute = path.partition(":")[2]
    try:
        return getattr(module, attribute)
    except AttributeError:
        if name == INTERACTIVE:
            raise ConfigError(
                f"{path!r} was defined in a notebook or script, which this process cannot import: save the class in a "
                f"file, e.g. {attribute.lower()}.py, name it {attribute.lower()}:{attribute} in the pipeline and start "
                "the run again with that; what is finished is kept, for keys hold no import path"
            ) from None
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == name]
        raise ConfigError(f"module {name!r} has no {attribute!r}{nearest(attribute, own)}") from None


def import_path(cls: type) -> str:
    """Return the `package.module:Name` of a class, for `import_object`; where it has none, ConfigError says why."""
    path = f"{cls.__module__}:{cls.__qualname__}"
    found = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None)
    if found is None:
        raise ConfigError(
            f"{path} cannot be imported: define the class at the top level of a module, script or notebook cell"
        )
    if found is not cls:
        raise ConfigError(f"{path} names another class by now, for it was defined again: use the new one")
    return path


def use_folder(folder: str, top: str) -> None:
    """Let this process import from a folder, behind everything that it can import already.

    A folder that is not there is left out: its modules may be installed by now.

    Args:
        folder: absolute.
        top: the package or module that is needed there.

    Raises:
        ConfigError: it is not an absolute folder of this machine.
    """
    place = Path(folder)
    if not place.is_absolute() or ".." in place.parts or any(place.is_relative_to(root) for root in PSEUDO):
        raise ConfigError(f"code: {folder!r}: write the folder of {top!r} absolutely, as `ffpdata run` does")
    if not place.is_dir():
        return
    _used.setdefault(folder, set()).add(top)
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()


def used_folders() -> dict[str, set[str]]:
    """Folders that this process imports users' code from, to the packages and modules that it needs there."""
    return {folder: set(names) for folder, names in _used.items()}


def _module_of(path: str) -> str:
    module, _, attribute = path.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{path!r} is not an import path: write package.module:Class")
    return module


def _find(module: str, path: Sequence[str] | None = None) -> ModuleSpec | None:
    """Where a module would be imported from, on `path` or by this process; nothing of it is run."""
    name, *rest = module.split(".")
    try:
        found = PathFinder.find_spec(name, path) if path else importlib.util.find_spec(name)
    except ValueError:  # a module without a file, as `__main__`
        return None
    for part in rest:
        name = f"{name}.{part}"
        if found is None or found.submodule_search_locations is None:
            return None
        found = PathFinder.find_spec(name, list(found.submodule_search_locations))
    return found if found is not None and found.origin else None  # a folder without `__init__.py` holds no class


def _root(found: ModuleSpec, module: str) -> Path:
    """The folder on `sys.path` that a module lies in."""
    file = Path(found.origin or "")
    for _ in range(module.count(".") + 1 + (file.stem == "__init__")):
        file = file.parent
    return file


def _hidden_by(module: str) -> str:
    """The file of the package that comes before a user's package of the same name."""
    top = module.partition(".")[0]
    found = importlib.util.find_spec(top)
    return found.origin or "" if found is not None and str(_root(found, top)) not in _used else ""


def _nearest_module(module: str, folders: Sequence[Path]) -> str:
    """`; did you mean 'mypackage.blur'?` where the folders hold such a module, else a full stop."""
    *package, _ = module.split(".")
    have = set()
    for folder in folders:
        inside = folder.joinpath(*package)
        names = {file.stem for file in inside.glob("*.py")} | {
            file.parent.name for file in inside.glob("*/__init__.py")
        }
        have |= {".".join([*package, name]) for name in names}
    hint = nearest(module, have)
    return hint if hint.endswith("?") else "."


def _why_missing(name: str, folder: str) -> str:
    if not folder:
        return f"cannot import {name!r}: it is not installed here. Install it, or name its folder in PYTHONPATH."
    state = "does not hold it now" if Path(folder).is_dir() else "is not there now"
    return (
        f"cannot import {name!r}: at the start it was in {folder}, which {state}. Put it back, install it, name the "
        "folder that holds it now in PYTHONPATH, or start the run again from there."
    )


def _check_origin(name: str, folder: str) -> None:
    """Refuse a module that this process took from another folder of users' code."""
    found = getattr(sys.modules.get(name), "__spec__", None)
    if not folder or found is None or not found.origin:
        return
    root = str(_root(found, name))
    if root != folder and root in _used and _find(name, [folder]):
        raise ConfigError(
            f"{name!r} was imported from {root} before, and here the one in {folder} is meant: one process cannot "
            "hold both. Use two processes, or give one of them another name."
        )


def _place(err: BaseException) -> str:
    """`file:line: ` of what went wrong when a module was imported."""
    if isinstance(err, SyntaxError) and err.filename:
        return f"{err.filename}:{err.lineno}: "
    frames = traceback.extract_tb(err.__traceback__)[1:]
    frames = [frame for frame in frames if "importlib" not in frame.filename]
    return f"{frames[0].filename}:{frames[0].lineno}: " if frames else ""

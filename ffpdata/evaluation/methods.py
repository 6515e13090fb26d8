"""Which folders hold the outputs of which method."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ffpdata.core.errors import FfpdataWarning, UsageError


def methods_of(results: Sequence[str], is_method: Callable[[Path], bool], layout: str) -> dict[str, Path]:
    """Return the folder of each method by its name.

    Args:
        results: `NAME=FOLDER`, a method's folder, or a folder with a folder per method.
        is_method: whether a folder has the layout of one method's outputs.
        layout: what that is, for messages.

    Folders beside methods that have another layout are warned of: a method without any output would be among them.

    Raises:
        UsageError: a folder is not there, is empty or has another layout, or two methods have one name.
    """
    if not results:
        raise UsageError(f"name the folder of the results: {layout}")
    found: dict[str, Path] = {}
    for text in results:
        for name, folder in _of_one(text, is_method, layout).items():
            if name in found:
                raise UsageError(f"two methods are called {name!r}: name them, {name}-2={folder}")
            found[name] = folder
    return found


def existing_folder(text: str) -> Path:
    """Return a folder.

    Raises:
        UsageError: it is not there, or is empty.
    """
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    if not any(folder.iterdir()):
        raise UsageError(f"{folder}: the folder is empty")
    return folder


def named(text: str) -> tuple[str, str]:
    """Split `NAME=FOLDER`; the name is empty where none is given."""
    name, sign, rest = text.partition("=")
    if not sign or "/" in name or Path(text).expanduser().exists():
        return "", text
    if name.strip() in ("", ".", "..") or not rest:
        raise UsageError(f"{text!r}: write NAME=FOLDER")
    return name.strip(), rest


def _of_one(text: str, is_method: Callable[[Path], bool], layout: str) -> dict[str, Path]:
    name, rest = named(text)
    folder = existing_folder(rest)
    if is_method(folder):
        return {name or folder.resolve().name: folder}
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    inner = {path.name: path for path in folders if is_method(path)}
    if name or not inner:
        raise UsageError(f"{folder}: no outputs of this benchmark in it, and no folder with them: expected {layout}")
    if others := [path.name for path in folders if path.name not in inner]:
        told = f"{folder}: no method's are {', '.join(others)}: nothing of the benchmark is in them"
        warnings.warn(told, FfpdataWarning, stacklevel=2)
    return inner

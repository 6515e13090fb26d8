"""What a back end needs before it can start. `ffpdata doctor` looks for it; nothing is loaded and nothing fetched.

A back end with weights or a service has a class method `needs(spec) -> Needs`, which raises ConfigError where the
profile's entry is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ffpdata.core.errors import FatalError
from ffpdata.models.weights import PATTERNS, cached, folder_of, weight_files

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec

HUB_SECONDS = 10.0

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights that a back end loads.

    Attributes:
        part: what they are of the model, for the reader.
        model: a folder, or the hub's `owner/name`.
        revision: commit, tag or branch of the repository.
        patterns: which files of the repository are fetched.
        stem: how the names of the weights begin; None where it has none and every pattern may be what is needed.
    """

    part: str
    model: str
    revision: str = ""
    patterns: tuple[str, ...] = PATTERNS
    stem: str | None = ""


@dataclass(frozen=True)
class Requirements:
    """What must be there.

    Attributes:
        packages: modules that it imports.
        checkpoints: weights that it loads.
        gpu: whether it runs on one.
        reach: asks the service that it speaks to and returns what to say of it; raises FatalError where it fails.
    """

    packages: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    gpu: bool = False
    reach: Callable[[], str] | None = None


@dataclass(frozen=True)
class Availability:
    """Where a checkpoint is.

    Attributes:
        level: `ok` if it is here whole, `warning` if it can be fetched, `error` if neither.
        detail: where, or what to do.
        missing_gb: what is still to be fetched, 10^9 bytes.
    """

    level: Level
    detail: str
    missing_gb: float = 0.0


def wants_gpu(spec: ModelSpec) -> bool:
    """Say whether a role's runtime asks for a GPU."""
    return str(spec.runtime.get("device", "")).startswith("cuda")


def look_for(wanted: Checkpoint) -> Availability:
    """Look for a checkpoint in its folder, in the hub's cache and at the hub, in this order."""
    own = folder_of(wanted.model)
    if own and not own.exists():
        return Availability("error", f"no folder {wanted.model!r} in {Path.cwd()}")
    folder = own or cached(wanted.model, wanted.revision, wanted.patterns)
    if folder is None:
        return _at_the_hub(wanted)
    try:
        files = _files(folder, wanted)
    except FatalError as err:
        return Availability("error", str(err)) if own else _at_the_hub(wanted)
    size = sum(path.stat().st_size for path in files) / 1e9
    if own:
        return Availability("ok", f"{size:.1f} GB in {folder}")
    unnamed = "" if wanted.revision else ", its main branch: name the commit as `revision`, it counts in every key"
    return Availability("ok", f"{size:.1f} GB fetched at {folder.name[:12]}{unnamed}")


def _files(folder: Path, wanted: Checkpoint) -> list[Path]:
    if folder.is_file():
        return [folder]
    if wanted.stem is not None:
        return weight_files(folder, wanted.stem)
    found = [path for pattern in wanted.patterns for path in folder.glob(pattern)]
    if not found:
        raise FatalError(f"{folder}: none of {', '.join(wanted.patterns)}")
    return found


def _at_the_hub(wanted: Checkpoint) -> Availability:
    from huggingface_hub import HfApi, errors

    at = f"{wanted.model}@{wanted.revision}" if wanted.revision else wanted.model
    try:
        api = HfApi()
        info = api.model_info(wanted.model, revision=wanted.revision or None, files_metadata=True, timeout=HUB_SECONDS)
        if info.gated:
            api.auth_check(wanted.model)
    except errors.GatedRepoError:
        accept = f"accept its licence at https://huggingface.co/{wanted.model} and set HF_TOKEN"
        return Availability("error", f"{at} is gated: {accept}")
    except errors.RevisionNotFoundError:
        return Availability("error", f"{wanted.model} has no revision {wanted.revision!r}")
    except errors.RepositoryNotFoundError:
        return Availability("error", f"the hub has no repository {wanted.model!r} that this machine may read")
    except Exception as err:  # noqa: BLE001 - without network a hub's client fails in many ways
        why = (str(err).splitlines() or [type(err).__name__])[0][:120]
        return Availability("error", f"{at} is not on this machine and the hub cannot be reached ({why})")
    sizes = {
        entry.rfilename: entry.size or 0
        for entry in info.siblings or []
        if any(fnmatch(entry.rfilename, pattern) for pattern in wanted.patterns)
    }
    ending = "" if wanted.stem is None else ".safetensors"
    if not any(name.startswith(wanted.stem or "") and name.endswith(ending) for name in sizes):
        return Availability("error", f"{at} has no file {wanted.stem or ''}*{ending}")
    missing = sum(sizes.values()) / 1e9
    return Availability("warning", f"not on this machine: the first run fetches {missing:.1f} GB of {at}", missing)

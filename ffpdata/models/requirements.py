"""Requirements of a back end: packages, checkpoints, a GPU, a service. `ffpdata doctor` checks them and loads nothing.

A back end with weights or a service has a class method `needs(spec) -> Requirements`, which raises ConfigError where
the profile's entry is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ffpdata.core.errors import FatalError
from ffpdata.models.weights import PATTERNS, cached_snapshot, folder_of, weight_files

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec

HUB_SECONDS = 10.0

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights that a back end loads.

    Attributes:
        part: name of the part of the model, for messages.
        model: a folder, or the hub's `owner/name`.
        revision: commit, tag or branch of the repository.
        patterns: which files of the repository are fetched.
        stem: prefix of the weights' names; None where a file of any pattern suffices.
    """

    part: str
    model: str
    revision: str = ""
    patterns: tuple[str, ...] = PATTERNS
    stem: str | None = ""


class Note(NamedTuple):
    """What a back end says about its own set-up.

    Attributes:
        level: `error` where the back end would not start.
        subject: a few words.
        detail: the finding, or the remedy.
    """

    level: Level
    subject: str
    detail: str


@dataclass(frozen=True)
class Requirements:
    """Packages, checkpoints and devices of a back end.

    Attributes:
        packages: modules that it imports.
        checkpoints: weights that it loads.
        gpu: whether it runs on a GPU.
        reach: asks its service and returns the service's state as text; raises FatalError where the service fails.
        inspect: looks at what is on this machine, without loading it, and returns what it finds.
    """

    packages: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    gpu: bool = False
    reach: Callable[[], str] | None = None
    inspect: Callable[[], Iterable[Note]] | None = None


@dataclass(frozen=True)
class Availability:
    """Result of looking for a checkpoint.

    Attributes:
        level: `ok` if it is complete on this machine, `warning` if it can be fetched, `error` otherwise.
        detail: its location, or the remedy.
        missing_gb: bytes still to be fetched, 10^9.
    """

    level: Level
    detail: str
    missing_gb: float = 0.0


def wants_gpu(spec: ModelSpec) -> bool:
    """Return whether a role's runtime asks for a GPU."""
    return str(spec.runtime.get("device", "")).startswith("cuda")


def find_checkpoint(checkpoint: Checkpoint) -> Availability:
    """Look for a checkpoint in its folder, in the hub's cache and at the hub, in this order."""
    own = folder_of(checkpoint.model)
    if own and not own.exists():
        return Availability("error", f"no folder {checkpoint.model!r} in {Path.cwd()}")
    folder = own or cached_snapshot(checkpoint.model, checkpoint.revision, checkpoint.patterns)
    if folder is None:
        return _at_the_hub(checkpoint)
    try:
        files = _files(folder, checkpoint)
    except FatalError as err:
        return Availability("error", str(err)) if own else _at_the_hub(checkpoint)
    size = sum(path.stat().st_size for path in files) / 1e9
    if own:
        return Availability("ok", f"{size:.1f} GB in {folder}")
    unnamed = "" if checkpoint.revision else ", its main branch: name the commit as `revision`, it counts in every key"
    return Availability("ok", f"{size:.1f} GB fetched at {folder.name[:12]}{unnamed}")


def _files(folder: Path, checkpoint: Checkpoint) -> list[Path]:
    if folder.is_file():
        return [folder]
    if checkpoint.stem is not None:
        return weight_files(folder, checkpoint.stem)
    found = [path for pattern in checkpoint.patterns for path in folder.glob(pattern)]
    if not found:
        raise FatalError(f"{folder}: none of {', '.join(checkpoint.patterns)}")
    return found


def _at_the_hub(checkpoint: Checkpoint) -> Availability:
    from huggingface_hub import HfApi, errors

    at = f"{checkpoint.model}@{checkpoint.revision}" if checkpoint.revision else checkpoint.model
    try:
        api = HfApi()
        info = api.model_info(
            checkpoint.model, revision=checkpoint.revision or None, files_metadata=True, timeout=HUB_SECONDS
        )
        if info.gated:
            api.auth_check(checkpoint.model)
    except errors.GatedRepoError:
        accept = f"accept its licence at https://huggingface.co/{checkpoint.model} and set HF_TOKEN"
        return Availability("error", f"{at} is gated: {accept}")
    except errors.RevisionNotFoundError:
        return Availability("error", f"{checkpoint.model} has no revision {checkpoint.revision!r}")
    except errors.RepositoryNotFoundError:
        return Availability("error", f"the hub has no repository {checkpoint.model!r} that this machine may read")
    except Exception as err:  # noqa: BLE001 - without network a hub's client fails in many ways
        why = (str(err).splitlines() or [type(err).__name__])[0][:120]
        return Availability("error", f"{at} is not on this machine and the hub cannot be reached ({why})")
    sizes = {
        entry.rfilename: entry.size or 0
        for entry in info.siblings or []
        if any(fnmatch(entry.rfilename, pattern) for pattern in checkpoint.patterns)
    }
    ending = "" if checkpoint.stem is None else ".safetensors"
    if not any(name.startswith(checkpoint.stem or "") and name.endswith(ending) for name in sizes):
        return Availability("error", f"{at} has no file {checkpoint.stem or ''}*{ending}")
    missing = sum(sizes.values()) / 1e9
    return Availability("warning", f"not on this machine: the first run fetches {missing:.1f} GB of {at}", missing)

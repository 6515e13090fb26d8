"""Find and load weights: from a local folder, or from a repository of the Hugging Face hub at a fixed revision.

Only safetensors and text files are fetched and read. A pickle can run code when it is opened, so none is opened unless
the profile allows it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ffpdata.core.errors import ConfigError, FatalError

if TYPE_CHECKING:
    import torch

    from ffpdata.core.stage import ModelSpec

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
"""Files that are fetched from a repository: weights, configurations, vocabularies and tokenizers."""

PICKLES = ("*.pth", "*.pt", "*.bin")

Dtype = Literal["float32", "bfloat16", "float16"]


def checkpoint_folder(model: str, revision: str = "", *, patterns: Sequence[str] | None = None) -> Path:
    """Return the local folder that holds a checkpoint; a hub repository is fetched first, once per machine.

    Args:
        model: a folder, or the hub's `owner/name`.
        revision: commit, tag or branch of the repository; "" is its main branch. A folder has none.
        patterns: fetch only these files; the caller checks that they exist.

    Raises:
        FatalError: it does not exist, access is denied, or (without `patterns`) it has no safetensors file.
    """
    folder = folder_of(model) or _snapshot(model, revision, list(PATTERNS if patterns is None else patterns))
    if not folder.is_dir():
        raise FatalError(
            f"no folder {model!r} in {Path.cwd()}: give a folder (on a cluster by its whole path) or a repository "
            "`owner/name` of the Hugging Face hub"
        )
    if patterns is None and not any(folder.rglob("*.safetensors")):
        pickles = sorted(path.name for ending in PICKLES for path in folder.rglob(ending))
        found = f"it has {', '.join(pickles[:3])}, which" if pickles else "pickles"
        raise FatalError(
            f"{model} has no safetensors file; {found} could run code and are not read: "
            "convert with `python -m ffpdata.models.convert_to_safetensors FILE FOLDER` and name the folder as `model`"
        )
    return folder


def folder_of(model: str) -> Path | None:
    """Return the folder that `model` names, even if it does not exist; None where it names a repository of the hub."""
    folder = Path(model).expanduser()
    return folder if folder.is_dir() or model.count("/") != 1 or model.startswith((".", "/", "~")) else None


def cached_snapshot(model: str, revision: str, patterns: Sequence[str]) -> Path | None:
    """Return a repository's folder in this machine's cache, perhaps incomplete; None where it was never fetched."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(model, revision=revision or None, allow_patterns=list(patterns), local_files_only=True)
        )
    except errors.LocalEntryNotFoundError:
        return None


def weight_files(folder: Path, stem: str, *, allow_pickle: bool = False) -> list[Path]:
    """Return the files of one part of a checkpoint: one, or all of its numbered shards.

    Args:
        folder: as `checkpoint_folder` returns it.
        stem: prefix of the names, e.g. `diffusion_pytorch_model`; "" takes every safetensors file.
        allow_pickle: accept pickles where there is no safetensors file.

    Raises:
        FatalError: there is none, shards are missing, or a file is damaged.
    """
    found = sorted(folder.glob(f"{stem}*.safetensors"))
    pickles = sorted(path for ending in PICKLES for path in folder.glob(f"{stem}{ending}"))
    if not found and pickles and allow_pickle:
        return pickles
    if not found:
        raise _no_file(folder, stem, pickles)
    shards = [re.search(r"-(\d+)-of-(\d+)\.safetensors$", path.name) for path in found]
    shard_counts = {int(shard[2]) for shard in shards if shard}
    if len(shard_counts) > 1 or any(count != len(found) for count in shard_counts):
        raise FatalError(f"{folder}: {len(found)} of {max(shard_counts)} shards of {stem}: fetch the others")
    for path in found:
        _check_header(path)
    return found


def _no_file(folder: Path, stem: str, pickles: list[Path]) -> FatalError:
    if pickles:
        return FatalError(
            f"{folder}: {pickles[0].name} is a pickle, which can run code and is not read: convert it with "
            f"`python -m ffpdata.models.convert_to_safetensors {shlex.quote(str(pickles[0]))} FOLDER` and name the "
            "folder as the part's source, or set the role's runtime allow_pickle to true (torch's restricted loader)"
        )
    return FatalError(f"{folder}: no file {stem}*.safetensors: the checkpoint is incomplete")


def _check_header(path: Path) -> None:
    """Raise for a file that was not fetched completely, before a library fails on it with a less clear error."""
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise FatalError(f"{path} is a pointer of Git LFS, not the file: run `git lfs pull` in its folder")
        header = file.read(min(int.from_bytes(start, "little"), 100_000_000))
    ends = [int(end) for end in re.findall(rb'"data_offsets":\s*\[\d+,\s*(\d+)\]', header)]
    complete_size = 8 + int.from_bytes(start, "little") + max(ends, default=0)
    if path.stat().st_size != complete_size or not ends:
        raise FatalError(
            f"{path}: {path.stat().st_size} bytes, not the {complete_size} its header tells of: fetch it again"
        )


def safetensors_shapes(path: Path) -> dict[str, list[int]]:
    """Return the name and shape of every tensor of a safetensors file, from its header alone.

    Raises:
        FatalError: the file is damaged.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(min(length, path.stat().st_size)))
        return {name: entry["shape"] for name, entry in found.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as err:
        raise FatalError(f"{path}: not a readable safetensors file ({err})") from err


def _snapshot(model: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    at = f"{model}@{revision}" if revision else model
    try:
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=patterns))
    except errors.GatedRepoError as err:
        raise FatalError(
            f"{at} is gated: accept its licence at https://huggingface.co/{model} and set HF_TOKEN to a token "
            "of that account"
        ) from err
    except errors.RevisionNotFoundError as err:
        raise FatalError(f"{model} has no revision {revision!r}") from err
    except errors.RepositoryNotFoundError as err:
        raise FatalError(f"the hub has no repository {model!r} that this machine may read") from err
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as err:
        raise FatalError(
            f"cannot fetch {at} ({str(err).splitlines()[0]}): fetch it with `hf download {shlex.quote(model)}` on a "
            "machine with access and name the folder as `model`"
        ) from err


def from_pretrained(loader: Any, folder: Path, **options: Any) -> Any:
    """Load a transformers class, or a processor, from a checkpoint's folder only, never from the hub.

    Raises:
        FatalError: the folder lacks files that the class needs.
    """
    try:
        return loader.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as err:
        raise FatalError(f"{folder}: cannot be loaded as {loader.__name__}: {err}") from err


def pretrained_model(loader: Any, folder: Path, dtype: str) -> Any:
    """Load a transformers model in evaluation mode; raise for weights that are missing or have another shape.

    Args:
        loader: the model class.
        folder: as `checkpoint_folder` returns it.
        dtype: a `Dtype`.

    Raises:
        FatalError: the folder does not hold the complete model.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar per worker drowns the log
    model, report = from_pretrained(
        loader, folder, dtype=torch_dtype(dtype), use_safetensors=True, output_loading_info=True
    )
    lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lacking:
        raise FatalError(f"{folder}: {len(lacking)} weights of {loader.__name__} are missing, e.g. {lacking[0]}")
    return model.eval()


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of every safetensors file in a folder, on the CPU.

    Raises:
        FatalError: a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            state |= load_file(path)
        except (SafetensorError, OSError) as err:
            raise FatalError(f"{path}: not a readable safetensors file ({err})") from err
    return state


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's type of a `Dtype`."""
    import torch

    found: torch.dtype = getattr(torch, name)
    return found


def torch_device(spec: ModelSpec) -> torch.device:
    """Return `runtime.device` of a profile's role; if unset, the first GPU visible to this process, or the CPU.

    Raises:
        FatalError: a GPU is set and none is visible.
    """
    import torch

    name = spec.runtime.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise ConfigError(f"{spec.backend}: runtime device {name!r}: write cuda, cuda:1 or cpu") from err
    if device.type == "cuda" and not torch.cuda.is_available():
        raise FatalError(
            f"{spec.backend}: no GPU is visible to this process: give the stage `gpus` in its resources, "
            "or set the role's runtime device to cpu"
        )
    return device

"""Read LoRA files for Wan, in every published naming of layers, into one naming."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Self

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.settings import Lora
from ffpdata.models.weights import checkpoint_folder, weight_files
from ffpdata.storage.store import Store

if TYPE_CHECKING:
    import torch

    Pair = tuple[torch.Tensor, torch.Tensor]

logger = logging.getLogger(__name__)

PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.", "pipe.dit.", "pipe.vace.", "model.")
"""Prefixes of layer names in files of different trainers."""

DIFFUSERS = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "before_proj": "proj_in",
    "after_proj": "proj_out",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "norm3": "norm2",
}
"""Names of layers in a block: Wan's own to those of diffusers (diffusers, loaders/lora_conversion_utils.py)."""

DIFFUSERS_OUTSIDE = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
"""The same for layers outside of blocks."""

_ENDING = re.compile(r"\.(?:lora_(?:A|B|down|up)(?:\.\w+)?\.weight|alpha|diff|diff_b)$")
_KINDS = {"A": "down", "down": "down", "B": "up", "up": "up"}


@dataclass(frozen=True)
class LoraWeights:
    """Content of a LoRA file.

    Attributes:
        pairs: layer name, as Wan spells it (`blocks.0.self_attn.q`, `vace_blocks.0.ffn.2`), to its two matrices: down
            (rank, in) and up (out, rank).
        deltas: parameter name (`blocks.0.self_attn.q.bias`) to the tensor that is added to it: biases and norms of
            distilled models, which have no low rank.
    """

    pairs: dict[str, Pair]
    deltas: dict[str, torch.Tensor] = field(default_factory=dict)


class LoraFile(NamedTuple):
    """Path, time and size of a file: a replaced file is not equal to the old one."""

    path: Path
    changed_ns: int
    size: int

    @classmethod
    def of(cls, lora: Lora) -> Self:
        """Return the identity of a LoRA's file; errors as for `lora_file`."""
        path = lora_file(lora)
        state = path.stat()
        return cls(path, state.st_mtime_ns, state.st_size)


_fetched = lru_cache(maxsize=64)(checkpoint_folder)
"""One request to the hub per checkpoint and process."""


def resolve_under_root(loras: Iterable[Lora], root: str) -> list[Lora]:
    """Return the LoRAs with relative paths of files below `root` made absolute, all others unchanged.

    Args:
        loras: of a role's settings.
        root: a folder or an object store's URL; empty for none.
    """
    store = Store(root) if root else None

    def resolve(lora: Lora) -> Lora:
        path = PurePosixPath(lora.model)
        if store is None or "://" in lora.model or path.is_absolute() or ".." in path.parts:
            return lora
        return lora.model_copy(update={"model": store.url(lora.model)}) if store.exists(lora.model) else lora

    return [resolve(lora) for lora in loras]


def lora_file(lora: Lora) -> Path:
    """Return the file of a LoRA; one from the hub or an object store is fetched first.

    Raises:
        FatalError: it does not exist, or the source has several files and `file` names none.
    """
    if "://" in lora.model:
        root, _, name = lora.model.rpartition("/")
        try:
            return Store(root).fetch(name)
        except FileNotFoundError:
            raise FatalError(f"LoRA {lora.model} is not there") from None
    given = Path(lora.model).expanduser()
    if given.is_file():
        return given
    folder = _fetched(lora.model, lora.revision, patterns=(lora.file or "*.safetensors",))
    if lora.file:
        path = folder / lora.file
        if not path.is_file():
            raise FatalError(f"{lora.model} has no file {lora.file!r}")
        return path
    found = weight_files(folder, "")
    if len(found) > 1:
        raise FatalError(f"{lora.model} has {len(found)} files: name one as `file`, e.g. {found[0].name}")
    return found[0]


def read_lora(lora: Lora) -> LoraWeights:
    """Read a LoRA file. Where it has an `alpha`, down is scaled by alpha / rank.

    Raises:
        FatalError: the file has no LoRA weights, only half of a pair, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = lora_file(lora)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as err:
        raise FatalError(f"{path}: not a readable safetensors file ({err})") from err
    parts: dict[str, dict[str, torch.Tensor]] = {}
    deltas: dict[str, torch.Tensor] = {}
    ignored = []
    for key, value in state.items():
        ending = _ENDING.search(key)
        if ending is None:
            ignored.append(key)
            continue
        layer, kind = layer_name(key[: ending.start()]), ending[0].split(".")[1]
        if kind in ("diff", "diff_b"):
            deltas[f"{layer}.{'bias' if kind == 'diff_b' else 'weight'}"] = value
        else:
            parts.setdefault(layer, {})[_KINDS.get(kind.removeprefix("lora_"), kind)] = value
    if not parts:
        raise FatalError(f"{path}: no LoRA weights, e.g. `blocks.0.self_attn.q.lora_A.weight`: is it a whole model?")
    for name, found in sorted(parts.items()):
        if not {"down", "up"} <= found.keys():
            raise FatalError(f"{path}: {name} has {' and '.join(sorted(found))} alone, not up and down: is it whole?")
    pairs = {name: _pair(found) for name, found in parts.items()}
    if ignored:
        logger.warning("%s: %d weights are none of a LoRA and not used, e.g. %s", path, len(ignored), ignored[0])
    return LoraWeights(pairs, deltas)


class Deltas:
    """Tensors added to parameters in place, and removed exactly."""

    def __init__(self) -> None:
        self._kept: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def add(self, parameters: Mapping[str, torch.nn.Parameter], deltas: Mapping[str, torch.Tensor], by: float) -> None:
        """Add `by` times each delta to the parameter of its name; shapes must agree."""
        import torch

        with torch.no_grad():
            for name, delta in deltas.items():
                parameter = parameters[name]
                self._kept.append((parameter, parameter.detach().to("cpu", copy=True)))
                parameter.add_(delta.to(parameter) * by)

    def remove(self) -> None:
        """Restore the value that every parameter had before."""
        import torch

        with torch.no_grad():
            while self._kept:
                parameter, value = self._kept.pop()
                parameter.copy_(value)


def check_pairs(name: str, pairs: Mapping[str, Pair], layers: Mapping[str, tuple[int, int]]) -> None:
    """Raise for pairs of another model.

    Args:
        name: of the LoRA.
        pairs: by the model's own names of its layers.
        layers: name to the input and output width of a layer.

    Raises:
        FatalError: the model lacks a layer, or the layer has another size.
    """
    left = pairs.keys() - layers.keys()
    if left:
        raise FatalError(
            f"LoRA {name}: {len(left)} of {len(pairs)} layers are none of this model's, e.g. {min(left)}: "
            "it is of another model"
        )
    for layer, (down, up) in pairs.items():
        takes, gives = layers[layer]
        if (down.shape[1], up.shape[0]) != (takes, gives):
            raise FatalError(
                f"LoRA {name}: {layer} takes {down.shape[1]} to {up.shape[0]}, the model's {takes} to {gives}: "
                "it is of a model of another size"
            )


def check_deltas(name: str, deltas: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise for deltas of another model.

    Raises:
        FatalError: the model lacks a parameter, or the parameter has another shape or is offloaded.
    """
    for key, delta in deltas.items():
        parameter = parameters.get(key)
        if parameter is None or parameter.shape != delta.shape:
            found = "has none" if parameter is None else f"has {tuple(parameter.shape)}"
            raise FatalError(
                f"LoRA {name}: changes {key} {tuple(delta.shape)}, the model {found}: it is of another model"
            )
        if parameter.device.type == "meta":
            raise FatalError(
                f"LoRA {name}: changes {key} itself, which this back end cannot where layers are offloaded"
            )


def layer_name(name: str) -> str:
    """Return a layer's name in Wan's own naming."""
    changed = True
    while changed:
        short = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)
        changed, name = short != name, short
    block, inner = _split(name)
    table = DIFFUSERS if block else DIFFUSERS_OUTSIDE
    return next((f"{block}{ours}" for ours, theirs in table.items() if inner == theirs), name)


def diffusers_name(name: str) -> str:
    """Return a layer's name in diffusers' naming."""
    block, inner = _split(name)
    return f"{block}{(DIFFUSERS if block else DIFFUSERS_OUTSIDE).get(inner, inner)}"


def diffusers_parameter(name: str) -> str:
    """Return a parameter's name in diffusers' naming."""
    layer, _, kind = name.rpartition(".")
    return f"{diffusers_name(layer)}.{kind}"


def _split(name: str) -> tuple[str, str]:
    match = re.match(r"((?:vace_)?blocks\.\d+\.)(.*)$", name)
    return (match[1], match[2]) if match else ("", name)


def _pair(found: dict[str, torch.Tensor]) -> Pair:
    down, up = found["down"], found["up"]
    if "alpha" in found:
        down = down * (found["alpha"].to(down) / down.shape[0])
    return down, up

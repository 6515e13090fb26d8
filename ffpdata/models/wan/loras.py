"""LoRA files in every spelling that is published for Wan, read into one."""

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
"""What trainers put in front of a layer's name."""

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
"""Names inside a block: Wan's own, and those of diffusers (diffusers, loaders/lora_conversion_utils.py)."""

DIFFUSERS_OUTSIDE = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
"""And outside of blocks."""

_ENDING = re.compile(r"\.(?:lora_(?:A|B|down|up)(?:\.\w+)?\.weight|alpha|diff|diff_b)$")
_KINDS = {"A": "down", "down": "down", "B": "up", "up": "up"}


@dataclass(frozen=True)
class LoraWeights:
    """What a LoRA file changes.

    Attributes:
        pairs: layer name, as Wan spells it (`blocks.0.self_attn.q`, `vace_blocks.0.ffn.2`), to its two matrices: down
            (rank, in) and up (out, rank).
        deltas: parameter name (`blocks.0.self_attn.q.bias`) to what is added to it. Distilled models are published with
            some: biases and norms, which have no low rank.
    """

    pairs: dict[str, Pair]
    deltas: dict[str, torch.Tensor] = field(default_factory=dict)


class LoraFile(NamedTuple):
    """A file as it is now: another one that takes its place is not equal."""

    path: Path
    changed_ns: int
    size: int

    @classmethod
    def of(cls, lora: Lora) -> Self:
        """Look at the file of a LoRA; errors as `lora_file`."""
        path = lora_file(lora)
        state = path.stat()
        return cls(path, state.st_mtime_ns, state.st_size)


_fetched = lru_cache(maxsize=64)(checkpoint_folder)
"""The hub is asked once in a process."""


def below(loras: Iterable[Lora], root: str) -> list[Lora]:
    """Name the LoRAs by where they lie: those that are files below `root` in full, all others as they are.

    Args:
        loras: as the settings name them.
        root: a folder or an object store's URL; empty where there is none.
    """
    store = Store(root) if root else None

    def placed(lora: Lora) -> Lora:
        path = PurePosixPath(lora.model)
        if store is None or "://" in lora.model or path.is_absolute() or ".." in path.parts:
            return lora
        return lora.model_copy(update={"model": store.url(lora.model)}) if store.exists(lora.model) else lora

    return [placed(lora) for lora in loras]


def lora_file(lora: Lora) -> Path:
    """Return the file of a LoRA; one from the hub or an object store is fetched first.

    Raises:
        FatalError: it is not there, or the source has several and none is named.
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
        FatalError: the file has no LoRA weights or half of a pair, or is damaged.
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
    """Changes added to parameters in place, and taken off exactly."""

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
        """Give every parameter back the value it had."""
        import torch

        with torch.no_grad():
            while self._kept:
                parameter, value = self._kept.pop()
                parameter.copy_(value)


def check_pairs(name: str, pairs: Mapping[str, Pair], layers: Mapping[str, tuple[int, int]]) -> None:
    """Refuse pairs of another model.

    Args:
        name: of the LoRA.
        pairs: by the model's own names of its layers.
        layers: name to what a layer takes and gives.

    Raises:
        FatalError: a layer is not there, or has another size.
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
    """Refuse deltas of another model.

    Raises:
        FatalError: a parameter is not there, or has another shape.
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
    """Return a layer's name as Wan spells it."""
    changed = True
    while changed:
        short = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)
        changed, name = short != name, short
    block, inner = _split(name)
    table = DIFFUSERS if block else DIFFUSERS_OUTSIDE
    return next((f"{block}{ours}" for ours, theirs in table.items() if inner == theirs), name)


def diffusers_name(name: str) -> str:
    """Return a layer's name as diffusers spells it."""
    block, inner = _split(name)
    return f"{block}{(DIFFUSERS if block else DIFFUSERS_OUTSIDE).get(inner, inner)}"


def diffusers_parameter(name: str) -> str:
    """Return a parameter's name as diffusers spells it."""
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

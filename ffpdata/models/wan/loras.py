"""Read LoRA files for Wan, and lay them on: every key of a file has its place, or the file is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Self

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.lora_keys import OTHER_KINDS, Sorted, sort_keys
from ffpdata.models.wan.settings import Lora
from ffpdata.models.weights import checkpoint_folder, weight_files
from ffpdata.storage.store import Store

if TYPE_CHECKING:
    import torch

    Pair = tuple[torch.Tensor, torch.Tensor]

SHOWN = 3
"""Keys that a message names."""


@dataclass(frozen=True)
class LoraWeights:
    """Content of a LoRA file.

    Attributes:
        pairs: layer name, as Wan spells it (`blocks.0.self_attn.q`, `vace_blocks.0.ffn.2`), to its two matrices: down
            (rank, in) and up (out, rank).
        deltas: parameter name (`blocks.0.self_attn.q.bias`, `blocks.0.modulation`) to the tensor that is added to it:
            biases, norms and modulations of distilled models, which have no low rank, and convolutions.
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
        FatalError: the file has no LoRA weights, a key that is not understood, only half of a pair, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = lora_file(lora)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as err:
        raise FatalError(f"{path}: not a readable safetensors file ({err})") from err
    found = sort_keys(state)
    if problem := wrong_keys(found):
        raise FatalError(f"{path}: {problem}")
    pairs: dict[str, Pair] = {}
    deltas = {name: state[key] for name, key in found.diffs.items()}
    for layer, keys in found.pairs.items():
        parts = {role: state[key] for role, key in keys.items()}
        down, up = parts["down"], parts["up"]
        scale = parts["alpha"].to(down) / down.shape[0] if "alpha" in parts else 1
        down = down * scale
        if "bias" in parts:
            deltas[f"{layer}.bias"] = parts["bias"] * scale
        if (
            down[0, 0].numel() > 1
        ):  # a convolution, such as patch_embedding: (rank, in, 1, 2, 2) and (out, rank, 1, 1, 1)
            product = up.flatten(1).float() @ down.flatten(1).float()
            deltas[f"{layer}.weight"] = product.view(up.shape[0], *down.shape[1:])
        else:
            pairs[layer] = down.flatten(1), up.flatten(1)
    return LoraWeights(pairs, deltas)


def wrong_keys(found: Sorted) -> str:
    """Return why a file with these keys cannot be laid on as a whole; empty where it can."""
    count = sum(map(len, found.pairs.values())) + len(found.diffs)
    if not count:
        return "no LoRA weights, e.g. `blocks.0.self_attn.q.lora_A.weight`: is it a whole model?"
    if found.unknown:
        others = any(map(OTHER_KINDS.search, found.unknown))
        kinds = " LoKr, LoHa, DoRA and GLoRA are other adapters: convert the file to a LoRA." if others else ""
        total = count + len(found.unknown) + len(found.twice)
        return (
            f"{len(found.unknown)} of {total} keys are none of a LoRA for Wan, and a part of a LoRA is another model: "
            f"{named(found.unknown)}.{kinds}"
        )
    if found.twice:
        return f"{len(found.twice)} keys name a place that another key has: {named(found.twice)}"
    for layer, keys in sorted(found.pairs.items()):
        if not {"down", "up"} <= keys.keys():
            return f"{layer} has {' and '.join(sorted(keys))} alone, not up and down: is it whole?"
        if "bias" in keys and f"{layer}.bias" in found.diffs:
            return f"{layer} changes its bias twice, by {keys['bias']} and {found.diffs[f'{layer}.bias']}"
    return ""


def named(keys: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    names = sorted(keys)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


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
            f"LoRA {name}: {len(left)} of {len(pairs)} layers are none of this model's, e.g. {named(left)}: "
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

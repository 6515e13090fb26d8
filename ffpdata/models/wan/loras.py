"""LoRA files in every spelling that is published for Wan, read into one."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.settings import Lora
from ffpdata.models.weights import checkpoint_folder, weight_files

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
}
"""Names inside a block: Wan's own, and those of diffusers (diffusers, loaders/lora_conversion_utils.py)."""

_ENDING = re.compile(r"\.(?:lora_(?:A|B|down|up)(?:\.\w+)?\.weight|alpha)$")


def lora_file(lora: Lora) -> Path:
    """Return the file of a LoRA; one from the hub is fetched first.

    Raises:
        FatalError: it is not there, or the source has several and none is named.
    """
    given = Path(lora.model).expanduser()
    if given.is_file():
        return given
    folder = checkpoint_folder(lora.model, lora.revision, patterns=[lora.file or "*.safetensors"])
    if lora.file:
        path = folder / lora.file
        if not path.is_file():
            raise FatalError(f"{lora.model} has no file {lora.file!r}")
        return path
    found = weight_files(folder, "")
    if len(found) > 1:
        raise FatalError(f"{lora.model} has {len(found)} files: name one as `file`, e.g. {found[0].name}")
    return found[0]


def read_lora(lora: Lora) -> dict[str, Pair]:
    """Read a LoRA file.

    Returns:
        Layer name, as Wan spells it (`blocks.0.self_attn.q`, `vace_blocks.0.ffn.2`), to its two matrices: down
        (rank, in) and up (out, rank). Where the file has an `alpha`, down is scaled by alpha / rank.

    Raises:
        FatalError: the file has no LoRA weights, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = lora_file(lora)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as err:
        raise FatalError(f"{path}: not a readable safetensors file ({err})") from err
    parts: dict[str, dict[str, torch.Tensor]] = {}
    ignored = []
    for key, value in state.items():
        ending = _ENDING.search(key)
        if ending is None:
            ignored.append(key)
            continue
        kind = "alpha" if ending[0] == ".alpha" else "down" if re.search(r"lora_(A|down)", ending[0]) else "up"
        parts.setdefault(layer_name(key[: ending.start()]), {})[kind] = value
    pairs = {name: _pair(found) for name, found in parts.items() if {"down", "up"} <= set(found)}
    if not pairs:
        raise FatalError(f"{path}: no LoRA weights, e.g. `blocks.0.self_attn.q.lora_A.weight`: is it a whole model?")
    if ignored:
        logger.warning("%s: %d weights beside the LoRA's are not used, e.g. %s", path, len(ignored), ignored[0])
    return pairs


def layer_name(name: str) -> str:
    """Return a layer's name as Wan spells it."""
    changed = True
    while changed:
        short = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)
        changed, name = short != name, short
    block, _, inner = _split(name)
    return next((f"{block}{ours}" for ours, theirs in DIFFUSERS.items() if inner == theirs), name)


def diffusers_name(name: str) -> str:
    """Return a layer's name as diffusers spells it."""
    block, _, inner = _split(name)
    return f"{block}{DIFFUSERS.get(inner, inner)}" if block else name


def _split(name: str) -> tuple[str, str, str]:
    match = re.match(r"((?:vace_)?blocks\.(\d+)\.)(.*)$", name)
    return (match[1], match[2], match[3]) if match else ("", "", name)


def _pair(found: dict[str, torch.Tensor]) -> Pair:
    down, up = found["down"], found["up"]
    if "alpha" in found:
        down = down * (found["alpha"].to(down) / down.shape[0])
    return down, up

"""Names in LoRA files for Wan: of every published trainer and extractor, into Wan's own names of layers and parameters.

Sources of the spellings: LightX2V (tools/extract/lora_extractor.py, lightx2v/utils/lora_loader.py), diffusers
(loaders/lora_conversion_utils.py), musubi-tuner (networks/lora_wan.py), DiffSynth-Studio, ComfyUI (comfy/lora.py),
VideoX-Fun and ai-toolkit (as ComfyUI-WanVideoWrapper reads them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal["down", "up", "alpha", "bias", "diff"]

PREFIXES = (
    "base_model.model.",
    "diffusion_model.",
    "transformer.",
    "pipe.dit.",
    "pipe.vace.",
    "model.",
    "unet.",
)
"""Prefixes of layer names in files of different trainers."""

FLAT_PREFIX = re.compile(r"(?:lora_unet_+|lycoris_)(?=\w)")
"""Prefixes of layer names with underscores in place of dots: kohya and musubi-tuner, VideoX-Fun (two), ai-toolkit."""

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
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "norm3": "norm2",
    "modulation": "scale_shift_table",
}
"""Names in a block: Wan's own to those of diffusers (diffusers, scripts/convert_wan_to_diffusers.py)."""

DIFFUSERS_OUTSIDE = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
}
"""The same outside of blocks."""

MODULATION = "modulation"
"""A parameter that belongs to no layer: of a block, and of the head."""

_OURS = {theirs: ours for ours, theirs in DIFFUSERS.items()}
_OURS_OUTSIDE = {theirs: ours for ours, theirs in DIFFUSERS_OUTSIDE.items()}
_FLAT = {name.replace(".", "_"): ours for ours, theirs in DIFFUSERS.items() for name in (ours, theirs)}
_FLAT_OUTSIDE = {name.replace(".", "_"): ours for ours, theirs in DIFFUSERS_OUTSIDE.items() for name in (ours, theirs)}
_BLOCK = re.compile(r"((?:vace_)?blocks\.\d+\.)(.*)$")
_FLAT_BLOCK = re.compile(r"((?:vace_)?blocks)_(\d+)_(\w+)$")

_MATRIX = re.compile(
    r"(?:\.lora_(?P<short>A|B|down|up)(?:(?:\.\w+)?\.weight)?|[._]lora(?:_linear_layer)?\.(?P<long>down|up)\.weight)$"
)
_LORA_BIAS = re.compile(r"\.lora_(?:B|up)(?:\.\w+)?\.bias$")
_MATRICES: Mapping[str, Role] = {"A": "down", "down": "down", "B": "up", "up": "up"}
_CHANGED = {"diff": "weight", "w_norm": "weight", "diff_b": "bias", "b_norm": "bias", "diff_m": MODULATION}
"""Ending of a key to the parameter that its tensor is added to."""

OTHER_KINDS = re.compile(
    r"\.(?:lokr_|hada_|dora_scale|lora_magnitude_vector|lora_mid|set_weight|reshape_weight|[ab][12]\.weight$)"
)
"""Adapters that are no LoRA, whose arithmetic is another one: LoKr, LoHa, DoRA, GLoRA, replaced weights."""


class Place(NamedTuple):
    """Meaning of one key.

    Attributes:
        name: of a layer (`blocks.0.self_attn.q`); for `diff` of a parameter (`blocks.0.self_attn.q.bias`).
        role: `down`, `up` and `alpha` of a low-rank pair, the `bias` that peft trains beside it, or a `diff` that is
            added as it is.
    """

    name: str
    role: Role


@dataclass(frozen=True)
class Sorted:
    """Keys of a file by what they mean.

    Attributes:
        pairs: layer to role to key.
        diffs: parameter to key.
        unknown: keys that no known trainer writes.
        twice: keys whose place another key has.
    """

    pairs: dict[str, dict[Role, str]] = field(default_factory=dict)
    diffs: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def sort_keys(keys: Iterable[str]) -> Sorted:
    """Sort every key of a file by its place; none is left out."""
    found = Sorted()
    for key in keys:
        place = place_of(key)
        if place is None:
            found.unknown.append(key)
        elif place.role == "diff":
            if found.diffs.setdefault(place.name, key) != key:
                found.twice.append(key)
        elif found.pairs.setdefault(place.name, {}).setdefault(place.role, key) != key:
            found.twice.append(key)
    return found


def place_of(key: str) -> Place | None:
    """Return what a key means, or None."""
    if ending := _MATRIX.search(key):
        return _layer(key[: ending.start()], _MATRICES[ending["short"] or ending["long"]])
    if ending := _LORA_BIAS.search(key):
        return _layer(key[: ending.start()], "bias")
    stem, _, ending_name = key.rpartition(".")
    if ending_name == "alpha":
        return _layer(stem, "alpha")
    if ending_name not in _CHANGED:
        return None
    parameter = _CHANGED[ending_name]
    name = layer_name(stem) if parameter != MODULATION else parameter_name(f"{_plain(stem)}.{MODULATION}")
    if name is None:
        return None
    if name == MODULATION or name.endswith(f".{MODULATION}"):
        return Place(name, "diff")
    return Place(f"{name}.{parameter}", "diff")


def _layer(spelled: str, role: Role) -> Place | None:
    name = layer_name(spelled)
    return None if name is None else Place(name, role)


def layer_name(spelled: str) -> str | None:
    """Return a layer's name in Wan's own naming; None where dots were replaced and it is none of Wan's layers."""
    return parameter_name(_plain(spelled))


def parameter_name(name: str) -> str | None:
    """Return Wan's own name of a layer or of a modulation, without prefix."""
    if flat := FLAT_PREFIX.match(name):
        return _unflattened(name[flat.end() :])
    block, inner = _split(name)
    return f"{block}{(_OURS if block else _OURS_OUTSIDE).get(inner, inner)}"


def _plain(name: str) -> str:
    """Remove the prefixes of trainers."""
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def _unflattened(flat: str) -> str | None:
    flat = flat.replace(".", "_")  # the dot before `modulation`
    if match := _FLAT_BLOCK.match(flat):
        inner = _FLAT.get(match[3])
        return None if inner is None else f"{match[1]}.{match[2]}.{inner}"
    return _FLAT_OUTSIDE.get(flat)


def diffusers_name(name: str) -> str:
    """Return a layer's name in diffusers' naming."""
    block, inner = _split(name)
    return f"{block}{(DIFFUSERS if block else DIFFUSERS_OUTSIDE).get(inner, inner)}"


def diffusers_parameter(name: str) -> str:
    """Return a parameter's name in diffusers' naming."""
    layer, _, kind = name.rpartition(".")
    return diffusers_name(name) if kind == MODULATION else f"{diffusers_name(layer)}.{kind}"


def _split(name: str) -> tuple[str, str]:
    match = _BLOCK.match(name)
    return (match[1], match[2]) if match else ("", name)

"""Sizes of the models that vLLM serves, Qwen2.5-VL and Qwen3-VL: weights, cache per token, and tokens of pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ffpdata.models.weights import folder_of

GIB = 1024**3
HALF = 2
"""Bytes of a number in bf16 or fp16."""
AWQ_BYTES = 4 / 8 + (16 + 4) / 8 / 128
"""Bytes per weight in 4 bit with a scale of 16 bit and a zero point of 4 bit for each 128 weights."""
FP8_BYTES = 1.0


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a Qwen2.5-VL, named as in its config.json in brackets.

    Attributes:
        layers: of the language model (num_hidden_layers).
        hidden: channels of a token (hidden_size).
        wide: channels inside a feed-forward layer (intermediate_size).
        heads: query heads (num_attention_heads).
        kv_heads: key and value heads (num_key_value_heads).
        vocabulary: tokens (vocab_size).
        tied: whether input and output embedding are one (tie_word_embeddings).
        vision_layers: of the vision encoder (vision_config.depth).
        vision_hidden: its channels (vision_config.hidden_size).
        vision_wide: channels inside its feed-forward layers (vision_config.intermediate_size).
        patch: side of a patch, pixels (vision_config.patch_size).
        merge: patches per side that become one token (vision_config.spatial_merge_size).
        frames_per_patch: frames that share their patches (vision_config.temporal_patch_size).
        linear_bytes: bytes of a weight in the language model's linear layers; all other weights have two.
    """

    layers: int
    hidden: int
    wide: int
    heads: int
    kv_heads: int
    vocabulary: int = 152064
    tied: bool = False
    vision_layers: int = 32
    vision_hidden: int = 1280
    vision_wide: int = 3420
    patch: int = 14
    merge: int = 2
    frames_per_patch: int = 2
    linear_bytes: float = HALF

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Read the sizes from a config.json; None where it is not that of this architecture."""
        if config.get("model_type") != "qwen2_5_vl":
            return None
        text, vision = config.get("text_config") or config, config["vision_config"]
        return cls(**cls._sizes(config, text, vision))

    @classmethod
    def _sizes(cls, config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that every architecture's config.json gives, from its parts `text` and `vision`."""
        return {
            "layers": text["num_hidden_layers"],
            "hidden": text["hidden_size"],
            "wide": text["intermediate_size"],
            "heads": text["num_attention_heads"],
            "kv_heads": text["num_key_value_heads"],
            "vocabulary": text["vocab_size"],
            "tied": bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            "vision_layers": vision["depth"],
            "vision_hidden": vision["hidden_size"],
            "vision_wide": vision["intermediate_size"],
            "patch": vision.get("patch_size", cls.patch),
            "merge": vision.get("spatial_merge_size", cls.merge),
            "frames_per_patch": vision.get("temporal_patch_size", cls.frames_per_patch),
            "linear_bytes": _linear_bytes(config.get("quantization_config") or {}),
        }

    @property
    def head_size(self) -> int:
        """Channels of an attention head."""
        return self.hidden // self.heads

    @property
    def linear_parameters(self) -> int:
        """Weights of the language model's linear layers, the part that quantization shrinks."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.wide)

    @property
    def small_parameters(self) -> int:
        """Biases and norms of the language model."""
        biases = self.head_size * (self.heads + 2 * self.kv_heads)
        return self.layers * (biases + 2 * self.hidden) + self.hidden

    @property
    def embedding_parameters(self) -> int:
        """Weights of the input and the output embedding."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def vision_parameters(self) -> int:
        """Weights of the vision encoder and of the layers that hand its output on."""
        width, wide, merged = self.vision_hidden, self.vision_wide, self.vision_hidden * self.merge**2
        attention = 4 * width * width + 4 * width
        block = attention + 3 * width * wide + 2 * wide + width + 2 * width
        merger = width + merged * merged + merged + merged * self.hidden + self.hidden
        return self.patch_values * width + self.vision_layers * block + merger

    @property
    def parameters(self) -> int:
        """All weights."""
        language = self.linear_parameters + self.small_parameters + self.embedding_parameters
        return language + self.vision_parameters

    @property
    def patch_values(self) -> int:
        """Values of a patch: three colours of its pixels in the frames that share it."""
        return 3 * self.frames_per_patch * self.patch**2

    def weights_gib(self, cards: int) -> float:
        """Return the weights on each of `cards` GPUs over which the model is split, GiB."""
        split = self.linear_parameters * self.linear_bytes
        split += (self.embedding_parameters + self.vision_parameters) * HALF
        return (split / cards + self.small_parameters * HALF) / GIB

    def cache_bytes(self, cards: int) -> int:
        """Return the bytes of keys and values that each of `cards` GPUs keeps per token."""
        return 2 * self.layers * max(1, self.kv_heads // cards) * self.head_size * HALF

    def work_bytes(self, cards: int) -> float:
        """Return the live bytes per token while the language model reads a batch, on each of `cards` GPUs.

        Counted: the embeddings that wait for their turn, a layer's residual, input and output, the sum over the GPUs,
        and its feed-forward layer's two halves with their product.
        """
        return HALF * (5 * self.hidden + 3 * self.wide / cards)

    def vision_work_bytes(self, cards: int) -> float:
        """Return the live bytes per patch while the vision encoder runs, on each of `cards` GPUs.

        Counted: the pixels as they arrive (float32) and as they are read (bf16); a block's residual, input, output and
        their sum over the GPUs, twice; and the larger of its attention (queries, keys and values, before and after
        the rotation, in float32 meanwhile) and its feed-forward layer.
        """
        inside = max(9 * self.vision_hidden, 3 * self.vision_wide) / cards
        return self.patch_values * 6 + HALF * (8 * self.vision_hidden + inside)

    def image_tokens(self, pixels: int) -> int:
        """Return the most tokens of an image of at most `pixels`, its sides multiples of patch x merge."""
        return max(pixels, MIN_PIXELS) // (self.patch * self.merge) ** 2

    @property
    def multiple(self) -> int:
        """What a frame's sides must be multiples of, so that the server does not resize it."""
        return self.patch * self.merge

    @property
    def most_pixels(self) -> int:
        """Area that larger images are scaled down to, where the server is told nothing else."""
        return MOST_TOKENS * self.multiple**2

    def clip_tokens(self, frames: int, pixels: int) -> int:
        """Return the most tokens of `frames` frames of at most `pixels` each, sent as a video."""
        return math.ceil(frames / self.frames_per_patch) * self.image_tokens(pixels)

    def clip_edge(self, frames: int, pixels: int) -> int:  # noqa: ARG002 - another model's bound is of the whole clip
        """Return the bound that the model's video processor is told: here of one frame's area."""
        return pixels


@dataclass(frozen=True)
class Qwen3Shape(ModelShape):
    """Sizes of a Qwen3-VL: patches of 16, a text with the time before every two frames, or experts.

    Attributes:
        head: channels of an attention head (head_dim).
        experts: of a feed-forward layer; 0 for a dense one (num_experts).
        expert_wide: channels inside an expert (moe_intermediate_size).
        experts_used: experts per token (num_experts_per_tok).
        taps: layers of the vision encoder whose output is handed on, too (vision_config.deepstack_visual_indexes).
        positions: learned positions of patches (vision_config.num_position_embeddings).
    """

    vocabulary: int = 151936
    vision_layers: int = 27
    vision_hidden: int = 1152
    vision_wide: int = 4304
    patch: int = 16
    head: int = 128
    experts: int = 0
    expert_wide: int = 0
    experts_used: int = 0
    taps: int = 3
    positions: int = 2304

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Read the sizes from a config.json; None where it is not that of this architecture."""
        if config.get("model_type") not in ("qwen3_vl", "qwen3_vl_moe"):
            return None
        text, vision = config["text_config"], config["vision_config"]
        return cls(
            **cls._sizes(config, text, vision),
            head=text.get("head_dim", cls.head),
            experts=text.get("num_experts", 0),
            expert_wide=text.get("moe_intermediate_size", 0),
            experts_used=text.get("num_experts_per_tok", 0),
            taps=len(vision.get("deepstack_visual_indexes", (8, 16, 24))),
            positions=vision.get("num_position_embeddings", cls.positions),
        )

    @property
    def head_size(self) -> int:
        """Channels of an attention head."""
        return self.head

    @property
    def linear_parameters(self) -> int:
        """Weights of the language model's linear layers, the part that quantization shrinks."""
        attention = 2 * self.hidden * self.head * (self.heads + self.kv_heads)
        dense = 3 * self.hidden * self.wide
        sparse = self.experts * 3 * self.hidden * self.expert_wide
        return self.layers * (attention + (sparse if self.experts else dense))

    @property
    def small_parameters(self) -> int:
        """Norms of the language model, and what chooses its experts."""
        return self.layers * (2 * self.hidden + 2 * self.head + self.experts * self.hidden) + self.hidden

    @property
    def vision_parameters(self) -> int:
        """Weights of the vision encoder and of the layers that hand its outputs on."""
        width, wide, merged = self.vision_hidden, self.vision_wide, self.vision_hidden * self.merge**2
        block = 4 * width * width + 4 * width + 2 * width * wide + wide + width + 4 * width
        merger = merged * merged + merged + merged * self.hidden + self.hidden
        norms = 2 * width + self.taps * 2 * merged
        patches = self.patch_values * width + width + self.positions * width
        return patches + self.vision_layers * block + (1 + self.taps) * merger + norms

    def work_bytes(self, cards: int) -> float:
        """Return the live bytes per token while the language model reads a batch, as of `ModelShape`."""
        wide = self.experts_used * self.expert_wide if self.experts else self.wide
        return HALF * (5 * self.hidden + 3 * wide / cards)

    def clip_tokens(self, frames: int, pixels: int) -> int:
        """Return the most tokens of `frames` frames of at most `pixels` each, with the time before every two."""
        return math.ceil(frames / self.frames_per_patch) * (self.image_tokens(pixels) + TIME_TOKENS)

    def clip_edge(self, frames: int, pixels: int) -> int:
        """Return the bound that the model's video processor is told: here of the area of all frames together."""
        return math.ceil(frames / self.frames_per_patch) * self.frames_per_patch * pixels


MIN_PIXELS = 56 * 56
"""Smaller images are enlarged to it (min_pixels in the published preprocessor_config.json of Qwen2.5-VL)."""

MOST_TOKENS = 16384
"""Larger images are scaled down to it, where the server is told nothing else (max_pixels, likewise)."""

TIME_TOKENS = 14
"""Of `<12.3 seconds>`, and of the marks around the two frames behind it (transformers, processing_qwen3_vl.py)."""

_7B = ModelShape(layers=28, hidden=3584, wide=18944, heads=28, kv_heads=4)
_72B = ModelShape(layers=80, hidden=8192, wide=29568, heads=64, kv_heads=8, vision_wide=3456)

PUBLISHED: Mapping[str, ModelShape] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": ModelShape(
        layers=36, hidden=2048, wide=11008, heads=16, kv_heads=2, vocabulary=151936, tied=True
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": _7B,
    "Qwen/Qwen2.5-VL-7B-Instruct-AWQ": replace(_7B, linear_bytes=AWQ_BYTES),
    "Qwen/Qwen2.5-VL-72B-Instruct": _72B,
    "Qwen/Qwen2.5-VL-72B-Instruct-AWQ": replace(_72B, linear_bytes=AWQ_BYTES),
    "Qwen/Qwen3-VL-8B-Instruct": Qwen3Shape(layers=36, hidden=4096, wide=12288, heads=32, kv_heads=8),
    "Qwen/Qwen3-VL-32B-Instruct": Qwen3Shape(layers=64, hidden=5120, wide=25600, heads=64, kv_heads=8),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": Qwen3Shape(
        layers=48, hidden=2048, wide=6144, heads=32, kv_heads=4, experts=128, expert_wide=768, experts_used=8
    ),
}
"""Sizes of published checkpoints, from config.json of https://huggingface.co/<name>; those of other ones, such as
Qwen3-VL-235B-A22B, are read from the checkpoint once it is here. The AWQ ones keep embeddings and
vision encoder in fp16 (quantization_config.modules_to_not_convert: visual)."""


def find_shape(model: str, revision: str = "") -> ModelShape | None:
    """Return the sizes of a checkpoint: published, or read from its config.json here; None where there is none.

    Args:
        model: a name at the hub, or a folder.
        revision: of the hub's repository, for one that was fetched.
    """
    if model in PUBLISHED:
        return PUBLISHED[model]
    folder = folder_of(model)
    path = folder / "config.json" if folder else _cached_config(model, revision)
    if path is None or not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return ModelShape.of_config(config) or Qwen3Shape.of_config(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # vLLM says what is wrong with it when it starts


def _cached_config(model: str, revision: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(model, "config.json", revision=revision or None)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _linear_bytes(quantization: Mapping[str, Any]) -> float:
    """Return the bytes of a weight under a config.json's `quantization_config`."""
    method = str(quantization.get("quant_method", ""))
    if method in ("awq", "gptq"):
        bits, group = int(quantization.get("bits", 4)), int(quantization.get("group_size", 128))
        return bits / 8 + (16 + bits) / 8 / group
    return FP8_BYTES if method in ("fp8", "fbgemm_fp8", "compressed-tensors") else HALF

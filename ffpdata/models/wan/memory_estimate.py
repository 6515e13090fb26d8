"""Estimate GPU memory, main memory and disk space of a training, from the shapes in a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.weights import safetensors_shapes

GIB = 1024**3

BLOCKS, VACE_BLOCKS = "blocks", "vace_blocks"
"""Names of the transformer's blocks and of VACE's own."""

TEXT_TOKENS = 512
"""Tokens of a prompt (Wan's shared_config.py: text_len)."""

LATENT_CHANNELS, CONTROL_CHANNELS = 16, 96
"""Channels of the VAE's latents, and of VACE's control input: 2 x 16 of the clip inside and outside the region, 8 x 8
of the mask (diffsynth, WanVideoUnit_VACE)."""

PIXELS_PER_LATENT, PIXELS_PER_TOKEN, FRAMES_PER_LATENT = 8, 16, 4
"""Side of a clip's pixels in one latent and in one token of the transformer; frames in one latent after the first."""

KEPT_PER_CHANNEL, KEPT_PER_WIDE = 36.0, 4.0
"""Bytes that a block with a LoRA saves for the backward pass, per token and channel, with weights of two bytes: per
channel of its width, and of its feed-forward layer. Measured by torch's saved-tensor hooks
(tests/models/wan/test_memory_estimate.py measures again)."""

WORK_PER_CHANNEL, WORK_PER_WIDE = 46.0, 6.0
"""Peak of a block's forward and backward pass in the same units, by torch's profiler on a CPU."""

SINGLE = 4
"""Bytes of a number in single precision."""

ADAM_BYTES = 20
"""Per trained weight: weight and gradient in half precision; copy, gradient and AdamW's two moments in single."""

CONTEXT_GIB = 1.5
"""Memory of CUDA and its libraries beside torch's own."""


@dataclass(frozen=True)
class Network:
    """Sizes of a Wan transformer, with VACE or without.

    Attributes:
        width: channels of a token.
        wide: channels inside a feed-forward layer.
        text_width: channels of the text encoder's output.
        blocks: number of the transformer's blocks.
        vace_blocks: number of VACE's own blocks, 0 without it.
        weights: number of all weights.
        layers: name to input and output width of the linear layers of the blocks that learn.
    """

    width: int
    wide: int
    text_width: int
    blocks: int
    vace_blocks: int
    weights: int
    layers: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, files: Iterable[str], trained: str = VACE_BLOCKS) -> Self:
        """Read the shapes from the headers of the transformer's safetensors files.

        Args:
            files: of the transformer.
            trained: the blocks that learn, `VACE_BLOCKS` or `BLOCKS`.

        Raises:
            FatalError: the files are not those of a transformer with such blocks.
        """
        shapes: dict[str, list[int]] = {}
        for file in files:
            shapes |= safetensors_shapes(Path(file))
        try:
            wide, width = shapes[f"{trained}.0.ffn.0.weight"]
            text_width = shapes["text_embedding.0.weight"][1]
        except (KeyError, ValueError):
            whose = "VACE's" if trained == VACE_BLOCKS else "Wan's"
            raise FatalError(f"{', '.join(files)}: not {whose} transformer: {trained}.0.ffn.0 is missing") from None
        numbers = {kind: {int(n) for n in _numbers(kind, shapes)} for kind in (BLOCKS, VACE_BLOCKS)}
        count = 0
        for shape in shapes.values():
            size = 1
            for side in shape:
                size *= side
            count += size
        layers = {
            name.removesuffix(".weight"): (shape[1], shape[0])
            for name, shape in shapes.items()
            if name.startswith(f"{trained}.") and name.endswith(".weight") and len(shape) == 2
        }
        return cls(width, wide, text_width, len(numbers[BLOCKS]), len(numbers[VACE_BLOCKS]), count, layers)

    def learned(self, rank: int, targets: Iterable[str]) -> int:
        """Return the number of weights of a LoRA."""
        ends = tuple(f".{target}" for target in targets)
        return sum(rank * (takes + gives) for name, (takes, gives) in self.layers.items() if name.endswith(ends))

    def check_targets(self, targets: Iterable[str]) -> None:
        """Raise ConfigError for a target that no layer's name ends with."""
        for target in targets:
            if not any(name.endswith(f".{target}") for name in self.layers):
                ends = sorted({name.split(".", 2)[-1] for name in self.layers})
                whose = "VACE" if self.vace_blocks else "the transformer"
                raise ConfigError(f"targets: {whose} has no layer {target!r}; it has {', '.join(ends)}")


@dataclass(frozen=True)
class ClipSize:
    """The size of a clip: frames 4n+1, sides multiples of 16."""

    frames: int
    height: int
    width: int

    @property
    def latents(self) -> int:
        """Number of the VAE's latent positions."""
        step = PIXELS_PER_LATENT
        return ((self.frames - 1) // FRAMES_PER_LATENT + 1) * (self.height // step) * (self.width // step)

    @property
    def tokens(self) -> int:
        """Number of the transformer's tokens."""
        return self.latents * PIXELS_PER_LATENT**2 // PIXELS_PER_TOKEN**2

    def __str__(self) -> str:
        return f"{self.width} x {self.height} x {self.frames}"


@dataclass(frozen=True)
class Memory:
    """Estimated memory of a training, GiB.

    Attributes:
        weights: of the model as loaded.
        learned: of the LoRA and its optimizer.
        kept: saved for the backward pass on the device.
        block: peak of the block at work.
        offloaded: saved for the backward pass in main memory.
        aligned: of losses on features beside that on the answer.
    """

    weights: float
    learned: float
    kept: float
    block: float
    offloaded: float
    aligned: float = 0.0

    @property
    def gpu(self) -> float:
        """Total on the device, GiB."""
        return self.weights + self.learned + self.kept + self.block + self.aligned + CONTEXT_GIB

    def __str__(self) -> str:
        return (
            f"{self.weights:.1f} GiB of weights, {self.learned:.1f} of the LoRA and its optimizer, {self.kept:.1f} "
            f"kept for the way back, {self.block:.1f} of the block at work, "
            f"{f'{self.aligned:.1f} of aligned features, ' if self.aligned else ''}{CONTEXT_GIB} of CUDA"
        )


def training_memory(network: Network, clip: ClipSize, learned: int, checkpointing: str, item_bytes: int) -> Memory:
    """Estimate the memory of one training process.

    Counted: the weights as they are loaded; the LoRA with float32 copies and AdamW's moments; with checkpointing, the
    input of every block (those of VACE hand all earlier outputs on, so that the n-th has n inputs) on the device or in
    main memory, the last hints with their gradients, and the inside of one block; without, the inside of all blocks.

    Args:
        network: of the checkpoint.
        clip: the largest one.
        learned: weights of the LoRA.
        checkpointing: `off`, `on` or `offload`.
        item_bytes: of one weight: 2 or 4.
    """
    plane = clip.tokens * network.width * item_bytes
    stack = network.vace_blocks * (network.vace_blocks + 1) // 2
    hints = 2 * (network.vace_blocks + 1) * plane if network.vace_blocks else 0
    half = item_bytes / 2  # the constants are for two bytes
    work = clip.tokens * (WORK_PER_CHANNEL * network.width + WORK_PER_WIDE * network.wide) * half
    inside = clip.tokens * (KEPT_PER_CHANNEL * network.width + KEPT_PER_WIDE * network.wide) * half
    inputs = (network.blocks + stack) * plane
    if checkpointing == "off":
        hints += (network.blocks + network.vace_blocks - 1) * inside + stack * plane
        inputs = 0
    return Memory(
        weights=network.weights * item_bytes / GIB,
        learned=learned * ADAM_BYTES / GIB,
        kept=(hints + (inputs if checkpointing == "on" else 0)) / GIB,
        block=work / GIB,
        offloaded=(inputs if checkpointing == "offload" else 0) / GIB,
    )


def aligned_bytes(network: Network, clip: ClipSize, pool: int, item_bytes: int) -> int:
    """Return the bytes of self-distillation: features of one block, their products, and what goes back through them.

    The teacher's pass keeps nothing and ends before the student's begins, so that it adds to the peak only what is kept
    of it. Counted: the student's features as they are and in float32; both pooled features; the products of all pooled
    tokens, of student and teacher, their difference and its gradient; and of the frames' relations to the first one the
    products, distances and kernels of both.

    Args:
        network: of the checkpoint.
        clip: that is learned.
        pool: tokens averaged into one, each way.
        item_bytes: of a feature: 2 or 4.
    """
    height, width = clip.height // PIXELS_PER_TOKEN, clip.width // PIXELS_PER_TOKEN
    frames = (clip.frames - 1) // FRAMES_PER_LATENT + 1
    tokens = max(1, height // pool) * max(1, width // pool)
    features = clip.tokens * network.width * (item_bytes + SINGLE)
    both = 2 * frames * tokens * network.width * SINGLE
    products = 4 * (frames * tokens) ** 2 * SINGLE
    relations = 2 * 3 * frames * tokens**2 * SINGLE
    return features + both + products + relations


def latent_bytes(network: Network, clip: ClipSize, item_bytes: int) -> int:
    """Return the bytes of a sample's latents on disk."""
    return item_bytes * ((LATENT_CHANNELS + CONTROL_CHANNELS) * clip.latents + TEXT_TOKENS * network.text_width)


def _numbers(kind: str, names: Iterable[str]) -> Iterable[str]:
    pattern = re.compile(rf"{kind}\.(\d+)\.")
    return (match[1] for name in names if (match := pattern.match(name)))

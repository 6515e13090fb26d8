"""Frames as the encoders want them: the checkpoint's own processor, on PIL, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata.models.weights import from_pretrained

if TYPE_CHECKING:
    import torch

    from ffpdata.models.protocols import Frames, Image


def picture_processor(folder: Path) -> Any:
    """Load the image processor that a checkpoint names, in the version that resamples by PIL.

    Published scores come from transformers' processors on PIL. Those on torchvision, which transformers 5 takes by
    default, resample a little otherwise.

    Raises:
        FatalError: the folder has no `preprocessor_config.json`.
    """
    from transformers import AutoImageProcessor

    return from_pretrained(AutoImageProcessor, folder, backend="pil")


def pixels(processor: Any, pictures: list[Any]) -> torch.Tensor:
    """Scale, crop and normalise pictures.

    Args:
        processor: as `picture_processor` returns it.
        pictures: uint8 (H, W, 3) RGB arrays, or PIL images.

    Returns:
        float32 (N, 3, h, w).
    """
    found: torch.Tensor = processor(images=pictures, return_tensors="pt", input_data_format="channels_last")[
        "pixel_values"
    ]
    return found


def batches(frames: Frames, size: int) -> Iterator[list[Image]]:
    """Yield the frames of a clip in lists of at most `size`."""
    for first in range(0, len(frames), size):
        yield list(frames[first : first + size])

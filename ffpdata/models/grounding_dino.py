"""Detect a phrase in an image: Grounding DINO (Liu et al. 2023) by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ffpdata.models.protocols import Box
from ffpdata.models.weights import from_pretrained, pretrained_model

if TYPE_CHECKING:
    import torch

    from ffpdata.models.protocols import Image

SAME_BOX = 0.8
"""Overlap (IoU) above which two boxes are the same instance, and only the better one is kept."""


class Detection(NamedTuple):
    """One instance: its box in pixels and its score in 0..1."""

    box: Box
    score: float


class GroundingDino:
    """Open-vocabulary detector.

    Args:
        folder: checkpoint of a `GroundingDinoForObjectDetection` or `MMGroundingDinoForObjectDetection`.
        device: device of the model.
        dtype: of its weights; `float32` is the published precision.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: str = "float32") -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.device = device
        self.model = pretrained_model(AutoModelForZeroShotObjectDetection, folder, dtype).to(device)
        self.processor = from_pretrained(AutoProcessor, folder)

    def find(self, image: Image, phrase: str, box_threshold: float, text_threshold: float) -> list[Detection]:
        """Find every instance of a phrase.

        Args:
            image: uint8 (H, W, 3) RGB.
            phrase: a noun or a short description, in English.
            box_threshold: smallest score of a box.
            text_threshold: smallest score of a word; boxes that match no word are left out.

        Returns:
            Instances, best first. Boxes lie in the image and are not empty.
        """
        from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

        height, width = image.shape[:2]
        # A copy: torch warns about read-only arrays.
        inputs = self.processor(images=image.copy(), text=caption(phrase), return_tensors="pt").to(self.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        outputs = self.model(**inputs)
        detections = self.processor.post_process_grounded_object_detection(
            outputs, inputs["input_ids"], box_threshold, text_threshold, target_sizes=[(height, width)]
        )[0]
        labelled = [i for i, label in enumerate(detections["text_labels"]) if label.strip(" .")]
        boxes = clip_boxes_to_image(detections["boxes"][labelled].float(), (height, width))
        scores = detections["scores"][labelled].float()
        nonempty = remove_small_boxes(boxes, 1.0)
        boxes, scores = boxes[nonempty], scores[nonempty]
        best = nms(boxes, scores, SAME_BOX)
        return [
            Detection((x0, y0, x1, y1), score)
            for (x0, y0, x1, y1), score in zip(boxes[best].tolist(), scores[best].tolist(), strict=True)
        ]


def caption(phrase: str) -> str:
    """Return a phrase in the detector's training format: lower case, closed by a full stop, which separates phrases."""
    return " ".join(phrase.lower().replace(".", " ").split()) + "."

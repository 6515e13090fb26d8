"""SAM 3 video (Meta, 2025): one model that finds a phrase and follows every instance of it, by transformers.

In a profile:

    segmenter:
      backend: ffpdata.models.sam3:Sam3
      model: facebook/sam3
      licence: SAM License   # gated: accept it on the hub and set HF_TOKEN
      runtime: {device: cuda}

Against Grounded SAM 2: instances that come into the picture later are found, too, and one checkpoint does both jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.models.gpu_memory import clip_size, inference, release
from ffpdata.models.grounding_dino import SAME_BOX
from ffpdata.models.mask_guards import GuardSettings, check, clip_box, first_that_passes, mask_facts
from ffpdata.models.protocols import Box, Segmentation
from ffpdata.models.requirements import Checkpoint, Requirements, wants_gpu
from ffpdata.models.sam2_video import TrackerRuntime, TransformersTracker, open_session, prepare
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.weights import Dtype, checkpoint_folder, from_pretrained, pretrained_model, torch_device

if TYPE_CHECKING:
    import torch

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Masks

REMEDY = "Set the role's runtime offload_state to true, or use a smaller clip."


class Sam3Settings(GuardSettings):
    """Settings of `Sam3`."""

    score_threshold: float = Field(0.5, ge=0, le=1)
    """Smallest score of a detection: of the first instances, and to confirm one that is followed (the published
    configuration)."""
    new_threshold: float = Field(0.7, ge=0, le=1)
    """Smallest score of a detection that is followed as one more instance while others are (same source)."""
    max_instances: int = Field(5, ge=1)
    """Most instances in one frame that are edited as one object; more are rejected as `too_many_instances`."""
    dtype: Dtype = "bfloat16"
    """Arithmetic of the model."""


class FrameInstances(NamedTuple):
    """What a frame shows.

    Attributes:
        mask: bool (H, W), all instances.
        instances: how many there are.
        detection: lowest score of an instance, 0 where there is none.
        presence: mean probability that a followed instance is in the picture, None where none is followed yet.
    """

    mask: Masks
    instances: int
    detection: float
    presence: float | None


class Sam3:
    """A `Segmenter`. Several instances of a phrase are one object: the union of their masks.

    Facts of an answer: those of `mask_facts`; `instances`, the most in one frame; `detection`, the lowest score of an
    instance of the first frame; `presence`, the mean probability that they are in the picture. The score is `detection`
    times `presence`.
    """

    name = "sam3"
    version: int = 1
    Settings = Sam3Settings
    Runtime = TrackerRuntime

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import Sam3VideoModel, Sam3VideoProcessor

        self.settings = parse_settings(self.Settings, spec)
        self.device = torch_device(spec)
        self.offload = parse_runtime(self.Runtime, spec).offload_state
        self.folder = checkpoint_folder(spec.model, spec.revision)
        self.model = pretrained_model(Sam3VideoModel, self.folder, self.settings.dtype).to(self.device)
        self.model.score_threshold_detection = self.settings.score_threshold
        self.model.new_det_thresh = self.settings.new_threshold
        self.processor = from_pretrained(Sam3VideoProcessor, self.folder)
        self._tracker: TransformersTracker | None = None

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """What must be there for it."""
        weights = Checkpoint("weights", spec.model, spec.revision)
        return Requirements(packages=("torch", "transformers"), checkpoints=(weights,), gpu=wants_gpu(spec))

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._tracker = None
        self.__dict__.pop("model", None)
        release(self.device)

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment the first of `phrases` that is found and whose masks pass the guards, or what `box` holds.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            phrases: candidates in order of preference; with a box, the first one names the answer.
            box: x0, y0, x1, y1 in pixels of the first frame; nothing is detected then. The first box loads the
                checkpoint's tracker, which takes boxes, beside the model, which does not.

        Raises:
            Reject: `no_target`, `too_many_instances`, or a reason of `mask_guards.check`. Of several phrases, the
                first that was found at all says why.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: others fill the GPU.
        """
        if box is None:
            with inference(self.device, f"SAM 3 on {clip_size(frames)}", REMEDY):
                shown = prepare(self.processor, self.model, frames)  # once for all phrases
            return first_that_passes(phrases, lambda phrase: self._find(frames, shown, phrase))
        boxes = [clip_box(box, frames.shape[1:3])]
        with inference(self.device, f"SAM 3 on {clip_size(frames)}", REMEDY):
            masks, presence = self._boxes().track(frames, boxes)
        facts = mask_facts(masks, boxes) | {"instances": 1.0, "detection": 1.0, "presence": presence}
        check(facts, self.settings)
        return Segmentation(masks, phrases[0] if phrases else "object", presence, facts)

    def _find(self, frames: Frames, shown: Sequence[torch.Tensor], phrase: str) -> Segmentation:
        masks = np.zeros(frames.shape[:3], np.bool_)
        seen = []
        with inference(self.device, f"SAM 3 on {clip_size(frames)}", REMEDY):
            for index, found in self._follow(shown, frames.shape[1:3], phrase):
                if not seen and not found.instances:
                    limit = self.settings.score_threshold
                    raise Reject("no_target", f"nothing scores {limit:g} in the first frame and is found again")
                if found.instances > self.settings.max_instances:
                    facts: dict[str, object] = {"instances": float(found.instances)}
                    most = self.settings.max_instances
                    raise Reject("too_many_instances", f"{found.instances} in frame {index}, at most {most}", facts)
                masks[index] = found.mask
                seen.append(found)
        presences = [found.presence for found in seen if found.presence is not None]
        facts = mask_facts(masks) | {
            "instances": float(max(found.instances for found in seen)),
            "detection": seen[0].detection,
            "presence": float(np.mean(presences)) if presences else 1.0,
        }
        check(facts, self.settings)
        return Segmentation(masks, phrase, facts["detection"] * facts["presence"], facts)

    def _follow(
        self, shown: Sequence[torch.Tensor], size: Sequence[int], phrase: str
    ) -> Iterator[tuple[int, FrameInstances]]:
        """Yield frame numbers and what is seen there, in order. The model runs some frames ahead of what it yields."""
        session = open_session(self.processor, self.model, shown, size, "cpu" if self.offload else self.device)
        try:
            self.processor.add_text_prompt(session, phrase)
            for found in self.model.propagate_in_video_iterator(session):
                found.obj_id_to_mask = {number: mask.float() for number, mask in found.obj_id_to_mask.items()}
                answer = self.processor.postprocess_outputs(session, found)
                yield found.frame_idx, _seen(answer, found.obj_id_to_tracker_score)
        finally:
            session.reset_state()

    def _boxes(self) -> TransformersTracker:
        if self._tracker is None:
            self._tracker = TransformersTracker(
                self.folder,
                self.device,
                self.settings.dtype,
                offload_state=self.offload,
                family="Sam3TrackerVideo",
            )
        return self._tracker


def _seen(shown: dict[str, Any], tracker_scores: dict[int, float]) -> FrameInstances:
    """Sum up a frame. Boxes that are nearly the same are one instance: the model drops them only with `kernels`."""
    from torchvision.ops import nms

    boxes, scores = shown["boxes"].float().cpu(), shown["scores"].float().cpu()
    kept = nms(boxes, scores, SAME_BOX)
    followed = [tracker_scores[number] for number in shown["object_ids"].tolist() if number in tracker_scores]
    return FrameInstances(
        mask=shown["masks"].any(dim=0).cpu().numpy(),
        instances=len(kept),
        detection=float(scores[kept].min()) if len(kept) else 0.0,
        presence=float(np.clip(followed, 0, 1).mean()) if followed else None,
    )

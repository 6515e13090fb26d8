"""SAM 3 video (Meta, 2025): one model that detects a phrase and tracks every instance of it, by transformers.

In a profile:

    segmenter:
      backend: ffpdata.models.sam3:Sam3
      model: facebook/sam3
      licence: SAM License   # gated: accept it on the hub and set HF_TOKEN
      runtime: {device: cuda}

Unlike Grounded SAM 2 it also detects instances that appear later, and needs one checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.models.gpu_memory import clip_size, inference, release
from ffpdata.models.grounding_dino import SAME_BOX
from ffpdata.models.mask_guards import GuardSettings, check_mask_facts, clip_box, first_accepted, mask_facts
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
    """Smallest score of a detection, in the first frame and to confirm a tracked instance (the published
    configuration)."""
    new_threshold: float = Field(0.7, ge=0, le=1)
    """Smallest score of a detection that starts a further instance while others are tracked (same source)."""
    max_instances: int = Field(5, ge=1)
    """Largest number of instances in a frame that are edited as one object; more are `too_many_instances`."""
    dtype: Dtype = "bfloat16"
    """Arithmetic of the model."""


class FrameInstances(NamedTuple):
    """Instances in one frame.

    Attributes:
        mask: bool (H, W), all instances.
        instances: their number.
        detection: lowest score of an instance, 0 where there is none.
        presence: mean probability that a tracked instance is visible, None where none is tracked yet.
    """

    mask: Masks
    instances: int
    detection: float
    presence: float | None


class Sam3:
    """A `Segmenter`. Several instances of a phrase are one object: the union of their masks.

    Facts of a result: those of `mask_facts`; `instances`, the most in one frame; `detection`, the lowest score of an
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
        """Return its packages and checkpoint."""
        weights = Checkpoint("weights", spec.model, spec.revision)
        return Requirements(packages=("torch", "transformers"), checkpoints=(weights,), gpu=wants_gpu(spec))

    def close(self) -> None:
        """Free the model."""
        self._tracker = None
        self.__dict__.pop("model", None)
        release(self.device)

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment the first of `phrases` that is found and whose masks pass the guards, or the object in `box`.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            phrases: candidates in order of preference; with a box, the first one names the answer.
            box: x0, y0, x1, y1 in pixels of the first frame; nothing is detected then. The first box loads the
                checkpoint's tracker as well, because the model takes no boxes.

        Raises:
            Reject: `no_target`, `too_many_instances`, or a reason of `mask_guards.check_mask_facts`. Of several
                phrases, the reason is that of the first that was found.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: other processes fill the GPU.
        """
        if box is None:
            with inference(self.device, f"SAM 3 on {clip_size(frames)}", REMEDY):
                prepared = prepare(self.processor, self.model, frames)  # once for all phrases
            return first_accepted(phrases, lambda phrase: self._find(frames, prepared, phrase))
        boxes = [clip_box(box, frames.shape[1:3])]
        with inference(self.device, f"SAM 3 on {clip_size(frames)}", REMEDY):
            masks, presence = self._box_tracker().track(frames, boxes)
        facts = mask_facts(masks, boxes) | {"instances": 1.0, "detection": 1.0, "presence": presence}
        check_mask_facts(facts, self.settings)
        return Segmentation(masks, phrases[0] if phrases else "object", presence, facts)

    def _find(self, frames: Frames, prepared: Sequence[torch.Tensor], phrase: str) -> Segmentation:
        masks = np.zeros(frames.shape[:3], np.bool_)
        results = []
        with inference(self.device, f"SAM 3 on {clip_size(frames)}", REMEDY):
            for index, found in self._propagate(prepared, frames.shape[1:3], phrase):
                if not results and not found.instances:
                    limit = self.settings.score_threshold
                    raise Reject("no_target", f"nothing scores {limit:g} in the first frame and is found again")
                if found.instances > self.settings.max_instances:
                    facts: dict[str, object] = {"instances": float(found.instances)}
                    most = self.settings.max_instances
                    raise Reject("too_many_instances", f"{found.instances} in frame {index}, at most {most}", facts)
                masks[index] = found.mask
                results.append(found)
        presences = [found.presence for found in results if found.presence is not None]
        facts = mask_facts(masks) | {
            "instances": float(max(found.instances for found in results)),
            "detection": results[0].detection,
            "presence": float(np.mean(presences)) if presences else 1.0,
        }
        check_mask_facts(facts, self.settings)
        return Segmentation(masks, phrase, facts["detection"] * facts["presence"], facts)

    def _propagate(
        self, prepared: Sequence[torch.Tensor], size: Sequence[int], phrase: str
    ) -> Iterator[tuple[int, FrameInstances]]:
        """Yield frame numbers and their instances, in order. The model runs some frames ahead of the yielded one."""
        session = open_session(self.processor, self.model, prepared, size, "cpu" if self.offload else self.device)
        try:
            self.processor.add_text_prompt(session, phrase)
            for found in self.model.propagate_in_video_iterator(session):
                found.obj_id_to_mask = {number: mask.float() for number, mask in found.obj_id_to_mask.items()}
                answer = self.processor.postprocess_outputs(session, found)
                yield found.frame_idx, _frame_instances(answer, found.obj_id_to_tracker_score)
        finally:
            session.reset_state()

    def _box_tracker(self) -> TransformersTracker:
        if self._tracker is None:
            self._tracker = TransformersTracker(
                self.folder,
                self.device,
                self.settings.dtype,
                offload_state=self.offload,
                family="Sam3TrackerVideo",
            )
        return self._tracker


def _frame_instances(outputs: dict[str, Any], tracker_scores: dict[int, float]) -> FrameInstances:
    """Count a frame's instances. Nearly equal boxes are one instance: the model merges them only with `kernels`."""
    from torchvision.ops import nms

    boxes, scores = outputs["boxes"].float().cpu(), outputs["scores"].float().cpu()
    kept = nms(boxes, scores, SAME_BOX)
    tracked = [tracker_scores[number] for number in outputs["object_ids"].tolist() if number in tracker_scores]
    return FrameInstances(
        mask=outputs["masks"].any(dim=0).cpu().numpy(),
        instances=len(kept),
        detection=float(scores[kept].min()) if len(kept) else 0.0,
        presence=float(np.clip(tracked, 0, 1).mean()) if tracked else None,
    )

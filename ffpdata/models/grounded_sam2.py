"""Grounded SAM 2 (paper, section 3.1): Grounding DINO finds a phrase in the first frame, SAM 2 tracks it.

In a profile, `model` and `revision` name the SAM 2 checkpoint, and `settings` the detector's:

    segmenter:
      backend: ffpdata.models.grounded_sam2:GroundedSam2
      model: facebook/sam2.1-hiera-large
      licence: Apache-2.0
      settings: {detector: IDEA-Research/grounding-dino-base}
      runtime: {device: cuda}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.models.gpu_memory import clip_size, inference, release
from ffpdata.models.grounding_dino import Detection, GroundingDino
from ffpdata.models.mask_guards import GuardSettings, check_mask_facts, clip_box, first_accepted, mask_facts
from ffpdata.models.protocols import Box, Segmentation
from ffpdata.models.requirements import Checkpoint, Requirements, wants_gpu
from ffpdata.models.sam2_video import PackageTracker, TrackerRuntime, TransformersTracker
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.weights import Dtype, checkpoint_folder, torch_device

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames

REMEDY = "Set the role's runtime offload_state to true, or use a smaller clip or checkpoint."


class GroundedSam2Settings(GuardSettings):
    """Settings of `GroundedSam2`."""

    detector: str = "IDEA-Research/grounding-dino-base"
    """Checkpoint of the detector: a folder or a repository of the hub."""
    detector_revision: str = ""
    """Revision of the detector's repository."""
    box_threshold: float = Field(0.4, ge=0, le=1)
    """Smallest score of a detection (Grounded-SAM-2, its video demo with this detector)."""
    text_threshold: float = Field(0.3, ge=0, le=1)
    """Smallest score of a word of the phrase (same source)."""
    max_instances: int = Field(5, ge=1)
    """Largest number of instances that are edited as one object; more are rejected as `too_many_instances`, because an
    edit of some of them would not follow its instruction."""
    engine: Literal["transformers", "sam2"] = "transformers"
    """Library that runs SAM 2. `sam2` needs its own weight names: see `ffpdata.models.convert_to_safetensors`."""
    sam2_config: str = "configs/sam2.1/sam2.1_hiera_l.yaml"
    """Engine `sam2`: the package's configuration of `model`."""
    sam2_side: int = Field(1024, ge=128, multiple_of=32)
    """Engine `sam2`: side of the model's input in pixels; the other engine reads it from the checkpoint."""
    dtype: Dtype = "bfloat16"
    """Arithmetic of SAM 2."""
    detector_dtype: Dtype = "float32"
    """Arithmetic of the detector."""


class GroundedSam2:
    """The `Segmenter` of the paper. Several instances of a phrase are one object: the union of their masks.

    Facts of a result: those of `mask_facts`; `instances`, their number; `detection`, the lowest score of an instance;
    `presence`, the mean probability that the object is in the picture. The score is `detection` times `presence`.
    """

    name = "grounded_sam2"
    version: int = 1
    Settings = GroundedSam2Settings
    Runtime = TrackerRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        offload = parse_runtime(self.Runtime, spec).offload_state
        self.device = torch_device(spec)
        limits = self.settings
        folder = checkpoint_folder(spec.model, spec.revision)
        detector = checkpoint_folder(limits.detector, limits.detector_revision)
        self.detector = GroundingDino(detector, self.device, limits.detector_dtype)
        self.tracker: TransformersTracker | PackageTracker
        if limits.engine == "transformers":
            self.tracker = TransformersTracker(folder, self.device, limits.dtype, offload_state=offload)
        else:
            self.tracker = PackageTracker(
                folder,
                self.device,
                limits.dtype,
                config=limits.sam2_config,
                side=limits.sam2_side,
                offload_state=offload,
            )

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoints."""
        limits = parse_settings(cls.Settings, spec)
        return Requirements(
            packages=("torch", "transformers", *(("sam2",) if limits.engine == "sam2" else ())),
            checkpoints=(
                Checkpoint("weights", spec.model, spec.revision),
                Checkpoint("detector", limits.detector, limits.detector_revision),
            ),
            gpu=wants_gpu(spec),
        )

    def close(self) -> None:
        """Free both models."""
        self.__dict__.pop("detector", None)
        self.__dict__.pop("tracker", None)
        release(self.device)

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment the first of `phrases` that is found and whose masks pass the guards, or the object in `box`.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            phrases: candidates in order of preference; with a box, the first one names the answer.
            box: x0, y0, x1, y1 in pixels of the first frame; nothing is detected then.

        Raises:
            Reject: `no_target`, `too_many_instances`, or a reason of `mask_guards.check_mask_facts`. Of several
                phrases, the reason is that of the first that was found.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: other processes fill the GPU.
        """
        if box is not None:
            inside = clip_box(box, frames.shape[1:3])
            return self._track(frames, phrases[0] if phrases else "object", [Detection(inside, 1.0)])
        return first_accepted(phrases, lambda phrase: self._track(frames, phrase, self._detect(frames, phrase)))

    def _detect(self, frames: Frames, phrase: str) -> list[Detection]:
        limits = self.settings
        with inference(self.device, f"Grounding DINO on {clip_size(frames[:1])}", REMEDY):
            instances = self.detector.find(frames[0], phrase, limits.box_threshold, limits.text_threshold)
        if not instances:
            raise Reject("no_target", f"no box scores {limits.box_threshold:g} in the first frame")
        if len(instances) > limits.max_instances:
            facts: dict[str, object] = {"instances": float(len(instances))}
            raise Reject("too_many_instances", f"{len(instances)}, at most {limits.max_instances}", facts)
        return instances

    def _track(self, frames: Frames, phrase: str, instances: Sequence[Detection]) -> Segmentation:
        boxes = [instance.box for instance in instances]
        with inference(self.device, f"SAM 2 on {clip_size(frames)}", REMEDY):
            masks, presence = self.tracker.track(frames, boxes)
        facts = mask_facts(masks, boxes)
        facts |= {
            "instances": float(len(instances)),
            "detection": min(instance.score for instance in instances),
            "presence": presence,
        }
        check_mask_facts(facts, self.settings)
        return Segmentation(masks, phrase, facts["detection"] * presence, facts)

"""Track boxes of the first frame as masks through the clip: SAM 2 video (Ravi et al. 2024), by transformers or `sam2`.

Both keep the clip in main memory and send one frame at a time to the device. The memory of past frames is reset after
each clip: otherwise it grows without bound (facebookresearch/sam2 issue 264).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.media.codec import png
from ffpdata.models.protocols import Box
from ffpdata.models.settings import DeviceRuntime
from ffpdata.models.weights import from_pretrained, pretrained_model, read_state, torch_dtype

if TYPE_CHECKING:
    import torch

    from ffpdata.models.protocols import Frames, Masks


class Track(NamedTuple):
    """Masks of the tracked objects.

    Attributes:
        masks: bool (T, H, W), the union of all objects.
        presence: mean probability, over frames and objects, that an object is visible.
    """

    masks: Masks
    presence: float


class TrackerRuntime(DeviceRuntime):
    """Device and memory of a tracker."""

    offload_state: bool = False
    """Keep the memory of past frames in main memory: slower, for small GPUs."""


class TransformersTracker:
    """SAM 2 video, or a model of the same interface, by transformers.

    Args:
        folder: checkpoint with model and processor.
        device: device of the model.
        dtype: of its weights and input frames.
        offload_state: keep the memory of past frames in main memory, too: slower, for small GPUs.
        family: name of the classes without `Model` and `Processor`.
    """

    def __init__(
        self, folder: Path, device: torch.device, dtype: str, *, offload_state: bool = False, family: str = "Sam2Video"
    ) -> None:
        import transformers

        self.device = device
        self.state_device = "cpu" if offload_state else device
        self.model = pretrained_model(getattr(transformers, f"{family}Model"), folder, dtype).to(device)
        self.processor = from_pretrained(getattr(transformers, f"{family}Processor"), folder)

    def track(self, frames: Frames, boxes: Sequence[Box]) -> Track:
        """Track the object in each box of the first frame.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            boxes: one per object, at least one, within the frame and not empty.
        """
        size = frames.shape[1:3]
        prepared = prepare(self.processor, self.model, frames)
        session = open_session(self.processor, self.model, prepared, frames.shape[1:3], self.state_device)
        self.processor.add_inputs_to_inference_session(
            session, frame_idx=0, obj_ids=list(range(1, len(boxes) + 1)), input_boxes=[[list(box) for box in boxes]]
        )
        masks = np.zeros(frames.shape[:3], np.bool_)
        presence = []
        for output in self.model.propagate_in_video_iterator(session, start_frame_idx=0):
            at_size = self.processor.post_process_masks([output.pred_masks.float()], [list(size)], binarize=True)[0]
            masks[output.frame_idx] = at_size.flatten(0, 1).any(dim=0).cpu().numpy()
            presence.append(output.object_score_logits.float().sigmoid().mean())
        session.reset_inference_session()
        return Track(masks, float(sum(presence) / len(presence)))


def prepare(processor: Any, model: Any, frames: Frames) -> list[torch.Tensor]:
    """Return the frames preprocessed for a transformers video segmenter: (1, 3, h, w) each, in main memory.

    Frames are preprocessed one by one: all at once, a 720p clip of 81 frames takes four times the memory. They are
    copied, because torch warns about read-only arrays.
    """
    prepared = []
    for frame in frames:
        pixels = processor(images=frame.copy(), device=model.device, return_tensors="pt")["pixel_values"]
        prepared.append(pixels.to("cpu", model.dtype))  # a blocking copy: the session's own does not wait
    return prepared


def open_session(
    processor: Any, model: Any, prepared: Sequence[torch.Tensor], size: Sequence[int], state_device: object
) -> Any:
    """Open a session of a transformers video segmenter on preprocessed frames; `size` is the clip's (height, width)."""
    session = processor.init_video_session(
        inference_device=model.device,
        inference_state_device=state_device,
        video_storage_device="cpu",
        dtype=model.dtype,
    )
    session.video_height, session.video_width = size
    for pixels in prepared:
        session.add_new_frame(pixels)
    return session


class PackageTracker:
    """SAM 2 video by the `sam2` package, the authors' own code.

    Args:
        folder: safetensors under the package's names: `ffpdata.models.convert_to_safetensors` converts a `.pt` file.
        device: device of the model.
        dtype: of its arithmetic; weights stay in float32, as in the package's examples.
        config: a configuration in the package, e.g. `configs/sam2.1/sam2.1_hiera_l.yaml`.
        side: side of the model's input in pixels.
        offload_state: as for `TransformersTracker`.
    """

    def __init__(
        self, folder: Path, device: torch.device, dtype: str, *, config: str, side: int, offload_state: bool = False
    ) -> None:
        self.device = device
        self.dtype = torch_dtype(dtype)
        self.offload_state = offload_state
        self.model = self._build(folder, config, side).to(device)

    def _build(self, folder: Path, config: str, side: int) -> torch.nn.Module:
        try:
            import sam2
            from hydra.errors import MissingConfigException
            from sam2.build_sam import build_sam2_video_predictor
        except ModuleNotFoundError as err:
            raise ConfigError(f"engine sam2: {err.name!r} is not installed: pip install 'ffpdata[models]'") from err
        try:
            model = build_sam2_video_predictor(
                config, device="cpu", hydra_overrides_extra=[f"++model.image_size={side}"]
            )
        except MissingConfigException as err:
            known = sorted(str(p.relative_to(sam2.__path__[0])) for p in Path(sam2.__path__[0]).rglob("sam2*/*.yaml"))
            raise ConfigError(f"sam2 has no configuration {config!r}; it has {', '.join(known)}") from err
        try:
            model.load_state_dict(read_state(folder), strict=True)
        except RuntimeError as err:
            raise FatalError(f"{folder}: not the weights of {config}: {str(err)[:400]}") from err
        return model

    def track(self, frames: Frames, boxes: Sequence[Box]) -> Track:
        """Track the object in each box of the first frame; arguments as for `TransformersTracker.track`."""
        import torch

        masks = np.zeros(frames.shape[:3], np.bool_)
        presence = []
        mixed = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with mixed, redirect_stderr(StringIO()):  # the package draws a progress bar for every clip
            state = self._open(frames)
            for number, box in enumerate(boxes, start=1):
                self.model.add_new_points_or_box(state, frame_idx=0, obj_id=number, box=np.array(box, np.float32))
            for index, _, logits in self.model.propagate_in_video(state):
                masks[index] = (logits > 0).any(dim=0)[0].cpu().numpy()
                for outputs in state["output_dict_per_obj"].values():
                    frame_outputs = outputs["cond_frame_outputs"].get(index) or outputs["non_cond_frame_outputs"][index]
                    presence.append(frame_outputs["object_score_logits"].float().sigmoid().mean())
            self.model.reset_state(state)
        return Track(masks, float(sum(presence) / len(presence)))

    def _open(self, frames: Frames) -> dict:
        """Open a state. The package reads a folder of files named `.jpg`, whose content may be PNG."""
        with tempfile.TemporaryDirectory(prefix="ffpdata-sam2-") as folder:
            for number, frame in enumerate(frames):
                Path(folder, f"{number:05d}.jpg").write_bytes(png(frame))
            state: dict = self.model.init_state(
                folder, offload_video_to_cpu=True, offload_state_to_cpu=self.offload_state
            )
        return state

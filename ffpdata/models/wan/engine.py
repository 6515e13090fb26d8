"""diffsynth's WanVideoPipeline behind one call: a Request in, uint8 frames out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.models.gpu_memory import gpu_memory, release
from ffpdata.models.wan.loading import LoadPlan, load, quiet
from ffpdata.models.wan.loras import Deltas, LoraFile, check_deltas, check_pairs, read_lora
from ffpdata.models.wan.settings import REMEDY
from ffpdata.models.weights import torch_dtype

if TYPE_CHECKING:
    import torch

    from ffpdata.models.protocols import Frames
    from ffpdata.models.wan.loras import LoraWeights
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.settings import Lora

ADAPTED = ("dit", "vace")
"""Models of the pipeline that a LoRA may change: their layers have different names."""

KEPT_LORAS = 4
"""LoRA files kept in main memory, for roles that take turns with theirs."""


class DiffsynthEngine:
    """A pipeline in this process."""

    def __init__(self, plan: LoadPlan) -> None:
        import torch

        self.plan = plan
        self.device = torch.device(plan.device)
        self._laid: list[tuple[LoraFile, float]] | None = []
        """What lies over the weights, and how strongly; None where a change was broken off."""
        self._read: dict[LoraFile, LoraWeights] = {}
        self._deltas = Deltas()
        with quiet(), gpu_memory(self.device, "loading the model", REMEDY):
            self.pipe = load(plan)

    def close(self) -> None:
        """Free the model and give its memory back."""
        self._read.clear()
        self.pipe = None
        release(self.device)

    def generate(self, request: Request, loras: Sequence[Lora] = ()) -> Frames:
        """Run the pipeline once.

        The same request gives the same bytes on one machine: the noise is drawn on the CPU from the seed.

        Args:
            request: what to generate.
            loras: what lies over the weights while it runs; what lay there before is taken off exactly.

        Raises:
            GpuMemoryError: it does not fit the device.
            RetryableError: other processes fill the device.
            FatalError: a LoRA fits no layer.
        """
        if self.pipe is None:
            raise RuntimeError("the model was closed")
        with quiet(), gpu_memory(self.device, str(request), REMEDY):
            self.use_loras(loras)
            try:
                video = self.pipe(**pipeline_arguments(request))
            finally:
                self._forget()
            return to_frames(video)

    def use_loras(self, loras: Sequence[Lora]) -> None:
        """Lay exactly these LoRAs over the weights; none gives the model back as it was loaded."""
        wanted = [(LoraFile.of(lora), lora.strength) for lora in loras]
        if wanted == self._laid:
            return
        found = [self._weights(lora, file) for lora, (file, _) in zip(loras, wanted, strict=True)]
        self._laid = None
        self.pipe.clear_lora(verbose=0)
        self._deltas.remove()
        for lora, weights in zip(loras, found, strict=True):
            self._lay(lora, weights)
        self._laid = wanted

    def _weights(self, lora: Lora, file: LoraFile) -> LoraWeights:
        """Return the weights of a file; the last few are kept."""
        weights = self._read.pop(file, None)
        if weights is None:
            weights = read_lora(lora)
            self._check(lora, weights)
        self._read[file] = weights
        while len(self._read) > KEPT_LORAS:
            self._read.pop(next(iter(self._read)))
        return weights

    def _lay(self, lora: Lora, weights: LoraWeights) -> None:
        where = {"device": self.device, "dtype": torch_dtype(self.plan.dtype)}
        pairs = weights.pairs
        for model in self._open():
            fits = pairs.keys() & _layers(model).keys()
            state = {f"{layer}.lora_A.weight": pairs[layer][0].to(**where) for layer in fits}
            state |= {f"{layer}.lora_B.weight": pairs[layer][1].to(**where) for layer in fits}
            if fits:
                self.pipe.load_lora(model, state_dict=state, alpha=lora.strength, hotload=True, verbose=0)
        self._deltas.add(self._parameters(), weights.deltas, lora.strength)

    def _check(self, lora: Lora, weights: LoraWeights) -> None:
        """Refuse a LoRA of another model: diffsynth's loader takes what fits and says nothing of the rest."""
        layers: dict[str, Any] = {}
        for model in self._open():
            layers |= _layers(model)
        name = lora.file or lora.model
        check_pairs(name, weights.pairs, {key: (made.in_features, made.out_features) for key, made in layers.items()})
        check_deltas(name, weights.deltas, self._parameters())

    def _parameters(self) -> dict[str, Any]:
        """Parameters that a LoRA may change, by the names they have where no weight waits."""
        return {
            name.replace(".module.", "."): value for model in self._open() for name, value in model.named_parameters()
        }

    def _open(self) -> list[Any]:
        """Return the models that LoRAs are laid over, made ready for it; without one they compute as before."""
        for name in ADAPTED:
            if getattr(self.pipe, name) is not None:
                setattr(self.pipe, name, self.pipe.enable_lora_hot_loading(getattr(self.pipe, name)))
        return [getattr(self.pipe, name) for name in ADAPTED if getattr(self.pipe, name) is not None]

    def _forget(self) -> None:
        """Let go of the features that the VAE keeps after its work: 4 GiB at 720p."""
        if self.pipe is not None and self.pipe.vae is not None:
            self.pipe.vae.model.clear_cache()


def _layers(model: Any) -> dict[str, torch.nn.Linear]:
    from diffsynth.core.vram.layers import LoRAHotLoadMixin

    return {layer.name: layer for layer in model.modules() if isinstance(layer, LoRAHotLoadMixin)}


def pipeline_arguments(request: Request) -> dict[str, Any]:
    """Say a request in the words of `WanVideoPipeline`; its pictures become PIL's."""
    from PIL import Image

    def pictures(frames: Frames | None) -> list[Any] | None:
        return None if frames is None else [Image.fromarray(frame) for frame in frames]

    def picture(image: Any) -> Any:
        return None if image is None else Image.fromarray(image)

    arguments: dict[str, Any] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative,
        "seed": request.seed,
        "rand_device": "cpu",
        "height": request.height,
        "width": request.width,
        "num_frames": request.frames,
        "num_inference_steps": request.steps,
        "cfg_scale": request.guidance,
        "sigma_shift": request.shift,
        "vace_video": pictures(request.control),
        "vace_video_mask": pictures(request.mask),
        "vace_reference_image": picture(request.reference),
        "vace_scale": request.control_scale,
        "input_image": picture(request.first_image),
        "tiled": request.tiles is not None,
        "output_type": "floatpoint",
        "progress_bar_cmd": iter,
    }
    if request.tiles:
        arguments |= {"tile_size": request.tiles.size, "tile_stride": request.tiles.stride}
    if request.tea_cache:
        arguments |= {"tea_cache_l1_thresh": request.tea_cache[0], "tea_cache_model_id": request.tea_cache[1]}
    return arguments


def to_frames(video: torch.Tensor) -> Frames:
    """Turn a decoded video into frames, one at a time; rounded, where diffsynth cuts off and darkens by half a level.

    Args:
        video: float (1, 3, T, H, W) in -1..1, on any device.

    Returns:
        uint8 (T, H, W, 3).

    Raises:
        FloatingPointError: a value is not finite: the model broke down on this clip.
    """
    import torch

    out = np.empty((*video.shape[2:], 3), np.uint8)
    for t, frame in enumerate(out):
        values = video[0, :, t].float()
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"frame {t} of the model's answer is not finite: try dtype bfloat16 or float32")
        frame[:] = ((values + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return out

"""Run diffsynth's WanVideoPipeline: one `Request` to uint8 frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.models.gpu_memory import gpu_memory, release
from ffpdata.models.protocols import Edit
from ffpdata.models.wan.attention import resolve, using
from ffpdata.models.wan.loading import LoadPlan, load, stdout_to_stderr
from ffpdata.models.wan.loras import Deltas, LoraFile, check_deltas, check_pairs, read_lora
from ffpdata.models.wan.precision import compile_blocks
from ffpdata.models.wan.settings import REMEDY
from ffpdata.models.weights import torch_dtype

if TYPE_CHECKING:
    import torch

    from ffpdata.models.protocols import Frames
    from ffpdata.models.wan.loras import LoraWeights
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.settings import Lora

ADAPTED = {"high": ("dit", "vace"), "low": ("dit2", "vace2")}
"""Models of the pipeline that a LoRA may change; no two of their layers share a name. Where there is one transformer it
is the first; of two it is that of the noisy steps."""

KEPT_LORAS = 4
"""LoRA files cached in main memory, for roles that use the model alternately."""


class DiffsynthEngine:
    """A diffsynth pipeline in this process."""

    def __init__(self, plan: LoadPlan) -> None:
        import torch

        self.plan = plan
        self.device = torch.device(plan.device)
        self._applied_loras: list[tuple[LoraFile, float, str]] | None = []
        """LoRAs on the weights, their strengths and places; None after an interrupted change."""
        self._lora_cache: dict[LoraFile, LoraWeights] = {}
        self._deltas = Deltas()
        with stdout_to_stderr(), gpu_memory(self.device, "loading the model", REMEDY):
            self.pipe = load(plan)
        if plan.compiled:
            compile_blocks(self._lora_models(""))

    def close(self) -> None:
        """Free the model."""
        self._lora_cache.clear()
        self.pipe = None
        release(self.device)

    def generate(self, request: Request, loras: Sequence[Lora] = ()) -> Frames:
        """Return the frames of `run`."""
        return self.run(request, loras).frames

    def run(self, request: Request, loras: Sequence[Lora] = ()) -> Edit:
        """Run the pipeline once.

        The same request gives the same bytes on one machine: the noise is drawn on the CPU from the seed.

        Args:
            request: what to generate.
            loras: LoRAs of this run; those of earlier runs are removed exactly.

        Returns:
            Frames, uint8 (T, H, W, 3); with a cache between steps the facts `model_runs` and `skipped_runs`: how often
            the transformer was to run, and how often the cache stood in for it.

        Raises:
            GpuMemoryError: the request does not fit the device.
            RetryableError: other processes fill the device.
            FatalError: a LoRA does not fit the model.
        """
        if self.pipe is None:
            raise RuntimeError("the model was closed")
        kernel = resolve(request.attention, self.plan.ranks)
        with stdout_to_stderr(), gpu_memory(self.device, str(request), REMEDY), using(kernel):
            self.use_loras(loras)
            try:
                with counted(self._transformers()) as runs:
                    video = self.pipe(**pipeline_arguments(request))
            finally:
                self._clear_vae_cache()
            facts = {}
            if request.tea_cache:
                planned = request.steps * (1 if request.guidance == 1 else 2)
                facts = {"model_runs": float(planned), "skipped_runs": float(planned - runs())}
            return Edit(to_frames(video), facts)

    def use_loras(self, loras: Sequence[Lora]) -> None:
        """Apply exactly these LoRAs to the weights; an empty list restores the weights as loaded."""
        selected = [(LoraFile.of(lora), lora.strength, lora.noise) for lora in loras]
        if selected == self._applied_loras:
            return
        found = [self._weights(lora, file) for lora, (file, *_) in zip(loras, selected, strict=True)]
        self._applied_loras = None
        self.pipe.clear_lora(verbose=0)
        self._deltas.remove()
        for lora, weights in zip(loras, found, strict=True):
            self._apply_lora(lora, weights)
        self._applied_loras = selected

    def _weights(self, lora: Lora, file: LoraFile) -> LoraWeights:
        """Return the weights of a file, from the cache of `KEPT_LORAS` files where possible."""
        weights = self._lora_cache.pop(file, None)
        if weights is None:
            weights = read_lora(lora)
            self._check(lora, weights)
        self._lora_cache[file] = weights
        while len(self._lora_cache) > KEPT_LORAS:
            self._lora_cache.pop(next(iter(self._lora_cache)))
        return weights

    def _apply_lora(self, lora: Lora, weights: LoraWeights) -> None:
        placement = {"device": self.device, "dtype": torch_dtype(self.plan.dtype)}
        pairs = weights.pairs
        for noise in [lora.noise] if lora.noise else self._noises():
            self._deltas.add(self._parameters(noise), weights.deltas, lora.strength)
        for model in self._lora_models(lora.noise):
            fits = pairs.keys() & _layers(model).keys()
            state = {f"{layer}.lora_A.weight": pairs[layer][0].to(**placement) for layer in fits}
            state |= {f"{layer}.lora_B.weight": pairs[layer][1].to(**placement) for layer in fits}
            if fits:
                self.pipe.load_lora(model, state_dict=state, alpha=lora.strength, hotload=True, verbose=0)

    def _check(self, lora: Lora, weights: LoraWeights) -> None:
        """Raise for a LoRA of another model: diffsynth's loader silently skips layers that do not fit."""
        layers: dict[str, Any] = {}
        for model in self._lora_models(lora.noise):
            layers |= _layers(model)
        name = lora.file or lora.model
        check_pairs(
            name, weights.pairs, {key: (module.in_features, module.out_features) for key, module in layers.items()}
        )
        check_deltas(name, weights.deltas, self._parameters(lora.noise))

    def _parameters(self, noise: str) -> dict[str, Any]:
        """Return the parameters that a LoRA may change, by their names without offloading."""
        return {
            name.replace(".module.", "."): value
            for model in self._lora_models(noise)
            for name, value in model.named_parameters()
        }

    def _noises(self) -> list[str]:
        """Return which transformers there are."""
        return [noise for noise, (transformer, _) in ADAPTED.items() if getattr(self.pipe, transformer) is not None]

    def _transformers(self) -> list[Any]:
        return [getattr(self.pipe, ADAPTED[noise][0]) for noise in self._noises()]

    def _lora_models(self, noise: str) -> list[Any]:
        """Return the models that a LoRA is applied to, prepared for it; results without a LoRA are unchanged."""
        found = []
        for name in (name for one in ([noise] if noise else self._noises()) for name in ADAPTED[one]):
            if (model := getattr(self.pipe, name)) is not None:
                found.append(self.pipe.enable_lora_hot_loading(model))
                setattr(self.pipe, name, found[-1])
        return found

    def _clear_vae_cache(self) -> None:
        """Free the features that the VAE caches: 4 GiB at 720p."""
        if self.pipe is not None and self.pipe.vae is not None:
            self.pipe.vae.model.clear_cache()


@contextlib.contextmanager
def counted(transformers: Iterable[Any]) -> Iterator[Callable[[], int]]:
    """Count how often the blocks of transformers run inside a with block: yields a function that tells the number."""
    runs: list[None] = []
    hooks = [
        transformer.blocks[0].register_forward_pre_hook(lambda *_: runs.append(None)) for transformer in transformers
    ]
    try:
        yield lambda: len(runs)
    finally:
        for hook in hooks:
            hook.remove()


def _layers(model: Any) -> dict[str, torch.nn.Linear]:
    from diffsynth.core.vram.layers import LoRAHotLoadMixin

    return {layer.name: layer for layer in model.modules() if isinstance(layer, LoRAHotLoadMixin)}


def pipeline_arguments(request: Request) -> dict[str, Any]:
    """Return a request as arguments of `WanVideoPipeline`, its frames as PIL images."""
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
    if request.boundary is not None:
        arguments["switch_DiT_boundary"] = request.boundary
    if request.tea_cache:
        arguments |= {"tea_cache_l1_thresh": request.tea_cache[0], "tea_cache_model_id": request.tea_cache[1]}
    return arguments


def to_frames(video: torch.Tensor) -> Frames:
    """Convert a decoded video to frames, one at a time; rounded: diffsynth truncates, which darkens by half a level.

    Args:
        video: float (1, 3, T, H, W) in -1..1, on any device.

    Returns:
        uint8 (T, H, W, 3).

    Raises:
        FloatingPointError: a value is not finite.
    """
    import torch

    out = np.empty((*video.shape[2:], 3), np.uint8)
    for t, frame in enumerate(out):
        values = video[0, :, t].float()
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"frame {t} of the model's answer is not finite: try dtype bfloat16 or float32")
        frame[:] = ((values + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return out

"""VACE by diffusers' WanVACEPipeline: the same roles as `vace`, with another layout of checkpoints.

Checkpoints are those in diffusers' layout (Wan-AI/Wan2.1-VACE-14B-diffusers). It has no 8-bit layers, compiled blocks,
TeaCache or sequence parallel; its VAE runs in float32, its sampler can be chosen, and it has a cache of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.gpu_memory import gpu_memory, release
from ffpdata.models.protocols import Edit
from ffpdata.models.requirements import Checkpoint, Requirements, wants_gpu
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.vace import EditSettings, VaceRoles
from ffpdata.models.wan import attention
from ffpdata.models.wan.inspection import lora_notes
from ffpdata.models.wan.loading import require
from ffpdata.models.wan.lora_keys import diffusers_name, diffusers_parameter
from ffpdata.models.wan.loras import Deltas, check_deltas, check_pairs, read_lora, resolve_under_root
from ffpdata.models.wan.settings import REMEDY, WanRuntime
from ffpdata.models.weights import checkpoint_folder, torch_device, torch_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.settings import Lora

CACHED = [r"(?:vace_)?blocks\.\d+\.(?:attn1|attn2|ffn)"]
"""Layers that a cache predicts. What is cheap, modulation and VACE's hints among it, is computed in every step."""

TEXT_LENGTH = 512
"""Tokens of a prompt (Wan's shared_config.py: text_len)."""

VAE_SCALE = 8
"""Side of a latent of the VAE, in pixels of the clip."""


class TaylorCache(BaseModel):
    """Compute attention and feed-forward layers in some steps alone, and predict them in between (TaylorSeer).

    Of diffusers' caches this one fits VACE. `FirstBlockCache` and `MagCache` add the difference that the skipped blocks
    made last, in which VACE's hints are, and the transformer then adds the hints once more; `PyramidAttentionBroadcast`
    keeps one state for both passes of guidance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval: int = Field(3, ge=2)
    """Every so many steps the layers are computed."""
    first: int = Field(5, ge=2)
    """Steps at the beginning that are all computed; two are needed for a prediction."""
    order: int = Field(1, ge=0, le=3)
    """Of the prediction: 0 repeats, 1 goes on as between the last two computed steps."""


class DiffusersSettings(EditSettings):
    """Settings of `DiffusersVace`."""

    taylor_cache: TaylorCache | None = None
    """Counts in the key, because it changes the result."""

    sampler: Literal["unipc", "euler"] = "unipc"
    """`unipc`, for which Wan and VACE publish steps and shift, or `euler`, which diffsynth uses and for which LoRAs of
    few steps are distilled."""
    vae_dtype: Literal["bfloat16", "float32"] = "float32"


class DiffusersVace(VaceRoles):
    """VACE 1.3B or 14B by diffusers, for the roles `remover`, `swapper` and `stylizer`."""

    name = "vace_diffusers"
    version: int = 2
    Settings = DiffusersSettings
    Runtime = WanRuntime
    settings: DiffusersSettings

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoints."""
        parts = {"transformer": "diffusion_pytorch_model", "text_encoder": "model", "vae": "diffusion_pytorch_model"}
        checkpoints = [
            Checkpoint(part, spec.model, spec.revision, (f"{part}/*",), f"{part}/{stem}")
            for part, stem in parts.items()
        ]
        settings, runtime = parse_settings(cls.Settings, spec), parse_runtime(cls.Runtime, spec)
        loras = resolve_under_root(settings.loras, runtime.loras_root)
        return Requirements(
            ("torch", "diffusers", "peft"),
            (*checkpoints, *(lora.checkpoint() for lora in loras)),
            wants_gpu(spec),
            inspect=lambda: [
                attention.note(settings.attention, device=runtime.device, dtype=settings.dtype),
                *lora_notes(loras, checkpoints[0], diffusers_parameter),
            ],
        )

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        runtime = parse_runtime(self.Runtime, spec)
        require("torch", "diffusers", "peft")
        self.device = torch_device(spec)
        kernel = attention.check(self.settings.attention, device=self.device.type, dtype=self.settings.dtype)
        attention.probe(kernel, self.device, torch_dtype(self.settings.dtype))
        folder = checkpoint_folder(spec.model, spec.revision)
        self._applied_loras: tuple[Lora, ...] | None = ()
        """LoRAs on the weights; None after an interrupted change."""
        self._selected_loras = tuple(resolve_under_root(self.settings.loras, runtime.loras_root))
        self._deltas = Deltas()
        with gpu_memory(self.device, "loading the model", REMEDY):
            self.pipe: Any = self._load(folder, runtime)
        try:
            self.pipe.transformer.set_attention_backend(attention.KERNELS[kernel].diffusers)
        except RuntimeError as err:  # diffusers asks for newer versions than the kernel itself
            raise FatalError(f"settings attention {kernel!r}: {err}") from err

    def close(self) -> None:
        """Free the model."""
        self.pipe = None
        release(self.device)

    def swap_loras(self, loras: Sequence[Lora]) -> None:
        """Use other LoRAs from the next clip on; an empty list removes them exactly."""
        self._selected_loras = tuple(loras)

    def generate(self, request: Request) -> Edit:
        """Run the pipeline with the LoRAs of this role; with a cache the facts `model_runs` and `skipped_runs`."""
        import torch
        from PIL import Image

        if self.pipe is None:
            raise RuntimeError("the model was closed")
        arguments: dict[str, Any] = {}
        if request.mask is not None:
            arguments["mask"] = [Image.fromarray(frame) for frame in request.mask]
        if request.control is not None:
            arguments["video"] = [Image.fromarray(frame) for frame in request.control]
        if request.reference is not None:
            arguments["reference_images"] = [Image.fromarray(request.reference)]
        with torch.inference_mode(), gpu_memory(self.device, str(request), REMEDY):
            self._apply_loras()
            runs: dict[str, int] = {"model_runs": 0, "computed": 0}
            hooks = self._count(runs) if self.settings.taylor_cache else []
            try:
                video = self.pipe(
                    prompt=request.prompt,
                    negative_prompt=request.negative,
                    height=request.height,
                    width=request.width,
                    num_frames=request.frames,
                    num_inference_steps=request.steps,
                    guidance_scale=request.guidance,
                    conditioning_scale=request.control_scale,
                    generator=torch.Generator("cpu").manual_seed(request.seed),
                    max_sequence_length=TEXT_LENGTH,
                    output_type="np",
                    **arguments,
                ).frames[0]
            finally:
                self._clear_vae_cache()
                self._forget(hooks)
        facts = {"model_runs": float(runs["model_runs"]), "skipped_runs": float(runs["model_runs"] - runs["computed"])}
        return Edit(_to_frames(video), facts if self.settings.taylor_cache else {})

    def _count(self, runs: dict[str, int]) -> list[Any]:
        """Count how often the transformer runs, and how often its first block computes its attention."""
        transformer = self.pipe.transformer

        def add(name: str) -> Any:
            def count(*_: Any) -> None:
                runs[name] += 1

            return count

        inside = transformer.blocks[0].attn1.norm_q
        return [
            transformer.register_forward_pre_hook(add("model_runs")),
            inside.register_forward_pre_hook(add("computed")),
        ]

    def _forget(self, hooks: list[Any]) -> None:
        """Take the hooks off, and what the cache knows of a clip, also of one that was not finished."""
        for hook in hooks:
            hook.remove()
        if self.settings.taylor_cache and self.pipe is not None:
            self.pipe.transformer._reset_stateful_cache()

    def _load(self, folder: Path, runtime: WanRuntime) -> Any:
        from diffusers import AutoencoderKLWan, TaylorSeerCacheConfig, WanVACEPipeline

        settings = self.settings
        options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
        try:
            vae = AutoencoderKLWan.from_pretrained(
                folder, subfolder="vae", dtype=torch_dtype(settings.vae_dtype), **options
            )
            pipe = WanVACEPipeline.from_pretrained(folder, vae=vae, dtype=torch_dtype(settings.dtype), **options)
        except (OSError, ValueError, KeyError) as err:
            raise FatalError(f"{folder}: no checkpoint of WanVACEPipeline ({str(err).splitlines()[0]})") from err
        pipe.scheduler = make_scheduler(settings, pipe.scheduler.config)
        if cache := settings.taylor_cache:
            pipe.transformer.enable_cache(
                TaylorSeerCacheConfig(
                    cache_interval=cache.interval,
                    disable_cache_before_step=cache.first,
                    max_order=cache.order,
                    taylor_factors_dtype=torch_dtype(settings.dtype),
                    cache_identifiers=CACHED,
                )
            )
        pipe.set_progress_bar_config(disable=True)
        if settings.tiles:
            size, stride = (
                [side * VAE_SCALE for side in sides] for sides in (settings.tiles.size, settings.tiles.stride)
            )
            pipe.vae.enable_tiling(*size, *stride)
        if runtime.offload != "none":
            if self.device.type == "cpu":
                raise ConfigError("runtime offload keeps weights off a GPU: on the CPU leave it at none")
            offload = {"models": pipe.enable_model_cpu_offload, "layers": pipe.enable_sequential_cpu_offload}
            offload[runtime.offload](device=self.device)
        else:
            pipe.to(self.device)
        return pipe

    def _apply_loras(self) -> None:
        if self._selected_loras == self._applied_loras:
            return
        weights = [self._read(lora) for lora in self._selected_loras]
        self._applied_loras = None
        self.pipe.unload_lora_weights()
        self._deltas.remove()
        parameters = dict(self.pipe.transformer.named_parameters())
        for lora, (_, deltas) in zip(self._selected_loras, weights, strict=True):
            self._deltas.add(parameters, deltas, lora.strength)
        names = [f"lora_{number}" for number in range(len(weights))]
        for name, (state, _) in zip(names, weights, strict=True):
            self.pipe.load_lora_weights(state, adapter_name=name)
        if names:
            self.pipe.set_adapters(names, [lora.strength for lora in self._selected_loras])
        self._applied_loras = self._selected_loras

    def _read(self, lora: Lora) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a LoRA's pairs and deltas in diffusers' naming; raise for a LoRA of another model."""
        name, weights = lora.file or lora.model, read_lora(lora)
        pairs = {diffusers_name(layer): pair for layer, pair in weights.pairs.items()}
        deltas = {diffusers_parameter(key): value for key, value in weights.deltas.items()}
        # peft renames a layer with a LoRA to `base_layer`.
        parameters = {
            key.replace(".base_layer.", "."): value for key, value in self.pipe.transformer.named_parameters()
        }
        shapes = {key: value.shape for key, value in parameters.items() if value.ndim > 1}
        check_pairs(name, pairs, {key.removesuffix(".weight"): (shape[1], shape[0]) for key, shape in shapes.items()})
        check_deltas(name, deltas, parameters)
        state = {f"transformer.{layer}.lora_A.weight": down for layer, (down, _) in pairs.items()}
        state |= {f"transformer.{layer}.lora_B.weight": up for layer, (_, up) in pairs.items()}
        return state, deltas

    def _clear_vae_cache(self) -> None:
        """Free the features that the VAE caches."""
        if self.pipe is not None:
            self.pipe.vae.clear_cache()


def _to_frames(video: Any) -> Frames:
    """Convert a decoded video, float (T, H, W, 3) in 0..1, to frames; rounded."""
    out = np.empty(video.shape, np.uint8)
    for values, frame in zip(video, out, strict=True):
        if not np.isfinite(values).all():
            raise FloatingPointError("the model's answer is not finite: try dtype bfloat16 or float32")
        np.rint(values * 255, out=frame, casting="unsafe")
    return out


def make_scheduler(settings: DiffusersSettings, known: Any) -> Any:
    """Return the sampler of these settings.

    Args:
        settings: `sampler` and `shift` are used.
        known: configuration of the checkpoint's own scheduler.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    class WanEuler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
        """Euler on Wan's steps: evenly spaced from 1 towards 0, then shifted.

        diffusers' own spacing shifts the last step, .001, before it spaces the others down to it, and then shifts all
        of them: four steps with shift 5 would be at 1, .910, .717 and .024, for which no Wan model is distilled.
        """

        def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
            steps = np.linspace(1, 0, num_inference_steps + 1)[:-1]
            super().set_timesteps(sigmas=steps.tolist(), device=device)

    if settings.sampler == "euler":
        return WanEuler(shift=settings.shift)
    return UniPCMultistepScheduler.from_config(
        known, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=settings.shift
    )

"""VACE and Wan image-to-video: diffsynth's own pipeline, with random weights of the official shapes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu import shapes
from benchmarks.gpu.count import counting
from benchmarks.gpu.meter import GIB, Meter, memory_cap, random_model, weights_gib
from benchmarks.gpu.report import fixed_seconds, median, projections
from benchmarks.gpu.shapes import Clip

PROMPT_TOKENS, PROMPT_LENGTH = 120, 512
LIBRARY_TILES = ((30, 52), (15, 26))
FEW_TILES = ((48, 84), (42, 76))
"""Size and stride of the VAE's tiles in latent pixels: diffsynth's default (30 tiles at 720p, three times the work),
and four large ones."""


@dataclass(frozen=True)
class Setting:
    """How one measurement runs: what a profile can choose."""

    steps: int = 2
    guidance: float = 5.0
    tiles: tuple[tuple[int, int], tuple[int, int]] | None = None
    offload: str = "none"  # none; models: each waits in main memory for its turn; layers: so does each layer
    attention: str = "default"
    reference: bool = False
    cap_gib: float | None = None
    layer_limit_gib: float = 3.0
    """Offload by layers: device memory above which a layer's weights are brought in for each use and not kept."""


class Tokens:
    """Stands in for the tokenizer, whose file holds a vocabulary and costs no device time: random ids, padded."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, _text: str, **_options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (ids, mask), both int64 (1, PROMPT_LENGTH), whatever the text."""
        mask = torch.zeros(1, PROMPT_LENGTH, dtype=torch.long)
        mask[:, :PROMPT_TOKENS] = 1
        return torch.randint(2, self.vocabulary, mask.shape) * mask, mask


def _model(make: Any, device: str, setting: Setting) -> torch.nn.Module:
    """Build one part of the pipeline, resident or managed as diffsynth manages it."""
    waits = setting.offload != "none" and device.startswith("cuda")  # diffsynth manages memory of a GPU only
    model = random_model(make, device, torch.bfloat16, keep_on="cpu" if waits else None)
    if not waits:
        return model
    from diffsynth.core.vram.layers import enable_vram_management
    from diffsynth.models.model_loader import ModelPool

    managed = {
        f"{state}_{key}": value
        for state, place in (("offload", "cpu"), ("onload", "cpu"), ("preparing", device), ("computation", device))
        for key, value in (("dtype", torch.bfloat16), ("device", place))
    }
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    limit = setting.layer_limit_gib if setting.offload == "layers" else None
    return enable_vram_management(
        model, ModelPool().fetch_module_map(kind, managed), vram_config=managed, vram_limit=limit
    )


def pipeline(name: str, device: str, setting: Setting, *, tiny: bool) -> Any:
    """Return a WanVideoPipeline of the named model."""
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.models.wan_video_text_encoder import WanTextEncoder
    from diffsynth.models.wan_video_vace import VaceWanModel
    from diffsynth.pipelines.wan_video import WanVideoPipeline

    shape = (shapes.WAN_TINY if tiny else shapes.WAN)[name]
    text = shapes.TEXT_ENCODER_TINY if tiny else shapes.TEXT_ENCODER
    pipe = WanVideoPipeline(device=device, torch_dtype=torch.bfloat16)
    pipe.tokenizer = Tokens(text.get("vocab", shapes.TEXT_VOCAB))
    pipe.text_encoder = _model(lambda: WanTextEncoder(**text), device, setting)
    pipe.vae = _model(lambda: vae(tiny=tiny), device, setting)
    pipe.dit = _model(lambda: WanModel(**shape["dit"]), device, setting)
    if "vace" in shape:
        pipe.vace = _model(lambda: VaceWanModel(**shape["vace"]), device, setting)
    if shape["dit"]["has_image_input"]:
        pipe.image_encoder = _model(lambda: _image_encoder(tiny=tiny), device, setting)
    pipe.vram_management_enabled = pipe.check_vram_management_state()
    return pipe


def vae(*, tiny: bool) -> torch.nn.Module:
    from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE

    if not tiny:
        return WanVideoVAE(**shapes.VAE)
    made = WanVideoVAE.__new__(WanVideoVAE)
    torch.nn.Module.__init__(made)
    made.mean, made.std = torch.zeros(16), torch.ones(16)
    made.scale = [made.mean, 1.0 / made.std]
    made.model, made.upsampling_factor, made.z_dim = VideoVAE_(**shapes.VAE_TINY), 8, 16
    return made


def _image_encoder(*, tiny: bool) -> torch.nn.Module:
    from diffsynth.models.wan_video_image_encoder import WanImageEncoder, clip_xlm_roberta_vit_h_14

    if not tiny:
        return WanImageEncoder()
    made = WanImageEncoder.__new__(WanImageEncoder)
    torch.nn.Module.__init__(made)
    made.model, made.transforms = clip_xlm_roberta_vit_h_14(
        return_transforms=True, dtype=torch.float32, device="cpu", **shapes.IMAGE_ENCODER_TINY
    )
    return made


def _images(clip: Clip, count: int) -> list[Image.Image]:
    drawn = np.random.default_rng(0).integers(0, 256, (count, clip.height, clip.width, 3), dtype=np.uint8)
    return [Image.fromarray(frame) for frame in drawn]


def _masks(clip: Clip) -> list[Image.Image]:
    mask = np.zeros((clip.height, clip.width, 3), dtype=np.uint8)
    mask[clip.height // 4 : clip.height // 2, clip.width // 4 : clip.width // 2] = 255
    return [Image.fromarray(mask)] * clip.frames


@contextlib.contextmanager
def attention_by(name: str) -> Iterator[None]:
    """Have PyTorch's attention try one kernel first: flash or cudnn; `default` leaves its own order."""
    if name == "default":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    first = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}[name]
    rest = [b for b in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH) if b != first]
    with sdpa_kernel([first, *rest], set_priority=True):
        yield


def _run_without_values(pipe: Any) -> None:
    """For counting: step round the places where the pipeline reads values or takes a clip through main memory."""
    autoencoder, text, tokens = pipe.vae, pipe.text_encoder, pipe.tokenizer
    autoencoder.encode = lambda videos, device, **_: torch.cat(
        [autoencoder.single_encode(video[None], device) for video in videos]
    )
    autoencoder.decode = lambda latents, device, **_: autoencoder.single_decode(latents, device)
    if pipe.image_encoder is not None:
        pipe.image_encoder.transforms.transforms[-1] = lambda pixels: pixels  # the mean and deviation of each channel
    for unit in pipe.units:
        if hasattr(unit, "encode_prompt"):
            unit.encode_prompt = lambda _, prompt: text(*(part.to("meta") for part in tokens(prompt)))


def _inputs(pipe: Any, clip: Clip, setting: Setting) -> dict[str, Any]:
    if pipe.image_encoder is not None:
        inputs: dict[str, Any] = {"input_image": _images(clip, 1)[0]}
    else:
        inputs = {"vace_video": _images(clip, clip.frames), "vace_video_mask": _masks(clip)}
        if setting.reference:
            inputs["vace_reference_image"] = _images(clip, 1)[0]
    if setting.tiles:
        inputs |= {"tile_size": setting.tiles[0], "tile_stride": setting.tiles[1]}
    return inputs | {"height": clip.height, "width": clip.width, "num_frames": clip.frames}


def generate(name: str, clip: Clip, device: str, setting: Setting, *, tiny: bool) -> dict[str, Any]:
    """Run the pipeline once, end to end, and return what each part of it took; on `meta`, what it computes."""
    start = time.perf_counter()
    pipe = pipeline(name, device, setting, tiny=tiny)
    parts = {"text": "text_encoder", "vae": "vae", "dit": "dit", "vace": "vace", "image": "image_encoder"}
    models = {part: getattr(pipe, attribute) for part, attribute in parts.items()}
    weights = {part: weights_gib(model) for part, model in models.items() if model is not None}
    measured: dict[str, Any] = {"built_s": time.perf_counter() - start, "weights_gib": sum(weights.values())}
    settings = asdict(setting) | {"clip": asdict(clip), "tokens": clip.tokens(int(setting.reference))}
    record: dict[str, Any] = {"settings": settings, "measured": measured | {"weights_by_part_gib": weights}}
    inputs = _inputs(pipe, clip, setting)
    if device == "meta":
        _run_without_values(pipe)
        with counting() as meter:
            _watch(pipe, meter)
            _run(pipe, inputs, setting)
            counted = {"weights_by_part_gib": weights, "weights_gib": sum(weights.values()), **meter.memory()}
            held = meter.tally.live
            pipe.vae.model.clear_cache()
        blocks = [*pipe.dit.blocks, *(pipe.vace.vace_blocks if pipe.vace is not None else ())]
        counted["vae_keeps_gib"] = (held - meter.tally.live) / GIB
        counted["largest_layer_gib"] = max(map(weights_gib, blocks))
        return {"settings": settings, "counted": counted}
    meter = Meter(device)
    _watch(pipe, meter)
    meter.wait()
    start = time.perf_counter()
    try:
        with memory_cap(setting.cap_gib), attention_by(setting.attention):
            _run(pipe, inputs, setting)
        meter.wait()
        measured["wall_s"] = time.perf_counter() - start
    except torch.OutOfMemoryError as error:
        record["error"] = f"out of memory: {str(error)[:200]}"
    forwards = meter.seconds.get("forward", [])
    measured |= meter.memory()
    measured |= {f"{phase}_s": sum(found) for phase, found in meter.seconds.items() if phase != "forward"}
    if forwards:
        passes = 2 if setting.guidance != 1.0 else 1
        measured |= {"forwards_s": forwards, "forward_s": median(forwards), "step_s": passes * median(forwards)}
    if "wall_s" in measured:
        fixed = fixed_seconds(measured["wall_s"], forwards)
        record["projected"] = {"fixed_s": fixed, "clip_s": projections(fixed, median(forwards))}
    return record | {"measured": record["measured"] | measured}


def _watch(pipe: Any, meter: Meter) -> None:
    meter.watch(pipe, "model_fn", "forward")
    meter.watch(pipe.vae, "encode", "vae_encode")
    meter.watch(pipe.vae, "decode", "vae_decode")
    meter.watch(pipe.text_encoder, "forward", "text")
    if pipe.image_encoder is not None:
        meter.watch(pipe.image_encoder, "encode_image", "image")


def _run(pipe: Any, inputs: dict[str, Any], setting: Setting) -> None:
    pipe(
        prompt="a prompt",
        negative_prompt="a negative prompt",
        seed=0,
        num_inference_steps=setting.steps,
        cfg_scale=setting.guidance,
        tiled=setting.tiles is not None,
        progress_bar_cmd=lambda steps: steps,
        output_type="floatpoint" if pipe.device == "meta" else "quantized",
        **inputs,
    )


def vae_alone(clip: Clip, device: str, tiles: Any, cap_gib: float | None, *, tiny: bool) -> dict[str, Any]:
    """Encode and decode one clip with nothing else on the device."""
    model = random_model(lambda: vae(tiny=tiny), device, torch.bfloat16)
    meter = Meter(device)
    record: dict[str, Any] = {"settings": {"tiles": tiles, "cap_gib": cap_gib, "clip": asdict(clip)}}
    options = {"tiled": tiles is not None, **({"tile_size": tiles[0], "tile_stride": tiles[1]} if tiles else {})}
    try:
        with memory_cap(cap_gib), torch.no_grad():
            warm = torch.rand(1, 3, 5, clip.height, clip.width, dtype=torch.bfloat16) * 2 - 1
            model.decode(model.encode(warm, device=device), device=device)
            video = torch.rand(1, 3, clip.frames, clip.height, clip.width, dtype=torch.bfloat16) * 2 - 1
            for _ in range(1 if tiles == LIBRARY_TILES else 2):
                with meter.phase("vae_encode"):
                    latents = model.encode(video, device=device, **options)
                with meter.phase("vae_decode"):
                    model.decode(latents, device=device, **options)
            held = meter.memory()
            record["measured"] = {f"{name}_s": min(found) for name, found in meter.seconds.items()} | held
            if meter.cuda:
                before = torch.cuda.memory_allocated()
                model.model.clear_cache()
                record["measured"]["kept_after_decode_gib"] = (before - torch.cuda.memory_allocated()) / GIB
    except torch.OutOfMemoryError as error:
        record["error"] = f"out of memory: {str(error)[:200]}"
        record["measured"] = meter.memory()
    return record

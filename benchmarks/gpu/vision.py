"""Grounding DINO, SAM 2 video, a depth model with 32-frame windows, Qwen2.5-VL: transformers, random weights."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.gpu import shapes
from benchmarks.gpu.count import measuring
from benchmarks.gpu.meter import GIB, Meter, random_model, weights_gib
from benchmarks.gpu.report import median
from benchmarks.gpu.shapes import Clip
from ffpdata.models.video_depth.windows import WINDOW, window_frames

ANSWER_TOKENS = 128
VLM_FRAMES = 8


def _record(meter: Meter, model: nn.Module, clip: Clip, **settings: Any) -> dict[str, Any]:
    found = {"weights_gib": weights_gib(model), **meter.memory()}
    kind = "counted" if meter.device.type == "meta" else "measured"
    return {"settings": {"clip": asdict(clip), **settings}, kind: found}


def _timed(record: dict[str, Any], **seconds: float) -> dict[str, Any]:
    """Add times to a record that has any: counting takes time, but not the model's."""
    if "measured" in record:
        record["measured"] |= seconds
    return record


def _home(tensor: torch.Tensor) -> torch.Tensor:
    """Bring a result to main memory, as a stage does; one without values stays."""
    return tensor if tensor.device.type == "meta" else tensor.cpu()


@torch.no_grad()
def grounding_dino(name: str, clip: Clip, device: str, *, tiny: bool) -> dict[str, Any]:
    """One frame and one phrase, as the detector is asked per candidate; float32, its published precision."""
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig
    from transformers.models.grounding_dino import modeling_grounding_dino

    shape = shapes.GROUNDING_DINO_TINY if tiny else shapes.GROUNDING_DINO[name]
    small = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    bert = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(**shape, out_indices=[2, 3, 4]),
        text_config=BertConfig(**(bert if tiny else {})),
        **({**small, "num_queries": 20} if tiny else {}),
    )
    model = random_model(lambda: GroundingDinoForObjectDetection(config), device, torch.float32)
    # The published processor: shortest side 800, longest at most 1333.
    scale = min(800 / min(clip.width, clip.height), 1333 / max(clip.width, clip.height))
    height, width = (clip.height, clip.width) if tiny else (round(clip.height * scale), round(clip.width * scale))
    pixels = torch.randn(1, 3, height, width, device=device)
    ids = torch.tensor([[101, 2304, 3899, 1012, 102]], device=device)  # "black dog ." of bert-base-uncased
    if device == "meta":
        modeling_grounding_dino.torch_compilable_check = lambda *_, **__: None  # compares values, and there are none
    with measuring(device) as meter:
        for _ in range(2 if tiny or device == "meta" else 7):
            with meter.phase("frame"):
                model(pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids))
        record = _record(meter, model, clip, input=[width, height], dtype="float32")
    return _timed(record, frame_s=median(meter.seconds["frame"]))


@torch.no_grad()
def sam2(name: str, clip: Clip, device: str, *, tiny: bool) -> dict[str, Any]:
    """Track one box through the whole clip; frames wait in main memory, masks come back at full size."""
    from transformers import Sam2ImageProcessor, Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor, Sam2VisionConfig
    from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    side = shapes.SAM2_TINY_IMAGE if tiny else 1024
    small: dict[str, Any] = {}
    if tiny:
        small = {
            "image_size": side,
            "prompt_encoder_config": {"hidden_size": 128, "image_size": side},
            "memory_attention_hidden_size": 128,
            "memory_attention_rope_feat_sizes": [8, 8],
            "memory_attention_num_layers": 1,
            "memory_encoder_hidden_size": 128,
            "mask_downsampler_embed_dim": 128,
            "memory_fuser_embed_dim": 128,
        }
    shape = dict(shapes.SAM2_TINY if tiny else shapes.SAM2[name])
    backbone = Sam2HieraDetConfig(**shape.pop("backbone_config", {}))
    config = Sam2VideoConfig(vision_config=Sam2VisionConfig(backbone_config=backbone, **shape), **small)
    if tiny:
        config.mask_decoder_config.hidden_size = 128
    model = random_model(lambda: Sam2VideoModel(config), device, torch.bfloat16)
    size = {"height": side, "width": side}
    processor = Sam2VideoProcessor(Sam2ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size))
    frames = list(np.random.default_rng(0).integers(0, 256, (clip.frames, clip.height, clip.width, 3), dtype=np.uint8))
    box = [[[clip.width // 4, clip.height // 4, clip.width // 2, clip.height // 2]]]
    with measuring(device) as meter:
        for run, part in (("warm_", frames[: max(3, len(frames) // 9)]), ("", frames)):
            start = time.perf_counter()
            with meter.phase(f"{run}read"):
                session = processor.init_video_session(
                    video=part,
                    inference_device=device,
                    video_storage_device="meta" if device == "meta" else "cpu",
                    dtype=torch.bfloat16,
                )
            processor.add_inputs_to_inference_session(
                inference_session=session, frame_idx=0, obj_ids=[1], input_boxes=box
            )
            with meter.phase(f"{run}track"):
                model(inference_session=session, frame_idx=0)
                found = [
                    _home(
                        processor.post_process_masks(
                            [output.pred_masks], original_sizes=[[clip.height, clip.width]], binarize=True
                        )[0]
                    )
                    for output in model.propagate_in_video_iterator(session)
                ]
            meter.wait()
            clip_s = time.perf_counter() - start
        record = _record(meter, model, clip, input=[side, side], objects=1, dtype="bfloat16")
    track_s = meter.seconds["track"][0]
    return _timed(record, clip_s=clip_s, read_s=meter.seconds["read"][0], frame_s=track_s / len(found))


class TemporalBlock(nn.Module):
    """Two self-attentions over time at each pixel and a gated feed-forward: the size of a motion module of VDA."""

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32 if channels % 32 == 0 else 1, channels)
        self.inner, self.outer = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.mixers = nn.ModuleList(nn.ModuleList(nn.Linear(channels, channels) for _ in range(4)) for _ in range(2))
        self.up, self.down = nn.Linear(channels, 8 * channels), nn.Linear(4 * channels, channels)
        self.heads = heads

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Mix (T, C, H, W) features over T."""
        time_, channels, height, width = features.shape
        x = self.inner(self.norm(features).permute(2, 3, 0, 1).reshape(height * width, time_, channels))
        for norm, (q, k, v, o) in zip(self.norms, self.mixers, strict=False):
            y = norm(x)
            parts = [p(y).view(-1, time_, self.heads, channels // self.heads).transpose(1, 2) for p in (q, k, v)]
            mixed = nn.functional.scaled_dot_product_attention(*parts)
            x = x + o(mixed.transpose(1, 2).reshape(-1, time_, channels))
        value, gate = self.up(self.norms[2](x)).chunk(2, dim=-1)
        x = self.outer(x + self.down(value * nn.functional.gelu(gate)))
        return features + x.view(height, width, time_, channels).permute(2, 3, 0, 1)


@torch.no_grad()
def depth(name: str, clip: Clip, device: str, *, tiny: bool) -> dict[str, Any]:
    """Depth Anything V2 with four temporal blocks, window by window: a stand-in for Video Depth Anything."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    shape = shapes.DEPTH_TINY if tiny else shapes.DEPTH[name]
    backbone = {key: value for key, value in shape["backbone"].items() if key != "stages"}
    config = DepthAnythingConfig(
        backbone_config=Dinov2Config(
            **backbone,
            image_size=518,
            patch_size=14,
            out_indices=shape["backbone"]["stages"],
            apply_layernorm=True,
            reshape_hidden_states=False,
        ),
        reassemble_hidden_size=backbone["hidden_size"],
        neck_hidden_sizes=shape["neck"],
        fusion_hidden_size=shape["fusion"],
    )

    def make() -> nn.Module:
        model = DepthAnythingForDepthEstimation(config)
        neck = model.neck
        places = list(zip(neck.reassemble_stage.layers, shape["neck"], strict=True))[2:]
        places += [(layer, shape["fusion"]) for layer in neck.fusion_stage.layers[:2]]
        for layer, channels in places:
            layer.temporal = TemporalBlock(channels)
            layer.register_forward_hook(lambda module, _, out: module.temporal(out))
        return model

    model = random_model(make, device, torch.bfloat16)
    short = 56 if tiny else 518
    height, width = (round(side * short / min(clip.width, clip.height) / 14) * 14 for side in (clip.height, clip.width))
    pixels = torch.randn(min(WINDOW, 4 if tiny else WINDOW), 3, height, width, device=device, dtype=torch.bfloat16)
    windows = len(window_frames(clip.frames))
    size = (clip.height, clip.width)
    with measuring(device) as meter:
        for _ in range(1 + windows):
            with meter.phase("window"):
                found = model(pixel_values=pixels).predicted_depth
                _home(nn.functional.interpolate(found[:, None].float(), size=size, mode="bilinear"))
        used = {"input": [width, height], "window": len(pixels), "windows": windows, "dtype": "bfloat16"}
        record = _record(meter, model, clip, **used)
    window_s = median(meter.seconds["window"])
    return _timed(record, window_s=window_s, clip_s=windows * window_s)


@torch.no_grad()
def qwen(name: str, clip: Clip, device: str, *, tiny: bool) -> dict[str, Any]:
    """One question about eight frames and an answer of a fixed length; plain transformers, no batching."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    shape = shapes.QWEN_TINY if tiny else shapes.QWEN[name]
    head = shape["text"]["hidden_size"] // shape["text"]["num_attention_heads"] // 2
    sections = [head - 2 * (3 * head // 8), 3 * head // 8, 3 * head // 8]
    config = Qwen2_5_VLConfig(
        text_config={**shape["text"], "rope_parameters": {"rope_type": "default", "mrope_section": sections}},
        vision_config=dict(shape["vision"]),
        tie_word_embeddings=shape["tied"],
    )
    weights = weights_gib(random_model(lambda: Qwen2_5_VLForConditionalGeneration(config), "meta", torch.bfloat16))
    if shape["tied"]:
        weights -= shape["text"]["hidden_size"] * shape["text"]["vocab_size"] * 2 / GIB
    if device == "meta":  # generating reads values: only the weights are counted
        return {"settings": {"clip": asdict(clip)}, "counted": {"weights_gib": weights}}
    if device.startswith("cuda") and weights * GIB > torch.cuda.mem_get_info()[1]:
        return {"measured": {"weights_gib": weights}, "error": "weights do not fit one card"}
    model = random_model(lambda: Qwen2_5_VLForConditionalGeneration(config), device, torch.bfloat16)
    model.tie_weights()
    # Frames at half size, both sides multiples of 28 pixels; two frames make one temporal patch.
    rows, columns = (max(2, round(side / 2 / 28) * 2) for side in (clip.height, clip.width))
    sizes = (VLM_FRAMES // 2, rows, columns)
    grid = torch.tensor([sizes], device=device)
    patches = torch.randn(math.prod(sizes), 3 * 2 * 14 * 14, device=device, dtype=torch.bfloat16)
    seen = math.prod(sizes) // 4
    text = torch.randint(0, 1000, (1, 200), device=device)
    video = torch.full((1, seen), config.video_token_id, device=device)
    edge = [torch.tensor([[i]], device=device) for i in (config.vision_start_token_id, config.vision_end_token_id)]
    ids = torch.cat([edge[0], video, edge[1], text], dim=1)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == config.video_token_id).int() * 2,
        "pixel_values_videos": patches,
        "video_grid_thw": grid,
        "second_per_grid_ts": torch.tensor([1.0], device=device),
        "do_sample": False,
    }
    length = 4 if tiny else ANSWER_TOKENS
    used = {"frames": VLM_FRAMES, "prompt_tokens": ids.shape[1], "answer_tokens": length}
    with measuring(device) as meter:
        for tokens, phase in ((2, "warm"), (1, "prompt"), (length, "answer")):
            with meter.phase(phase):
                model.generate(**inputs, min_new_tokens=tokens, max_new_tokens=tokens)
        record = _record(meter, model, clip, **used)
    return _timed(record, prompt_s=meter.seconds["prompt"][0], answer_s=meter.seconds["answer"][0])

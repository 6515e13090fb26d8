"""Checkpoints of the real architectures with random weights and few of them, written as the published ones are."""

from __future__ import annotations

import copy
import re
import zlib
from pathlib import Path
from typing import Any

SIDE = 64
"""Pictures are so many pixels wide and high."""

ANY_MASK = {
    "min_area": 0,
    "max_area": 1,
    "max_frame_area": 1,
    "max_complement": 1,
    "min_inside_box": 0,
    "min_temporal_iou": 0,
    "max_area_jump": 1000,
    "max_border": 1,
}
"""Random weights follow nothing: limits that any mask keeps."""

WORDS = ("dog", "cat", "red", "ball", "person")


def grounding_dino(folder: Path, seed: int = 0, *, queries: int = 20) -> Path:
    """A Grounding DINO: Swin backbone, BERT, two decoder layers. Its scores are high: most queries find something."""
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    # The model knows the ids of [CLS], [SEP], "." and "?" of bert-base-uncased.
    vocabulary = [f"[unused{i}]" for i in range(1030)]
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    for number, token in special.items():
        vocabulary[number] = token
    vocabulary += WORDS
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=SIDE,
            window_size=4,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[2, 2, 4, 4],
            out_indices=[2, 3, 4],
        ),
        text_config=BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=queries,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    images = GroundingDinoImageProcessor(size=size)
    GroundingDinoProcessor(images, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


def sam2(folder: Path, seed: int = 0) -> Path:
    """A SAM 2 video model that sees 128x128 pixels."""
    import torch
    from transformers import Sam2ImageProcessor, Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor, Sam2VisionConfig
    from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    torch.manual_seed(seed)
    side = 128
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[side, side],
        num_attention_heads=1,
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        global_attention_blocks=[4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=128,
    )
    config = Sam2VideoConfig(
        vision_config=vision,
        image_size=side,
        prompt_encoder_config={"hidden_size": 128, "image_size": side},
        mask_decoder_config={"hidden_size": 128},
        memory_attention_hidden_size=128,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_attention_num_layers=1,
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
    )
    model = Sam2VideoModel(config)
    with torch.no_grad():  # what it follows is always in the picture
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4.0)
    model.save_pretrained(folder)
    size = {"height": side, "width": side}
    Sam2VideoProcessor(Sam2ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size)).save_pretrained(folder)
    return folder


def sam3(folder: Path, seed: int = 0) -> Path:
    """A SAM 3 video model that sees 112x112 pixels: detector, text encoder and tracker. It always finds something."""
    import torch
    from transformers import (
        CLIPTokenizer,
        Sam3Config,
        Sam3ImageProcessor,
        Sam3TrackerVideoConfig,
        Sam3VideoConfig,
        Sam3VideoModel,
        Sam3VideoProcessor,
    )
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    side, width = 112, 128
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "pretrain_image_size": side,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        "fpn_hidden_size": width,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {token: number for number, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    layers = {"hidden_size": width, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    detector = Sam3Config(
        vision_config=copy.deepcopy(vision),
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "intermediate_size": 32,
            "projection_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "bos_token_id": len(letters),
            "eos_token_id": len(letters) + 1,
        },
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config=layers | {"num_queries": 6},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 2},
    )
    tracker = Sam3TrackerVideoConfig(
        vision_config=copy.deepcopy(vision),
        image_size=side,
        prompt_encoder_config={"hidden_size": width, "image_size": side},
        mask_decoder_config={"hidden_size": width, "mlp_dim": 32, "iou_head_hidden_dim": 32},
        memory_attention_hidden_size=width,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=32,
    )
    # What random weights follow is soon unlike what they detect: it is dropped as late as can be.
    late = {"hotstart_delay": 15, "hotstart_unmatch_thresh": 15, "hotstart_dup_thresh": 15}
    config = Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=32, **late)
    model = Sam3VideoModel(config)
    with torch.no_grad():  # every query is sure of itself, and what is followed is always in the picture
        model.detector_model.detr_decoder.presence_head.layer3.bias.fill_(6.0)
        model.detector_model.dot_product_scoring.query_proj.bias.fill_(1.0)
        model.detector_model.dot_product_scoring.text_proj.bias.fill_(1.0)
        model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4.0)
    model.save_pretrained(folder)
    size = {"height": side, "width": side}
    processor = Sam3VideoProcessor(
        Sam3ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size), CLIPTokenizer(vocab=vocabulary, merges=[])
    )
    processor.save_pretrained(folder)
    return folder


VIDEO_DEPTH: dict[str, dict[str, Any]] = {
    "small": {"hidden": 384, "layers": 12, "channels": (48, 96, 192, 384), "fusion": 64},
    "base": {"hidden": 768, "layers": 12, "channels": (96, 192, 384, 768), "fusion": 128},
    "large": {"hidden": 1024, "layers": 24, "channels": (256, 512, 1024, 1024), "fusion": 256},
    "tiny": {"hidden": 64, "layers": 12, "channels": (16, 16, 32, 32), "fusion": 32, "side": 5},
}
"""Sizes of Video Depth Anything; the published ones as in upstream's `run.py`. `side` is in patches."""


def video_depth_shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a release's `.pth` file."""
    sizes = {"side": 37} | VIDEO_DEPTH[size]
    hidden, channels, fusion = sizes["hidden"], sizes["channels"], sizes["fusion"]
    shapes: dict[str, tuple[int, ...]] = {
        "pretrained.cls_token": (1, 1, hidden),
        "pretrained.pos_embed": (1, 1 + sizes["side"] ** 2, hidden),
        "pretrained.mask_token": (1, hidden),
    }

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = (shape[1] if "resize_layers.0" in name or "resize_layers.1" in name else shape[0],)

    layer("pretrained.patch_embed.proj", hidden, 3, 14, 14)
    for number in range(sizes["layers"]):
        block = f"pretrained.blocks.{number}"
        layer(f"{block}.norm1", hidden)
        layer(f"{block}.attn.qkv", 3 * hidden, hidden)
        layer(f"{block}.attn.proj", hidden, hidden)
        shapes[f"{block}.ls1.gamma"] = (hidden,)
        layer(f"{block}.norm2", hidden)
        layer(f"{block}.mlp.fc1", 4 * hidden, hidden)
        layer(f"{block}.mlp.fc2", hidden, 4 * hidden)
        shapes[f"{block}.ls2.gamma"] = (hidden,)
    layer("pretrained.norm", hidden)
    for number, width in enumerate(channels):
        layer(f"head.projects.{number}", width, hidden, 1, 1)
    layer("head.resize_layers.0", channels[0], channels[0], 4, 4)
    layer("head.resize_layers.1", channels[1], channels[1], 2, 2)
    layer("head.resize_layers.3", channels[3], channels[3], 3, 3)
    for number, width in enumerate(channels, start=1):
        layer(f"head.scratch.layer{number}_rn", fusion, width, 3, 3, bias=False)
        refine = f"head.scratch.refinenet{number}"
        layer(f"{refine}.out_conv", fusion, fusion, 1, 1)
        for unit in ("resConfUnit1", "resConfUnit2"):
            layer(f"{refine}.{unit}.conv1", fusion, fusion, 3, 3)
            layer(f"{refine}.{unit}.conv2", fusion, fusion, 3, 3)
    layer("head.scratch.output_conv1", fusion // 2, fusion, 3, 3)
    layer("head.scratch.output_conv2.0", 32, fusion // 2, 3, 3)
    layer("head.scratch.output_conv2.2", 1, 32, 1, 1)
    for number, width in enumerate((channels[2], channels[3], fusion, fusion)):
        module = f"head.motion_modules.{number}.temporal_transformer"
        block = f"{module}.transformer_blocks.0"
        layer(f"{module}.norm", width)
        layer(f"{module}.proj_in", width, width)
        layer(f"{module}.proj_out", width, width)
        for turn in range(2):
            attention = f"{block}.attention_blocks.{turn}"
            for part in "qkv":
                layer(f"{attention}.to_{part}", width, width, bias=False)
            layer(f"{attention}.to_out.0", width, width)
            shapes[f"{attention}.pos_encoder.pe"] = (1, 32, width)
            layer(f"{block}.norms.{turn}", width)
        layer(f"{block}.ff.net.0.proj", 8 * width, width)
        layer(f"{block}.ff.net.2", width, 4 * width)
        layer(f"{block}.ff_norm", width)
    return shapes


def video_depth_state() -> dict[str, Any]:
    """Weights of the tiny size, float32, the same bits on every machine."""
    import math

    state = {}
    for name, shape in video_depth_shapes("tiny").items():
        values = scatter(math.prod(shape), seed=zlib.crc32(name.encode())).reshape(shape)
        fan = math.prod(shape[1:]) if len(shape) > 1 else 10
        around = 1.0 if re.search(r"(norms?\.?\w*\.weight|gamma)$", name) else 0.0
        around = 2.0 if name.endswith("output_conv2.2.bias") else around
        state[name] = (around + values * math.sqrt(3 / fan)).astype("float32")
        if name.endswith(".pe"):
            state[name] = sinusoids(shape[1], shape[2])[None]
    return state


def sinusoids(length: int, channels: int) -> Any:
    """Positions as in "Attention is all you need", float32 (length, channels)."""
    import numpy as np

    angles = np.arange(length)[:, None] * np.exp(np.arange(0, channels, 2) * (-np.log(10000.0) / channels))
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(length, channels).astype(np.float32)


def scatter(count: int, seed: int) -> Any:
    """Numbers in -1..1 that look random, float64 (count,), from integer arithmetic alone (a 64-bit finaliser)."""
    import numpy as np

    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**52 - 1


def video_depth(folder: Path) -> Path:
    """A Video Depth Anything under the official names."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: torch.from_numpy(value) for name, value in video_depth_state().items()}
    save_file(state, folder / "model.safetensors")
    return folder


def pan(frames: int, height: int, width: int) -> Any:
    """A coarse pattern that slides to the left, uint8 (frames, height, width, 3), the same on every machine."""
    import numpy as np

    cells = scatter(height * (width + frames) * 3, seed=7).reshape(height, width + frames, 3)
    cells = (cells + np.roll(cells, 1, 0) + np.roll(cells, 1, 1) + np.roll(cells, (1, 1), (0, 1))) / 4
    world = (127.5 * (1 + cells)).astype(np.uint8)
    return np.stack([world[:, t : t + width] for t in range(frames)])


def clip(frames: int = 9, seed: int = 0) -> Any:
    """Noise with a bright square that moves to the right, uint8 (frames, SIDE, SIDE, 3)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    out = np.repeat(rng.integers(0, 120, (1, SIDE, SIDE, 3), dtype=np.uint8), frames, axis=0)
    for t, frame in enumerate(out):
        frame[20:44, 8 + 2 * t : 32 + 2 * t] = (230, 40, 40)
    return copy.deepcopy(out)

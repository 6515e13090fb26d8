"""Encoders of the real architectures with random weights and few of them, written as the published ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ffpdata.core.library import Library

SIDE = 28
"""Pictures are cropped to so many pixels."""


def clip(folder: Path, seed: int = 0) -> Path:
    """A `CLIPModel` with processor and tokenizer. Its tokenizer knows single bytes: no merges."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    body = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = CLIPConfig(
        text_config={**body, **ends, "vocab_size": len(words)},
        vision_config={**body, "image_size": SIDE, "patch_size": 14},
        projection_dim=16,
    )
    model = CLIPModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(4.6052)  # ln 100, as of all that were published
    model.save_pretrained(folder)
    return folder


def dinov2(folder: Path, seed: int = 0) -> Path:
    """A `Dinov2Model` with its processor."""
    import torch
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=14, mlp_ratio=2
    )
    Dinov2Model(config).save_pretrained(folder)
    size = {"shortest_edge": 32}
    BitImageProcessor(size=size, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def viclip_shapes(size: str = "large") -> dict[str, tuple[int, ...]]:
    """Names and shapes of ViCLIP's official state dict: `large` as published, `tiny` with few and small layers."""
    width, layers, text_width, text_layers, joint, words, positions = {
        "large": (1024, 24, 768, 12, 768, 49408, 257),
        "tiny": (64, 2, 64, 2, 32, 190, 5),
    }[size]
    shapes: dict[str, tuple[int, ...]] = {"temp": ()}
    for tower, channels, count in (("vision_encoder", width, layers), ("text_encoder", text_width, text_layers)):
        for layer in range(count):
            block = f"{tower}.transformer.resblocks.{layer}"
            shapes |= {
                f"{block}.attn.in_proj_weight": (3 * channels, channels),
                f"{block}.attn.in_proj_bias": (3 * channels,),
                f"{block}.attn.out_proj.weight": (channels, channels),
                f"{block}.attn.out_proj.bias": (channels,),
                f"{block}.mlp.c_fc.weight": (4 * channels, channels),
                f"{block}.mlp.c_fc.bias": (4 * channels,),
                f"{block}.mlp.c_proj.weight": (channels, 4 * channels),
                f"{block}.mlp.c_proj.bias": (channels,),
            }
            shapes |= {f"{block}.ln_{n}.{part}": (channels,) for n in (1, 2) for part in ("weight", "bias")}
    shapes |= {
        f"vision_encoder.{norm}.{part}": (width,) for norm in ("ln_pre", "ln_post") for part in ("weight", "bias")
    }
    return shapes | {
        "vision_encoder.conv1.weight": (width, 3, 1, 14, 14),
        "vision_encoder.class_embedding": (width,),
        "vision_encoder.positional_embedding": (positions, width),
        "vision_encoder.temporal_positional_embedding": (1, 8, width),
        "vision_encoder.proj": (width, joint),
        "text_encoder.token_embedding.weight": (words, text_width),
        "text_encoder.positional_embedding": (32, text_width),
        "text_encoder.ln_final.weight": (text_width,),
        "text_encoder.ln_final.bias": (text_width,),
        "text_encoder.text_projection": (text_width, joint),
    }


def viclip_state(seed: int = 0) -> Any:
    """A state dict of the tiny shapes, random."""
    import torch

    maker = torch.Generator().manual_seed(seed)
    return {name: 0.2 * torch.randn(shape, generator=maker) for name, shape in viclip_shapes("tiny").items()}


def write_profile(folder: Path) -> Path:
    """Write the checkpoints, and the shipped profile with their folders, as a user with weights on a disk does."""
    from safetensors.torch import save_file

    clip_folder = clip(folder / "clip")
    (folder / "viclip").mkdir()
    save_file(viclip_state(), folder / "viclip" / "model.safetensors")
    profile = yaml.safe_load(Library.find().file("pipelines/profiles", "perception").read_text())
    models: dict[str, Any] = profile["models"]
    places = {"frame_encoder": dinov2(folder / "dinov2"), "video_text_encoder": folder / "viclip"}
    for role, entry in models.items():
        entry |= {"model": str(places.get(role, clip_folder)), "revision": "", "runtime": {"device": "cpu"}}
        entry["resources"] = {"cpus": 1, "gpus": 0}
    models["preference_scorer"]["settings"] = {"processor": str(clip_folder)}
    models["video_text_encoder"]["settings"] = {"tokenizer": str(clip_folder)}
    written = folder / "weights.yaml"
    written.write_text(yaml.safe_dump(profile))
    return written

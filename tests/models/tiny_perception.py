"""Encoders of the real architectures with random weights and few of them, written as the published ones are."""

from __future__ import annotations

import json
from pathlib import Path

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

"""Checkpoints of the real architectures with random weights and few of them, written as the published ones are."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

SIDE = 64
"""Pictures are so many pixels wide and high."""

WORDS = ("dog", "cat", "red", "ball", "person")


def grounding_dino(folder: Path, seed: int = 0) -> Path:
    """A Grounding DINO: Swin backbone, BERT, two decoder layers, twenty queries. Its scores are high."""
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
        num_queries=20,
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


def clip(frames: int = 9, seed: int = 0) -> Any:
    """Noise with a bright square that moves to the right, uint8 (frames, SIDE, SIDE, 3)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    out = np.repeat(rng.integers(0, 120, (1, SIDE, SIDE, 3), dtype=np.uint8), frames, axis=0)
    for t, frame in enumerate(out):
        frame[20:44, 8 + 2 * t : 32 + 2 * t] = (230, 40, 40)
    return copy.deepcopy(out)

"""The official shapes of the models, as data, and tiny ones of the same architecture for a CPU.

Shapes are those of the published checkpoints: Wan 2.1 and VACE as in diffsynth's `MODEL_CONFIGS`, the others as in the
`config.json` of the repository named beside each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Shape = dict[str, Any]


@dataclass(frozen=True)
class Clip:
    """Size of the clip that every model is measured on."""

    width: int = 1280
    height: int = 720
    frames: int = 81

    def tokens(self, references: int = 0) -> int:
        """Length of the sequence that the video transformer attends over: 2x2 patches of the 8x8x4 latent."""
        return ((self.frames - 1) // 4 + 1 + references) * (self.height // 16) * (self.width // 16)


FULL_CLIP = Clip()
TINY_CLIP = Clip(width=64, height=64, frames=9)

_WAN = {"patch_size": [1, 2, 2], "freq_dim": 256, "text_dim": 4096, "out_dim": 16, "eps": 1e-6}
_WAN_1_3B = {**_WAN, "dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
_WAN_14B = {**_WAN, "dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
_WAN_TINY = {**_WAN, "text_dim": 32, "dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 2}


def _vace(dit: Shape, layers: tuple[int, ...]) -> Shape:
    control = {key: dit[key] for key in ("patch_size", "dim", "num_heads", "ffn_dim", "eps")}
    return {
        "dit": {**dit, "has_image_input": False, "in_dim": 16},
        "vace": {**control, "vace_layers": layers, "vace_in_dim": 96, "has_image_input": False},
    }


WAN: dict[str, Shape] = {
    "vace_1_3b": _vace(_WAN_1_3B, tuple(range(0, 30, 2))),  # Wan-AI/Wan2.1-VACE-1.3B
    "vace_14b": _vace(_WAN_14B, tuple(range(0, 40, 5))),  # Wan-AI/Wan2.1-VACE-14B
    "i2v_14b": {"dit": {**_WAN_14B, "has_image_input": True, "in_dim": 36}},  # Wan-AI/Wan2.1-I2V-14B-720P
}
WAN_TINY: dict[str, Shape] = {
    "vace_1_3b": _vace(_WAN_TINY, (0, 1)),
    "vace_14b": _vace(_WAN_TINY, (0,)),
    "i2v_14b": {"dit": {**_WAN_TINY, "has_image_input": True, "in_dim": 36}},
}
TEXT_ENCODER: Shape = {}  # umT5-xxl encoder: the library's defaults
TEXT_ENCODER_TINY: Shape = {"vocab": 256, "dim": 32, "dim_attn": 32, "dim_ffn": 64, "num_heads": 4, "num_layers": 1}
TEXT_VOCAB = 256384
VAE: Shape = {}  # Wan2.1_VAE: the library's defaults
VAE_TINY: Shape = {"dim": 8, "z_dim": 16, "num_res_blocks": 1}
IMAGE_ENCODER: Shape = {}  # open-clip xlm-roberta-large-vit-huge-14, image side
IMAGE_ENCODER_TINY: Shape = {"vision_layers": 2}

SAM2: dict[str, Shape] = {
    "sam2_tiny": {},  # facebook/sam2.1-hiera-tiny: the library's defaults
    "sam2_large": {  # facebook/sam2.1-hiera-large
        "backbone_channel_list": [1152, 576, 288, 144],
        "backbone_config": {
            "hidden_size": 144,
            "num_attention_heads": 2,
            "blocks_per_stage": [2, 6, 36, 4],
            "embed_dim_per_stage": [144, 288, 576, 1152],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_size_per_stage": [8, 4, 16, 8],
            "global_attention_blocks": [23, 33, 43],
        },
    },
}
SAM2_TINY_IMAGE = 128
SAM2_TINY: Shape = {
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    "fpn_hidden_size": 128,
    "backbone_config": {
        "hidden_size": 8,
        "image_size": [SAM2_TINY_IMAGE, SAM2_TINY_IMAGE],
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 2, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "global_attention_blocks": [4],
    },
}

GROUNDING_DINO: dict[str, Shape] = {
    "grounding_dino_tiny": {"image_size": 224},  # IDEA-Research/grounding-dino-tiny: Swin-T
    "grounding_dino_base": {  # IDEA-Research/grounding-dino-base: Swin-B
        "image_size": 384,
        "window_size": 12,
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
    },
}
GROUNDING_DINO_TINY: Shape = {
    "image_size": 64,
    "window_size": 4,
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [2, 2, 4, 4],
}

DEPTH: dict[str, Shape] = {
    "depth_small": {  # depth-anything/Video-Depth-Anything-Small
        "backbone": {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12, "stages": [3, 6, 9, 12]},
        "neck": [48, 96, 192, 384],
        "fusion": 64,
    },
    "depth_large": {  # depth-anything/Video-Depth-Anything-Large
        "backbone": {
            "hidden_size": 1024,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "stages": [5, 12, 18, 24],
        },
        "neck": [256, 512, 1024, 1024],
        "fusion": 256,
    },
}
DEPTH_TINY: Shape = {
    "backbone": {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 4, "stages": [1, 2, 3, 4]},
    "neck": [32, 32, 32, 32],
    "fusion": 32,
}

_QWEN_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
QWEN: dict[str, Shape] = {
    "qwen_3b": {  # Qwen/Qwen2.5-VL-3B-Instruct
        "text": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
        },
        "vision": {**_QWEN_VISION, "out_hidden_size": 2048},
        "tied": True,
    },
    "qwen_7b": {  # Qwen/Qwen2.5-VL-7B-Instruct
        "text": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
        },
        "vision": {**_QWEN_VISION, "out_hidden_size": 3584},
        "tied": False,
    },
    "qwen_72b": {  # Qwen/Qwen2.5-VL-72B-Instruct
        "text": {
            "hidden_size": 8192,
            "intermediate_size": 29568,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "vocab_size": 152064,
        },
        "vision": {**_QWEN_VISION, "intermediate_size": 3456, "out_hidden_size": 8192},
        "tied": False,
    },
}
QWEN_TINY: Shape = {
    "text": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 152064,
    },
    "vision": {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    },
    "tied": False,
}

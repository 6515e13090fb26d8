"""A tiny random Qwen-Image-Edit checkpoint of the real classes, in the layout of the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ffpdata.core.stage import ModelSpec
from ffpdata.models.qwen_image_edit import QwenImageEdit
from tests.models import tiny_wan
from tests.models.vlm import tiny_qwen

WIDTH, TEXT = 128, 64
"""Of the transformer, one head of 128, and of the text encoder."""
VAE: dict[str, Any] = {"base_dim": 8, "num_res_blocks": 1}
NAMES = {
    f"{__name__}.tiny_transformer": "qwen_image_dit.QwenImageDiT",
    f"{__name__}.tiny_text_encoder": "qwen_image_text_encoder.QwenImageTextEncoder",
}


def tiny_transformer() -> Any:
    """A QwenImageDiT of two narrow blocks: the class takes no width, and so an instance is put together."""
    from diffsynth.models import qwen_image_dit as own
    from torch import nn

    made = own.QwenImageDiT.__new__(own.QwenImageDiT)
    nn.Module.__init__(made)
    made.pos_embed = own.QwenEmbedRope(theta=10000, axes_dim=[16, 56, 56], scale_rope=True)
    made.time_text_embed = own.TimestepEmbeddings(256, WIDTH, diffusers_compatible_format=True, scale=1000)
    made.txt_norm, made.txt_in = own.RMSNorm(TEXT, eps=1e-6), nn.Linear(TEXT, WIDTH)
    made.img_in, made.proj_out = nn.Linear(64, WIDTH), nn.Linear(WIDTH, 64)
    made.transformer_blocks = nn.ModuleList(
        own.QwenImageTransformerBlock(dim=WIDTH, num_attention_heads=1, attention_head_dim=WIDTH) for _ in range(2)
    )
    made.norm_out = own.AdaLayerNorm(WIDTH, single=True)
    return made


def tiny_text_encoder(config: dict[str, Any]) -> Any:
    """A QwenImageTextEncoder of `tiny_qwen`'s sizes, likewise."""
    import torch
    from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

    made = QwenImageTextEncoder.__new__(QwenImageTextEncoder)
    torch.nn.Module.__init__(made)
    made.config = Qwen2_5_VLConfig(**config)
    made.model = Qwen2_5_VLModel(made.config)
    made.lm_head = torch.nn.Linear(TEXT, made.config.text_config.vocab_size, bias=False)
    return made


def write(folder: Path) -> Path:
    """Write transformer, text encoder, VAE and processor, and enter them into diffsynth's table."""
    import json

    from diffsynth.models.qwen_image_vae import QwenImageVAE

    tiny_wan.STANDS_FOR |= NAMES
    tiny_qwen.write(folder / "processor")
    config = json.loads((folder / "processor" / "config.json").read_text())
    (folder / "processor" / "model.safetensors").unlink()
    parts: dict[str, tuple[str, str, dict[str, Any], Any]] = {
        "transformer": ("diffusion_pytorch_model", f"{__name__}.tiny_transformer", {}, tiny_transformer),
        "text_encoder": (
            "model",
            f"{__name__}.tiny_text_encoder",
            {"config": config},
            lambda: tiny_text_encoder(config),
        ),
        "vae": ("diffusion_pytorch_model", "qwen_image_vae.QwenImageVAE", VAE, lambda: QwenImageVAE(**VAE)),
    }
    for part, (stem, kind, options, make) in parts.items():
        path = tiny_wan._save(tiny_wan._state(tiny_wan._random(make)), folder / part / f"{stem}.safetensors")
        tiny_wan._know([path], f"qwen_image_{part.replace('transformer', 'dit')}", kind, options)
    return folder


class TinyQwenImageEdit(QwenImageEdit):
    """`QwenImageEdit` in a process whose diffsynth has to be told of the checkpoint first."""

    name = "tiny_qwen_image_edit"

    def __init__(self, spec: ModelSpec) -> None:
        tiny_wan.STANDS_FOR |= NAMES
        for part in ("transformer", "text_encoder", "vae"):
            tiny_wan.know(Path(spec.model) / part)
        super().__init__(spec)

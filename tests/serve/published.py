"""config.json of published models, from the sizes that ffpdata keeps of them."""

from __future__ import annotations

from typing import Any

from ffpdata.serve.model_shape import AWQ_BYTES, ModelShape, Qwen3Shape


def config_of(shape: ModelShape) -> dict[str, Any]:
    """Write a config.json as the model's repositories hold it."""
    return _qwen3(shape) if isinstance(shape, Qwen3Shape) else _qwen25(shape)


def _qwen3(shape: Qwen3Shape) -> dict[str, Any]:
    kind = "qwen3_vl_moe" if shape.experts else "qwen3_vl"
    text = {
        "model_type": f"{kind}_text",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.wide,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "rope_parameters": {"rope_type": "default", "mrope_section": [24, 20, 20], "rope_theta": 5000000},
        "tie_word_embeddings": shape.tied,
    }
    if shape.experts:
        text |= {"num_experts": shape.experts, "moe_intermediate_size": shape.expert_wide}
        text |= {"num_experts_per_tok": shape.experts_used}
    vision = {
        "model_type": kind,
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_hidden,
        "intermediate_size": shape.vision_wide,
        "out_hidden_size": shape.hidden,
        "num_heads": 16,
        "patch_size": shape.patch,
        "spatial_merge_size": shape.merge,
        "temporal_patch_size": shape.frames_per_patch,
        "num_position_embeddings": shape.positions,
        "deepstack_visual_indexes": [8, 16, 24],
    }
    return {"model_type": kind, "text_config": text, "vision_config": vision, "tie_word_embeddings": shape.tied}


def _qwen25(shape: ModelShape) -> dict[str, Any]:
    vision = {
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_hidden,
        "intermediate_size": shape.vision_wide,
        "out_hidden_size": shape.hidden,
        "num_heads": 16,
        "patch_size": shape.patch,
        "spatial_merge_size": shape.merge,
        "temporal_patch_size": shape.frames_per_patch,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "model_type": "qwen2_5_vl",
    }
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.wide,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 128000,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "bfloat16",
        "vision_config": vision,
    }
    if shape.linear_bytes == AWQ_BYTES:
        config["quantization_config"] = {
            "quant_method": "awq",
            "bits": 4,
            "group_size": 128,
            "version": "gemm",
            "zero_point": True,
            "modules_to_not_convert": ["visual"],
        }
    return config

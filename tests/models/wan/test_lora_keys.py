"""Names in LoRA files, as the public trainers and extractors spell them."""

import pytest

from ffpdata.models.wan.lora_keys import Place, diffusers_name, diffusers_parameter, layer_name, place_of, sort_keys
from tests.models import tiny_wan as tiny


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("diffusion_model.blocks.3.self_attn.q", "blocks.3.self_attn.q"),
        ("transformer.blocks.3.attn1.to_q", "blocks.3.self_attn.q"),
        ("base_model.model.diffusion_model.blocks.11.cross_attn.k_img", "blocks.11.cross_attn.k_img"),
        ("blocks.0.attn2.to_out.0", "blocks.0.cross_attn.o"),
        ("vace_blocks.7.ffn.net.0.proj", "vace_blocks.7.ffn.0"),
        ("pipe.vace.vace_blocks.0.proj_in", "vace_blocks.0.before_proj"),
        ("text_embedding.0", "text_embedding.0"),
        ("transformer.condition_embedder.time_proj", "time_projection.1"),
        ("blocks.2.norm2", "blocks.2.norm3"),
        ("transformer.condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
        ("blocks.2.attn2.norm_added_k", "blocks.2.cross_attn.norm_k_img"),
        ("lora_unet_blocks_0_self_attn_q", "blocks.0.self_attn.q"),
        ("lora_unet_blocks_39_cross_attn_v_img", "blocks.39.cross_attn.v_img"),
        ("lora_unet_vace_blocks_7_ffn_2", "vace_blocks.7.ffn.2"),
        ("lora_unet__blocks_12_cross_attn_norm_k_img", "blocks.12.cross_attn.norm_k_img"),
        ("lora_unet__head_head", "head.head"),
        ("lora_unet_time_projection_1", "time_projection.1"),
        ("lora_unet_img_emb_proj_1", "img_emb.proj.1"),
        ("lycoris_blocks_4_attn1_to_out_0", "blocks.4.self_attn.o"),
        ("lycoris_blocks_4_ffn_net_0_proj", "blocks.4.ffn.0"),
    ],
)
def test_layer_names(spelled, name):
    assert layer_name(spelled) == name
    assert layer_name(diffusers_name(name)) == name


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("blocks.0.self_attn.q.lora_A.default.weight", Place("blocks.0.self_attn.q", "down")),
        ("blocks.0.self_attn.q.lora_B.weight", Place("blocks.0.self_attn.q", "up")),
        ("diffusion_model.blocks.0.ffn.0.lora_up.weight", Place("blocks.0.ffn.0", "up")),
        ("transformer.blocks.0.ffn.net.2.lora.down.weight", Place("blocks.0.ffn.2", "down")),
        ("unet.blocks.0.attn1.to_q_lora.up.weight", Place("blocks.0.self_attn.q", "up")),
        ("blocks.0.attn1.to_q.lora_linear_layer.up.weight", Place("blocks.0.self_attn.q", "up")),
        ("blocks.0.self_attn.q.lora_A", Place("blocks.0.self_attn.q", "down")),
        ("transformer.blocks.0.attn1.to_q.lora_B.bias", Place("blocks.0.self_attn.q", "bias")),
        ("lora_unet_blocks_0_ffn_0.alpha", Place("blocks.0.ffn.0", "alpha")),
        ("diffusion_model.blocks.0.diff_m", Place("blocks.0.modulation", "diff")),
        ("diffusion_model.head.diff_m", Place("head.modulation", "diff")),
        ("lora_unet_blocks_0.diff_m", Place("blocks.0.modulation", "diff")),
        ("transformer.scale_shift_table.diff", Place("head.modulation", "diff")),
        ("blocks.0.scale_shift_table.diff", Place("blocks.0.modulation", "diff")),
        ("diffusion_model.img_emb.proj.4.diff_b", Place("img_emb.proj.4.bias", "diff")),
        ("diffusion_model.blocks.0.norm3.diff", Place("blocks.0.norm3.weight", "diff")),
        ("blocks.0.cross_attn.norm_q.w_norm", Place("blocks.0.cross_attn.norm_q.weight", "diff")),
        ("blocks.0.self_attn.q.weight", None),
        ("blocks.0.self_attn.q.lokr_w1", None),
        ("blocks.0.self_attn.q.lora_magnitude_vector.default.weight", None),
        ("lora_unet_double_blocks_0_img_attn.alpha", None),
    ],
)
def test_every_key_has_a_place_or_is_unknown(key, place):
    assert place_of(key) == place
    found = sort_keys([key])
    assert len(found.pairs) + len(found.diffs) + len(found.unknown) == 1


def test_diffusers_names_a_modulation_otherwise():
    assert diffusers_parameter("blocks.3.modulation") == "blocks.3.scale_shift_table"
    assert diffusers_parameter("head.modulation") == "scale_shift_table"
    assert diffusers_parameter("blocks.3.self_attn.q.bias") == "blocks.3.attn1.to_q.bias"


@pytest.fixture(scope="module", params=["vace", "i2v"])
def parameters(request):
    """Names of all parameters of a Wan transformer, as the model has them: Wan's own and diffusers'."""
    wan = pytest.importorskip("diffsynth.models.wan_video_dit", reason="diffsynth is not installed")
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    from diffsynth.models.wan_video_vace import VaceWanModel

    small = {"num_attention_heads": 4, "attention_head_dim": 12, "text_dim": 32, "ffn_dim": 64, "num_layers": 2}
    if request.param == "vace":
        ours = [wan.WanModel(**tiny.VACE["dit"]), VaceWanModel(**tiny.VACE["vace"])]
        theirs = diffusers.WanVACETransformer3DModel(**small, vace_layers=[0, 1], vace_in_channels=96)
    else:
        ours = [wan.WanModel(**tiny.I2V["dit"])]
        theirs = diffusers.WanTransformer3DModel(**small, in_channels=36, image_dim=1280, added_kv_proj_dim=48)
    return {name for model in ours for name, _ in model.named_parameters()}, {n for n, _ in theirs.named_parameters()}


def test_every_parameter_of_a_model_has_its_name_in_both_libraries(parameters):
    ours, theirs = parameters
    assert {diffusers_parameter(name) for name in ours} == theirs


def test_every_parameter_is_found_by_the_key_of_every_extractor(parameters):
    endings = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}
    for name in parameters[0]:
        stem, _, kind = name.rpartition(".")
        flat = stem.replace(".", "_")
        keys = [f"{prefix}{stem}.{endings[kind]}" for prefix in ("", "diffusion_model.", "model.diffusion_model.")]
        keys += [f"lora_unet_{flat}.{endings[kind]}", f"lora_unet__{flat}.{endings[kind]}"]
        if kind != "modulation":
            keys.append(f"transformer.{diffusers_name(stem)}.{endings[kind]}")
        assert {place_of(key) for key in keys} == {Place(name, "diff")}, name
        if kind == "weight":
            pair = [f"lora_unet_{flat}.lora_down.weight", f"base_model.model.{stem}.lora_A.default.weight"]
            assert {place_of(key) for key in pair} == {Place(stem, "down")}, name

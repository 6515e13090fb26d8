"""LoRA files in the spellings that are published."""

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.lora_keys import diffusers_name
from ffpdata.models.wan.loras import lora_file, read_lora, resolve_under_root
from ffpdata.models.wan.settings import Lora
from ffpdata.storage.store import Store
from tests.models import tiny_wan as tiny


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra `models` is not installed")


@pytest.mark.parametrize("remote", [False, True])
def test_a_lora_is_found_below_its_root_and_in_the_store(tmp_path, remote):
    root = f"memory://{tmp_path.name}" if remote else str(tmp_path)
    Store(root).write("refine/lora.safetensors", b"weights")
    named = [Lora(model="refine/lora.safetensors", revision="ab"), Lora(model="owner/name"), Lora(model="/x/y")]
    found = resolve_under_root(named, root)
    assert found[0].model == f"{root}/refine/lora.safetensors"
    assert (found[0].revision, found[1:]) == ("ab", named[1:])
    assert resolve_under_root(named, "") == named
    assert lora_file(found[0]).read_bytes() == b"weights"


def test_a_lora_that_is_gone_from_the_store_is_named():
    with pytest.raises(FatalError, match=r"memory://gone/a\.safetensors is not there"):
        lora_file(Lora(model="memory://gone/a.safetensors"))


def test_alpha_over_rank_scales_the_lora(torch, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tiny.write_lora(tmp_path / "a.safetensors", ("blocks.0.self_attn.q",), style="lightx2v", rank=4)
    state = load_file(path)
    whole = read_lora(Lora(model=str(path))).pairs["blocks.0.self_attn.q"]
    state["diffusion_model.blocks.0.self_attn.q.alpha"] = torch.tensor(2.0)
    save_file(state, path)
    half = read_lora(Lora(model=str(path))).pairs["blocks.0.self_attn.q"]
    assert torch.equal(half[0], whole[0] / 2)
    assert torch.equal(half[1], whole[1])
    assert whole[0].shape == (4, 48)
    assert whole[1].shape == (48, 4)


def test_biases_and_norms_come_with_it(torch, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tiny.write_lora(tmp_path / "a.safetensors", style="lightx2v")
    beside = {"blocks.0.norm3.diff": 1, "blocks.0.self_attn.q.diff_b": 2, "time_projection.1.diff_b": 3}
    beside |= {"blocks.1.diff_m": 4, "head.diff_m": 5, "vace_blocks.0.modulation.diff": 6}
    beside = {f"diffusion_model.{name}": torch.full((48,), float(value)) for name, value in beside.items()}
    save_file(load_file(path) | beside, path)
    found = read_lora(Lora(model=str(path)))
    assert set(found.pairs) == {"blocks.0.self_attn.q", "vace_blocks.1.ffn.2"}
    names = {"blocks.0.norm3.weight": 1, "blocks.0.self_attn.q.bias": 2, "time_projection.1.bias": 3}
    names |= {"blocks.1.modulation": 4, "head.modulation": 5, "vace_blocks.0.modulation": 6}
    assert {name: float(delta[0]) for name, delta in found.deltas.items()} == names


@pytest.mark.parametrize("spelling", ["lightx2v", "peft", "musubi"])
def test_a_distilled_lora_is_one_in_every_spelling(torch, tmp_path, spelling):
    changed = tiny.write_distilled(tmp_path / "a.safetensors", spelling=spelling)
    found = read_lora(Lora(model=str(tmp_path)))
    read = {f"{layer}.weight": up.float() @ down.float() for layer, (down, up) in found.pairs.items()} | found.deltas
    assert read.keys() == changed.keys()
    for name, tensor in changed.items():
        assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize(
    ("prefix", "converter"),
    [
        ("diffusion_model.", "_convert_non_diffusers_wan_lora_to_diffusers"),
        ("lora_unet_", "_convert_musubi_wan_lora_to_diffusers"),
    ],
)
def test_diffusers_reads_the_same(torch, tmp_path, prefix, converter):
    """Held against diffusers' own conversion, for the kinds of keys that it knows."""
    upstream = getattr(pytest.importorskip("diffusers.loaders.lora_conversion_utils"), converter)
    from safetensors.torch import save_file

    attentions = [f"{kind}_attn.{one}" for kind in ("self", "cross") for one in "qkvo"]
    state = {}
    for layer in (f"blocks.{n}.{one}" for n in range(2) for one in (*attentions, "ffn.0", "ffn.2")):
        stem = f"{prefix}{layer.replace('.', '_') if prefix == 'lora_unet_' else layer}"
        state |= {f"{stem}.lora_down.weight": torch.randn(4, 8), f"{stem}.lora_up.weight": torch.randn(8, 4)}
        state[f"{stem}.alpha"] = torch.tensor(2.0)
        if prefix == "diffusion_model.":
            state[f"{stem}.diff_b"] = torch.randn(8)
    save_file(state, tmp_path / "a.safetensors")
    ours = read_lora(Lora(model=str(tmp_path)))
    theirs = upstream(dict(state))
    assert len(theirs) == 2 * len(ours.pairs) + len(ours.deltas)
    for layer, (down, up) in ours.pairs.items():
        stem = f"transformer.{diffusers_name(layer)}"
        want = theirs[f"{stem}.lora_B.weight"] @ theirs[f"{stem}.lora_A.weight"]
        assert torch.allclose(up @ down, want, atol=1e-6), layer
    for name, delta in ours.deltas.items():
        assert torch.equal(delta, theirs[f"transformer.{diffusers_name(name.removesuffix('.bias'))}.lora_B.bias"]), name


def test_a_file_of_differences_alone_is_a_lora(torch, tmp_path):
    """LightX2V's extractor writes one with --diff-only."""
    from safetensors.torch import save_file

    save_file({"diffusion_model.blocks.0.self_attn.q.diff": torch.ones(48, 48)}, tmp_path / "a.safetensors")
    found = read_lora(Lora(model=str(tmp_path)))
    assert (found.pairs, [*found.deltas]) == ({}, ["blocks.0.self_attn.q.weight"])


def test_a_pair_on_a_convolution_is_its_product(torch, tmp_path):
    from safetensors.torch import save_file

    down, up = torch.randn(2, 16, 1, 2, 2), torch.randn(48, 2, 1, 1, 1)
    state = {"lora_unet_patch_embedding.lora_down.weight": down, "lora_unet_patch_embedding.lora_up.weight": up}
    save_file(state | {"lora_unet_patch_embedding.alpha": torch.tensor(1.0)}, tmp_path / "a.safetensors")
    found = read_lora(Lora(model=str(tmp_path)))
    want = torch.einsum("or,rithw->oithw", up[:, :, 0, 0, 0], down) / 2
    assert torch.allclose(found.deltas["patch_embedding.weight"], want, atol=1e-5)
    assert not found.pairs


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ("something.else", r"1 of 5 keys are none of a LoRA for Wan, .* another model: something\.else\.$"),
        ("lora_unet_blocks_0_self_attn_x.alpha", r"lora_unet_blocks_0_self_attn_x\.alpha"),
        ("blocks.0.self_attn.q.dora_scale", r"q\.dora_scale\. LoKr, LoHa, DoRA and GLoRA are other adapters"),
        ("lycoris_blocks_0_attn1_to_q.lokr_w1", r"lokr_w1\. LoKr, LoHa, DoRA"),
        ("diffusion_model.blocks.0.self_attn.q.lora_down.weight", "name a place that another key has"),
        ("blocks.0.ffn.0.alpha", r"blocks\.0\.ffn\.0 has alpha alone"),
    ],
)
def test_no_key_is_left_out(torch, tmp_path, beside, told):
    from safetensors.torch import load_file, save_file

    path = tiny.write_lora(tmp_path / "a.safetensors")
    save_file(load_file(path) | {beside: torch.zeros(3)}, path)
    with pytest.raises(FatalError, match=told):
        read_lora(Lora(model=str(path)))


def test_a_whole_model_is_no_lora(torch, tmp_path):
    from safetensors.torch import save_file

    save_file({"blocks.0.self_attn.q.weight": torch.zeros(4, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(FatalError, match="no LoRA weights"):
        read_lora(Lora(model=str(tmp_path)))


def test_half_of_a_pair_is_refused(torch, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tiny.write_lora(tmp_path / "a.safetensors", ("blocks.0.self_attn.q", "blocks.1.ffn.0", "blocks.1.ffn.2"))
    state = load_file(path)
    del state["blocks.1.ffn.0.lora_B.default.weight"], state["blocks.1.ffn.2.lora_A.default.weight"]
    save_file(state, path)
    with pytest.raises(FatalError, match=r"blocks\.1\.ffn\.0 has down alone, not up and down"):
        read_lora(Lora(model=str(path)))


def test_which_file(torch, tmp_path):
    first = tiny.write_lora(tmp_path / "first.safetensors")
    assert lora_file(Lora(model=str(first))) == first
    assert lora_file(Lora(model=str(tmp_path))) == first
    second = tiny.write_lora(tmp_path / "second.safetensors")
    with pytest.raises(FatalError, match=r"2 files: name one as `file`, e\.g\. first"):
        lora_file(Lora(model=str(tmp_path)))
    assert lora_file(Lora(model=str(tmp_path), file="second.safetensors")) == second
    with pytest.raises(FatalError, match=r"no file 'third\.safetensors'"):
        lora_file(Lora(model=str(tmp_path), file="third.safetensors"))
    with pytest.raises(FatalError, match="no folder"):
        lora_file(Lora(model=str(tmp_path / "nowhere")))


def test_a_damaged_file(torch, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(FatalError, match="not a readable safetensors file"):
        read_lora(Lora(model=str(path)))

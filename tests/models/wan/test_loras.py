"""LoRA files in the spellings that are published."""

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.loras import diffusers_name, layer_name, lora_file, read_lora, resolve_under_root
from ffpdata.models.wan.settings import Lora
from ffpdata.storage.store import Store
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
    ],
)
def test_layer_names(spelled, name):
    assert layer_name(spelled) == name
    assert layer_name(diffusers_name(name)) == name


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


def test_biases_and_norms_come_with_it_and_what_is_no_lora_is_told(torch, tmp_path, caplog):
    from safetensors.torch import load_file, save_file

    path = tiny.write_lora(tmp_path / "a.safetensors", style="lightx2v")
    beside = {"blocks.0.norm3.diff": 1, "blocks.0.self_attn.q.diff_b": 2, "time_projection.1.diff_b": 3}
    beside = {f"diffusion_model.{name}": torch.full((48,), float(value)) for name, value in beside.items()}
    save_file(load_file(path) | beside | {"something.else": torch.zeros(3)}, path)
    found = read_lora(Lora(model=str(path)))
    assert set(found.pairs) == {"blocks.0.self_attn.q", "vace_blocks.1.ffn.2"}
    names = {"blocks.0.norm3.weight": 1, "blocks.0.self_attn.q.bias": 2, "time_projection.1.bias": 3}
    assert {name: float(delta[0]) for name, delta in found.deltas.items()} == names
    assert "1 weights are none of a LoRA and not used, e.g. something.else" in caplog.text


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

"""The pipeline that roles share: LoRAs in turn, weights that wait in main memory, a cache, and what comes out."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace

import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.vace import BESIDE, PARTS, Vace
from ffpdata.models.wan import pipeline_cache
from ffpdata.models.wan.checkpoint_files import find_parts
from ffpdata.models.wan.engine import KEPT_LORAS
from ffpdata.models.wan.loading import LoadPlan
from ffpdata.models.wan.request import Request
from ffpdata.models.wan.settings import Lora, Source
from tests.models import tiny_wan as tiny

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_vace(tmp_path_factory.mktemp("vace"))


@pytest.fixture(scope="module")
def plan(folder):
    return LoadPlan(find_parts(Source(model=str(folder)), {}, PARTS), "bfloat16", "cpu", beside=BESIDE)


@pytest.fixture(scope="module")
def engine(plan):
    from ffpdata.models.wan.engine import DiffsynthEngine

    made = DiffsynthEngine(plan)
    yield made
    made.close()


@pytest.fixture(scope="module")
def request_():
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    mask = np.zeros_like(frames)
    mask[:, 16:40, 16:40] = 255
    size = {"height": 64, "width": 64, "frames": 9}
    how = {"steps": 4, "guidance": 5.0, "shift": 5.0}
    return Request(prompt="a street", negative="car", seed=1, control=frames, mask=mask, **size, **how)


@pytest.fixture(scope="module")
def plain(engine, request_):
    return engine.generate(request_)


@pytest.fixture(params=["models", "layers"])
def waiting(request, plan, monkeypatch):
    """An engine whose weights wait: what moves them is made for GPUs and asks the device two things no CPU can say."""
    from ffpdata.models.wan.engine import DiffsynthEngine

    monkeypatch.setattr(torch.cpu, "empty_cache", lambda: None, raising=False)
    monkeypatch.setattr(torch.cpu, "mem_get_info", lambda device: (1 << 30, 8 << 30), raising=False)
    made = DiffsynthEngine(replace(plan, offload=request.param))
    yield made
    made.close()


def test_weights_that_wait_give_the_same_answer(waiting, request_, plain):
    assert waiting.pipe.vram_management_enabled
    assert np.array_equal(waiting.generate(request_), plain)


def test_a_lora_is_laid_over_every_layer_where_weights_wait(waiting, engine, request_, plain, tmp_path):
    from safetensors.torch import load_file, save_file

    layers = ("blocks.0.self_attn.q", "vace_blocks.1.ffn.2", "vace_blocks.0.cross_attn.v", "vace_blocks.0.before_proj")
    path = tiny.write_lora(tmp_path / "l.safetensors", layers)
    changes = {"blocks.1.norm3.diff": torch.linspace(-1, 1, 48), "vace_blocks.0.after_proj.diff_b": torch.ones(48)}
    save_file(load_file(path) | changes, path)
    lora = Lora(model=str(path))
    want = engine.generate(request_, [lora])
    assert not np.array_equal(want, plain)
    assert np.array_equal(waiting.generate(request_, [lora]), want)
    assert np.array_equal(waiting.generate(request_), plain)


def test_every_key_of_a_distilled_lora_reaches_its_parameter(engine, request_, plain, tmp_path):
    """Also of `modulation`, which belongs to no layer: without it a distilled model is laid on in part."""
    changed = tiny.write_distilled(tmp_path / "l.safetensors")
    engine.use_loras([])
    models = (engine.pipe.dit, engine.pipe.vace)
    before = {name: value.clone() for model in models for name, value in model.named_parameters()}
    lora = Lora(model=str(tmp_path / "l.safetensors"))
    engine.use_loras([lora])
    after = {name: value for model in models for name, value in model.named_parameters()}
    pairs = {layer.name: layer for model in models for layer in model.modules() if getattr(layer, "lora_A_weights", 0)}
    for name, tensor in changed.items():
        layer = name.rpartition(".")[0]
        if layer in pairs and name.endswith(".weight"):
            down, up = pairs[layer].lora_A_weights[0], pairs[layer].lora_B_weights[0]
            assert torch.allclose(up.float() @ down.float(), tensor, atol=1e-6), name
        else:
            assert torch.equal(after[name], before[name] + tensor), name
    assert {name for name in before if not torch.equal(after[name], before[name])} == {
        name for name in changed if name.rpartition(".")[0] not in pairs or not name.endswith(".weight")
    }
    assert not np.array_equal(engine.generate(request_, [lora]), plain)
    assert np.array_equal(engine.generate(request_), plain)


def test_a_distilled_lora_is_laid_on_as_a_whole_where_weights_wait(waiting, engine, request_, plain, tmp_path):
    tiny.write_distilled(tmp_path / "l.safetensors")
    lora = Lora(model=str(tmp_path / "l.safetensors"))
    assert np.array_equal(waiting.generate(request_, [lora]), engine.generate(request_, [lora]))
    assert np.array_equal(waiting.generate(request_), plain)


def test_a_lora_file_that_was_replaced_is_read_again(engine, request_, tmp_path):
    lora = Lora(model=str(tiny.write_lora(tmp_path / "l.safetensors", seed=1)))
    first = engine.generate(request_, [lora])
    tiny.write_lora(tmp_path / "l.safetensors", seed=2)
    os.utime(lora.model, ns=(1, 1))  # a clock may be too coarse to tell them apart
    assert not np.array_equal(engine.generate(request_, [lora]), first)


def test_the_last_few_lora_files_are_kept_and_strength_makes_no_other(engine, tmp_path):
    for number in range(KEPT_LORAS + 2):
        path = tiny.write_lora(tmp_path / f"{number}.safetensors", seed=number)
        for strength in (0.5, 1.0):
            engine.use_loras([Lora(model=str(path), strength=strength)])
    assert [file.path.stem for file in engine._lora_cache] == [str(number) for number in range(2, KEPT_LORAS + 2)]


def test_roles_share_a_model_and_each_keeps_its_loras(folder, tmp_path):
    lora = tiny.write_lora(tmp_path / "removal.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    masks = np.zeros((9, 64, 64), bool)
    masks[:, 16:40, 16:40] = True

    def role(**settings):
        return Vace(
            ModelSpec(backend="", model=str(folder), settings={"steps": 2, **settings}, runtime={"device": "cpu"})
        )

    def edited(model):
        return model.edit(frames, masks, prompt="a", seed=1).frames

    before = len(pipeline_cache._shared)
    swapper, remover = role(), role(loras=[{"model": str(lora)}], steps=3)
    assert len(pipeline_cache._shared) == before + 1
    first, second = edited(swapper), edited(remover)
    assert not np.array_equal(first, second)
    assert np.array_equal(edited(swapper), first)
    assert np.array_equal(edited(remover), second)
    engine = next(iter(pipeline_cache._shared.values())).engine
    swapper.close()
    assert np.array_equal(edited(remover), second)
    remover.close()
    assert len(pipeline_cache._shared) == before
    assert engine.pipe is None


def test_a_cache_skips_steps(engine, request_, plain, monkeypatch):
    calls = []
    block = engine.pipe.dit.blocks[0]
    block.register_forward_hook(lambda *_: calls.append(1))
    cached = replace(request_, tea_cache=(1e6, "Wan2.1-T2V-1.3B"))
    answer = engine.generate(cached)
    block._forward_hooks.clear()
    assert len(calls) == 4  # the first and the last of four steps, twice each for guidance
    assert not np.array_equal(answer, plain)
    assert np.array_equal(engine.generate(cached), answer)


def test_the_autoencoder_keeps_nothing(engine, request_):
    engine.generate(request_)
    assert all(kept is None for kept in [*engine.pipe.vae.model._feat_map, *engine.pipe.vae.model._enc_feat_map])


def test_frames_are_rounded():
    from ffpdata.models.wan.engine import to_frames

    levels = torch.tensor([-1.5, -1.0, 0.0, 0.4 / 127.5, 0.6 / 127.5, 1.0, 2.0])
    video = levels.view(1, 1, 1, 1, -1).expand(1, 3, 2, 1, -1)
    frames = to_frames(video)
    assert frames.shape == (2, 1, 7, 3)
    assert frames[1, 0, :, 2].tolist() == [0, 0, 128, 128, 128, 255, 255]


def test_an_answer_that_is_not_finite_is_an_error(engine, request_, monkeypatch):
    monkeypatch.setattr(engine.pipe.vae, "decode", lambda *_, **__: torch.full((1, 3, 9, 64, 64), float("nan")))
    with pytest.raises(FloatingPointError, match="frame 0"):
        engine.generate(request_)


def test_a_checkpoint_that_the_library_does_not_know(folder, plan, tmp_path):
    from safetensors.torch import save_file

    from ffpdata.models.wan.loading import load

    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({"some.weight": torch.zeros(3)}, path)
    files = tuple((part, (str(path),) if part == "transformer" else found) for part, found in plan.parts.files)
    with pytest.raises(FatalError, match=r"not the checkpoint that it should be \(Cannot detect the model type"):
        load(replace(plan, parts=replace(plan.parts, files=files)))


def test_nothing_is_printed_on_standard_output(engine, request_, capfd):
    engine.generate(request_)
    assert capfd.readouterr().out == ""

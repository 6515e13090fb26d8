"""VACE with two transformers on tiny random checkpoints: which of them runs in which step, LoRAs on each, settings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.requirements import find_checkpoint
from ffpdata.models.vace import Vace
from ffpdata.models.vace_fun import VaceFun, VaceFunSettings
from ffpdata.models.wan.settings import Lora
from tests.models import tiny_wan as tiny

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")
SHAPE = (9, 64, 64, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_vace_fun(tmp_path_factory.mktemp("fun"))


def spec(folder: Path, **settings: object) -> ModelSpec:
    return ModelSpec.of(VaceFun, model=str(folder), settings={"steps": 4, **settings}, runtime={"device": "cpu"})


@pytest.fixture(scope="module")
def model(folder: Path):
    made = VaceFun(spec(folder))
    yield made
    made.close()


@pytest.fixture(scope="module")
def edit():
    frames = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    masks = np.zeros(SHAPE[:3], bool)
    masks[:, 16:44, 12:40] = True
    return lambda model: model.edit(frames, masks, prompt="a street", negative="car", seed=3).frames


def test_noisy_steps_are_the_first_transformers_and_the_others_the_seconds(model, edit) -> None:
    """Four steps at shift 5: 1, .9375, .8333, .625; the boundary is .875."""
    pipe = model._pipeline._entry.engine.pipe
    asked = []
    hooks = [
        getattr(pipe, name).blocks[0].register_forward_pre_hook(lambda *_, name=name: asked.append(name))
        for name in ("dit", "dit2")
    ]
    hooks += [
        getattr(pipe, name).vace_blocks[0].register_forward_pre_hook(lambda *_, name=name: asked.append(name))
        for name in ("vace", "vace2")
    ]
    edit(model)
    for hook in hooks:
        hook.remove()
    assert asked == ["vace", "dit"] * 4 + ["vace2", "dit2"] * 4  # each step twice for guidance


def test_the_boundary_decides_and_each_transformer_counts(folder, model, edit) -> None:
    plain = edit(model)
    answers = [plain]
    for boundary in (0.5, 0.99):
        other = VaceFun(spec(folder, boundary=boundary))
        answers.append(edit(other))
        other.close()
    assert len({answer.tobytes() for answer in answers}) == 3
    # One transformer alone is VACE itself: at a boundary below the last step the second never runs.
    alone = Vace(
        ModelSpec.of(
            Vace,
            model=str(folder / "high_noise_model"),
            runtime={"device": "cpu"},
            settings={
                "steps": 4,
                "shift": 5,
                "sources": {part: {"model": str(folder)} for part in ("text_encoder", "vae", "tokenizer")},
            },
        )
    )
    assert np.array_equal(edit(alone), answers[1])
    alone.close()


def test_loras_go_onto_both_or_onto_one(model, edit, tmp_path) -> None:
    path = str(tiny.write_lora(tmp_path / "removal.safetensors"))
    tiny.write_distilled(tmp_path / "distilled.safetensors")
    plain = edit(model)
    answers = {}
    for noise in ("", "high", "low"):
        model.swap_loras([Lora(model=path, noise=noise)])
        answers[noise] = edit(model)
    assert len({answer.tobytes() for answer in (plain, *answers.values())}) == 4
    model.swap_loras([Lora(model=path, noise="high"), Lora(model=path, noise="low")])
    assert np.array_equal(edit(model), answers[""])
    whole = str(tmp_path / "distilled.safetensors")
    for noise in ("high", "low"):
        model.swap_loras([Lora(model=whole, noise=noise)])
        assert not np.array_equal(edit(model), plain)
    model.swap_loras([])
    assert np.array_equal(edit(model), plain), "they come off exactly"


def test_what_makes_no_sense_is_refused(folder, tmp_path) -> None:
    cache = {"threshold": 0.1, "fitted": "Wan2.1-T2V-14B"}
    with pytest.raises(ConfigError, match="residual of one transformer"):
        VaceFun(spec(folder, tea_cache=cache))
    single = ModelSpec.of(Vace, model=str(folder), settings={"loras": [{"model": "x", "noise": "high"}]})
    with pytest.raises(ConfigError, match="models with two transformers"):
        Vace.needs(single)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "high_noise_model").symlink_to(folder / "high_noise_model")
    with pytest.raises(FatalError, match=r"transformer_low_noise of .*half"):
        VaceFun(spec(tmp_path / "half"))
    assert not hasattr(VaceFun, "training_plan"), "which of the two would be trained is not said"


def test_the_folders_are_checked_without_loading(folder, tmp_path) -> None:
    path = str(tiny.write_lora(tmp_path / "removal.safetensors"))
    needs = VaceFun.needs(spec(folder, loras=[{"model": path, "noise": "low"}]))
    assert {c.part: find_checkpoint(c).level for c in needs.checkpoints} == dict.fromkeys(
        ("transformer_high_noise", "transformer_low_noise", "text_encoder", "vae", "tokenizer", "lora"), "ok"
    )
    [note] = [note for note in needs.inspect() if note.subject.startswith("keys")]
    assert note.level == "ok"


def test_defaults_are_upstreams() -> None:
    """VideoX-Fun: config/wan2.2/wan_civitai_t2v.yaml (boundary, shift), predict_v2v_mask.py (steps, guidance)."""
    settings = VaceFunSettings()
    assert (settings.boundary, settings.shift, settings.steps, settings.guidance) == (0.875, 5.0, 50, 5.0)
    import inspect

    from diffsynth.pipelines.wan_video import WanVideoPipeline

    assert inspect.signature(WanVideoPipeline.__call__).parameters["switch_DiT_boundary"].default == settings.boundary


def test_the_profile_names_it_for_every_role() -> None:
    pipeline = load_pipeline("local_editing", "gpu,vace22")
    spec = pipeline.models["remover"]
    assert spec.load_class() is VaceFun
    assert pipeline.models["swapper"].model == spec.model == "alibaba-pai/Wan2.2-VACE-Fun-A14B"
    assert VaceFun.needs(spec).checkpoints[0].stem == "high_noise_model/diffusion_pytorch_model"


def test_its_transformers_have_the_layers_that_the_library_knows() -> None:
    """diffsynth tells a checkpoint by a hash of names and shapes: those of VACE 14B are one entry for both models."""
    from diffsynth.configs import MODEL_CONFIGS
    from diffsynth.core.loader.file import hash_state_dict_keys
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.models.wan_video_vace import VaceWanModel

    known = [entry for entry in MODEL_CONFIGS if entry["model_name"] == "wan_video_vace"]
    large = next(entry for entry in known if entry.get("extra_kwargs", {}).get("dim") == 5120)
    dit = next(
        e for e in MODEL_CONFIGS if e["model_hash"] == large["model_hash"] and e["model_name"] == "wan_video_dit"
    )
    with torch.device("meta"):
        state = {
            **WanModel(**dit["extra_kwargs"]).state_dict(),
            **VaceWanModel(**large["extra_kwargs"]).state_dict(),
        }
    assert hash_state_dict_keys(state, with_shape=True) == large["model_hash"]

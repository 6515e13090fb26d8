"""The propagator through a profile's entry: the base as it comes, a trained model over it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.propagation.heads import read_heads
from ffpdata.models.propagation.model_folder import Base, base_digest, read_model, settings_text
from ffpdata.models.propagation.propagator import FunControl, PropagatorSettings
from ffpdata.models.propagation.settings import PropagationSettings, preset
from ffpdata.models.requirements import find_checkpoint
from tests.models.propagation.conftest import SMALL, TEMPORAL

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("diffsynth", reason="diffsynth is not installed")


def heads_text(base: str) -> str:
    from ffpdata.models.propagation.head_study import StudyOptions, vote

    margin = np.where(np.array(TEMPORAL), 1.0, -1.0)
    apart = (1 - np.eye(3))[None, None] * (margin[..., None, None] > 0) + np.eye(3) * (margin[..., None, None] < 0)
    heads = vote([apart.astype(np.float32)], ["a"], (9, 64, 64), base=base, options=StudyOptions())
    assert heads.temporal == TEMPORAL
    return heads.text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, load, spec, latents) -> Path:
    """The folder of a model of a few steps, as a trainer writes it."""
    from safetensors.torch import save_file

    from ffpdata.models.propagation.training import PropagationTraining

    folder = tmp_path_factory.mktemp("trained")
    settings = preset("full", **SMALL, learning_rate=0.01)
    module = PropagationTraining(load(), settings=settings, heads=TEMPORAL, seed=0)
    optimizer = torch.optim.AdamW(module.learned().values(), lr=0.01)
    for seed in range(4):
        module(latents, seed).backward()
        optimizer.step()
        optimizer.zero_grad()
    for stem, state in module.parts().items():
        save_file({name: value.detach().contiguous() for name, value in state.items()}, folder / f"{stem}.safetensors")
    base = base_digest(FunControl.training_plan(spec()).parts)
    (folder / "settings.json").write_text(settings_text(settings, Base(base, "tiny")))
    (folder / "heads.json").write_text(heads_text(base))
    return folder


@pytest.fixture(scope="module")
def ask(spec, pair) -> Callable[..., np.ndarray]:
    def asked(runtime=None, **settings) -> np.ndarray:
        model = FunControl(spec(runtime=runtime, **settings))
        try:
            return model.propagate(pair[0], pair[2], prompt=pair[3], negative="red", seed=3).frames
        finally:
            model.close()

    return asked


@pytest.fixture(scope="module")
def plain(ask) -> np.ndarray:
    return ask()


def test_the_base_answers_and_a_seed_repeats_it(ask, plain, pair):
    assert plain.shape == pair[0].shape
    assert plain.dtype == np.uint8
    assert np.array_equal(ask(), plain)
    assert not np.array_equal(ask(guidance=1.0), plain)
    assert not np.array_equal(ask(clip_embedding="zero"), plain)
    assert not np.array_equal(ask(reference_tokens="zero"), plain)
    first = ask(first_frame="image")
    assert np.array_equal(first[0], pair[2])
    assert np.array_equal(first[1:], plain[1:])


def test_a_trained_model_is_laid_over_it(ask, plain, trained, spec, pair):
    model = FunControl(spec(trained=str(trained)))
    answer = model.propagate(pair[0], pair[2], prompt=pair[3], negative="red", seed=3)
    again = model.propagate(pair[0], pair[2], prompt=pair[3], negative="red", seed=3)
    model.close()
    assert np.array_equal(answer.frames, again.frames)
    assert not np.array_equal(answer.frames, plain)
    assert 0 < answer.facts["alpha_s"] < 1
    assert 0 < answer.facts["alpha_t"] < 2
    assert answer.facts["first_frame_drift"] > 0
    [label, *_] = FunControl.adapters(spec(trained=str(trained)))
    assert label == f"{trained.name}@{read_model(trained).digest()[:8]}"


def test_every_part_of_a_trained_model_counts(ask, trained, tmp_path):
    from safetensors.torch import load_file, save_file

    whole = ask(trained=str(trained))
    changes = {
        "lora.safetensors": lambda name, value: torch.zeros_like(value),
        "propagation.safetensors": lambda name, value: torch.zeros_like(value) if "mask" in name else value,
    }
    for file, change in changes.items():
        folder = _copy(trained, tmp_path / file)
        save_file({name: change(name, value) for name, value in load_file(trained / file).items()}, folder / file)
        assert not np.array_equal(ask(trained=str(folder)), whole), file
    folder = _copy(trained, tmp_path / "predictor")
    state = load_file(trained / "propagation.safetensors")
    state["predictor.temporal.2.bias"] = state["predictor.temporal.2.bias"] + 1
    save_file(state, folder / "propagation.safetensors")
    assert not np.array_equal(ask(trained=str(folder)), whole)
    folder = _copy(trained, tmp_path / "classes")
    heads = json.loads((trained / "heads.json").read_text())
    heads["temporal"] = [[not kind for kind in layer] for layer in TEMPORAL]
    (folder / "heads.json").write_text(json.dumps(heads))
    assert not np.array_equal(ask(trained=str(folder)), whole)


def test_a_model_of_another_base_is_refused(trained, spec, tmp_path):
    folder = _copy(trained, tmp_path / "other")
    own = read_model(trained).base.digest
    (folder / "settings.json").write_text(settings_text(read_model(trained).settings, Base("f" * 32, "another")))
    with pytest.raises(FatalError, match=rf"{'f' * 32} \(another\), .* is {own}"):
        FunControl(spec(trained=str(folder)))


def test_a_folder_that_is_not_whole_is_refused(trained, tmp_path):
    for name in ("lora.safetensors", "propagation.safetensors", "heads.json"):
        folder = _copy(trained, tmp_path / name, without=name)
        with pytest.raises(FatalError, match=f"{name} missing"):
            read_model(folder)
    with pytest.raises(FatalError, match="ffpdata train"):
        read_model(tmp_path)
    (tmp_path / "settings.json").write_text('{"base": {"digest": "a"}, "settings": {"frames": 8}}')
    with pytest.raises(FatalError, match=r"4n\+1"):
        read_model(tmp_path)


def test_tensors_of_another_network_are_refused(trained, spec, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = _copy(trained, tmp_path / "narrow")
    state = load_file(trained / "propagation.safetensors")
    save_file({**state, "predictor.norm.weight": torch.ones(3)}, folder / "propagation.safetensors")
    with pytest.raises(FatalError, match=r"norm.weight: the model has \(3,\)"):
        FunControl(spec(trained=str(folder)))
    save_file({n: v for n, v in state.items() if n != "patch_embedding.mask"}, folder / "propagation.safetensors")
    with pytest.raises(FatalError, match="mask: the model lacks it"):
        FunControl(spec(trained=str(folder)))


def test_what_makes_no_sense_is_refused(spec, pair):
    with pytest.raises(ConfigError, match="sequence_parallel is 2"):
        FunControl(spec(runtime={"sequence_parallel": 2}))
    with pytest.raises(ConfigError, match="tea_cache"):
        FunControl(spec(tea_cache={"threshold": 0.1, "fitted": "Wan2.1-T2V-1.3B"}))
    with pytest.raises(ConfigError, match="no preset 'ful'"):
        preset("ful")
    with pytest.raises(ConfigError, match="tap_block is 3"):
        preset("full", tap_block=3).tapped(2)


def test_a_wrong_frame_and_a_wrong_length_are_refused(spec, pair):
    model = FunControl(spec())
    with pytest.raises(ValueError, match="resize it"):
        model.propagate(pair[0], pair[2][:32])
    with pytest.raises(ConfigError):
        model.propagate(pair[0][:8], pair[2])
    model.close()


def test_checkpoints_are_checked_without_loading(spec):
    needs = FunControl.needs(spec())
    assert {c.part: find_checkpoint(c).level for c in needs.checkpoints} == dict.fromkeys(
        ("transformer", "text_encoder", "vae", "image_encoder", "tokenizer"), "ok"
    )
    lean = FunControl.needs(spec(clip_embedding="zero"))
    assert "image_encoder" not in {c.part for c in lean.checkpoints}


def test_a_vace_checkpoint_still_needs_its_own_layers(fun_control):
    """The plan names what must be there: a transformer alone is a whole Fun-Control, and half a VACE."""
    from ffpdata.models.vace import Vace

    with pytest.raises(FatalError, match="no vace"):
        Vace(ModelSpec.of(Vace, model=str(fun_control), runtime={"device": "cpu"}))


def test_defaults_are_the_papers():
    settings = PropagationSettings()
    assert (settings.rank, settings.learning_rate, settings.schedule, settings.epochs) == (128, 2e-4, "cosine", 2)
    assert (settings.motion_weight, settings.mmd_weight, settings.mask_channels) == (5, 1, 1)
    assert settings.tapped(30) == 18
    assert settings.tapped(40) == 24
    rows = [preset(name) for name in ("baseline", "ast_rope", "full")]
    assert [(row.ast_rope, row.distillation) for row in rows] == [(False, False), (True, False), (True, True)]
    assert PropagatorSettings().steps == 50


def test_the_file_of_classes(trained, tmp_path):
    heads = read_heads(trained / "heads.json")
    assert heads.temporal == TEMPORAL
    assert heads.share == 0.5
    assert heads.warning() == ""
    (tmp_path / "heads.json").write_text(heads.text())
    assert (tmp_path / "heads.json").read_bytes() == (trained / "heads.json").read_bytes()
    one_sided = heads.model_copy(update={"temporal": [[True] * 4] * 2})
    assert "100% of the heads are temporal" in one_sided.warning()
    with pytest.raises(FatalError, match="ffpdata heads"):
        read_heads(tmp_path / "none.json")
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(FatalError, match="not the classes"):
        read_heads(tmp_path / "none.json")


def _copy(folder: Path, to: Path, without: str = "") -> Path:
    to.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name != without:
            (to / path.name).write_bytes(path.read_bytes())
    return to

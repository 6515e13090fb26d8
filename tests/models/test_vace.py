"""VACE on tiny random checkpoints, through the code that loads and runs the real ones; two libraries, one set of tests.

What a random model paints means nothing. What it is shown does: an answer must depend on what it may see, on nothing
else, and on the seed.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError, Reject, RetryableError
from ffpdata.core.stage import Item, ModelSpec
from ffpdata.media.codec import read_video, write_masks, write_video
from ffpdata.models.vace import VaceSettings
from ffpdata.models.wan.settings import Lora
from ffpdata.runners.execute import execute
from ffpdata.stages.synthesize import Synthesize
from ffpdata.storage.store import Store
from tests.models import tiny_wan as tiny

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
LIBRARIES = [
    pytest.param(name, marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed"))
    for name in ("diffsynth", "diffusers")
]
BACKENDS = {"diffsynth": "ffpdata.models.vace:Vace", "diffusers": "ffpdata.models.vace_diffusers:DiffusersVace"}
SHAPE = (9, 64, 64, 3)


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request):
    return request.param


@pytest.fixture(scope="module")
def checkpoint(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp(library)
    return tiny.write_vace(folder) if library == "diffsynth" else tiny.write_vace_diffusers(folder)


@pytest.fixture(scope="module")
def spec(library, checkpoint):
    def of(runtime=None, **settings):
        return ModelSpec(
            backend=BACKENDS[library],
            model=str(checkpoint),
            settings={"steps": 2, **settings},
            runtime={"device": "cpu", **(runtime or {})},
        )

    return of


@pytest.fixture
def load(spec):
    held = []

    def make(runtime=None, **settings):
        held.append(spec(runtime, **settings).load_class()(spec(runtime, **settings)))
        return held[-1]

    yield make
    for model in held:
        model.close()


@pytest.fixture(scope="module")
def model(spec):
    made = spec().load_class()(spec())
    yield made
    made.close()


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(0)
    masks = np.zeros(SHAPE[:3], bool)
    masks[:, 16:44, 12:40] = True
    return rng.integers(0, 256, SHAPE, np.uint8), masks


@pytest.fixture(scope="module")
def plain(model, clip):
    return model.edit(*clip, prompt="a street", negative="car", seed=3)


def same(one, other):
    return np.array_equal(one.frames, other.frames)


# --- editing ---


def test_an_edit_has_the_clips_shape(plain):
    assert plain.frames.dtype == np.uint8
    assert plain.frames.shape == SHAPE
    assert plain.frames.std() > 20  # not one colour
    assert plain.facts["pasted_back"] == 0
    assert plain.facts["outside_drift"] > 0


def test_a_seed_gives_the_same_bytes_and_another_seed_others(model, clip, plain):
    assert same(model.edit(*clip, prompt="a street", negative="car", seed=3), plain)
    assert not same(model.edit(*clip, prompt="a street", negative="car", seed=4), plain)


def test_the_model_never_sees_what_the_mask_hides(model, clip, plain):
    frames, masks = clip
    other = frames.copy()
    other[masks] = 255 - other[masks]
    assert same(model.edit(other, masks, prompt="a street", negative="car", seed=3), plain)
    other[~masks] = 255 - other[~masks]
    assert not same(model.edit(other, masks, prompt="a street", negative="car", seed=3), plain)


def test_the_mask_the_prompt_and_the_negative_prompt_count(model, clip, plain):
    frames, masks = clip
    assert not same(model.edit(frames, ~masks, prompt="a street", negative="car", seed=3), plain)
    assert not same(model.edit(frames, masks, prompt="a beach", negative="car", seed=3), plain)
    assert not same(model.edit(frames, masks, prompt="a street", negative="dog", seed=3), plain)


def test_a_reference_counts_and_may_have_another_shape(model, clip, plain):
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 256, (40, 100, 3), np.uint8)
    with_it = model.edit(*clip, prompt="a street", negative="car", reference=wide, seed=3)
    assert with_it.frames.shape == SHAPE
    assert not same(with_it, plain)


def test_without_guidance_the_negative_prompt_is_not_asked(load, clip):
    model = load(guidance=1)
    assert same(model.edit(*clip, prompt="a", negative="car"), model.edit(*clip, prompt="a", negative="dog"))


def test_the_settings_negative_prompt_stands_behind_the_calls(load, clip, plain):
    both = load(negative="blurry").edit(*clip, prompt="a street", negative="car", seed=3)
    assert not same(both, plain)
    assert same(load().edit(*clip, prompt="a street", negative="car, blurry", seed=3), both)


@pytest.mark.parametrize(
    "settings",
    [{"steps": 3}, {"shift": 5}, {"guidance": 2}, {"control_scale": 0.5}, {"dtype": "float32"}],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_shape_the_answer(load, clip, plain, settings):
    assert not same(load(**settings).edit(*clip, prompt="a street", negative="car", seed=3), plain)


def test_tiles(load, clip, plain):
    tiled = load(tiles={"size": [6, 6], "stride": [4, 4]}).edit(*clip, prompt="a street", negative="car", seed=3)
    assert tiled.frames.shape == SHAPE
    assert not same(tiled, plain)


def test_the_source_can_be_pasted_back(load, clip, plain):
    frames, masks = clip
    pasted = load(paste_back=True, paste_feather_px=45).edit(frames, masks, prompt="a street", negative="car", seed=3)
    assert pasted.facts["pasted_back"] == 1
    assert pasted.facts["paste_feather_px"] == 4  # 45 on 720 lines
    assert pasted.facts["outside_drift"] == plain.facts["outside_drift"]  # as generated, before the paste
    assert np.array_equal(pasted.frames[masks], plain.frames[masks])
    assert np.array_equal(pasted.frames[:, :11], frames[:, :11])


def test_what_cannot_be_edited_is_refused(model, clip):
    frames, masks = clip
    with pytest.raises(Reject) as rejected:
        model.edit(frames, np.zeros_like(masks), prompt="")
    assert rejected.value.reason == "mask_empty"
    with pytest.raises(ConfigError, match=r"4n\+1 frames, not 8"):
        model.edit(frames[:8], masks[:8], prompt="")
    with pytest.raises(ConfigError, match="multiples of 16, not 64 x 60"):
        model.edit(frames[:, :60], masks[:, :60], prompt="")


# --- stylizing ---


def test_a_style_follows_depth_reference_and_prompt_alone(model, clip):
    frames, _ = clip
    rng = np.random.default_rng(2)
    depth = np.linspace(0, 1, 64, dtype=np.float32)[None, None].repeat(9, 0).repeat(64, 1)
    reference = rng.integers(0, 256, (64, 64, 3), np.uint8)
    styled = model.stylize(frames, depth, reference, prompt="in oil", seed=5)
    assert styled.frames.shape == SHAPE
    assert same(model.stylize(frames, depth, reference, prompt="in oil", seed=5), styled)
    assert same(model.stylize(255 - frames, depth, reference, prompt="in oil", seed=5), styled)
    assert not same(model.stylize(frames, 1 - depth, reference, prompt="in oil", seed=5), styled)
    assert not same(model.stylize(frames, depth, 255 - reference, prompt="in oil", seed=5), styled)
    assert not same(model.stylize(frames, depth, reference, prompt="in ink", seed=5), styled)


# --- LoRAs ---


def test_a_lora_changes_the_answer_and_comes_off_exactly(load, clip, plain, tmp_path):
    path = tiny.write_lora(tmp_path / "removal.safetensors")
    model = load(loras=[{"model": str(path)}])

    def edited():
        return model.edit(*clip, prompt="a street", negative="car", seed=3)

    full = edited()
    assert not same(full, plain)
    model.swap_loras([Lora(model=str(path), strength=0.5)])
    assert not same(edited(), full)
    assert not same(edited(), plain)
    model.swap_loras([])
    assert same(edited(), plain)
    model.swap_loras([Lora(model=str(path))])
    assert same(edited(), full)


def test_both_the_transformers_and_the_control_layers_are_changed(load, clip, plain, tmp_path):
    found = []
    model = load()
    for layer in ("blocks.1.ffn.0", "vace_blocks.0.cross_attn.o", "vace_blocks.0.before_proj"):
        model.swap_loras([Lora(model=str(tiny.write_lora(tmp_path / f"{layer}.safetensors", (layer,))))])
        found.append(model.edit(*clip, prompt="a street", negative="car", seed=3))
    assert not any(same(one, plain) for one in found)
    assert not same(found[0], found[1])


def test_two_loras_add_up(load, clip, tmp_path):
    paths = [tiny.write_lora(tmp_path / f"{n}.safetensors", seed=n) for n in (1, 2)]
    model = load(loras=[{"model": str(path)} for path in paths])
    both = model.edit(*clip, prompt="a", seed=3)
    for path in paths:
        model.swap_loras([Lora(model=str(path))])
        assert not same(model.edit(*clip, prompt="a", seed=3), both)


def test_all_spellings_of_a_lora_are_one(load, clip, tmp_path):
    model = load()
    answers = []
    for style in ("diffsynth", "lightx2v", "diffusers"):
        path = tiny.write_lora(tmp_path / f"{style}.safetensors", style=style)
        model.swap_loras([Lora(model=str(path))])
        answers.append(model.edit(*clip, prompt="a", seed=3))
    assert same(answers[0], answers[1])
    assert same(answers[0], answers[2])


def test_four_distilled_steps_are_those_that_run(load, clip, library):
    sampler = {"sampler": "euler"} if library == "diffusers" else {}
    model = load(steps=4, guidance=1.0, shift=5.0, **sampler)
    answer = model.edit(*clip, prompt="a street", negative="car", seed=3)
    assert same(model.edit(*clip, prompt="a street", seed=3), answer), "without guidance there is no negative prompt"
    pipe = model.pipe if library == "diffusers" else model._pipeline._entry.engine.pipe
    assert pipe.scheduler.sigmas[:4].tolist() == pytest.approx([1.0, 0.9375, 0.8333, 0.625], abs=1e-4)


def test_a_distilled_lora_is_one_in_every_spelling(load, clip, plain, tmp_path):
    model = load()
    answers = []
    for spelling in ("lightx2v", "peft", "musubi"):
        path = tmp_path / f"{spelling}.safetensors"
        tiny.write_distilled(path, spelling=spelling)
        model.swap_loras([Lora(model=str(path))])
        answers.append(model.edit(*clip, prompt="a street", negative="car", seed=3))
    assert not same(answers[0], plain)
    assert same(answers[0], answers[1])
    assert same(answers[0], answers[2])
    model.swap_loras([])
    assert same(model.edit(*clip, prompt="a street", negative="car", seed=3), plain)


def test_changes_of_biases_and_norms_come_on_and_off_with_a_lora(load, clip, plain, tmp_path):
    from safetensors.torch import load_file, save_file

    alone = tiny.write_lora(tmp_path / "alone.safetensors", style="lightx2v")
    path = tmp_path / "distilled.safetensors"
    changes = {"blocks.0.self_attn.q.diff_b": 48, "blocks.1.norm3.diff": 48, "time_projection.1.diff_b": 288}
    changes = {f"diffusion_model.{name}": torch.linspace(-1, 1, size) for name, size in changes.items()}
    save_file(load_file(alone) | changes, path)
    model = load(loras=[{"model": str(path)}])
    distilled = model.edit(*clip, prompt="a street", negative="car", seed=3)
    model.swap_loras([Lora(model=str(alone))])
    assert not same(model.edit(*clip, prompt="a street", negative="car", seed=3), distilled)
    model.swap_loras([])
    assert same(model.edit(*clip, prompt="a street", negative="car", seed=3), plain)
    model.swap_loras([Lora(model=str(path))])
    assert same(model.edit(*clip, prompt="a street", negative="car", seed=3), distilled)
    save_file(load_file(alone) | {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.zeros(96)}, path)
    model.swap_loras([Lora(model=str(path), strength=0.9)])
    with pytest.raises(FatalError, match=r"self_attn\.q\.bias|attn1\.to_q\.bias"):
        model.edit(*clip, prompt="a street", negative="car", seed=3)


def test_a_lora_of_another_model_is_refused_and_the_model_goes_on(load, clip, plain, tmp_path):
    path = tiny.write_lora(tmp_path / "other.safetensors", ("blocks.0.self_attn.q", "blocks.7.self_attn.q"))
    model = load(loras=[{"model": str(path)}])
    with pytest.raises(FatalError, match=r"1 of 2 layers are none of this model's, e\.g\. blocks\.7"):
        model.edit(*clip, prompt="a street", negative="car", seed=3)
    model.swap_loras([])
    assert same(model.edit(*clip, prompt="a street", negative="car", seed=3), plain)


def test_a_lora_of_another_size_is_refused(load, clip, plain, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "big.safetensors"
    save_file(
        {
            "blocks.0.self_attn.q.lora_A.weight": torch.zeros(4, 96),
            "blocks.0.self_attn.q.lora_B.weight": torch.zeros(96, 4),
        },
        path,
    )
    model = load(loras=[{"model": str(path)}])
    with pytest.raises(FatalError, match="takes 96 to 96, the model's 48 to 48"):
        model.edit(*clip, prompt="a street", negative="car", seed=3)
    model.swap_loras([])
    assert same(model.edit(*clip, prompt="a street", negative="car", seed=3), plain)


# --- a cache between steps ---


def test_a_cache_computes_fewer_blocks_and_without_it_nothing_changes(load, clip, plain, library):
    if library == "diffsynth":
        settings = {"tea_cache": {"threshold": 1e6, "fitted": "Wan2.1-T2V-1.3B"}, "steps": 6}
        skipped = 2 * 4  # of six steps the first and the last run, each twice for guidance
    else:
        settings = {"taylor_cache": {"interval": 3, "first": 2, "order": 1}, "steps": 6}
        skipped = 2 * 3  # 0, 1 and, by diffusers' count of the interval, 3 run
    whole = load(steps=6).edit(*clip, prompt="a street", negative="car", seed=3)
    assert "model_runs" not in whole.facts
    assert "model_runs" not in plain.facts
    model = load(**settings)
    answer = model.edit(*clip, prompt="a street", negative="car", seed=3)
    assert (answer.facts["model_runs"], answer.facts["skipped_runs"]) == (12, skipped)
    assert not same(answer, whole)
    assert same(model.edit(*clip, prompt="a street", negative="car", seed=3), answer), "nothing is left of a clip"
    if library == "diffusers":  # a prediction from what was computed is nearer than another clip
        other = model.edit(*clip, prompt="a street", negative="car", seed=4)
        far = np.abs(other.frames.astype(int) - whole.frames).mean()
        assert np.abs(answer.frames.astype(int) - whole.frames).mean() < far


# --- errors ---


@pytest.fixture
def breaking(load, monkeypatch):
    """A model whose next generation raises."""
    model = load(negative="breaks")  # a model of its own where the library shares none

    def install(error):
        pipe = model.pipe if hasattr(model, "pipe") else model._pipeline._entry.engine.pipe

        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(pipe.vae, "encode", fail)
        return model

    return install


def test_a_full_gpu_fails_the_item_and_says_what_to_do(breaking, clip, monkeypatch):
    model = breaking(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    with pytest.raises(MemoryError, match=r"64 x 64 x 9: out of GPU memory .*20\.00 GiB.*offload"):
        model.edit(*clip, prompt="")
    monkeypatch.undo()
    assert model.edit(*clip, prompt="").frames.shape == SHAPE


def test_a_gpu_filled_by_others_is_tried_again(breaking, clip, monkeypatch):
    model = breaking(torch.OutOfMemoryError("CUDA out of memory."))
    monkeypatch.setattr("ffpdata.models.gpu_memory._memory_of_others", lambda device: (60.0, 80.0))
    with pytest.raises(RetryableError, match=r"other processes hold 60\.0 of its 80\.0 GiB"):
        model.edit(*clip, prompt="")


def test_after_close_there_is_no_model(load, clip):
    model = load()
    model.close()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.edit(*clip, prompt="")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runtime": {"offload": "models"}}, "on the CPU leave it at none"),
        ({"runtime": {"offlaod": "none"}}, "offlaod.*did you mean 'offload'"),
        ({"stepps": 3}, "stepps.*did you mean 'steps'"),
        ({"tiles": {"size": [6, 6], "stride": [8, 8]}}, "stride"),
        ({"runtime": {"device": "tpux"}}, "tpux"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_wrong_settings_are_named(load, changes, said):
    with pytest.raises(ConfigError, match=said):
        load(**changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(load):
    with pytest.raises(FatalError, match="no GPU is visible"):
        load(runtime={"device": "cuda"})


# --- in a stage ---


def test_the_stage_runs_it_and_a_full_gpu_is_the_items_reason(spec, clip, tmp_path, monkeypatch):
    frames, masks = clip
    store = Store(str(tmp_path / "run"))
    stage = Synthesize(specs={"remover": spec(), "swapper": spec()})
    values = {
        "task": "removal",
        "caption": "a car",
        "target_caption": "a street",
        "object": "car",
        "seed": 3,
        "fps": 16,
    }
    for column, write, data in (("source_video", write_video, frames), ("condition_mask", write_masks, masks)):
        path = store.temp_file(f"{column}.mp4")
        write(path, data, 16)
        values[column] = f"artifacts/{column}/aa/{column}.mp4"
        store.commit(path, values[column])
    outcome = execute(stage, Item("clip/removal/bbox", values), store)
    assert outcome.status == "ok", outcome.error
    columns = outcome.children[0].columns
    assert set(columns["edit_facts"]) == {"outside_drift", "pasted_back"}
    assert read_video(store.fetch(columns["target_video"])).shape == SHAPE

    model = stage.model("remover")
    assert stage.model("swapper") is model
    monkeypatch.setattr(model, "generate", lambda request: _full())
    outcome = execute(stage, Item("clip/removal/mask", values | {"seed": 4}), store)
    assert (outcome.status, outcome.reason, outcome.attempt) == ("failed", "out_of_memory", 1)
    stage.teardown()


def _full():
    from ffpdata.models.gpu_memory import GpuMemoryError

    raise GpuMemoryError("full")


def test_defaults_are_those_of_vaces_own_script():
    settings = VaceSettings()
    assert (settings.steps, settings.guidance, settings.shift) == (50, 5.0, 16.0)


@pytest.mark.skipif(not importlib.util.find_spec("diffusers"), reason="diffusers is not installed")
@pytest.mark.parametrize(("cache", "right"), [("taylor", True), ("first_block", False)])
def test_why_one_cache_is_offered_and_another_is_not(cache, right, tmp_path):
    """The same input twice: what a cache gives the second time must be what was computed the first time."""
    from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig, WanVACETransformer3DModel

    from ffpdata.models.vace_diffusers import CACHED

    folder = tiny.write_vace_diffusers(tmp_path)
    model = WanVACETransformer3DModel.from_pretrained(folder / "transformer", dtype=torch.float32).eval()
    taylor = {
        "cache_interval": 9,
        "disable_cache_before_step": 1,
        "max_order": 0,
        "taylor_factors_dtype": torch.float32,
    }
    config = {
        "taylor": lambda: TaylorSeerCacheConfig(cache_identifiers=CACHED, **taylor),
        "first_block": lambda: FirstBlockCacheConfig(threshold=1e6),
    }[cache]()
    model.enable_cache(config)
    made = torch.Generator().manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(1, 16, 2, 8, 8, generator=made),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 7, 32, generator=made),
        "control_hidden_states": torch.randn(1, 96, 2, 8, 8, generator=made),
    }
    with torch.no_grad(), model.cache_context("cond"):
        computed, again = (model(**inputs, return_dict=False)[0] for _ in range(2))
    assert torch.allclose(again, computed, atol=1e-5) == right, "VACE's hints must not be added twice"

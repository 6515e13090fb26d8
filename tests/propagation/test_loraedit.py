"""LoRA-Edit on a tiny image-to-video model: tuning that survives a kill, the edit, and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ffpdata.api.propagation import propagate_clip, propagate_table
from ffpdata.core.errors import ConfigError, FatalError, FfpdataError, UsageError
from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import read_video, write_image, write_masks, write_video
from ffpdata.models.propagation.model_folder import base_digest
from ffpdata.propagation.clip_job import ClipJob
from ffpdata.propagation.clip_tuning import TuningInputs, read_tuned
from ffpdata.training import results, trainer
from tests.propagation.tiny_loraedit import TUNING, TinyLoraEdit, clip, spec_of, write_checkpoint
from tests.training.tiny_training import Forks

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")

FRAMES, EDITED, REGION = clip()
LATER = {4: np.where(REGION[4][..., None], np.uint8(EDITED), FRAMES[4])}


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks()


@pytest.fixture(scope="module")
def checkpoint(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    assert forks.run(write_checkpoint, folder) == 0
    return folder


@pytest.fixture(scope="module")
def trainings(forks: Forks, tmp_path_factory: pytest.TempPathFactory):
    """Trainings run in processes that have the libraries loaded; the value lists their configurations."""
    begun: list[Path] = []

    def launch(module: str, config: Path, processes: int, log: Path, say: object) -> None:
        assert (module, processes) == ("ffpdata.training.trainer", 1)
        begun.append(config)
        assert forks.run(trainer.main, config) == 0, (config.parent / "error.json").read_text()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "launch", launch)
        yield begun


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tunings")


@pytest.fixture(scope="module")
def tuned(checkpoint: Path, cache: Path, trainings: list[Path]) -> Path:
    """The folder of a tuning of both parts."""
    model = TinyLoraEdit(spec_of(checkpoint, cache))
    edit = model.propagate(FRAMES, EDITED, REGION, edited_frames=LATER, prompt="blue", source_prompt="red", seed=1)
    model.close()
    assert edit.frames.shape == FRAMES.shape
    assert set(edit.facts) == {"first_frame_drift", "outside_drift", "region_share"}
    return cache / edit.tuning["key"]


def test_a_tuning_says_from_what_it_is(tuned: Path, checkpoint: Path, trainings: list[Path]) -> None:
    about = read_tuned(tuned).about
    assert about["base"]["digest"] == base_digest(TinyLoraEdit.plan(spec_of(checkpoint, tuned)).parts)
    assert about["text"] == "p3rs0n, red"
    assert list(about["edited_frames"]) == ["4"]
    lineages = {part: json.loads((tuned / part / "lineage.json").read_text()) for part in ("decoupling", "appearance")}
    assert [lineages[part]["steps"] for part in lineages] == [3, 2]
    assert lineages["appearance"]["goes_on_from"] == lineages["decoupling"]["revision"]
    assert lineages["appearance"]["revision"] == about["revision"]
    [still] = lineages["appearance"]["samples"]
    assert (still["item_id"], still["text"]) == ("still-004", "p3rs0n, blue")
    assert [config.parent.name for config in trainings[:2]] == ["decoupling", "appearance"]
    assert not any((tuned / "decoupling" / kind).exists() for kind in ("latents", "checkpoints"))


def test_the_second_part_goes_on_from_the_first(tuned: Path) -> None:
    from safetensors.torch import load_file

    first, last = (load_file(tuned / part / "lora.safetensors") for part in ("decoupling", "appearance"))
    assert first.keys() == last.keys()
    layers = {name.split(".lora_")[0].split(".", 2)[2] for name in first}
    assert layers == {f"{kind}.{part}" for kind in ("self_attn", "cross_attn") for part in "qkvo"}
    moved = max(float((first[name] - last[name]).abs().max()) for name in first)
    assert 0 < moved <= 0.05  # two steps of 0.01: a fresh start would be farther


def test_what_is_tuned_already_is_not_tuned_again(tuned, checkpoint, cache, trainings) -> None:
    before = len(trainings)
    model = TinyLoraEdit(spec_of(checkpoint, cache))
    other = np.where(REGION[0][..., None], np.uint8(255) - EDITED, EDITED)
    again = {"edited_frames": LATER, "prompt": "blue", "source_prompt": "red"}
    edits = [model.propagate(FRAMES, first, REGION, **again, seed=1) for first in (EDITED, other)]
    model.close()
    assert len(trainings) == before
    assert {edit.tuning["key"] for edit in edits} == {tuned.name}
    assert not np.array_equal(edits[0].frames, edits[1].frames)


def test_what_counts_in_the_key() -> None:
    def key(frames=FRAMES, region=REGION, text="red", edited=LATER, edited_text="blue"):
        return TuningInputs(frames, region, text, edited, edited_text).key()

    changed = REGION.copy()
    changed[0] = ~changed[0]
    assert key() == key(region=changed), "the first frame is given in any case"
    assert key(edited={}) == key(edited={}, edited_text="green")
    others = [key(255 - FRAMES), key(region=~REGION), key(text="dog"), key(edited={}), key(edited_text="green")]
    others += [key(edited={5: LATER[4]}), key(edited={4: FRAMES[4]})]
    assert len({json.dumps(one) for one in [key(), *others]}) == len(others) + 1


def test_windows_begin_with_the_last_frame_of_the_one_before(tmp_path: Path) -> None:
    inputs = TuningInputs(FRAMES, REGION, "red", {}, "")
    [whole] = inputs.clip_samples(tmp_path / "whole", 0)
    assert np.array_equal(whole.arrays()[2], FRAMES)
    parts = list(inputs.clip_samples(tmp_path / "parts", 5))
    assert [part.item_id for part in parts] == ["frames-000", "frames-004"]
    assert [part.size for part in parts] == [(5, 64, 64)] * 2
    frames, region, target = parts[1].arrays()
    assert np.array_equal(frames, FRAMES[4:])
    assert np.array_equal(target, frames)
    assert not region[0].any()
    assert region[1:].any()
    long = np.zeros((49, 8, 8, 3), np.uint8)
    of_the_paper = TuningInputs(long, np.zeros((49, 8, 8), bool), "", {}, "").clip_samples(tmp_path / "long", 13)
    assert [part.item_id[-2:] for part in of_the_paper] == ["00", "12", "24", "36"]


def test_a_tuning_killed_at_random_instants_ends_in_the_same_bytes(forks, checkpoint, cache, tmp_path) -> None:
    spec = spec_of(checkpoint, cache, {"decoupling_steps": 40})
    settings = TinyLoraEdit.Settings(**spec.settings).tuning

    def job_of(name: str) -> ClipJob:
        samples = TuningInputs(FRAMES, REGION, "p3rs0n", {}, "").clip_samples(tmp_path / name / "arrays", 5)
        return ClipJob.make(samples, settings.decoupling_steps, spec, settings, tmp_path / name)

    whole, broken = job_of("whole"), job_of("broken")
    began = time.monotonic()
    assert forks.run(trainer.main, whole.write()) == 0
    lasted = time.monotonic() - began
    chance = random.Random(15)
    for _ in range(2):
        process = forks.start(trainer.main, broken.write())
        process.join(chance.uniform(0.5, 0.95) * lasted)
        process.kill()
        process.join()
    assert forks.run(trainer.main, broken.write()) == 0
    assert broken.weights_file("lora").read_bytes() == whole.weights_file("lora").read_bytes()


def test_a_tuning_of_another_base_is_refused_with_both_digests(tuned, checkpoint, cache, tmp_path) -> None:
    own = read_tuned(tuned).base.digest
    folder = shutil.copytree(tuned, tmp_path / "other")
    about = json.loads((folder / "settings.json").read_text())
    about["base"] |= {"digest": "f" * 24, "model": "another"}
    (folder / "settings.json").write_text(json.dumps(about))
    with pytest.raises(FatalError, match=rf"tuned over the base {'f' * 24} \(another\), .* is {own}: name that base"):
        TinyLoraEdit(spec_of(checkpoint, cache, trained=str(folder)))
    (folder / "lora.safetensors").write_bytes(b"damaged")
    with pytest.raises(FatalError, match=r"lora\.safetensors is missing or not the one of settings\.json"):
        read_tuned(folder)
    with pytest.raises(FatalError, match="name the folder of a finished tuning"):
        read_tuned(tmp_path)


def test_what_makes_no_sense_is_refused(checkpoint, cache) -> None:
    model = TinyLoraEdit(spec_of(checkpoint, cache))
    for words, error, change in (
        ("the region is empty: nothing", ValueError, {"region": np.zeros_like(REGION)}),
        ("the region is all of the clip", ValueError, {"region": np.ones_like(REGION)}),
        ("edited frame 9: the clip has frames 1 to 8", ValueError, {"edited_frames": {9: EDITED}}),
        ("edited frame 0: the clip", ValueError, {"edited_frames": {0: EDITED}}),
        ("resize it", ValueError, {"edited_first_frame": EDITED[:32]}),
        (r"not 2: set clip\.frames to 1 or 5", ConfigError, {"frames": FRAMES[:2], "region": REGION[:2]}),
        ("a clip of 1 frames: LoRA-Edit takes 5", ConfigError, {"frames": FRAMES[:1], "region": REGION[:1]}),
    ):
        given = {"frames": FRAMES, "edited_first_frame": EDITED, "region": REGION, **change}
        with pytest.raises(error, match=words):
            model.propagate(**given)
    model.close()
    with pytest.raises(ConfigError, match="set sequence_parallel to 1"):
        spec = spec_of(checkpoint, cache)
        TinyLoraEdit(spec.model_copy(update={"runtime": {**spec.runtime, "sequence_parallel": 2}}))


class CellVae(torch.nn.Module):
    """A VAE that keeps the mean colours of 8 x 8 pixels, four frames to a latent: exact on clips of whole cells."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "model", self)  # diffsynth's VAE holds the network that has the cache

    def clear_cache(self) -> None: ...

    def encode(self, videos, device, **options):
        found = []
        for video in videos:
            means = torch.nn.functional.avg_pool2d(video, 8)  # (3, T, h, w)
            whole = torch.cat([means[:, :1].expand(-1, 4, -1, -1), means[:, 1:]], 1)
            folded = whole.reshape(3, -1, 4, *means.shape[2:]).transpose(1, 2).flatten(0, 1)
            found.append(torch.cat([folded, torch.zeros_like(folded[:4])]))
        return torch.stack(found)

    def decode(self, latents, device, **options):
        whole = latents[:, :12].unflatten(1, (3, 4)).transpose(2, 3).flatten(2, 3)[:, :, 3:]
        return whole.repeat_interleave(8, 3).repeat_interleave(8, 4).clamp(-1, 1)


@pytest.fixture(scope="module")
def edited(tuned, checkpoint, cache):
    """Edit a clip of whole cells with an exact VAE."""
    frames = FRAMES[:, 4::8, 4::8].repeat(8, 1).repeat(8, 2)

    def made(first: np.ndarray, background: str) -> tuple[np.ndarray, np.ndarray]:
        model = TinyLoraEdit(spec_of(checkpoint, cache, trained=str(tuned), background=background))
        from ffpdata.models.loraedit.engine import LoraEditEngine

        model._engine = LoraEditEngine(model._plan, model.settings)
        model._engine.pipe.vae = CellVae()
        edit = model.propagate(frames, first, REGION, prompt="blue", seed=2)
        model.close()
        return frames, edit.frames

    return made


def test_outside_is_the_source_and_inside_goes_with_the_edited_frame(edited) -> None:
    blue, green = ((REGION[0][..., None] * np.uint8(colour)).astype(np.uint8) for colour in ((0, 0, 250), (0, 250, 0)))
    frames, _ = edited(EDITED[4::8, 4::8].repeat(8, 0).repeat(8, 1), "latent")
    firsts = [np.where(REGION[0][..., None], look, frames[0]) for look in (blue, green)]
    answers = [edited(first, "latent")[1] for first in firsts]
    outside, later = ~REGION, np.ones(len(frames), bool)
    later[0] = False
    for first, answer in zip(firsts, answers, strict=True):
        assert np.abs(answer[outside].astype(int) - frames[outside]).max() <= 1
        assert np.abs(answer[0].astype(int) - first).max() <= 1
        assert (
            np.abs(answer[REGION & later[:, None, None]].astype(int) - frames[REGION & later[:, None, None]]).mean() > 5
        )
    inside = REGION & later[:, None, None]
    assert np.abs(answers[0][inside].astype(int) - answers[1][inside]).mean() > 0.1, "the edited frame is seen"
    drawn = edited(firsts[0], "model")[1]
    assert np.abs(drawn[outside].astype(int) - frames[outside]).mean() > 5, "an untrained model alone keeps nothing"


# --- the command ---


@pytest.fixture(scope="module")
def given(checkpoint, cache, tmp_path_factory) -> Path:
    """A folder with a clip, an edit, masks and a profile."""
    folder = tmp_path_factory.mktemp("given")

    def large(frames: np.ndarray) -> np.ndarray:
        return frames.repeat(4, axis=-3).repeat(4, axis=-2)

    write_video(folder / "clip.mp4", large(np.concatenate([FRAMES, FRAMES])), 16)
    write_image(folder / "edited.png", large(EDITED))
    write_image(folder / "later.png", large(LATER[4]))
    mask = np.zeros((256, 256), np.uint8)
    write_image(folder / "black.png", mask)
    write_image(folder / "white.png", mask + 255)
    mask[64:160, 64:160] = 255
    write_image(folder / "mask.png", mask)
    write_masks(folder / "mask.mp4", np.repeat(mask[None] > 0, 18, 0), 16)
    spec = spec_of(checkpoint, cache, {**TUNING, "decoupling_steps": 1, "appearance_steps": 1})
    role = {"backend": spec.backend, "model": spec.model, "settings": spec.settings, "runtime": spec.runtime}
    profile = {"name": "tiny", "about": "a tiny one", "models": {"tuned_propagator": role}}
    (folder / "tiny.yaml").write_text(json.dumps(profile))
    return folder


SMALL = ["clip.width=64", "clip.height=64", "clip.frames=9"]


def test_a_clip_by_its_command(given, cache, trainings, tmp_path) -> None:
    more = {"profile": str(given / "tiny.yaml"), "overrides": SMALL, "method": "loraedit"}
    told = propagate_clip(
        *(given / "clip.mp4", given / "edited.png", tmp_path / "out.mp4"),
        prompt="blue",
        source_prompt="red",
        edited_frames={4: given / "later.png"},
        mask=given / "mask.mp4",
        **more,
    )
    assert read_video(tmp_path / "out.mp4").shape == FRAMES.shape
    assert told == json.loads((tmp_path / "out.json").read_text())
    assert told["tuning"]["text"] == "p3rs0n, red"
    assert told["facts"]["region_share"] == 25 / 64, "24 pixels and a tenth on each side: 5 x 5 of 8 x 8 cells"
    count = len(trainings)
    folder = cache / str(told["tuning"]["key"])
    again = propagate_clip(
        given / "clip.mp4", given / "edited.png", tmp_path / "b.mp4", prompt="blue", mask=given / "mask.png",
        model=folder, **more,
    )  # fmt: skip
    assert len(trainings) == count
    assert f"+tuning@{told['tuning']['revision'][:8]}" in again["model"]
    with pytest.raises(FfpdataError, match="edit_region rejected: mask_covers_all the mask covers 100% of the clip"):
        propagate_clip(given / "clip.mp4", given / "edited.png", tmp_path / "c.mp4", mask=given / "white.png", **more)
    with pytest.raises(UsageError, match="mask is for --method loraedit alone"):
        propagate_clip(given / "clip.mp4", given / "edited.png", tmp_path / "c.mp4", mask=given / "white.png")


def test_rows_of_a_table_end_with_their_reason(given, trainings, tmp_path) -> None:
    rows = [["path", "edited_first_frame", "mask", "edited_frame"], ["clip.mp4", "edited.png", "", ""]]
    rows += [["clip.mp4", "edited.png", "black.png", ""], ["clip.mp4", "edited.png", "", "later.png"]]
    rows += [["clip.mp4", "edited.png", "gone.png", ""], ["clip.mp4", "edited.png", "", "9=later.png"]]
    with (given / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    more = {"profile": str(given / "tiny.yaml"), "overrides": SMALL, "method": "loraedit"}
    run = propagate_table(given / "table.csv", tmp_path / "run", **more)
    assert run.result is not None
    reasons = {reason: count for stage in run.result.stages.values() for reason, count in stage["reasons"].items()}
    assert reasons == {"bad_row": 1, "empty_mask": 1, "missing_file": 1, "bad_edited_frame": 1}
    [row] = run.sql("select * from items where target_video is not null").to_pylist()
    assert row["region_from"] == "difference"
    count = len(trainings)
    again = propagate_table(given / "table.csv", tmp_path / "run", **more)
    assert again.result is not None
    assert (again.result.computed, len(trainings)) == (0, count)


def test_two_frames_are_refused_before_anything_runs(given, tmp_path) -> None:
    more = {"profile": str(given / "tiny.yaml"), "method": "loraedit"}
    with pytest.raises(ConfigError, match="4n\\+1"):
        propagate_clip(
            given / "clip.mp4", given / "edited.png", tmp_path / "a.mp4", overrides=[*SMALL, "clip.frames=2"], **more
        )


def test_a_profile_without_the_role_says_so(given, tmp_path) -> None:
    spec = ModelSpec.of(TinyLoraEdit)
    assert spec.identity()["backend"] == "tiny_loraedit"
    more = {"profile": "cpu", "method": "loraedit", "overrides": SMALL}
    with pytest.raises((ConfigError, FatalError), match="tuned_propagator"):
        propagate_clip(given / "clip.mp4", given / "edited.png", tmp_path / "a.mp4", **more)

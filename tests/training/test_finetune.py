"""Fine-tuning on tiny random checkpoints: what is learned from, what is learned, and what a kill leaves."""

from __future__ import annotations

import csv
import importlib.util
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import read_masks, read_video, write_video
from ffpdata.models.protocols import Edit
from ffpdata.models.vace import VaceRoles, VaceSettings
from ffpdata.models.wan.settings import Lora
from ffpdata.training import trainer
from ffpdata.training.finetune import finetune
from ffpdata.training.order import SampleOrder, seed_of
from ffpdata.training.preflight import check_card, check_disk, check_main_memory
from ffpdata.training.process import TrainingProcess
from ffpdata.training.removal_sample import check_samples
from ffpdata.training.settings import LoraSettings
from ffpdata.training.vace_lora import VaceLora
from tests.models import tiny_wan as tiny
from tests.training.tiny_training import Forks, job_of, spec_of, write_sample

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")

FEW = {"rank": 4, "validation": 0, "measure_draws": 2}


@pytest.fixture(scope="module")
def forks():
    return Forks()


def write_checkpoint(folder):
    tiny.write_vace(folder)


@pytest.fixture(scope="module")
def checkpoint(forks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    assert forks.run(write_checkpoint, folder) == 0
    return folder


@pytest.fixture(scope="module")
def spec(checkpoint):
    return spec_of(checkpoint)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    return [write_sample(folder, number) for number in range(4)]


def trained(job):
    return json.loads((job.folder / "trained.json").read_text())


# --- what is shown ---


class Recorder(VaceRoles):
    """Keeps what the model would be asked."""

    settings = VaceSettings(negative="blurry")

    def generate(self, request):
        self.asked = request
        return Edit(request.control)


def test_training_asks_what_the_edit_asks(samples, tmp_path):
    job = job_of(samples[:1], [], spec_of(tmp_path, negative="blurry", steps=50), tmp_path)
    sample, recorder = samples[0], Recorder()
    frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
    recorder.edit(frames, masks, prompt=sample.prompt, negative=sample.negative, seed=sample.seed)
    ours, theirs = vars(VaceLora(job, TrainingProcess(job)).request(sample)), vars(recorder.asked)
    assert theirs["negative"] == "a square, blurry"
    for name, value in theirs.items():
        assert np.array_equal(value, ours[name]) if isinstance(value, np.ndarray) else value == ours[name], name


@pytest.fixture(scope="module")
def one_sample(forks, spec, samples, tmp_path_factory):
    """A model that saw one sample sixty times; its loss is measured on the very same, at fixed noise."""
    same = replace(samples[0], item_id="same")
    settings = FEW | {"steps": 60, "learning_rate": 1e-2, "measure_every": 30}
    job = job_of(samples[:1], [same], spec, tmp_path_factory.mktemp("one"), **settings)
    assert forks.run(trainer.main, job.write()) == 0
    return job


def test_the_latents_are_those_that_the_model_sees_at_work(forks, one_sample, samples, spec):
    assert forks.run(compare_latents, one_sample.latents_file(samples[0]), samples[0], spec) == 0


def compare_latents(path, sample, spec):
    from safetensors.torch import load_file

    model, seen = spec.load_class()(spec), []
    pipe = model._pipeline._entry.engine.pipe
    inner, pipe.model_fn = pipe.model_fn, lambda **given: seen.append(given) or inner(**given)
    frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
    model.edit(frames, masks, prompt=sample.prompt, negative=sample.negative, seed=sample.seed)
    latents = load_file(path)
    assert set(latents) == {"vace_context", "input_latents", "context"}
    assert torch.equal(latents["vace_context"], seen[0]["vace_context"])
    assert torch.equal(latents["context"], seen[0]["context"])
    assert latents["input_latents"].shape == (1, 16, 3, 8, 8)


# --- what is learned ---


def test_the_loss_of_a_sample_falls_when_it_is_learned_from(one_sample):
    held_out = dict(trained(one_sample)["held_out"])
    assert sorted(held_out) == [0, 30, 60]
    assert held_out[60] < held_out[30] < held_out[0]
    assert held_out[60] < 0.8 * held_out[0]


def test_the_lora_changes_the_drawing_and_comes_off_again(forks, one_sample, samples, spec):
    from ffpdata.models.wan.loras import read_lora

    lora = Lora(model=str(one_sample.folder / "lora.safetensors"))
    layers = read_lora(lora).pairs
    assert len(layers) == 2 * (8 + 2)
    assert all(name.startswith("vace_blocks.") for name in layers)
    assert {name.split(".")[2] for name in layers} == {"self_attn", "cross_attn", "ffn"}
    assert forks.run(draw_with_and_without, lora, samples[0], spec) == 0


def draw_with_and_without(lora, sample, spec):
    model = spec.load_class()(spec)
    frames, masks = read_video(sample.source_video), read_masks(sample.condition_mask)
    plain = model.edit(frames, masks, prompt="waves", seed=1).frames
    model.swap_loras([lora])
    assert np.abs(model.edit(frames, masks, prompt="waves", seed=1).frames.astype(int) - plain).mean() > 2
    model.swap_loras([])
    assert np.array_equal(model.edit(frames, masks, prompt="waves", seed=1).frames, plain)


def test_a_loss_that_is_not_finite_ends_it_and_names_step_and_sample(forks, spec, samples, tmp_path):
    from safetensors.torch import load_file, save_file

    job = job_of(samples[:2], [], spec, tmp_path / "nan", **FEW, steps=4)
    assert forks.run(trainer.main, job.write()) == 0
    path = job.latents_file(samples[1])
    save_file({name: value * float("nan") for name, value in load_file(path).items()}, path)
    job = job_of(samples[:2], [], spec, tmp_path / "nan", **FEW, steps=8)
    step = next(n for n in range(4, 8) if SampleOrder(job.samples, job.keys, 0, 1).sample(n) == samples[1]) + 1
    assert forks.run(trainer.main, job.write()) == 1
    kind, said = json.loads((job.folder / "error.json").read_text())
    assert kind == "FatalError"
    assert f"step {step}: the loss of clip1/removal/bbox is not finite" in said


def test_the_lora_at_work_is_the_one_that_was_trained(forks, one_sample):
    """Laid over the model by the engine, it has the held-out loss that the training measured with its own layers."""
    assert forks.run(measure_at_work, one_sample) == 0


def measure_at_work(job):
    from diffsynth.diffusion.loss import FlowMatchSFTLoss
    from safetensors.torch import load_file

    engine = job.spec.load_class()(job.spec)._pipeline._entry.engine
    latents = load_file(job.latents_file(job.measured[0]))
    engine.pipe.scheduler.set_timesteps(1000, training=True)
    for loras, measured in (([], 0), ([Lora(model=str(job.folder / "lora.safetensors"))], 60)):
        engine.use_loras(loras)
        losses = []
        for draw in range(job.settings.measure_draws):
            torch.manual_seed(seed_of(job.settings.seed, "held out", job.keys["same"], draw))
            part = {"min_timestep_boundary": draw / 2, "max_timestep_boundary": (draw + 1) / 2, "vace_scale": 1.0}
            with torch.no_grad():
                losses.append(float(FlowMatchSFTLoss(engine.pipe, **latents, **part)))
        assert np.mean(losses) == pytest.approx(dict(trained(job)["held_out"])[measured], rel=0.01)


# --- kills ---


def test_a_training_killed_at_several_instants_ends_in_the_same_bytes(forks, spec, samples, tmp_path):
    settings = FEW | {"steps": 24, "save_every": 4, "measure_every": 7, "accumulate": 2}
    whole, broken = (job_of(samples[:3], samples[3:], spec, tmp_path / n, **settings) for n in ("whole", "broken"))
    assert forks.run(trainer.main, whole.write()) == 0

    def latents():
        return {path.name: path.stat().st_mtime_ns for path in (broken.folder / "latents").glob("[!.]*")}

    def step():
        return max((int(path.stem[5:]) for path in (broken.folder / "checkpoints").glob("step-*")), default=0)

    instants = [
        lambda: len(latents()) >= 1,
        lambda: len(latents()) >= 3,
        lambda: step() >= 4,
        lambda: step() >= 8,
        lambda: step() >= 16,
    ]
    kept = {}
    for delay, reached in zip((0, 0, 0, 0.03, 0.07), instants, strict=True):
        process = forks.start(trainer.main, broken.write())
        while not reached():
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert kept.items() <= latents().items()  # what is there is not made again
        kept = latents()
    assert 0 < step() < 24
    assert not (broken.folder / "lora.safetensors").exists()
    assert forks.run(trainer.main, broken.write()) == 0
    assert (broken.folder / "lora.safetensors").read_bytes() == (whole.folder / "lora.safetensors").read_bytes()
    ours, theirs = trained(broken), trained(whole)
    assert len(theirs["losses"]) == 24
    assert [ours[name] for name in ("losses", "held_out", "revision", "fingerprint")] == [
        theirs[name] for name in ("losses", "held_out", "revision", "fingerprint")
    ]


def test_more_steps_go_on_and_other_settings_begin_anew(forks, spec, samples, tmp_path):
    def losses(folder, **settings):
        job = job_of(samples[:2], [], spec, tmp_path / folder, **FEW | settings)
        assert forks.run(trainer.main, job.write()) == 0
        return trained(job)["losses"], job

    few, job = losses("grows", steps=3)
    before = {path.name: path.stat().st_mtime_ns for path in (job.folder / "latents").iterdir()}
    more, _ = losses("grows", steps=6, save_every=2)
    assert more[:3] == few
    straight, straight_job = losses("straight", steps=6)
    assert more == straight
    assert (job.folder / "lora.safetensors").read_bytes() == (straight_job.folder / "lora.safetensors").read_bytes()
    other, _ = losses("grows", steps=6, seed=1)
    assert all(one != another for one, another in zip(more, other, strict=True))
    assert before == {path.name: path.stat().st_mtime_ns for path in (job.folder / "latents").iterdir()}


def test_what_is_kept_for_the_way_back_does_not_change_what_is_learned(forks, spec, samples, tmp_path):
    made = set()
    for how in ("off", "on", "offload"):
        job = job_of(samples[:2], [], spec, tmp_path / how, **FEW, steps=3, gradient_checkpointing=how)
        assert forks.run(trainer.main, job.write()) == 0
        made.add((job.folder / "lora.safetensors").read_bytes())
    assert len(made) == 1


# --- as a round calls it ---


def test_two_processes_and_what_stands_in_the_folder(forks, spec, samples, tmp_path):
    said = []
    folder = tmp_path / "tuned"
    settings = LoraSettings(rank=4, steps=4, save_every=2, measure_every=2, measure_draws=2, gpus=2, validation=1)
    tuned = finetune(samples[:3], samples[3:], spec, settings, folder, said.append)

    # Two processes with a sample each take the steps of one with two.
    job = job_of(samples[:3], samples[3:], spec, tmp_path / "one", **FEW, steps=4, accumulate=2, measure_every=2)
    assert forks.run(trainer.main, job.write()) == 0
    assert [step for step, _ in tuned.losses] == [1, 2, 3, 4]
    assert [loss for _, loss in tuned.losses] == pytest.approx([loss for _, loss in trained(job)["losses"]], rel=0.02)

    assert "latents: 2 to make, by each process" in said
    assert said[-1] == "drawing after: 1 of 1"
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage == tuned.lineage
    assert str(tmp_path.parent) not in json.dumps(lineage)  # nothing of where it lies
    assert lineage["revision"] == tuned.revision
    assert [entry["pair"] for entry in lineage["samples"]] == ["pair0", "pair1", "pair2"]
    assert lineage["held_out"] == [
        {"item_id": "clip3/removal/bbox", "pair": "pair3", "verdict": "accepted", "prompt": "waves 3"}
    ]
    assert (lineage["steps"], lineage["processes"]) == (4, 2)
    assert lineage["first_loss"] == tuned.losses[0][1]
    table = list(csv.DictReader((folder / "losses.csv").open()))
    assert [row["step"] for row in table] == ["0", "1", "2", "3", "4"]
    assert [bool(row["held_out"]) for row in table] == [True, False, True, False, True]
    assert float(table[0]["held_out"]) == lineage["held_out_before"]
    assert "<polyline" in (folder / "loss.svg").read_text()

    import cv2

    sheet = cv2.imread(str(tuned.sheet))
    assert sheet.shape == (28 + 22 + 3 * 260, 5 * 260 + 4, 3)
    accepted, before, after = (sheet[50:306, 4 + 260 * n : 260 + 260 * n].astype(int) for n in (2, 3, 4))
    assert np.abs(accepted - before).mean() > 20
    assert np.abs(before - after).mean() > 0

    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    again = finetune(samples[:3], samples[3:], spec, settings, folder, said.append)
    assert again == tuned
    assert said[-1] == f"already trained: revision {tuned.revision}"
    assert written == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_one_process_and_a_layer_that_there_is_not(samples, spec, tmp_path):
    real = spec.model_copy(update={"backend": "ffpdata.models.vace:Vace"})  # its library is not reached
    with pytest.raises(ConfigError, match="VACE has no layer 'qkv'; it has after_proj, before_proj, "):
        finetune(samples[:1], [], real, LoraSettings(targets="q,qkv", steps=1), tmp_path, print)
    assert "Traceback" not in (tmp_path / "train.log").read_text()
    assert not list((tmp_path / "latents").glob("*"))


# --- what is refused before anything is loaded ---


def test_a_back_end_that_cannot_learn_is_named(samples, tmp_path):
    spec = ModelSpec(backend="ffpdata.models.classical.remover:TemporalFill")
    with pytest.raises(ConfigError, match=r"TemporalFill cannot be fine-tuned: use .*vace:Vace"):
        finetune(samples[:1], [], spec, LoraSettings(), tmp_path, print)


def test_samples_that_do_not_fit_are_named(samples, tmp_path):
    with pytest.raises(ConfigError, match="no accepted pair"):
        check_samples([], samples)
    with pytest.raises(ConfigError, match="clip0/removal/bbox is in samples and in validation"):
        check_samples(samples[:2], samples[:1])
    with pytest.raises(FatalError, match="clip0/removal/bbox: its target_video is missing"):
        check_samples([replace(samples[0], target_video=tmp_path / "gone.mp4")], [])
    short = tmp_path / "short.mp4"
    write_video(short, np.zeros((5, 64, 64, 3), np.uint8), 16)
    with pytest.raises(ConfigError, match=r"one size: source_video 64 x 64 x 9, .*target_video 64 x 64 x 5"):
        check_samples([replace(samples[0], target_video=short)], [])
    odd = Path(tmp_path / "odd.mp4")
    write_video(odd, np.zeros((9, 64, 72, 3), np.uint8), 16)
    with pytest.raises(ConfigError, match="multiples of 16, not 72 x 64"):
        check_samples([replace(samples[0], source_video=odd, condition_mask=odd, target_video=odd)], [])


def test_too_little_disk_and_memory(tmp_path):
    with pytest.raises(FatalError, match=r"needs 1000000000\.0 GB for latents and checkpoints"):
        check_disk(tmp_path, 10**18)
    check_disk(tmp_path, 1)
    with pytest.raises(ConfigError, match="takes about 113 GiB, and a card has 79: set offload"):
        check_card(113, 79.2, "a card", "training", "set offload")
    check_card(78, 79.2, "a card", "training", "")
    with pytest.raises(ConfigError, match="about 1000000 GiB in main memory on 1280 x 720 x 81"):
        check_main_memory(1e6, "1280 x 720 x 81")

"""Training on an export, at a tiny size: what is learned from, what a kill leaves, and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import shutil
import time
from pathlib import Path

import pytest

from ffpdata.core.errors import ConfigError, FatalError, UsageError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.propagation.model_folder import base_digest, read_model
from ffpdata.propagation.job import PropagationJob
from ffpdata.propagation.train import train
from ffpdata.takedown.of_export import take_down
from ffpdata.training import trainer
from tests.propagation.tiny_propagation import (
    TinyFunControl,
    recipe_of,
    spec_of,
    write_checkpoint,
    write_heads,
)
from tests.training.tiny_training import Forks

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks()


@pytest.fixture(scope="module")
def spec(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = tmp_path_factory.mktemp("checkpoint")
    assert forks.run(write_checkpoint, folder) == 0
    return spec_of(folder)


def digest_of(spec: ModelSpec) -> str:
    return base_digest(TinyFunControl.training_plan(spec, ("transformer",)).parts)


def job_of(dataset: Path, spec: ModelSpec, folder: Path, preset: str = "baseline", **train) -> PropagationJob:
    folder.mkdir(parents=True, exist_ok=True)
    if preset != "baseline":
        write_heads(folder / "heads.json", digest_of(spec))
    job = PropagationJob.make(str(dataset), recipe_of(preset, **train), spec, folder)
    job.check_data()
    return job


def test_the_full_model_learns_and_its_folder_says_from_what(forks, spec, dataset, tmp_path) -> None:
    job = job_of(dataset, spec, tmp_path / "model", "full", validation=1)
    assert job.settings.schedule == "cosine"
    assert len(job.samples) == job.steps == 6
    assert forks.run(trainer.main, job.write()) == 0
    said: list[str] = []
    done = train(str(dataset), job.folder, job.recipe, spec, said.append)
    assert not any(line.startswith(("step ", "drawing ")) for line in said), "nothing is done twice"
    assert {path.name for path in done.weights.values()} == {"lora.safetensors", "propagation.safetensors"}
    table = list(csv.DictReader((job.folder / "losses.csv").open()))
    assert [row["step"] for row in table] == [str(step) for step in range(7)]
    assert float(table[-1]["learning_rate"]) < float(table[1]["learning_rate"]) == pytest.approx(2e-3)
    assert {"flow_matching", "motion", "mmd", "alpha_s", "alpha_t"} <= set(table[0])
    lineage = json.loads((job.folder / "lineage.json").read_text())
    assert lineage["dataset"]["shards"] == job.pairs.shards
    assert lineage["base_digest"] == digest_of(spec)
    assert lineage["model"]["motion_weight"] == 5.0
    assert done.sheet is not None
    model = read_model(job.folder)
    assert model.settings == job.model


def test_a_training_killed_at_random_instants_ends_in_the_same_bytes(forks, spec, dataset, tmp_path) -> None:
    settings = {"accumulate": 2, "steps": 8}
    whole, broken = (job_of(dataset, spec, tmp_path / name, **settings) for name in ("whole", "broken"))
    began = time.monotonic()
    assert forks.run(trainer.main, whole.write()) == 0
    lasted = time.monotonic() - began
    chance = random.Random(15)
    for _ in range(3):
        process = forks.start(trainer.main, broken.write())
        process.join(chance.uniform(0.3, 0.9) * lasted)
        process.kill()
        process.join()
    assert forks.run(trainer.main, broken.write()) == 0
    for stem in whole.files:
        assert broken.weights_file(stem).read_bytes() == whole.weights_file(stem).read_bytes()
    ours, theirs = (json.loads((job.folder / "trained.json").read_text()) for job in (broken, whole))
    assert [ours[name] for name in ("losses", "held_out", "terms")] == [
        theirs[name] for name in ("losses", "held_out", "terms")
    ]


def test_a_dataset_that_changed_is_refused_with_what_changed(spec, dataset, tmp_path) -> None:
    own = shutil.copytree(dataset, tmp_path / "own")
    job_of(own, spec, tmp_path / "model")
    job_of(shutil.copytree(own, tmp_path / "moved"), spec, tmp_path / "model")  # another place is no change
    take_down(own, ["1" * 16])
    said = r"is not the dataset that .*model learned from .*changed: train/shard-000000.tar \(\w{12} now \w{12}\)"
    with pytest.raises(FatalError, match=said):
        job_of(own, spec, tmp_path / "model")
    with pytest.raises(FatalError, match="Put it back, or train into a new folder"):
        train(str(own), tmp_path / "model", recipe_of(), spec, print)


def test_heads_of_another_base_and_none_are_refused(spec, dataset, tmp_path) -> None:
    with pytest.raises(ConfigError, match="classify them by `ffpdata heads`"):
        train(str(dataset), tmp_path / "none", recipe_of("full"), spec, print)
    heads = write_heads(tmp_path / "heads.json", "0" * 24)
    recipe = recipe_of("ast_rope").model_copy(update={"heads": str(heads)})
    with pytest.raises(FatalError, match=f"{'0' * 24}.*{digest_of(spec)}"):
        train(str(dataset), tmp_path / "other", recipe, spec, print)
    heads = write_heads(tmp_path / "heads.json", digest_of(spec), frames=17)
    with pytest.raises(ConfigError, match="classified on 17 frames, the recipe trains 9"):
        train(str(dataset), tmp_path / "other", recipe, spec, print)


def test_what_does_not_fit_is_refused_before_anything_is_loaded(spec, dataset, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"has 17 frames and model.frames is 33"):
        train(str(dataset), tmp_path / "long", recipe_of(model={"frames": 33}), spec, print)
    with pytest.raises(ConfigError, match="no pair is a 'swop'"):
        train(str(dataset), tmp_path / "task", recipe_of(data={"tasks": ["swop"]}), spec, print)
    with pytest.raises(FatalError, match="has no split 'trian'; did you mean 'train'"):
        train(str(dataset), tmp_path / "split", recipe_of(data={"splits": ["trian"]}), spec, print)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match=r"holds thesis\.txt and no training"):
        train(str(dataset), tmp_path / "full", recipe_of(), spec, print)
    trained = spec.model_copy(update={"settings": {**spec.settings, "trained": "somewhere"}})
    with pytest.raises(ConfigError, match="is a trained model already"):
        train(str(dataset), tmp_path / "again", recipe_of(), trained, print)


def test_a_cache_too_small_for_a_step_is_refused(forks, spec, dataset, tmp_path) -> None:
    job = job_of(dataset, spec, tmp_path / "model", latent_cache_gb=2e-4)
    assert forks.run(trainer.main, job.write()) == 1
    kind, said = json.loads((job.folder / "error.json").read_text())
    assert kind == "ConfigError"
    assert "latent_cache_gb is 0.0002, and the latents of the held-out samples and of one step take" in said


def test_a_full_disk_ends_it_with_a_clear_error(forks, spec, dataset, tmp_path) -> None:
    job = job_of(dataset, spec, tmp_path / "model", steps=1)
    assert forks.run(train_on_a_full_disk, job.write()) == 1
    kind, said = json.loads((job.folder / "error.json").read_text())
    assert kind == "FatalError"
    assert str(job.folder) in said
    assert "no space left on the device" in said
    assert forks.run(trainer.main, job.write()) == 0  # with room again


def train_on_a_full_disk(config: Path) -> int:
    """A limit on the size of files stands for a full disk: the kernel refuses the write in the same way."""
    import errno
    import resource
    import signal

    from ffpdata.core import errors

    errors._FULL.add(errno.EFBIG)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    return trainer.main(config)

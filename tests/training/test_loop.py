"""The loop that all methods share, on a line through points: resuming, several processes, several nodes."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.training import trainer
from ffpdata.training.results import train
from tests.training.tiny_method import line_job

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("accelerate"), reason="accelerate is not installed"),
    pytest.mark.slow,
]


def weights(job) -> list[bytes]:
    return [job.weights_file(stem).read_bytes() for stem in job.files]


def trained(job) -> dict:
    return json.loads((job.folder / "trained.json").read_text())


def test_it_learns_and_says_how_it_went(tmp_path: Path) -> None:
    said: list[str] = []
    job = line_job(tmp_path, steps=60, schedule="cosine", warm_up=0.1, clip_norm=1.0, validation=1, measure_every=30)
    done = train(job, said.append)
    assert done.lineage["held_out_after"] < 0.25 * done.lineage["held_out_before"]
    assert [path.name for path in done.weights.values()] == ["slope.safetensors", "height.safetensors"]
    table = list(csv.DictReader((tmp_path / "losses.csv").open()))
    assert list(table[0]) == ["step", "loss", "held_out", "learning_rate", "error", "right"]
    assert float(table[60]["learning_rate"]) < 1e-3 < float(table[7]["learning_rate"])
    assert float(table[9]["error"]) == pytest.approx(float(table[9]["loss"]), rel=1e-5)
    assert {row["right"] for row in table[1:]} == {"1.0", ""}
    picture = (tmp_path / "loss.svg").read_text()
    assert picture.count("<path") == 4
    assert ">learning rate</text>" in picture
    assert done.sheet is not None
    assert said[0] == "a line fits everywhere"
    assert train(job, said.append) == done
    assert said[-1] == f"already trained: revision {done.revision}"


def test_a_break_at_any_checkpoint_and_any_cache_give_the_same_bytes(tmp_path: Path, monkeypatch) -> None:
    settings = {"steps": 12, "schedule": "cosine", "warm_up": 0.2, "clip_norm": 0.5, "accumulate": 2}
    whole = line_job(tmp_path / "whole", **settings)
    assert trainer.main(whole.write()) == 0
    for name, cache in (("all", None), ("small", 7e-6)):
        broken = line_job(tmp_path / name, latent_cache_gb=cache, **settings)
        for stop in (2, 5, 10):
            with monkeypatch.context() as patched:
                patched.setattr("ffpdata.training.loop.seed_of", stops_at(2 * stop))
                with pytest.raises(KeyboardInterrupt):
                    trainer.main(broken.write())
        assert trainer.main(broken.write()) == 0
        assert weights(broken) == weights(whole)
        ours, theirs = trained(broken), trained(whole)
        assert all(ours[part] == theirs[part] for part in ("losses", "held_out", "terms", "fingerprint"))
        assert len(list((broken.folder / "latents").iterdir())) <= (7 if cache else 12)


def stops_at(index: int):
    from ffpdata.training.order import seed_of

    def seed(*parts):
        if parts[1:] == ("noise", index):
            raise KeyboardInterrupt
        return seed_of(*parts)

    return seed


def test_two_processes_take_the_steps_of_one_with_two(tmp_path: Path) -> None:
    one = line_job(tmp_path / "one", steps=8, accumulate=2)
    assert trainer.main(one.write()) == 0
    two = line_job(tmp_path / "two", steps=8, gpus=2)
    done = train(two, print)
    assert [loss for _, loss in done.losses] == pytest.approx([loss for _, loss in trained(one)["losses"]], rel=1e-4)
    terms = trained(two)["terms"]
    assert [value for _, value in terms["error"]] == pytest.approx([loss for _, loss in done.losses], rel=1e-4)


def test_two_nodes_train_as_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    one = line_job(tmp_path / "one", steps=6, gpus=0, accumulate=2)
    assert trainer.main(one.write()) == 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        said: list[str] = []
        two = line_job(tmp_path / "two", steps=6, gpus=0, nodes=2)
        done = train(two, said.append)
        with pytest.raises(FatalError, match="nodes is 3, and 2 of the cluster have 0 GPUs"):
            train(line_job(tmp_path / "three", steps=6, gpus=0, nodes=3), said.append)
    finally:
        cluster.shutdown()
    assert [loss for _, loss in done.losses] == pytest.approx([loss for _, loss in trained(one)["losses"]], rel=1e-4)
    assert done.lineage["processes"] == 2
    assert any(line.startswith("step 6 of 6") for line in said)

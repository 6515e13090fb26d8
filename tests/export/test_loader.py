import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.curate.curation import curate
from ffpdata.export.dataset import Dataset
from ffpdata.export.loader import pairs, webdataset_pipeline
from ffpdata.export.shards import export
from ffpdata.media.codec import read_masks, read_video
from ffpdata.storage.store import Store
from tests.fixture_run import GOOD, copy_run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loader")
    run = copy_run(folder / "run")
    curate(run)
    export(run, folder / "out")
    return folder / "out"


def test_pairs_have_their_record_and_their_pixels(out: Path) -> None:
    found = {pair["key"]: pair for pair in pairs(out)}
    assert len(found) == 10
    pair = found[f"{GOOD[0]}-00-swap-mask"]
    assert (pair["task"], pair["instruction"]) == ("modification", "Make the dog blue & green (1).")
    run = out.parent / "run"
    originals = [read_video(p) for p in (run / "artifacts/source_video").rglob("*.mp4")]
    assert any(np.array_equal(pair["source"], video) for video in originals)
    masks = [read_masks(p) for p in (run / "artifacts/mask_video").rglob("*.mp4")]
    assert any(np.array_equal(pair["mask"], mask) for mask in masks)
    assert np.array_equal(pair["edited_first_frame"], pair["target"][0])
    assert dict(pair).keys() == set(pair)
    assert len(list(pair)) == len(pair) == len(set(pair))
    assert (pair["json"]["key"], pair["json"]["mask"]) == (pair["key"], json.loads(pair.files["json"])["mask"])


def test_a_stylization_has_no_mask_and_says_so(out: Path) -> None:
    pair = next(pair for pair in pairs(out) if pair["task"] == "stylization")
    assert "mask" not in pair
    with pytest.raises(KeyError, match="it is a stylization"):
        pair["mask"]
    with pytest.raises(KeyError, match="has no 'targt'; did you mean 'target'"):
        pair["targt"]


def test_pairs_below_a_score_are_left_out(out: Path) -> None:
    scores = [pair["json"]["scores"]["score"] for pair in pairs(out)]
    assert min(scores) < 0.8 <= max(scores)
    assert [p["json"]["scores"]["score"] for p in pairs(out, min_score=0.8)] == [s for s in scores if s >= 0.8]


def test_splits_are_disjoint_and_a_wrong_name_is_told(out: Path) -> None:
    keys = {split: {p["key"] for p in pairs(out, split)} for split in ("train", "test")}
    assert not keys["train"] & keys["test"]
    assert len(keys["train"] | keys["test"]) == 10
    with pytest.raises(FatalError, match="did you mean 'train'"):
        next(pairs(out, "trian"))
    with pytest.raises(FatalError, match="is no ffpdata export"):
        next(pairs(out.parent))


def test_an_interrupted_export_is_not_read(tmp_path: Path) -> None:
    Dataset(complete=False).save(Store(tmp_path))
    with pytest.raises(FatalError, match="interrupted"):
        next(pairs(tmp_path))


@pytest.mark.models  # webdataset loads torch where it is installed
def test_the_webdataset_pipeline_gives_the_same_samples(out: Path) -> None:
    plain = {pair["key"]: pair for pair in pairs(out, "train")}
    piped = {sample["__key__"]: sample for sample in webdataset_pipeline(out, "train")}
    assert piped.keys() == plain.keys()
    for key, sample in piped.items():
        assert np.array_equal(sample["target"], plain[key]["target"])
        assert sample["instruction"] == plain[key]["instruction"]
    raw = next(iter(webdataset_pipeline(out, "train", decode=False)))
    assert raw["source.mp4"][4:8] == b"ftyp"
    shuffled = webdataset_pipeline(out, decode=False, shardshuffle=2).shuffle(5)
    assert len(list(shuffled)) == 10


@pytest.mark.models
def test_every_epoch_has_its_order_and_a_seed_gives_it_again(tmp_path: Path) -> None:
    """In real workers of a DataLoader, which get a copy of the pipeline whenever they start."""
    from torch.utils.data import DataLoader

    run = copy_run(tmp_path / "run")
    curate(run)
    export(run, tmp_path / "out", shard_size_mb=0.02)
    assert len(Dataset.load(Store(tmp_path / "out")).shards) >= 5

    def orders(epochs: int, first: int = 0, **options: Any) -> list[list[str]]:
        workers = {"num_workers": options.pop("workers", 2), "persistent_workers": options.pop("persistent", False)}
        dataset = webdataset_pipeline(tmp_path / "out", decode=False, **options)
        loader = DataLoader(dataset, batch_size=None, **workers)
        if first:
            dataset.set_epoch(first)
        return [[sample["__key__"] for sample in loader] for _ in range(epochs)]

    plain = orders(2)
    assert plain[0] == plain[1]
    for shuffled in ({"shardshuffle": True}, {"shuffle": 4}, {"shardshuffle": 100, "shuffle": 4}):
        one = orders(3, seed=7, **shuffled)
        assert all(sorted(order) == sorted(plain[0]) for order in one)
        assert one[0] != one[1] != one[2] != one[0]
        assert orders(2, seed=7, persistent=True, **shuffled) == one[:2]
    assert orders(1, first=2, seed=7, **shuffled) == one[2:], "a training that goes on"
    assert orders(1, seed=8, **shuffled) != one[:1]
    alone = orders(2, seed=7, workers=0, **shuffled)
    assert alone[0] != alone[1]
    assert orders(2, seed=7, workers=0, **shuffled) == alone


def loaded(out: Path, code: str) -> list[str]:
    """Run code that reads the export `out` in a process of its own, and return the words it printed."""
    lines = "import sys; from ffpdata.export.loader import pairs, webdataset_pipeline; from pathlib import Path"
    program = f"{lines}; out = Path(sys.argv[1]); {code}"
    done = subprocess.run([sys.executable, "-c", program, out], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_iterator_loads_no_torch_and_the_pipeline_needs_none(out: Path) -> None:
    assert loaded(out, "print(len(list(pairs(out))), 'torch' in sys.modules)") == ["10", "False"]
    assert loaded(out, "sys.modules['torch'] = None; print(len(list(webdataset_pipeline(out))))") == ["10"]

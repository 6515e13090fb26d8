"""SAM 3 on a tiny random checkpoint, loaded and run as the published one is."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("transformers", reason="the extra `models` is not installed")

from ffpdata.core.errors import ConfigError, FatalError, Reject
from ffpdata.core.stage import ModelSpec
from ffpdata.models.mask_guards import check_mask_facts
from ffpdata.models.sam2_video import prepare
from ffpdata.models.sam3 import Sam3, _frame_instances
from tests.models import tiny_vision as tiny

BACKEND = "ffpdata.models.sam3:Sam3"
SQUARE = (8.0, 20.0, 32.0, 44.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.sam3(tmp_path_factory.mktemp("sam3"))


def spec(folder: Path, **settings: Any) -> ModelSpec:
    chosen = {"dtype": "float32"} | settings
    return ModelSpec(backend=BACKEND, model=str(folder), settings=chosen, runtime={"device": "cpu"})


@pytest.fixture(scope="module")
def model(folder: Path) -> Sam3:
    return Sam3(spec(folder, **tiny.ANY_MASK))


def test_a_phrase_is_found_and_followed(model: Sam3) -> None:
    answer = model.segment(tiny.clip(20), ["dog", "ball"])
    assert answer.masks.shape == (20, 64, 64)
    assert answer.masks.dtype == np.bool_
    assert 0 < answer.masks.mean() < 1
    assert answer.masks.any(axis=(1, 2)).all()
    assert answer.phrase == "dog"
    assert answer.facts["instances"] >= 1
    assert answer.facts["detection"] > 0.9
    assert answer.facts["presence"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-2)
    assert answer.score == pytest.approx(answer.facts["detection"] * answer.facts["presence"])
    assert all(isinstance(value, float) for value in answer.facts.values())


def test_same_input_same_masks(model: Sam3) -> None:
    first, second = (model.segment(tiny.clip(4), ["dog"]) for _ in range(2))
    assert np.array_equal(first.masks, second.masks)
    assert first.facts == second.facts


def test_a_clip_is_prepared_once_and_a_phrase_leaves_nothing_to_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ffpdata.models.sam3 as module

    clips, measured = [], []
    monkeypatch.setattr(module, "prepare", lambda *given: clips.append(1) or prepare(*given))
    monkeypatch.setattr(
        module, "check_mask_facts", lambda facts, limits: measured.append(facts) or check_mask_facts(facts, limits)
    )
    with pytest.raises(Reject, match="mask_too_large"):
        Sam3(spec(folder, **tiny.ANY_MASK | {"max_area": 0.1})).segment(tiny.clip(6), ["dog", "cat", "dog"])
    assert len(clips) == 1
    assert measured[2] == measured[0]


def test_what_scores_too_little_is_no_target(folder: Path) -> None:
    picky = Sam3(spec(folder, score_threshold=1.0, **tiny.ANY_MASK))
    with pytest.raises(Reject, match="no_target: 'dog': nothing scores 1 in the first frame and is found again; 'cat'"):
        picky.segment(tiny.clip(3), ["dog", "cat"])


def test_guards_reject_with_what_they_measured(folder: Path) -> None:
    with pytest.raises(Reject, match="mask_too_large: 'dog': area is") as caught:
        Sam3(spec(folder, **tiny.ANY_MASK | {"max_area": 0.1})).segment(tiny.clip(3), ["dog"])
    assert caught.value.facts["area"] > 0.1
    assert caught.value.facts["instances"] >= 1


def test_a_users_box_wins_over_the_phrases(model: Sam3) -> None:
    answer = model.segment(tiny.clip(3), [], SQUARE)
    assert answer.masks.shape == (3, 64, 64)
    assert answer.masks[0].any()
    assert answer.phrase == "object"
    assert answer.facts["detection"] == answer.facts["instances"] == 1
    assert "inside_box" in answer.facts
    assert not np.array_equal(answer.masks, model.segment(tiny.clip(3), ["dog"]).masks)
    with pytest.raises(Reject, match="no_target: the box"):
        model.segment(tiny.clip(3), ["dog"], (64, 64, 80, 80))


def test_instances_are_counted_once() -> None:
    import torch

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]])
    masks = torch.zeros(3, 40, 40, dtype=torch.bool)
    masks[0, :10, :10] = masks[2, 20:30, 20:30] = True
    shown = {
        "object_ids": torch.tensor([4, 5, 6]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "boxes": boxes,
        "masks": masks,
    }
    found = _frame_instances(shown, {4: 1.0, 6: 0.5, 9: -10000.0})
    assert found.instances == 2
    assert found.detection == pytest.approx(0.7)
    assert found.presence == 0.75
    assert found.mask.sum() == 200
    empty = _frame_instances({name: value[:0] for name, value in shown.items()}, {})
    assert (empty.instances, empty.detection, empty.presence, empty.mask.any()) == (0, 0, None, False)


def test_too_many_instances_are_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ffpdata.models.sam3 as module

    monkeypatch.setattr(
        module, "_frame_instances", lambda shown, scores: _frame_instances(shown, scores)._replace(instances=3)
    )
    with pytest.raises(Reject, match="too_many_instances: 'dog': 3 in frame 0, at most 2") as caught:
        Sam3(spec(folder, **tiny.ANY_MASK | {"max_instances": 2})).segment(tiny.clip(3), ["dog"])
    assert caught.value.facts == {"instances": 3.0}


def test_half_precision(folder: Path, model: Sam3) -> None:
    half = Sam3(spec(folder, dtype="bfloat16", **tiny.ANY_MASK))
    first = half.segment(tiny.clip(3), ["dog"]).masks[0]
    assert (first == model.segment(tiny.clip(3), ["dog"]).masks[0]).mean() > 0.95
    assert half.segment(tiny.clip(3), [], SQUARE).masks.any()
    half.close()


def test_nothing_of_a_clip_stays_behind(model: Sam3) -> None:
    from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

    model.segment(tiny.clip(3), ["dog"])
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Sam3VideoInferenceSession]


def test_settings_and_checkpoint_are_checked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no entry 'max_instance'; did you mean 'max_instances'"):
        Sam3(spec(folder, max_instance=3))
    with pytest.raises(FatalError, match="no safetensors file"):
        Sam3(spec(tmp_path))

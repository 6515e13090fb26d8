"""Grounded SAM 2 on tiny random checkpoints, loaded and run as the published ones are."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("transformers", reason="the extra `models` is not installed")

from ffpdata.core.errors import ConfigError, FatalError, Reject
from ffpdata.core.stage import ModelSpec, Row
from ffpdata.media.codec import read_masks, write_video
from ffpdata.models.gpu_memory import GpuMemoryError, inference
from ffpdata.models.grounded_sam2 import GroundedSam2
from ffpdata.models.grounding_dino import Detection, caption
from ffpdata.stages.segment import Segment
from tests.models import tiny_vision as tiny

BACKEND = "ffpdata.models.grounded_sam2:GroundedSam2"
SQUARE = (8.0, 20.0, 32.0, 44.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoints")
    tiny.grounding_dino(made / "dino")
    tiny.sam2(made / "sam2")
    return made


def spec(folder: Path, runtime: dict[str, Any] | None = None, **settings: Any) -> ModelSpec:
    chosen = {"detector": str(folder / "dino"), "dtype": "float32", "max_instances": 50} | settings
    return ModelSpec(backend=BACKEND, model=str(folder / "sam2"), settings=chosen, runtime=runtime or {"device": "cpu"})


@pytest.fixture(scope="module")
def model(folder: Path) -> GroundedSam2:
    return GroundedSam2(spec(folder, **tiny.ANY_MASK))


class Says:
    """A detector with fixed answers."""

    def __init__(self, **answers: list[Detection]) -> None:
        self.answers = answers

    def find(self, image: Any, phrase: str, box_threshold: float, text_threshold: float) -> list[Detection]:
        return self.answers[phrase]


def test_a_phrase_is_found_and_followed(model: GroundedSam2) -> None:
    answer = model.segment(tiny.clip(), ["dog", "red ball"])
    assert answer.masks.shape == (9, 64, 64)
    assert answer.masks.dtype == np.bool_
    assert 0 < answer.masks.mean() < 1
    assert answer.phrase == "dog"
    assert answer.facts["instances"] > 1
    assert answer.score == pytest.approx(answer.facts["detection"] * answer.facts["presence"])
    assert 0.4 <= answer.facts["detection"] <= 1
    assert answer.facts["presence"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-2)
    assert all(isinstance(value, float) for value in answer.facts.values())


def test_same_input_same_masks(model: GroundedSam2) -> None:
    first, second = (model.segment(tiny.clip(5), ["dog"]) for _ in range(2))
    assert np.array_equal(first.masks, second.masks)
    assert first.facts == second.facts


def test_detections_lie_in_the_picture_best_first(model: GroundedSam2) -> None:
    found = model.detector.find(tiny.clip(1)[0], "dog", 0.4, 0.3)
    boxes, scores = np.array([d.box for d in found]), [d.score for d in found]
    assert scores == sorted(scores, reverse=True)
    assert (boxes >= 0).all()
    assert (boxes <= tiny.SIDE).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    fewer = model.detector.find(tiny.clip(1)[0], "dog", 0.99, 0.3)
    assert fewer == [d for d in found if d.score > 0.99]
    assert caption(" A Red. Ball.") == "a red ball."


def test_several_instances_are_one_object(model: GroundedSam2) -> None:
    boxes = [SQUARE, (40.0, 2.0, 60.0, 18.0)]
    with inference(model.device, "two objects", ""):
        alone = [model.tracker.track(tiny.clip(4), [box]).masks for box in boxes]
        both = model.tracker.track(tiny.clip(4), boxes).masks
    assert not np.array_equal(alone[0], alone[1])
    assert np.array_equal(both, alone[0] | alone[1])


def test_phrases_are_tried_in_order(folder: Path) -> None:
    model = GroundedSam2(spec(folder, **tiny.ANY_MASK | {"max_instances": 2}))
    model.detector = Says(cat=[], dog=[Detection(SQUARE, 0.5)] * 3, ball=[Detection(SQUARE, 0.75)])
    answer = model.segment(tiny.clip(4), ["cat", "dog", "ball"])
    assert answer.phrase == "ball"
    assert answer.facts["detection"] == 0.75
    with pytest.raises(Reject, match="too_many_instances: 'dog': 3, at most 2"):
        model.segment(tiny.clip(4), ["cat", "dog"])
    with pytest.raises(Reject, match=r"no_target: 'cat': no box scores 0\.4"):
        model.segment(tiny.clip(4), ["cat"])


def test_a_users_box_wins_over_the_phrases(model: GroundedSam2) -> None:
    answer = model.segment(tiny.clip(4), ["nothing"], SQUARE)
    assert answer.phrase == "nothing"
    assert answer.facts["instances"] == answer.facts["detection"] == 1
    assert "inside_box" in answer.facts
    with pytest.raises(Reject, match="no_target: the box"):
        model.segment(tiny.clip(4), ["nothing"], (64, 64, 80, 80))


def test_guards_reject_with_what_they_measured(folder: Path) -> None:
    model = GroundedSam2(spec(folder))
    with pytest.raises(Reject) as caught:
        model.segment(tiny.clip(4), ["dog"], SQUARE)
    assert caught.value.reason == "mask_outside_box"
    assert 0 < caught.value.facts["inside_box"] < 0.5
    with pytest.raises(Reject, match="no_target"):
        GroundedSam2(spec(folder, box_threshold=1.0)).segment(tiny.clip(4), ["dog", "cat"])


def test_nothing_of_a_clip_stays_behind(model: GroundedSam2) -> None:
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    model.segment(tiny.clip(3), ["dog"], SQUARE)
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Sam2VideoInferenceSession]


def test_a_full_gpu_fails_the_item_and_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def fail(*args: Any) -> None:
        raise torch.OutOfMemoryError("no room\nmore")

    model = GroundedSam2(spec(folder))
    monkeypatch.setattr(model.tracker, "track", fail)
    with pytest.raises(GpuMemoryError, match=r"SAM 2 on 64 x 64 x 3: out of GPU .*\(no room\).*offload_state"):
        model.segment(tiny.clip(3), [], SQUARE)


def test_half_precision_and_offloading(folder: Path, model: GroundedSam2) -> None:
    offloaded = GroundedSam2(spec(folder, {"device": "cpu", "offload_state": True}, **tiny.ANY_MASK))
    assert np.array_equal(
        offloaded.segment(tiny.clip(4), [], SQUARE).masks, model.segment(tiny.clip(4), [], SQUARE).masks
    )
    offloaded.close()
    half = GroundedSam2(spec(folder, dtype="bfloat16", detector_dtype="bfloat16", **tiny.ANY_MASK))
    assert str(half.tracker.model.dtype) == str(half.detector.model.dtype) == "torch.bfloat16"
    # Later frames take whichever of several random masks scores a hair better: the first one alone can be compared.
    agree = half.segment(tiny.clip(4), [], SQUARE).masks[0] == model.segment(tiny.clip(4), [], SQUARE).masks[0]
    assert agree.mean() > 0.98
    assert half.segment(tiny.clip(4), ["dog"]).masks.any()


def test_the_sam2_package_is_a_second_engine(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("sam2", reason="the extra `models` is not installed")
    import torch
    from sam2.build_sam import build_sam2_video_predictor

    from ffpdata.models.convert_to_safetensors import main

    config = "configs/sam2.1/sam2.1_hiera_t.yaml"
    torch.manual_seed(0)
    built = build_sam2_video_predictor(config, device="cpu")
    torch.save({"model": built.state_dict()}, tmp_path / "sam2.pt")
    assert main([str(tmp_path / "sam2.pt"), str(tmp_path / "converted")]) == 0
    chosen = spec(folder, engine="sam2", sam2_config=config, sam2_side=128, **tiny.ANY_MASK)
    model = GroundedSam2(chosen.model_copy(update={"model": str(tmp_path / "converted")}))
    answer = model.segment(tiny.clip(3), ["thing"], SQUARE)
    assert answer.masks.shape == (3, 64, 64)
    assert 0 < answer.masks.mean() < 1
    assert 0 < answer.facts["presence"] < 1
    wrong = chosen.model_copy(update={"settings": chosen.settings | {"sam2_config": "configs/sam2.1/sam2.1_hiera_x"}})
    with pytest.raises(FatalError, match=r"it has configs/sam2\.1/sam2\.1_hiera_b"):
        GroundedSam2(wrong)
    with pytest.raises(FatalError, match="not the weights of"):
        GroundedSam2(chosen)


def test_the_stage_writes_its_masks(folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", tiny.clip(), fps=16)
    stage = Segment(specs={"segmenter": spec(folder, **tiny.ANY_MASK)})
    stage.setup()
    values = {"source_video": str(tmp_path / "clip.mp4"), "objects": ["dog"], "fps": 16.0}
    columns = stage.process(Row(values, new_file=lambda column, child: tmp_path / f"{column}.mp4"))
    stage.teardown()
    masks = read_masks(tmp_path / "mask_video.mp4")
    assert masks.shape == (9, 64, 64)
    assert columns["phrase"] == "dog"
    assert columns["mask_area"] == pytest.approx(masks.mean())
    assert set(columns) == set(Segment.writes)


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ({"offload_sate": True}, "no entry 'offload_sate'; did you mean 'offload_state'"),
        ({"offload_state": "perhaps"}, r"'offload_state': .* \(got 'perhaps'\)"),
    ],
)
def test_a_wrong_runtime_is_named(folder: Path, runtime: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^runtime of {BACKEND}: {said}"):
        GroundedSam2(spec(folder, runtime))


def test_an_incomplete_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for source in (folder / "sam2").iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    state.pop("memory_encoder.projection.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FatalError, match=r"1 weights of Sam2VideoModel are missing, e\.g\. memory_encoder\.proj"):
        GroundedSam2(spec(folder).model_copy(update={"model": str(tmp_path)}))

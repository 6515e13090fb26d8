"""`measure`: the numbers of pairs whose change is known, and the limits that they are held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ffpdata.core.config import load_pipeline
from ffpdata.core.stage import Reject
from ffpdata.media.metrics import PSNR_MAX
from ffpdata.stages.measure import METRICS, Measure, MeasureSettings
from tests.stages.alone import Alone, flat, square


@pytest.fixture
def scene() -> np.ndarray:
    """Coarse blocks that drift by a pixel a frame."""
    blocks = np.kron(
        np.random.default_rng(3).integers(60, 190, (6, 12, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8)
    )
    return np.stack([blocks[:, t : t + 64] for t in range(9)])


def measure(
    alone: Alone, source: np.ndarray, target: np.ndarray, *, region: np.ndarray | None = None, **settings: Any
) -> dict[str, Any]:
    facts = settings.pop("facts", None)
    values: dict[str, Any] = {"task": "removal", "edit_facts": facts}
    values |= {"source_video": alone.video("source", source), "target_video": alone.video("target", target)}
    if region is not None:
        values |= {"condition_mask": alone.masks("condition", region), "mask_video": alone.masks("mask", region)}
    return alone.process(Measure(MeasureSettings(**settings)), **values)


def test_a_pair_without_a_change(alone: Alone, scene: np.ndarray) -> None:
    found = measure(alone, scene, scene, region=square(frames=9))
    assert found["source_hash"] == found["target_hash"]
    assert {found[name] for name in ("change", "colour_drift", "flicker", "change_inside")} == {0.0}
    assert found["psnr_outside"] == PSNR_MAX
    assert found["structure"] == pytest.approx(1.0)
    assert found["motion"] > 1
    assert set(METRICS) <= set(found)


def test_a_change_inside_the_region_stays_inside(alone: Alone, scene: np.ndarray) -> None:
    target, region = scene.copy(), square(frames=9)
    target[region] = 255 - target[region]
    found = measure(alone, scene, target, region=region)
    assert found["change_inside"] > 30
    assert found["change"] == pytest.approx(found["change_inside"] * region.mean(), rel=0.25)
    assert found["psnr_outside"] > 30
    assert found["colour_drift"] < 2
    assert found["source_hash"] != found["target_hash"]


def test_a_change_of_all_colours_is_drift(alone: Alone) -> None:
    found = measure(alone, flat(100), flat((140, 100, 60)), region=square())
    assert found["colour_drift"] > 20
    assert found["psnr_outside"] < 25
    assert found["motion"] == 0.0


def test_without_a_region_the_whole_frame_counts(alone: Alone, scene: np.ndarray) -> None:
    found = measure(alone, scene, (scene // 2).astype(np.uint8))
    assert found["colour_drift"] > 20
    assert not {"psnr_outside", "change_inside"} & set(found), "nothing is outside"
    assert found["structure"] > 0.9, "darker, and still the same edges"


def test_flicker_is_what_the_target_adds(alone: Alone, scene: np.ndarray) -> None:
    restless = scene.astype(int)
    restless[1::2] += 40
    shaken = restless.clip(0, 255).astype(np.uint8)
    assert measure(alone, scene, shaken, step=1)["flicker"] > 5
    assert measure(alone, shaken, scene, step=1)["flicker"] == 0.0, "a steadier target is no fault"


@pytest.mark.parametrize(
    ("limits", "reason", "said"),
    [
        ({"change": {"min": 5}}, "change_too_low", "change is 0, at least 5"),
        ({"structure": {"max": 0.5}}, "structure_too_high", "structure is 1, at most 0.5"),
        ({"unrevealed": {"max": 0.3}}, "unrevealed_too_high", "unrevealed is 0.456, at most 0.3"),
    ],
)
def test_a_pair_beyond_a_limit_is_refused_with_its_numbers(
    alone: Alone, scene: np.ndarray, limits: dict, reason: str, said: str
) -> None:
    with pytest.raises(Reject) as caught:
        measure(alone, scene, scene, limits={"removal": limits}, facts={"unrevealed": 0.4561})
    assert (caught.value.reason, caught.value.detail) == (reason, said)
    assert "source_hash" in caught.value.facts, "what was measured is kept"
    assert "unrevealed" not in caught.value.facts, "what the model told stands in its own column"


def test_a_limit_holds_for_its_task_and_for_numbers_that_are_there(alone: Alone, scene: np.ndarray) -> None:
    limits = {"swap": {"change": {"min": 5}}, "removal": {"unrevealed": {"max": 0.3}, "change": {"max": 0.0}}}
    assert measure(alone, scene, scene, limits=limits)["change"] == 0.0, "a limit may be met exactly"


def test_a_stage_s_own_number_wins_over_one_that_a_model_tells(alone: Alone, scene: np.ndarray) -> None:
    limits = {"removal": {"change": {"min": 5}}}
    with pytest.raises(Reject, match="change is 0"):
        measure(alone, scene, scene, limits=limits, facts={"change": 50.0})


def test_a_limit_that_says_something_else_is_refused() -> None:
    with pytest.raises(ValidationError):
        MeasureSettings(limits={"removal": {"change": {"least": 5}}})


def limits_of(profile: str) -> Any:
    return {stage.name: stage.settings for stage in load_pipeline("local_editing", profile).stages}["measure"]["limits"]


@pytest.mark.parametrize("profile", ["gpu", "small"])
def test_a_target_that_went_through_a_vae_has_limits_of_its_own(alone: Alone, scene: np.ndarray, profile: str) -> None:
    """A round trip of 31 dB stands for the VAE: by itself it changes as much as a faint edit by a classical model."""
    wide = np.random.default_rng(5).normal(0, 255 * 10 ** (-31 / 20), (48, 96, 3))
    noise = np.stack([wide[:, t : t + 64] for t in range(9)])  # it moves with the scene, as a VAE's errors do
    unedited = (scene + noise).clip(0, 255).astype(np.uint8)
    region = square(frames=9)
    assert measure(alone, scene, unedited, region=region)["change_inside"] > 3
    with pytest.raises(Reject, match=r"leftover is 1, at most"):
        measure(alone, scene, unedited, region=region, limits=limits_of("cpu"))
    with pytest.raises(Reject, match=r"change_inside is .*, at least 10"):
        measure(alone, scene, unedited, region=region, limits=limits_of(profile))
    # An edit, in a clip of fine texture: 26 dB outside.
    edited = (scene + noise * 10 ** (5 / 20)).clip(0, 255).astype(np.uint8)
    edited[region] = 255 - scene[region]
    with pytest.raises(Reject, match=r"psnr_outside is .*, at least 28"):
        measure(alone, scene, edited, region=region, limits=limits_of("cpu"))
    assert measure(alone, scene, edited, region=region, limits=limits_of(profile))["psnr_outside"] < 28

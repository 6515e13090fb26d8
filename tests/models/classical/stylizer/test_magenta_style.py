"""The embedded stylizer: takes the reference's colours, keeps the scene, holds still, and repeats itself exactly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError, Reject
from ffpdata.core.stage import ModelSpec
from ffpdata.media.metrics import structure
from ffpdata.models.classical.stylizer.magenta_style import MagentaStylizer
from ffpdata.models.classical.vision_language.change_measures import measure_global
from ffpdata.models.protocols import Edit
from tests.models.classical.toys import Clip, painting, scene

BACKEND = "ffpdata.models.classical.stylizer.magenta_style:MagentaStylizer"


def stylize(frames: Clip, reference: Clip | None = None, threads: int = 1, **settings: object) -> Edit:
    model = MagentaStylizer(ModelSpec(backend=BACKEND, settings=settings, runtime={"threads": threads}))
    depth = np.zeros(frames.shape[:3], np.float32)
    edit = model.stylize(frames, depth, painting() if reference is None else reference, prompt="", seed=0)
    model.close()
    return edit


@pytest.fixture(scope="module")
def clip() -> Clip:
    return scene(frames=9, pan=1.5).source


def test_the_reference_shows_and_the_scene_stays(clip: Clip) -> None:
    edit = stylize(clip)
    assert edit.frames.shape == clip.shape
    assert edit.frames.dtype == np.uint8
    found = measure_global(clip, edit.frames, painting())
    assert found is not None
    assert found.change > 20
    assert found.approach > 0.3
    assert structure(clip, edit.frames) > 0.3  # of a noise pattern, the hardest case
    assert edit.facts["style_strength"] > 20
    assert edit.facts["style_passes"] == 5


def test_two_references_give_two_looks(clip: Clip) -> None:
    red = np.ascontiguousarray(painting()[..., ::-1])
    first, second = stylize(clip[:1]).frames, stylize(clip[:1], red).frames
    assert first[..., 2].mean() > first[..., 0].mean() + 10
    assert second[..., 0].mean() > second[..., 2].mean() + 10


@pytest.mark.parametrize("threads", [1, 2])
def test_the_network_takes_no_more_threads_than_its_worker_has(threads: int) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        model = MagentaStylizer(ModelSpec(backend=BACKEND, runtime={"threads": 2}))
        assert model._network._transform.get_session_options().intra_op_num_threads == threads
        model.close()
    finally:
        cv2.setNumThreads(before)


def test_the_same_bytes_on_any_number_of_threads(clip: Clip) -> None:
    first, again, wide = stylize(clip[:4]), stylize(clip[:4]), stylize(clip[:4], threads=2)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.frames, wide.frames)
    assert first.facts == again.facts


def test_it_flickers_less_than_frame_by_frame(clip: Clip) -> None:
    steady, loose = stylize(clip), stylize(clip, every=1, stability=0.0)
    assert steady.facts["style_flicker"] < 0.5 * loose.facts["style_flicker"]


def test_strength_leads_from_the_own_style_to_the_reference(clip: Clip) -> None:
    none, half, full = (stylize(clip[:1], strength=s).facts["style_strength"] for s in (0.0, 0.5, 1.0))
    assert none < half < full


def test_what_neither_neighbour_shows_gets_its_own_look() -> None:
    clip = np.full((3, 96, 160, 3), 90, np.uint8)
    clip[1, 30:60, 40:100] = (250, 240, 30)  # seen in the middle frame alone
    middle = stylize(clip).frames[1].astype(int)
    assert np.abs(middle[40:50, 60:80].mean(axis=(0, 1)) - middle[75:90, 120:150].mean(axis=(0, 1))).max() > 20


@pytest.mark.parametrize("shape", [(1, 96, 160, 3), (2, 160, 96, 3), (4, 50, 70, 3)])
def test_short_upright_and_odd_clips(shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert stylize(frames, min_edges=-1, min_tones=-1, min_range=0).frames.shape == shape


def test_what_cannot_be_read_is_rejected() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 96, 160, 3)).astype(np.uint8)
    with pytest.raises(Reject, match=r"edges agree with the source's by 0\.\d\d, at least 0\.4") as caught:
        stylize(frames)
    assert caught.value.reason == "not_legible"


def test_a_dark_style_leaves_a_bright_clip_its_light(clip: Clip) -> None:
    """Half of the clip is light and half is dark; the reference is dark all over."""
    frames = clip[:3].copy()
    frames[:, :, :160] = np.clip(frames[:, :, :160].astype(int) + 110, 0, 255)
    dark = (painting() // 4).astype(np.uint8)
    edit = stylize(frames, dark)
    light = edit.frames[:, :, :150].mean() - edit.frames[:, :, 170:].mean()
    assert edit.facts["tone_share"] > 0
    assert light > 0.25 * (frames[:, :, :150].mean() - frames[:, :, 170:].mean())
    assert edit.facts["legible_tones"] >= 0.63


def test_every_nth_frame_includes_the_last(clip: Clip) -> None:
    assert stylize(clip[:8]).facts["style_passes"] == 5  # 0, 2, 4, 6 and the last


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="no entry 'stabilty'; did you mean 'stability'"):
        MagentaStylizer(ModelSpec(backend=BACKEND, settings={"stabilty": 1}))
    with pytest.raises(ConfigError, match=r"settings of .*MagentaStylizer: 'every': "):
        MagentaStylizer(ModelSpec(backend=BACKEND, settings={"every": 0}))


def test_a_closed_model_says_so(clip: Clip) -> None:
    model = MagentaStylizer(ModelSpec(backend=BACKEND))
    model.close()
    with pytest.raises(FatalError, match="closed"):
        model.stylize(clip[:1], np.zeros(clip[:1].shape[:3], np.float32), painting(), prompt="")

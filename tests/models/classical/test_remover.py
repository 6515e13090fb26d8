import cv2
import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, Reject
from ffpdata.media import masks as geometry
from ffpdata.media.flow import warp_error
from ffpdata.models.classical.remover import TemporalFill
from tests.models.classical.sampled import drawn, psnr, spec

MARGIN_DB = 5.0
"""What the fill must gain over inpainting each frame by itself."""


def telea(frames, masks):
    wide = geometry.dilate(masks, 2).view(np.uint8)
    return np.stack([cv2.inpaint(f, m, 3, cv2.INPAINT_TELEA) for f, m in zip(frames, wide, strict=True)])


@pytest.mark.parametrize(
    "name", ["ball_static", "crate_static", "motorcycle_pan", "coin_pan", "astronaut_handheld", "cup_handheld"]
)
def test_beats_inpainting_frame_by_frame(name):
    scene = drawn(name)
    boxes = geometry.box(scene.masks, 0.12, 2)
    edit = TemporalFill(spec()).edit(scene.frames, boxes, prompt="")
    some = slice(None, None, 6)
    simple = psnr(telea(scene.frames[some], scene.masks[some]), scene.background[some], scene.masks[some])
    assert psnr(edit.frames, scene.background, scene.masks) > simple + MARGIN_DB + 5
    assert edit.facts["unrevealed"] < 0.05
    assert edit.facts["warp_error"] < 5


def test_no_flicker_and_nothing_changed_far_from_the_mask():
    scene = drawn("cup_handheld")
    edit = TemporalFill(spec()).edit(scene.frames, geometry.dilate(scene.masks, 2), prompt="")
    assert warp_error(edit.frames) <= warp_error(scene.frames) + 0.3
    far = ~geometry.dilate(scene.masks, 10)
    assert np.array_equal(edit.frames[far], scene.frames[far])


def shaded(frames, masks, strength):
    """Cast a shadow of every mask to the right: lying on the ground, as long as the object is high and half."""
    out = []
    for frame, mask in zip(frames, masks, strict=True):
        _, top, _, tall = cv2.boundingRect(mask.view(np.uint8))
        foot, reach = top + tall, 1.5
        lying = np.array([[1, -reach, reach * foot], [0, 0.25, 0.75 * foot]])
        shadow = cv2.warpAffine(mask.astype(np.float32), lying, mask.shape[::-1])
        shadow = cv2.GaussianBlur(shadow, (0, 0), 2) * ~mask
        out.append((frame * (1 - strength * shadow[..., None])).astype(np.uint8))
    return np.stack(out)


def test_a_shadow_that_reaches_out_of_the_region_is_told():
    scene = drawn("ball_static")
    boxes = geometry.box(scene.masks, 0.12, 2)

    def left(frames):
        return TemporalFill(spec()).edit(frames, boxes, prompt="").facts["shade_left"]

    darker = (scene.frames * np.linspace(1, 0.8, len(scene.frames))[:, None, None, None]).astype(np.uint8)
    limit = 0.01
    assert left(scene.frames) < limit / 4, "the shadow below it lies in its box"
    assert left(darker) < limit / 2, "the light changes, and nothing casts a shadow"
    assert left(shaded(scene.frames, scene.masks, 0.4)) > limit


def test_same_input_same_bytes():
    scene = drawn("coin_pan")
    first, again = (TemporalFill(spec()).edit(scene.frames, scene.masks, prompt="") for _ in range(2))
    assert np.array_equal(first.frames, again.frames)
    assert first.facts == again.facts


def test_what_no_frame_shows_is_refused_with_value_and_limit():
    scene = drawn("ball_static")
    never = np.zeros_like(scene.masks)
    never[:, 60:130, 100:200] = True
    with pytest.raises(Reject) as caught:
        TemporalFill(spec()).edit(scene.frames, never, prompt="")
    assert caught.value.reason == "unrevealed"
    assert caught.value.facts["unrevealed"] == pytest.approx(1.0)
    assert "at most 0.15" in caught.value.detail


def test_a_smear_in_a_few_frames_is_told_though_it_is_little_of_the_clip():
    scene = drawn("motorcycle_pan")
    masks = scene.masks.copy()
    masks[-3:, :, -scene.masks.shape[2] // 8 :] = True  # what the camera came upon last, and no other frame shows
    facts = TemporalFill(spec()).edit(scene.frames, masks, prompt="").facts
    plain = TemporalFill(spec()).edit(scene.frames, scene.masks, prompt="").facts
    assert facts["unrevealed_peak"] > 5 * facts["unrevealed"] > 0
    assert plain["unrevealed_peak"] <= 0.03 < facts["unrevealed_peak"]


def test_what_no_frame_shows_is_guessed_where_that_is_allowed():
    scene = drawn("ball_static")
    never = np.zeros_like(scene.masks)
    never[:, 60:80, 100:120] = True
    edit = TemporalFill(spec(max_unrevealed=1.0)).edit(scene.frames, never, prompt="")
    filled = edit.frames[:, 62:78, 102:118]
    assert edit.facts["unrevealed"] == 1.0
    assert np.ptp(filled.astype(int).mean(axis=(1, 2, 3))) < 4  # the same guess in every frame
    around = geometry.boundary(never[:1], 4)[0] & ~never[0]
    assert np.abs(filled.mean(axis=(0, 1, 2)) - scene.frames[0][around].mean(axis=0)).max() < 30


def test_drifting_exposure_is_matched():
    scene = drawn("crate_static")
    gains = np.linspace(0.85, 1.1, len(scene.frames))[:, None, None, None]
    dim, truth = ((clip * gains).clip(0, 255).astype(np.uint8) for clip in (scene.frames, scene.background))
    edit = TemporalFill(spec()).edit(dim, geometry.dilate(scene.masks, 2), prompt="")
    assert psnr(edit.frames, truth, scene.masks) > 30


def test_another_thing_that_comes_late_is_kept():
    """A post that stands there in the second half only, while the object passes before it."""
    scene = drawn("crate_static")
    x0, y0, x1, y1 = geometry.bounding_boxes(scene.masks)[27]
    place = np.s_[14:, y0 - 6 : y1 + 6, (x0 + x1) // 2 : (x0 + x1) // 2 + 12]
    frames, truth = scene.frames.copy(), scene.background.copy()
    truth[place] = (30, 60, 200)
    frames[place] = np.where(scene.masks[place][..., None], frames[place], truth[place])
    edit = TemporalFill(spec(max_warp_error=99)).edit(frames, geometry.box(scene.masks, 0.12, 2), prompt="")
    post = np.zeros_like(scene.masks)
    post[place] = True
    assert psnr(edit.frames[27], truth[27], (post & scene.masks)[27]) > 25


def test_an_empty_mask_is_refused():
    scene = drawn("ball_static")
    with pytest.raises(Reject, match="mask_empty"):
        TemporalFill(spec()).edit(scene.frames, np.zeros_like(scene.masks), prompt="")


def test_no_common_background_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (9, 96, 160, 3), np.uint8)
    masks = np.zeros((9, 96, 160), bool)
    masks[:, 30:50, 40:60] = True
    with pytest.raises(Reject, match="camera_unstable"):
        TemporalFill(spec()).edit(noise, masks, prompt="")


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'feather_px'"):
        TemporalFill(spec(fether_px=3))

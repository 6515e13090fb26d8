"""The region of an edit: out of a mask, or of what differs, and what is no region."""

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.stage import Reject
from ffpdata.media.codec import read_masks, write_image, write_masks
from ffpdata.stages.edit_region import EditRegion, EditRegionSettings
from tests.stages.alone import FPS, FRAMES, HEIGHT, WIDTH, Alone, flat

CLIP = {"width": WIDTH, "height": HEIGHT, "frames": FRAMES, "fps": FPS}


def region(alone: Alone, mask: str = "", **settings: object) -> tuple[dict[str, object], np.ndarray]:
    edited = flat(90)[0]
    edited[16:32, 24:40] = (200, 60, 60)
    stage = EditRegion(EditRegionSettings(clip=CLIP, min_side=16, **settings))
    row = {"source_video": alone.video("source", flat(90)), "edited_first_frame": alone.image("edited", edited), **CLIP}
    row |= {"root": str(alone.folder), **({"mask_paths": [mask], "mask_ids": ["a"]} if mask else {})}
    found = alone.process(stage, **row)
    return found, read_masks(Path(str(found["condition_mask"])))


def test_the_box_around_what_differs(tmp_path: Path) -> None:
    found, masks = region(Alone(tmp_path))
    assert found["region_from"] == "difference"
    assert masks.shape == (FRAMES, HEIGHT, WIDTH)
    rows, columns = np.nonzero(masks[3])
    # 16 pixels, two more by the blur that finds them, a tenth on each side, in whole cells.
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (8, 40, 16, 48)
    assert found["region_share"] == pytest.approx(32 * 32 / (HEIGHT * WIDTH), abs=1e-4)


@pytest.mark.parametrize("kind", ["png", "mp4"])
def test_a_mask_of_an_image_or_of_a_clip(tmp_path: Path, kind: str) -> None:
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    masks[:, 8:24, 8:24] = True
    if kind == "png":
        write_image(tmp_path / "mask.png", masks[0].view(np.uint8) * 255)
    else:
        masks[3:] = np.roll(masks[3:], 24, axis=2)
        write_masks(tmp_path / "mask.mp4", masks, FPS)
    found, region_masks = region(Alone(tmp_path), f"mask.{kind}", looseness="none")
    assert found["region_from"] == "mask"
    assert np.array_equal(region_masks, masks)


def test_what_is_no_region_is_rejected(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    for name, level, reason, why in (
        ("black", 0, "empty_mask", "draw white what shall change"),
        ("white", 255, "mask_covers_all", "covers 100% of the clip, the limit is 95%"),
    ):
        write_image(tmp_path / f"{name}.png", np.full((HEIGHT, WIDTH), level, np.uint8))
        with pytest.raises(Reject, match=why) as told:
            region(alone, f"{name}.png")
        assert told.value.reason == reason
    write_masks(tmp_path / "square.mp4", np.ones((FRAMES, HEIGHT, HEIGHT), bool), FPS)
    with pytest.raises(Reject, match="is 48 x 48, the source 64 x 48"):
        region(alone, "square.mp4")

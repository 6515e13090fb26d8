"""`references`: one item per style image that can be read, at the clip's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.stage import Reject
from ffpdata.media.codec import read_image, write_image, write_video
from ffpdata.media.geometry import Geometry
from ffpdata.models.vace import EditSettings, make_request
from ffpdata.stages.references import References, ReferencesSettings
from tests.stages.alone import Alone, flat

IDS = [f"{n}" * 16 for n in range(4)]


@pytest.fixture
def stage() -> References:
    return References(ReferencesSettings(clip=Geometry(width=64, height=48, frames=9)))


def style(folder: Path, name: str, level: int, side: int = 256) -> str:
    write_image(folder / name, flat(level, 1)[0].repeat(side // 48 + 1, 0).repeat(side // 64 + 1, 1))
    return name


def test_one_item_per_style(alone: Alone, stage: References) -> None:
    paths = [style(alone.folder, f"{n}.png", 40 * n + 20) for n in range(3)]
    made = alone.expand(stage, style_ids=IDS[:3], style_paths=paths, sha="f" * 16, root=str(alone.folder))
    assert [child.suffix for child in made] == [f"style/{name[:8]}" for name in IDS[:3]]
    for number, child in enumerate(made):
        image = read_image(child.columns["reference_image"])
        assert image.shape == (48, 64, 3)
        assert abs(int(image.mean()) - (40 * number + 20)) <= 1
        assert child.columns["task"] == "stylization"
        assert child.columns["variant"] == IDS[number][:8]
        assert child.columns["style_id"] == IDS[number]
        assert child.columns["seed"] == int(IDS[number][:7], 16)


def test_a_style_counts_once_and_no_clip_is_its_own_style(alone: Alone, stage: References) -> None:
    path = style(alone.folder, "a.png", 90)
    ids, paths = [IDS[1], IDS[1], IDS[2]], [path] * 3
    made = alone.expand(stage, style_ids=ids, style_paths=paths, sha=IDS[2], root=str(alone.folder))
    assert [child.columns["style_id"] for child in made] == [IDS[1]]


def test_a_broken_style_is_left_out_and_all_broken_refuse_the_clip(alone: Alone, stage: References) -> None:
    (alone.folder / "bad.png").write_bytes(b"no picture")
    good = style(alone.folder, "good.png", 90)
    paths = {"style_ids": IDS[:2], "style_paths": ["bad.png", good]}
    [child] = alone.expand(stage, **paths, sha="f" * 16, root=str(alone.folder))
    assert child.columns["style_id"] == IDS[1]
    paths = {"style_ids": IDS[:2], "style_paths": ["bad.png", "gone.png"]}
    with pytest.raises(Reject) as caught:
        alone.expand(stage, **paths, sha="f" * 16, root=str(alone.folder))
    assert caught.value.reason == "no_style_reference"
    assert "bad.png: not_an_image" in caught.value.detail
    assert "gone.png: missing_file" in caught.value.detail


@pytest.mark.parametrize("given", [{}, {"style_ids": None, "style_paths": None}, {"style_ids": [], "style_paths": []}])
def test_a_clip_without_styles_says_where_to_put_them(alone: Alone, stage: References, given: dict) -> None:
    with pytest.raises(Reject, match="put images into style/") as caught:
        alone.expand(stage, **given, sha="f" * 16, root=str(alone.folder))
    assert caught.value.reason == "no_style_reference"


def test_a_row_whose_lists_differ_in_length_is_a_fault(alone: Alone, stage: References) -> None:
    with pytest.raises(ValueError, match="zip"):
        alone.expand(stage, style_ids=IDS[:2], style_paths=["a.png"], sha="f" * 16, root=str(alone.folder))


@pytest.mark.parametrize(
    ("fit", "clip", "shape", "bars"),
    [
        ("crop", (64, 48), (48, 64), None),
        ("pad", (64, 48), (48, 64), np.s_[:, :8]),
        ("pad", (48, 64), (64, 48), np.s_[:8]),
        ("whole", (64, 48), (48, 48), None),
    ],
)
def test_a_square_style_is_not_cropped_where_it_shall_be_whole(
    alone: Alone, fit: str, clip: tuple[int, int], shape: tuple[int, int], bars: object
) -> None:
    """A black square in a red frame: what is cropped loses the frame above and below."""
    square = np.zeros((256, 256, 3), np.uint8)
    square[:32] = square[-32:] = square[:, :32] = square[:, -32:] = (200, 0, 0)
    write_image(alone.folder / "square.png", square)
    stage = References(ReferencesSettings(clip=Geometry(width=64, height=48, frames=9), fit=fit))
    row = {"style_ids": IDS[:1], "style_paths": ["square.png"], "sha": "f" * 16, "root": str(alone.folder)}
    [child] = alone.expand(stage, **row, width=clip[0], height=clip[1])
    image = read_image(child.columns["reference_image"])
    assert image.shape == (*shape, 3)
    middle = image[:, shape[1] // 2]
    assert (middle[0 if bars is None else int(np.argmax(middle.min(1) < 128)), 0] > 150) == (fit != "crop")
    if bars is not None:
        assert image[bars].min() == 255, "white bars"
    # What VACE is given: never stretched, and white beside what does not fill the clip.
    given = make_request(EditSettings(), (9, clip[1], clip[0]), "a caption", reference=image).reference
    assert given is not None
    assert given.shape == (clip[1], clip[0], 3)
    dark = (given.max(2) < 60).nonzero()
    extent = [int(np.ptp(axis)) + 1 for axis in dark]
    assert abs(extent[0] - extent[1]) <= 2, "not stretched"
    assert given[[0, -1]][:, [0, -1]].min() == (255 if fit != "crop" else 0)


def test_the_crop_that_there_always_was_keeps_its_keys() -> None:
    assert "fit" not in ReferencesSettings().model_dump(mode="json")
    assert ReferencesSettings(fit="whole").model_dump(mode="json")["fit"] == "whole"


def test_of_those_shared_out_the_nearest_in_light_are_taken(alone: Alone) -> None:
    stage = References(ReferencesSettings(clip=Geometry(width=64, height=48, frames=9), most=2))
    paths = [style(alone.folder, f"{n}.png", 70 * n + 10) for n in range(4)]
    clip = alone.folder / "clip.mp4"
    write_video(clip, flat(200, 3), 16)
    row = {"style_ids": IDS, "style_paths": paths, "sha": "f" * 16, "root": str(alone.folder), "source_video": clip}
    made = alone.expand(stage, **row, styles_offered=True)
    assert [child.columns["style_id"] for child in made] == IDS[2:]
    assert len(alone.expand(stage, **row)) == 4, "the input named them: all are kept"
    assert ReferencesSettings().model_dump() == ReferencesSettings(most=0).model_dump()
    assert "most" not in ReferencesSettings().model_dump()

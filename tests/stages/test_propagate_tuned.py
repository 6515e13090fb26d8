"""The stage that tunes a model to a clip: what it asks, and what it writes."""

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.media.codec import read_video, write_image
from ffpdata.models.protocols import TunedEdit
from ffpdata.stages.propagate_tuned import PropagateTuned, PropagateTunedSettings
from tests.stages.alone import FPS, FRAMES, HEIGHT, WIDTH, Alone, Backend, flat, square


class Fills(Backend):
    """Fills the region with the edited frame's mean colour, and keeps what it was asked."""

    name = "fills"
    last: dict[str, object] = {}

    def propagate(self, frames, edited_first_frame, region, **more) -> TunedEdit:
        type(self).last = more
        out = frames.copy()
        out[region] = edited_first_frame[region[0]].mean(0)
        return TunedEdit(out, {"drift": 0.5}, {"key": "abc"})


def run(tmp_path: Path, **values: object) -> dict[str, object]:
    alone = Alone(tmp_path)
    write_image(tmp_path / "later.png", np.full((HEIGHT, WIDTH, 3), (9, 9, 200), np.uint8))
    settings = PropagateTunedSettings(clip={"width": WIDTH, "height": HEIGHT, "frames": FRAMES}, min_side=16)
    stage = PropagateTuned(settings, specs={"tuned_propagator": ModelSpec.of(Fills)})
    stage.setup()
    found = alone.process(
        stage,
        source_video=alone.video("source", flat(20)),
        edited_first_frame=alone.image("edited", flat(200)[0]),
        condition_mask=alone.masks("mask", square()),
        target_caption="a light square",
        seed=7,
        fps=FPS,
        frames=FRAMES,
        root=str(tmp_path),
        **values,
    )
    stage.teardown()
    return found


def test_the_model_is_asked_with_region_texts_and_frames(tmp_path: Path) -> None:
    further = {"edited_frame_paths": ["later.png"], "edited_frame_ids": ["a"], "edited_frame_indices": [2]}
    found = run(tmp_path, given_source_caption="a dark wall", **further)
    images = Fills.last.pop("edited_frames")
    assert Fills.last == {"prompt": "a light square", "source_prompt": "a dark wall", "seed": 7}
    assert list(images) == [2]
    assert images[2].shape == (HEIGHT, WIDTH, 3)
    assert images[2][0, 0].tolist() == [9, 9, 200]
    made = read_video(Path(str(found["target_video"])))
    assert np.abs(made[square()].astype(int) - 200).mean() < 8
    assert np.abs(made[:, :8].astype(int) - 20).max() <= 3
    assert (found["edit_facts"], found["tuning"]) == ({"drift": 0.5}, {"key": "abc"})


def test_a_frame_that_the_clip_does_not_have_is_rejected(tmp_path: Path) -> None:
    for indices, why in (([5], "edited frame 5 is none of 1 to 4"), ([0], "edited frame 0 is none"), ([2, 2], "twice")):
        further = {"edited_frame_paths": ["later.png"] * len(indices), "edited_frame_indices": indices}
        with pytest.raises(Reject, match=why):
            run(tmp_path, edited_frame_ids=["a"], **further)

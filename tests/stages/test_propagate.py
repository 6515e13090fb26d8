"""The stage that carries an edit through a clip: what it asks its model, and what it writes."""

from pathlib import Path

import numpy as np

from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import read_video
from ffpdata.models.protocols import Edit
from ffpdata.stages.propagate import Propagate
from tests.stages.alone import FPS, Alone, flat


class Repeats:
    """A propagator that repeats the edited frame, and keeps what it was asked."""

    name, version = "repeats", 1
    asked: dict[str, object] = {}

    def __init__(self, spec: ModelSpec) -> None: ...

    def close(self) -> None: ...

    def propagate(self, frames, edited_first_frame, *, prompt="", negative="", seed=0) -> Edit:
        type(self).asked = {"prompt": prompt, "seed": seed, "shape": frames.shape}
        return Edit(np.repeat(edited_first_frame[None], len(frames), 0), {"drift": 0.5})


def test_the_clip_is_what_the_model_answers(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    stage = Propagate(specs={"propagator": ModelSpec.of(Repeats)})
    stage.setup()
    found = alone.process(
        stage,
        source_video=alone.video("source", flat(20)),
        edited_first_frame=alone.image("edited", flat(200)[0]),
        target_caption="a light wall",
        seed=7,
        fps=FPS,
    )
    stage.teardown()
    assert Repeats.asked == {"prompt": "a light wall", "seed": 7, "shape": flat(0).shape}
    assert np.abs(read_video(Path(found["target_video"])).astype(int) - 200).max() <= 2
    assert found["edit_facts"] == {"drift": 0.5}

"""`embed`: vectors of source and target as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ffpdata.core.stage import ModelSpec
from ffpdata.media.clip_vector import parse_vectors, vector_text
from ffpdata.stages.embed import Embed
from tests.stages.alone import Alone, Backend, flat


class Colours(Backend):
    """The mean colour of a picture, of length 1."""

    name = "colours"

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        self.asked.append({"pictures": len(pictures)})
        means = np.stack([p.reshape(-1, 3).mean(axis=0) for p in pictures]).astype(np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_the_mean_of_three_frames_of_either_clip(alone: Alone) -> None:
    stage = Embed(specs={"embedder": ModelSpec.of(Colours)})
    source, target = alone.video("source", flat((200, 40, 40))), alone.video("target", flat((40, 40, 200)))
    found = alone.process(stage, source_video=source, target_video=target)
    a, b = parse_vectors([found["source_vector"], found["target_vector"]])
    assert a == pytest.approx([0.962, 0.192, 0.192], abs=0.03)
    assert a @ b < 0.5
    assert [one["pictures"] for one in stage.model("embedder").asked] == [3, 3]


def test_without_an_embedder_items_pass() -> None:
    assert not Embed().applies({})
    Embed().setup()


def test_text_keeps_three_digits_of_a_cosine_and_loses_the_length() -> None:
    made = np.random.default_rng(0).standard_normal((2, 512))
    exact = made[0] @ made[1] / np.linalg.norm(made[0]) / np.linalg.norm(made[1])
    texts = [vector_text(made[0] * 7), vector_text(made[1])]
    a, b = parse_vectors(texts)
    assert a @ b == pytest.approx(exact, abs=2e-3)
    assert a @ a == pytest.approx(1)
    assert len(texts[0]) < 700
    assert parse_vectors([]).shape == (0, 0)
    with pytest.raises(ValueError, match="different lengths"):
        parse_vectors([texts[0], vector_text(made[0, :3])])

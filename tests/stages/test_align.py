"""Two clips brought together: by index where they are as long, else by time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import RetryableError
from ffpdata.core.stage import Reject
from ffpdata.media.codec import read_image, read_video, write_image, write_video
from ffpdata.stages import align
from ffpdata.stages.align import Align, indices_at
from tests.stages.alone import Alone, flat


def levels(count: int, step: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Frames of grey levels that rise, uint8 (T, H, W, 3)."""
    return np.stack([np.full((*size, 3), 20 + step * t, np.uint8) for t in range(count)])


def given(folder: Path, source: np.ndarray | None, target: np.ndarray, fps: tuple[float, float]) -> dict[str, object]:
    write_video(folder / "target.mp4", target, fps[1])
    row: dict[str, object] = {"root": str(folder), "path": "target.mp4", "target_sha": "t"}
    if source is not None:
        write_video(folder / "source.mp4", source, fps[0])
        row |= {"source_path": "source.mp4", "source_sha": "s"}
    return row


def test_equally_long_clips_stay_byte_for_byte(tmp_path: Path) -> None:
    row = given(tmp_path, levels(5, 20), levels(5, 10, (96, 128)), (24.0, 16.0))
    write_image(tmp_path / "first.png", flat(77)[0])
    found = Alone(tmp_path).process(Align(), **row, image_path="first.png", image_sha="i")
    for side in ("source", "target"):
        assert found[f"{side}_video"].read_bytes() == (tmp_path / f"{side}.mp4").read_bytes()
    assert (found["aligned_by"], found["held_frames"], found["source_fps"], found["fps"]) == ("index", 0, 24.0, 16.0)
    assert (found["width"], found["height"], found["source_width"], found["source_height"]) == (128, 96, 64, 48)
    assert (read_image(found["edited_first_frame"]) == 77).all()


def test_others_are_aligned_by_time(tmp_path: Path) -> None:
    row = given(tmp_path, levels(9, 20), levels(4, 5), (16.0, 8.0))
    found = Alone(tmp_path).process(Align(), **row)
    assert (found["aligned_by"], found["frames"], found["source_frames"], found["held_frames"]) == ("time", 4, 9, 0)
    means = read_video(found["source_video"]).mean((1, 2, 3))
    assert np.abs(means - [20, 60, 100, 140]).max() < 3
    longer = Alone(tmp_path).process(Align(), **given(tmp_path, levels(3, 40), levels(5, 5), (16.0, 16.0)))
    assert longer["held_frames"] == 2
    assert np.abs(read_video(longer["source_video"]).mean((1, 2, 3)) - [20, 60, 100, 100, 100]).max() < 3
    assert indices_at(4, 10.0, 25.0).tolist() == [0, 2, 5, 8]


def test_a_source_of_an_odd_size_can_be_cut(tmp_path: Path) -> None:
    assert align._even(levels(2, 5, (47, 63))).shape == (2, 48, 64, 3)
    assert align._even(levels(2, 5)).shape == (2, 48, 64, 3)


def test_without_a_source_the_output_is_kept(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    assert alone.process(Align(), **given(tmp_path, None, levels(5, 9), (16.0, 16.0)))["source_fault"] == "no_source"
    row = given(tmp_path, levels(5, 9), levels(5, 9), (16.0, 16.0))
    found = alone.process(Align(), **{**row, "source_sha": None})
    assert (found["source_fault"], "source_video" in found) == ("missing_source", False)
    (tmp_path / "source.mp4").write_bytes(b"no clip" * 99)
    assert alone.process(Align(), **row)["source_fault"].startswith("broken_source: ")


def test_a_broken_output_is_told_from_a_busy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = given(tmp_path, None, levels(9, 9), (16.0, 16.0))
    whole = (tmp_path / "target.mp4").read_bytes()
    (tmp_path / "target.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Reject) as found:
        Alone(tmp_path).process(Align(), **row)
    assert found.value.reason == "broken_output"

    def late(_: Path) -> None:
        raise RetryableError("the time limit was reached")

    monkeypatch.setattr(align, "probe", late)
    with pytest.raises(RetryableError):
        Alone(tmp_path).process(Align(), **row)

"""The encoders of clips: a setting that shapes the file and counts in the key."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import Stage
from ffpdata.media import codec, ffmpeg
from ffpdata.media.encoders import ARGUMENTS, DEFAULT, HARDWARE, Encoder, check_encoder
from ffpdata.media.metrics import psnr
from ffpdata.stages.animate import Animate
from ffpdata.stages.stylize import Stylize
from ffpdata.stages.synthesize import Synthesize

PRESETS = [name for name in ARGUMENTS if name not in HARDWARE]
STAGES: list[type[Stage]] = [Animate, Stylize, Synthesize]


@pytest.fixture
def clip() -> np.ndarray:
    wide = (
        np.random.default_rng(0).integers(20, 220, (15, 30, 1), dtype=np.uint8).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    )
    return np.stack([wide[:96, 2 * t : 2 * t + 160] for t in range(9)])


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_writes_a_clip_that_is_the_same_again(tmp_path: Path, clip: np.ndarray, preset: Encoder) -> None:
    check_encoder(preset)
    for name in "ab":
        codec.write_video(tmp_path / f"{name}.mp4", clip, 16, encoder=preset)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    found = codec.inspect(tmp_path / "a.mp4")
    assert found == (9, 160, 96, 16.0, ("bt709", "bt709", "bt709", "tv"))
    assert psnr(codec.read_video(tmp_path / "a.mp4"), clip) > 30
    codec.write_video(tmp_path / "default.mp4", clip, 16)
    assert ((tmp_path / "default.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()) == (preset == DEFAULT)


@pytest.mark.parametrize("stage", STAGES)
def test_it_counts_in_the_key_and_the_default_in_none(stage: type[Stage]) -> None:
    keys = {name: stage(encoder=name).fixed_key(()) for name in ARGUMENTS}
    assert len(set(keys.values())) == len(ARGUMENTS)
    assert keys[DEFAULT] == stage().fixed_key(())
    assert "encoder" not in stage().settings.model_dump(mode="json")
    assert stage.Settings(**stage(encoder="ultrafast").settings.model_dump(mode="json")).encoder == "ultrafast"
    with pytest.raises(ConfigError, match=r"encoder: .*veryfast"):
        stage(encoder="slow")


@pytest.fixture
def ffmpeg_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ffmpeg that says what one says that was built without the encoder."""
    own = tmp_path / "ffmpeg"
    own.write_text(f'#!/bin/sh\nexec {ffmpeg.ffmpeg_exe()} $(echo "$@" | sed s/h264_nvenc/h264_nvenk/)\n')
    own.chmod(own.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(ffmpeg, "ffmpeg_exe", lambda: str(own))
    check_encoder.cache_clear()
    yield
    check_encoder.cache_clear()


@pytest.mark.usefixtures("ffmpeg_without")
@pytest.mark.parametrize("stage", STAGES)
def test_a_hardware_encoder_that_is_not_there_is_refused_before_any_work(stage: type[Stage]) -> None:
    """By the stage's set-up, before a model is loaded: the stages here have no specs of models."""
    with pytest.raises(FatalError, match=r"h264_nvenc.* does not work here: .*Unknown encoder.*superfast"):
        stage(encoder="h264_nvenc").setup()

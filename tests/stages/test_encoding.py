"""The encoder counts in the keys of the stages that write targets, and the default one leaves them as they were."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ffpdata.stages._encoding import EncodingSettings


def test_the_default_is_left_out_and_another_is_not() -> None:
    assert "encoder" not in EncodingSettings().model_dump()
    assert "encoder" not in EncodingSettings(encoder="fast").model_dump()
    assert EncodingSettings(encoder="superfast").model_dump()["encoder"] == "superfast"


def test_an_encoder_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="veryfast"):
        EncodingSettings(encoder="slowest")

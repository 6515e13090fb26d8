"""Settings of stages that encode clips."""

from __future__ import annotations

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ffpdata.core.stage import StageSettings
from ffpdata.media.encoders import DEFAULT, Encoder


class EncodingSettings(StageSettings):
    """How the clip of a stage is encoded."""

    encoder: Encoder = DEFAULT
    """x264 preset, or `h264_nvenc` on cards that have an encoder: faster ones cost quality or size
    (`media/encoders`). It shapes the file, so it counts in the key."""

    @model_serializer(mode="wrap")
    def _without_default(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the default out, so that keys are those from before there was a choice."""
        settings: dict[str, Any] = plain(self)
        if self.encoder == DEFAULT:
            del settings["encoder"]
        return settings

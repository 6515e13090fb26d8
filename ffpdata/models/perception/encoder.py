"""What the encoders on transformers share: how a checkpoint is loaded and freed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata.models.gpu_memory import release
from ffpdata.models.perception.settings import EncoderRuntime, EncoderSettings, encoder_needs
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.weights import checkpoint_folder, pretrained_model, torch_device

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.requirements import Requirements


class TransformersEncoder:
    """A model of transformers on one device.

    Attributes:
        model: in the dtype of the settings.
        device: where it is.
        batch: frames per pass.
    """

    Settings: type[EncoderSettings] = EncoderSettings
    Runtime = EncoderRuntime

    def load(self, spec: ModelSpec, kind: Any) -> Path:
        """Load the checkpoint of a role as a class of transformers; returns its folder."""
        self.batch = parse_runtime(self.Runtime, spec).batch
        self.device = torch_device(spec)
        folder = checkpoint_folder(spec.model, spec.revision)
        self.model: Any = pretrained_model(kind, folder, parse_settings(self.Settings, spec).dtype).to(self.device)
        return folder

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoint."""
        return encoder_needs(spec)

    def close(self) -> None:
        """Free the model."""
        self.__dict__.pop("model", None)
        release(self.device)

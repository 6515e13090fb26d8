"""Settings of an embedded back end: checked once, when the worker loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ffpdata.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec


class BackendSettings(BaseModel):
    """Base of a back end's settings: every field has a default, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=BackendSettings)


def parse_settings(model: type[S], spec: ModelSpec) -> S:
    """Validate `spec.settings`; an unknown or wrong entry raises ConfigError naming the back end, entry and remedy."""
    try:
        return model.model_validate(spec.settings)
    except ValidationError as err:
        first = err.errors()[0]
        entry = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{spec.backend}: no setting {entry!r}{nearest(entry, model.model_fields)}") from None
        raise ConfigError(f"{spec.backend}: setting {entry!r}: {first['msg']} (got {first.get('input')!r})") from None

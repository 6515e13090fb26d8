"""What back ends on one packaged network have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ffpdata.models.packaged.onnx_session import session
from ffpdata.models.settings import BackendSettings, parse_runtime, parse_settings

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec


class NetworkRuntime(BackendSettings):
    """Threads of a network; its answers do not depend on them."""

    threads: int = Field(1, ge=1)


class PackagedBackend:
    """Base of a back end on one packaged network. Subclasses set `name`, `version`, `network` and `Settings`."""

    network: ClassVar[str]
    """Name in the catalogue of packaged networks."""
    Settings: ClassVar[type[BackendSettings]] = BackendSettings
    Runtime = NetworkRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings: Any = parse_settings(self.Settings, spec)
        self._open(parse_runtime(self.Runtime, spec).threads)

    @classmethod
    def packaged(cls, spec: ModelSpec) -> tuple[str, ...]:  # noqa: ARG003 - all settings run the same network
        """Return the packaged networks that it runs: they count in keys, and the start looks for them."""
        return (cls.network,)

    def _open(self, threads: int) -> None:
        """Load the network; raises MissingModelError where it is not on this machine."""
        self._session = session(self.network, threads)

    def close(self) -> None:
        """Free the network."""
        self._session = None

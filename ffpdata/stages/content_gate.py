"""Keep sources with unwanted content out, before anything costly is made of them: writing, faces, what a user adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.stage import ModelSpec, Reject, Row, Stage, StageSettings
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import read_image

ROLE = "content_gate"


class ContentGateSettings(StageSettings):
    """Which of the profile's gates are used."""

    skip: list[str] = []
    """Names of gates that are left out. One that the profile does not have is no error: profiles are combined."""


class ContentGate(Stage):
    """Write what the gates measured. Without gates in the profile, items pass it without a row."""

    name, version = "content_gate", 1
    reads = ("source_video", "content_image")
    optional = ("source_video", "content_image")
    writes = {"content_facts": dict}
    facts_column = "content_facts"
    models = several = optional_models = (ROLE,)
    Settings = ContentGateSettings

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self._gates = self._chosen()

    def applies(self, row: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """All items, where there is a gate."""
        return bool(self._gates)

    @property
    def idle(self) -> bool:
        """Whether there is no gate, or each is skipped."""
        return not self._gates

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Return the gates that are not skipped, in the profile's order."""
        return self._gates

    def setup(self) -> None:
        """Load the gates that are not skipped."""
        for role in self._gates:
            self.model(role)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the numbers of all gates; the first that keeps the source out ends it, with the numbers so far."""
        column = "source_video" if row.get("source_video") else "content_image"
        path = row.file(column)
        frames = cached_video(path) if column == "source_video" else read_image(path)[None]
        facts: dict[str, float] = {}
        for role in self._gates:
            try:
                facts |= self.model(role).inspect(frames)
            except Reject as err:
                raise Reject(err.reason, err.detail, {**facts, **err.facts}) from None
        return {"content_facts": facts}

    def _chosen(self) -> tuple[str, ...]:
        """The roles of the gates that are not skipped; a misspelt name is told, for it would let its gate reject."""
        names = {role: _name(role, spec) for role, spec in self.specs.items()}
        for name in self.settings.skip:
            hint = nearest(name, names.values())
            if name not in names.values() and hint.endswith("?"):
                raise ConfigError(f"content_gate.skip: the profile has no gate {name!r}{hint}")
        return tuple(role for role, name in names.items() if name not in self.settings.skip)


def _name(role: str, spec: ModelSpec) -> str:
    """What a gate is called: its place among several, else the back end's own name."""
    return role.partition("/")[2] or spec.name or str(spec.identity()["backend"])

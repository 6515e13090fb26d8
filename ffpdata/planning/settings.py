"""What a plan assumes: numbers with an interval and where they come from, read from pipelines/planning/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ffpdata.core.entries import Lines, assign, assignment, merge, read, set_line, validate
from ffpdata.core.errors import UsageError
from ffpdata.core.library import Library

FOLDER = "pipelines/planning"
SECTION = "plan"
"""First part of a `--set` that changes an assumption."""


class Assumption(BaseModel):
    """A number, its interval, and where it comes from. A plain number stands for one that is certain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float = Field(ge=0)
    low: float = Field(ge=0)
    high: float = Field(ge=0)
    kind: Literal["published", "measured", "counted", "estimate", "given"] = "given"
    """`given`: by who asks."""
    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, data: Any) -> Any:
        if isinstance(data, (int, float)) and not isinstance(data, bool):
            return {"value": data, "low": data, "high": data}
        if isinstance(data, Mapping) and "value" in data:
            return {"low": data["value"], "high": data["value"], **data}
        return data

    @model_validator(mode="after")
    def _in_order(self) -> Assumption:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"low, value and high must be in order, found {self.low}, {self.value}, {self.high}")
        return self


class Share(Assumption):
    """A share, 0 to 1."""

    high: float = Field(ge=0, le=1)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Section):
    """What an hour of a GPU costs, and when that was looked up."""

    usd_per_gpu_hour: Assumption
    usd_per_cpu_hour: Assumption = Assumption(value=0, low=0, high=0)
    """Of cores that are paid for beside those of the GPU machines."""
    date: date


class NodeShape(_Section):
    """One machine of the cluster."""

    gpus: int = Field(ge=1)
    cpus_per_gpu: float = Field(gt=0)
    memory_gb_per_gpu: float = Field(gt=0)
    gpu_memory_gb: float = Field(gt=0)


class StartSeconds(_Section):
    """Until a worker can take its first item: its process, and the loading of a model to a GPU."""

    worker: Assumption
    model: Assumption


class Tokens(_Section):
    """Of a question about an image and about a clip, and of an answer."""

    image: Assumption
    clip: Assumption
    answer: Assumption
    image_stages: list[str]


class Drafts(_Section):
    """What drafts tell of the edits, where a pipeline makes them.

    Attributes:
        caught: share of the edits that later stages would turn away whose draft is turned away.
        lost: share of the good edits whose draft is turned away.
    """

    caught: Share
    lost: Share


class PlanSettings(_Section):
    """All assumptions of a plan; pipelines/planning/defaults.yaml explains each."""

    confidence: float = Field(gt=0, lt=1)
    price: Price
    node: NodeShape
    start: StartSeconds
    profile_seconds: Assumption
    seconds: dict[str, Assumption]
    files_seconds: Assumption
    other_seconds: Assumption
    passes: dict[str, dict[str, Share]]
    """Stage to task, or `any`, to the share that passes."""
    duplicates: Share
    stills: Share
    tokens: Tokens
    megabytes: dict[str, Assumption]
    kilobytes_per_row: Assumption
    drafts: Drafts

    def numbers(self) -> Iterator[tuple[str, Assumption]]:
        """Path and value of every assumption."""
        yield from _numbers(self, ())


def _numbers(found: Any, where: tuple[str, ...]) -> Iterator[tuple[str, Assumption]]:
    if isinstance(found, Assumption):
        yield ".".join(where), found
    elif isinstance(found, BaseModel):
        for name in type(found).model_fields:
            yield from _numbers(getattr(found, name), (*where, name))
    elif isinstance(found, Mapping):
        for name, value in found.items():
            yield from _numbers(value, (*where, str(name)))


class Preset(_Section):
    """A plan by name: which profile, how many pairs, which settings, and what it assumes beyond the defaults."""

    about: str = ""
    profile: str = ""
    pairs: dict[str, float] = {}
    """Track to the accepted pairs that are wanted."""
    set: list[str] = []
    assume: dict[str, Any] = {}


NO_PRESET = Preset()


def presets() -> list[str]:
    """Names of the presets that come with ffpdata."""
    return [name for name in Library.find().names(FOLDER) if name != "defaults"]


def load_preset(name: str) -> Preset:
    """Read a preset: a name or a file.

    Raises:
        UsageError: there is none of that name; with the nearest one.
        ConfigError: with file, line, value and the nearest valid name.
    """
    if name == "defaults":
        raise UsageError(f"defaults is no preset; there are {', '.join(presets())}")
    path = Library.find().file(FOLDER, name)
    data, lines = read(path)
    preset: Preset = validate(Preset, data, (), lines, str(path))
    return preset


def load_settings(preset: Preset = NO_PRESET, overrides: Sequence[str] = (), *, named: str = "") -> PlanSettings:
    """Read the defaults and lay a preset and `--set plan.a.b=c` texts over them.

    Args:
        preset: whose `assume` is laid over the defaults.
        overrides: texts whose first part is `plan`.
        named: what messages call the preset.
    """
    path = Library.find().file(FOLDER, "defaults")
    data, lines = read(path)
    merge(data, preset.assume)
    known: Lines = {(SECTION, *entry): spot for entry, spot in lines.items()}
    for entry in _entries(preset.assume):
        known[(SECTION, *entry)] = named
    nested = {SECTION: data}
    for text in overrides:
        parts, value = assignment(text)
        assign(nested, parts, value, text)
        set_line(known, tuple(parts), f"--set {text}")
    settings: PlanSettings = validate(PlanSettings, nested[SECTION], (SECTION,), known, str(path))
    return settings


def _entries(found: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(found, Mapping):
        for name, value in found.items():
            yield (*where, str(name))
            yield from _entries(value, (*where, str(name)))


def take_out(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide `--set` texts into those of a plan's assumptions and those of the pipeline."""
    mine = [text for text in overrides if text.partition("=")[0].strip().split(".")[0] == SECTION]
    return mine, [text for text in overrides if text not in mine]

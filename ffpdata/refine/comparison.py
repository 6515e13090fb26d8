"""The result of a comparison of two models, as numbers and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ffpdata.refine.compared_measures import measure


@dataclass(frozen=True)
class MeasureChange:
    """One measure under both models, over the items that have it under both. Every source counts once.

    Attributes:
        name: of the measure.
        items: number of items.
        sources: number of their sources.
        before: mean under the old model.
        after: mean under the new one.
        difference: `after - before`.
        interval: confidence interval of the difference (`CompareSettings.confidence`); None for a single source.
        p: probability of an improvement at least this large if the models were equal (one-sided); for a measure without
            a better side, of a change at least this large in either direction (two-sided).
        verdict: `better`, `worse`, or empty where the change is not significant or the measure has no better side.
        limit: how much worse it may become, in its own unit; None where it is not guarded.
        broken: whether it is guarded and became worse by more than its limit.
    """

    name: str
    items: int
    sources: int
    before: float
    after: float
    difference: float
    interval: tuple[float, float] | None
    p: float
    verdict: str = ""
    limit: float | None = None
    broken: bool = False

    def clause(self) -> str:
        """Return a clause that says from what to what the measure rose or fell, and over how many removals."""
        printed = measure(self.name)
        on = f"{count(self.items, 'removal')} of {count(self.sources, 'source')}"
        if self.difference == 0:
            return f"{printed.words} stayed at {printed.value(self.before)} ({on})"
        way = "rose" if self.difference > 0 else "fell"
        between = ""
        if self.interval:
            between = f", {printed.between(*self.interval)}"
        return (
            f"{printed.words} {way} from {printed.value(self.before)} to {printed.value(self.after)} "
            f"({on}, {printed.change(self.difference)}{between}, p = {self.p:.2g})"
        )

    def line(self) -> str:
        """Format the change as a line of the terminal."""
        printed = measure(self.name)
        between = ""
        if self.interval:
            between = f" ({printed.between(*self.interval)})"
        verdict = f", {self.verdict}" if self.verdict else ""
        return (
            f"{printed.words:<32} {printed.value(self.before)} -> {printed.value(self.after)}: "
            f"{printed.change(self.difference)}{between}, p = {self.p:.3g}, {count(self.items, 'removal')} of "
            f"{count(self.sources, 'source')}{verdict}{' beyond its limit' if self.broken else ''}"
        )


@dataclass(frozen=True)
class Comparison:
    """The comparison of two models' removals of the same items.

    Attributes:
        changes: every measure that both models have, those that may decide first.
        better: whether the new model is better.
        decided_by: measure that decides: `acceptance` or `screen_score`.
        why: the reason, one sentence.
        missing: number of pairs that reviewers must still judge under the new model until acceptance can decide. 0
            where it can, and where it never will, because too few of the pairs judged under the old model have a target
            under the new one.
        left_out: number of items that only one of the models has.
    """

    changes: tuple[MeasureChange, ...]
    better: bool
    decided_by: str
    why: str
    missing: int
    left_out: int = 0

    def lines(self) -> list[str]:
        """Format the comparison as lines of the terminal."""
        lines = [self.why, *(f"  {change.line()}" for change in self.changes)]
        if self.missing:
            lines.append(f"{count(self.missing, 'more pair')} to judge under the new model until the reviewers decide.")
        if self.left_out:
            there = (
                "is there under one model only and was"
                if self.left_out == 1
                else "are there under one model only and were"
            )
            lines.append(f"{count(self.left_out, 'removal')} {there} left out.")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        data = asdict(self)
        data["changes"] = [
            change | {"interval": change["interval"] and list(change["interval"])} for change in data["changes"]
        ]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Comparison:
        """Read what `to_dict` returned."""
        changes = (
            MeasureChange(**(change | {"interval": change["interval"] and tuple(change["interval"])}))
            for change in data["changes"]
        )
        return cls(**(data | {"changes": tuple(changes)}))


def count(number: int, noun: str) -> str:
    """Format a number of things: `1 source`, `2 sources`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"

"""What a comparison of two models found, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ffpdata.refine.compared_measures import measure


@dataclass(frozen=True)
class MeasureChange:
    """One number under both models, on the items that have it under both. Every source counts once.

    Attributes:
        name: of the number.
        items: how many items have it.
        sources: how many sources these have.
        before: mean under the old model.
        after: mean under the new one.
        difference: `after - before`.
        interval: of the difference, `CompareSettings.confidence`; None with a single source.
        p: chance of so much improvement if the models were alike (one-sided); of so much change in either direction
            where neither is better.
        verdict: `better`, `worse`, or empty where chance explains it or neither side is better.
        limit: how much worse it may become; None where it is not guarded.
        broken: whether it is guarded and became worse beyond its limit.
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

    def told(self) -> str:
        """Tell in a clause how far the number rose or fell, and on what."""
        known = measure(self.name)
        on = f"{count(self.items, 'removal')} of {count(self.sources, 'source')}"
        if self.difference == 0:
            return f"{known.words} stayed at {known.value(self.before)} ({on})"
        way = "rose" if self.difference > 0 else "fell"
        between = ""
        if self.interval:
            between = f", {known.between(*self.interval)}"
        return (
            f"{known.words} {way} from {known.value(self.before)} to {known.value(self.after)} "
            f"({on}, {known.change(self.difference)}{between}, p = {self.p:.2g})"
        )

    def line(self) -> str:
        """Tell it to a person."""
        known = measure(self.name)
        between = ""
        if self.interval:
            between = f" ({known.between(*self.interval)})"
        verdict = f", {self.verdict}" if self.verdict else ""
        return (
            f"{known.words:<32} {known.value(self.before)} -> {known.value(self.after)}: "
            f"{known.change(self.difference)}{between}, p = {self.p:.3g}, {count(self.items, 'removal')} of "
            f"{count(self.sources, 'source')}{verdict}{' beyond its limit' if self.broken else ''}"
        )


@dataclass(frozen=True)
class Comparison:
    """Two models' removals of the same items.

    Attributes:
        changes: every number that both have, those that may decide first.
        better: whether the new model is to be taken.
        decided_by: `acceptance` or `screen_score`.
        why: one sentence for a person.
        missing: pairs still to be judged under the new model, of those judged under the old one, until acceptance can
            decide. 0 when it can, and also when it never will: too few pairs that were judged under the old model have
            a target under the new one, so that there is nothing to wait for.
        left_out: items that only one of the models has.
    """

    changes: tuple[MeasureChange, ...]
    better: bool
    decided_by: str
    why: str
    missing: int
    left_out: int = 0

    def lines(self) -> list[str]:
        """Tell it to a person."""
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
        """Return it as JSON has it."""
        told = asdict(self)
        told["changes"] = [
            change | {"interval": change["interval"] and list(change["interval"])} for change in told["changes"]
        ]
        return told

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Comparison:
        """Read what `to_dict` returned."""
        changes = (
            MeasureChange(**(change | {"interval": change["interval"] and tuple(change["interval"])}))
            for change in told["changes"]
        )
        return cls(**(told | {"changes": tuple(changes)}))


def count(number: int, noun: str) -> str:
    """`1 source`, `2 sources`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"

"""Small real stages for tests of the engine: they read and write real files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError, RetryableError
from ffpdata.core.stage import Artifact, Child, Reject, Row, Stage, StageSettings


class Read(Stage):
    """Names an item by its text, as the real `source` names it by its bytes."""

    name, version = "read", 1
    reads = ("path",)
    writes = {"text": str}
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        path = Path(row["path"])
        if not path.exists():
            raise Reject("missing_file", str(path))
        text = path.read_text()
        return [Child(f"id-{text}", {"text": text}, source_id=f"id-{text}")]


class UpperSettings(StageSettings):
    mark: str = "!"


class Upper(Stage):
    """Writes an artifact."""

    name, version = "upper", 1
    reads = ("text",)
    writes = {"loud": Artifact("txt"), "length": int, "facts": dict}
    Settings = UpperSettings
    calls: list[str] = []

    def process(self, row: Row) -> Mapping[str, Any]:
        self.calls.append(row["text"])
        behaviour(row["text"])
        target = row.new_file("loud")
        target.write_text(row["text"].upper() + self.settings.mark)
        return {"loud": target, "length": len(row["text"]), "facts": {"marks": 1.0}}


class Fan(Stage):
    """Fans out into two, each with a file."""

    name, version = "fan", 1
    reads = ("loud",)
    writes = {"copy": Artifact("txt"), "number": int}
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        children = []
        for number in range(2):
            target = row.new_file("copy", str(number))
            target.write_text(row.file("loud").read_text() * (number + 1))
            children.append(Child(str(number), {"copy": target, "number": number}))
        return children


class Odd(Stage):
    """Applies to one kind of row alone."""

    name, version = "odd", 1
    reads = ("number", "copy")
    writes = {"size": int}

    def applies(self, row: Mapping[str, Any]) -> bool:
        return row["number"] == 1

    def process(self, row: Row) -> Mapping[str, Any]:
        return {"size": len(row.file("copy").read_text())}


class End(Stage):
    name, version = "end", 1
    reads = ("number", "length")
    writes = {"score": float}

    def process(self, row: Row) -> Mapping[str, Any]:
        return {"score": row["length"] / 10}


tries: dict[str, int] = {}


def behaviour(text: str) -> None:
    """Misbehave as the item's text says."""
    tries[text] = tries.get(text, 0) + 1
    if text == "reject":
        raise Reject("too_bad", "it says so", {"length": 6})
    if text == "raise":
        raise ZeroDivisionError("on purpose")
    if text == "busy":
        raise RetryableError("the service is busy")
    if text == "flaky" and tries[text] < 2:
        raise RetryableError("once")
    if text == "fatal":
        raise FatalError("the model is not there")

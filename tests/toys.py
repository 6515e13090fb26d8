"""Small real stages for tests of the engine: they read and write real files."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffpdata.core.errors import FatalError, RetryableError
from ffpdata.core.stage import Artifact, Child, Reject, Row, Stage, StageSettings
from ffpdata.media import ffmpeg
from ffpdata.media.codec import write_video
from ffpdata.media.ffmpeg import file_url


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


class SlowFan(Fan):
    """Takes a while."""

    name = "slow_fan"

    def expand(self, row: Row) -> list[Child]:
        time.sleep(0.15)
        return super().expand(row)


class Slow(Stage):
    """Takes a while with every child."""

    name, version = "slow", 1
    reads = ("copy",)
    writes = {"size": int}

    def process(self, row: Row) -> Mapping[str, Any]:
        time.sleep(0.15)
        return {"size": len(row.file("copy").read_text())}


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
    """Makes a pair of an item, as far as the engine is concerned."""

    name, version = "end", 1
    reads = ("number", "length")
    writes = {"score": float, "source_video": Artifact("txt"), "target_video": Artifact("txt")}

    def process(self, row: Row) -> Mapping[str, Any]:
        files = {name: row.new_file(name) for name in ("source_video", "target_video")}
        for file in files.values():
            file.write_text(str(row["length"]))
        return {"score": row["length"] / 10, **files}


class Pair(End):
    """Makes pairs of some items and lets the others pass."""

    name = "pair"
    reads = ("length", "text")

    def applies(self, row: Mapping[str, Any]) -> bool:
        return str(row["text"]).startswith("pair")


class Picky(Stage):
    """Code of a stage that runs before it is computed raises for some items."""

    name, version = "picky", 1
    reads = ("text",)
    writes = {"picked": str}

    def applies(self, row: Mapping[str, Any]) -> bool:
        return bool(1 // (row["text"] != "no applies"))

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return {"alpha": (), "beta": ()}[row["text"]]

    def process(self, row: Row) -> Mapping[str, Any]:
        return {"picked": row["text"]}


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


class PoisonSettings(StageSettings):
    trace: str
    """A file that every completed item's text is appended to; its parent holds one file per attempt."""
    seconds: float = 0.0


class Poison(Stage):
    """Does to its worker what the item's text says, and notes what it completed."""

    name, version = "poison", 1
    reads = ("text",)
    writes = {"note": Artifact("txt")}
    Settings = PoisonSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        text, trace = row["text"], Path(self.settings.trace)
        (trace.parent / f"try-{text}-{uuid.uuid4().hex[:8]}-{os.getpid()}").touch()
        time.sleep(self.settings.seconds)
        kind = text.split("-")[0]
        if kind == "exit":
            os._exit(1)
        if kind == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "sysexit":
            sys.exit("on purpose")
        if kind == "hang":
            time.sleep(600)
        if kind == "raise":
            raise ZeroDivisionError("on purpose")
        if kind == "eat":
            held = []
            while True:
                held.append(b"x" * (1 << 27))
        target = row.new_file("note")
        target.write_text(text)
        with trace.open("a") as stream:
            stream.write(text + "\n")
        return {"note": target}


class Encode(Poison):
    """Lets ffmpeg work for a moment, as the stages that write videos do."""

    name = "encode"
    reads = ("note",)
    uses = ("text",)
    writes = {"film": Artifact("mkv")}

    def process(self, row: Row) -> Mapping[str, Any]:
        (Path(self.settings.trace).parent / f"encode-{row['text']}-{uuid.uuid4().hex[:8]}-{os.getpid()}").touch()
        film = row.new_file("film")
        size = f"testsrc=size=64x64:rate=10:duration={self.settings.seconds}"
        ffmpeg.run(["-re", "-f", "lavfi", "-i", size, "-c:v", "ffv1", file_url(film)], timeout_s=60)
        return {"film": film}


class EditOnGpu(Poison):
    """Misbehaves while it has the GPU, as the item's text says; other items it edits and encodes into a clip."""

    name = "edit_on_gpu"
    writes = {"note": Artifact("txt"), "film": Artifact("mp4"), "span": list[float]}

    def process(self, row: Row) -> Mapping[str, Any]:
        began = time.time()
        note = super().process(row)
        ended = time.time()
        frames = np.random.default_rng(len(row["text"])).integers(0, 255, (17, 64, 96, 3), np.uint8)
        film = row.new_file("film")
        write_video(film, frames[:, :-1] if row["text"].startswith("odd") else frames, 16)
        return {**note, "film": film, "span": [began, ended]}


class Second(Poison):
    """The same again, to have a chain."""

    name = "second"
    reads = ("note",)
    writes = {"length": int}

    def process(self, row: Row) -> Mapping[str, Any]:
        time.sleep(self.settings.seconds)
        return {"length": len(row.file("note").read_text())}


class Waits(Stage):
    """Waits for a service, many items at a time; tells how many it held."""

    name, version = "waits", 1
    reads = ("text",)
    writes = {"together": int}
    held = 0

    def process(self, row: Row) -> Mapping[str, Any]:
        cls = type(self)
        cls.held += 1
        time.sleep(0.3)
        together = cls.held
        cls.held -= 1
        return {"together": together}


class Leaks(Stage):
    """Keeps a little more with every item."""

    name, version = "leaks", 1
    reads = ("text",)
    writes = {"pid": int}
    kept: list[bytes] = []

    def process(self, row: Row) -> Mapping[str, Any]:
        self.kept.append(os.urandom(1 << 20) * 100)
        return {"pid": os.getpid()}


class NoStart(Stage):
    """Cannot be set up."""

    name, version = "no_start", 1
    reads = ("text",)
    writes = {"length": int}

    def setup(self) -> None:
        raise OSError("the weights are not there")


class OnGpu(Stage):
    """Says on which GPU it runs."""

    name, version = "on_gpu", 1
    reads = ("text",)
    writes = {"gpu": str}

    def process(self, row: Row) -> Mapping[str, Any]:
        time.sleep(0.05)
        return {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


class AlsoOnGpu(OnGpu):
    name = "also_on_gpu"
    reads = ("gpu",)
    writes = {"other_gpu": str}

    def process(self, row: Row) -> Mapping[str, Any]:
        return {"other_gpu": super().process(row)["gpu"]}

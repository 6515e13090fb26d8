"""Progress of a run: a live table on a terminal, plain lines elsewhere, and files for other processes.

`logs/progress.json` is what `ffpdata status` reads; `logs/items-<start>.jsonl` has one line per outcome.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from ffpdata.core.errors import FfpdataError
from ffpdata.core.stage import Item
from ffpdata.runners.task import Outcome
from ffpdata.storage.store import Store

PROGRESS_FILE = "logs/progress.json"
LINE_SECONDS = 10.0
FILE_SECONDS = 1.0
REMOTE_SECONDS = 15.0
"""On an object store every write is a request."""
PATIENCE_SECONDS = 5.0
"""How long writing progress to an object store is tried, and how long each request may take."""

Listener = Callable[[str, Outcome], None]


@dataclass
class PoolState:
    """Workers of a pool: the stages they serve, how many are up and starting, and how busy they are, 0 to 1."""

    stages: list[str]
    workers: int
    starting: int
    busy: float


@dataclass
class StageProgress:
    """Counts of one stage in this start of the run.

    Attributes:
        total: items that arrived.
        kept: those whose outcome an earlier start computed.
        shared: those that ask what another item of this start asked, and got its outcome.
        running: those that are being computed.
        counts: those that were computed, by status.
        started: when the first one began.
        left: whether no more can come.
        said: the last line that was shown of it.
    """

    total: int = 0
    kept: int = 0
    shared: int = 0
    running: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    started: float = 0.0
    left: bool = False
    said: str = ""

    @property
    def done(self) -> int:
        """Items that ended, those of earlier starts included."""
        return self.kept + self.shared + sum(self.counts.values())

    @property
    def per_minute(self) -> float:
        """Items computed per minute since the stage began; 0 in the first second."""
        seconds = time.monotonic() - self.started if self.started else 0.0
        return 60 * sum(self.counts.values()) / seconds if seconds > 1 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until all items that have arrived are done; None before the first item."""
        rate = self.per_minute
        return 60 * (self.total - self.done) / rate if rate else None


class Progress:
    """Counts outcomes and shows them. A context manager.

    Args:
        store: the run folder.
        stages: names in order.
        quiet: show nothing.
        stream: where lines go; standard error by default.
    """

    def __init__(self, store: Store, stages: Sequence[str] = (), *, quiet: bool = False, stream: Any = None) -> None:
        self._store = store if store.local else Store(store.root, timeout=PATIENCE_SECONDS)
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._stages = {name: StageProgress() for name in stages}
        self._live: Any = None
        self._line = self._file = time.monotonic()
        self._log = f"logs/items-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        self._events: list[str] = []
        self._pieces = 0
        self._began = time.time()
        self.pools: list[PoolState] = []
        self.listeners: list[Listener] = []

    def __enter__(self) -> Progress:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(get_renderable=self.table, console=Console(file=self._stream), refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, err, trace)
        with suppress(OSError, FfpdataError):
            self._write_events()
            self._store.remove(PROGRESS_FILE, seconds=PATIENCE_SECONDS)

    def arrive(self, stage: str) -> None:
        """An item arrived at a stage."""
        self._stages.setdefault(stage, StageProgress()).total += 1

    def leave(self, stage: str) -> None:
        """A stage has finished all its items."""
        progress = self._stages.get(stage)
        if progress and progress.total and not progress.left:
            progress.left = True
            if not self._quiet and not self._live:
                self._say(stage)

    def kept(self, stage: str, computed_at: float) -> None:
        """An item's outcome is known already: it was computed at this Unix time, in this start or before it."""
        progress = self._stages[stage]
        if computed_at < self._began:
            progress.kept += 1
        else:
            progress.shared += 1

    def begin(self, stage: str) -> None:
        """An item is being computed."""
        progress = self._stages[stage]
        progress.running += 1
        progress.started = progress.started or time.monotonic()
        self.tick()

    @property
    def computed(self) -> int:
        """Outcomes that this start computed, over all stages."""
        return sum(progress.counts.total() for progress in self._stages.values())

    def put_back(self, stage: str) -> None:
        """An item that was begun waits again."""
        self._stages[stage].running -= 1

    def end(self, stage: str, item: Item, outcome: Outcome) -> None:
        """An item ended."""
        progress = self._stages[stage]
        progress.running -= 1
        progress.counts[outcome.status] += 1
        event = {"at": time.time(), "stage": stage, "item_id": item.item_id}
        event |= {name: getattr(outcome, name) for name in ("key", "status", "reason", "attempt", "seconds", "worker")}
        if outcome.status == "failed":
            event["error"] = outcome.error[-2000:]
        self._events.append(json.dumps(event))
        for tell in self.listeners:
            tell(stage, outcome)
        if not self._quiet and not self._live and time.monotonic() - self._line >= LINE_SECONDS:
            self._say(stage)
        self.tick()

    def say(self, text: str) -> None:
        """Show a line about the run itself."""
        if self._quiet:
            return
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self._stream, flush=True)

    def tick(self) -> None:
        """Write the files for other processes, where the last time was long enough ago."""
        now = time.monotonic()
        if now - self._file < (FILE_SECONDS if self._store.local else REMOTE_SECONDS):
            return
        self._file = now
        with suppress(OSError, FfpdataError):  # a run goes on where its progress cannot be written
            self._write_events()
            self._write_progress()

    def table(self) -> Any:
        """Render the stages as a rich table."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("stage", "done", "kept", "shared", "running", "ok", "rejected", "failed", "per min", "left"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for name, p in self._stages.items():
            if not p.total:
                continue
            eta = f"{p.eta:.0f} s" if p.eta and p.done < p.total else ""
            rate = f"{p.per_minute:.1f}" if p.per_minute and p.done < p.total else ""
            before = (p.kept, p.shared, p.running)
            counts = [str(n or "") for n in (*before, *(p.counts[s] for s in ("ok", "rejected", "failed")))]
            table.add_row(name, f"{p.done}/{p.total}", *counts, rate, eta)
        return table

    def _say(self, stage: str) -> None:
        p = self._stages[stage]
        parts = [f"{n} {s}" for s, n in p.counts.items()]
        if p.kept:
            parts.append(f"{p.kept} kept from before")
        if p.shared:
            parts.append(f"{p.shared} with the answer of an equal item")
        if p.per_minute and p.done < p.total:
            parts.append(f"{p.per_minute:.1f} per min")
        if p.eta and p.done < p.total:
            parts.append(f"{p.eta:.0f} s left")
        self._line = time.monotonic()
        text = f"{stage:<18} {p.done}/{p.total}  {', '.join(parts)}".rstrip()
        if text != p.said:
            p.said = text
            self.say(text)

    def _write_events(self) -> None:
        if not self._events:
            return
        text = "\n".join(self._events) + "\n"
        if self._store.local:
            path = self._store.local_path(f"{self._log}.jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as stream:
                stream.write(text)
        else:  # an object cannot grow
            self._store.write(f"{self._log}-{self._pieces:05d}.jsonl", text.encode(), seconds=PATIENCE_SECONDS)
            self._pieces += 1
        self._events.clear()

    def _write_progress(self) -> None:
        stages = {
            name: {
                "total": p.total,
                "done": p.done,
                "running": p.running,
                "per_minute": round(p.per_minute, 2),
                "eta_seconds": None if p.eta is None else round(p.eta, 1),
            }
            for name, p in self._stages.items()
        }
        state = {"at": time.time(), "stages": stages, "pools": [vars(pool) for pool in self.pools]}
        text = json.dumps(state).encode()
        if not self._store.local:
            self._store.write(PROGRESS_FILE, text, seconds=PATIENCE_SECONDS)
            return
        path = self._store.local_path(PROGRESS_FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_suffix(".part")
        temp.write_bytes(text)
        temp.replace(path)

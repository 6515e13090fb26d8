"""What a run shows while it works: a live table on a terminal, plain flushed lines elsewhere, a file for `status`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ffpdata.core.store import Store

PROGRESS_FILE = "logs/progress.json"
LINE_SECONDS = 10.0
FILE_SECONDS = 1.0


@dataclass
class StageProgress:
    """Counts of one stage in this start of the run."""

    total: int
    kept: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Items that ended, the ones of earlier starts included."""
        return self.kept + sum(self.counts.values())

    @property
    def per_minute(self) -> float:
        """Items computed per minute since the stage began; 0 while that is too short to tell."""
        seconds = time.monotonic() - self.started
        return 60 * sum(self.counts.values()) / seconds if seconds > 1 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until the stage's queue is empty; None before the first item."""
        rate = self.per_minute
        return 60 * (self.total - self.done) / rate if rate else None


class Progress:
    """Counts outcomes and shows them. A context manager; `quiet` shows nothing."""

    def __init__(self, store: Store, *, quiet: bool = False, stream: Any = None) -> None:
        self._store, self._quiet = store, quiet
        self._stream = stream or sys.stderr
        self._stages: dict[str, StageProgress] = {}
        self._running: Counter[str] = Counter()
        self._live: Any = None
        self._line = self._file = 0.0

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
        self._running.clear()
        if self._live:
            self._live.__exit__(kind, err, trace)
        if self._store.local:
            self._store.local_path(PROGRESS_FILE).unlink(missing_ok=True)

    def enter(self, stage: str, total: int) -> None:
        """A stage starts on a queue of `total` items."""
        self._stages[stage] = StageProgress(total)

    def leave(self, stage: str) -> None:
        """A stage's queue is empty."""
        if not self._quiet and not self._live and self._stages[stage].total:
            self._say(stage)

    def kept(self, stage: str) -> None:
        """An item was done in an earlier start."""
        self._stages[stage].kept += 1

    def begin(self, stage: str) -> None:
        """An item is being worked on."""
        self._running[stage] += 1
        self._tell()

    def end(self, stage: str, status: str) -> None:
        """An item ended."""
        self._running[stage] -= 1
        progress = self._stages[stage]
        progress.counts[status] += 1
        now = time.monotonic()
        if not self._quiet and not self._live and now - self._line >= LINE_SECONDS:
            self._say(stage)
        self._tell()

    def table(self) -> Any:
        """Render the stages as a rich table."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("stage", "done", "kept", "ok", "rejected", "failed", "per min", "left"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for name, p in self._stages.items():
            eta = f"{p.eta:.0f} s" if p.eta and p.done < p.total else ""
            rate = f"{p.per_minute:.1f}" if p.per_minute and p.done < p.total else ""
            counts = [str(p.counts[s] or "") for s in ("ok", "rejected", "failed")]
            table.add_row(name, f"{p.done}/{p.total}", str(p.kept or ""), *counts, rate, eta)
        return table

    def _say(self, stage: str) -> None:
        p = self._stages[stage]
        parts = [f"{n} {s}" for s, n in p.counts.items()]
        if p.kept:
            parts.append(f"{p.kept} kept from before")
        if p.per_minute and p.done < p.total:
            parts.append(f"{p.per_minute:.1f} per min")
        if p.eta and p.done < p.total:
            parts.append(f"{p.eta:.0f} s left")
        print(f"{stage:<18} {p.done}/{p.total}  {', '.join(parts)}", file=self._stream, flush=True)
        self._line = time.monotonic()

    def _tell(self) -> None:
        """Write what is running for `ffpdata status`, at most once a second."""
        now = time.monotonic()
        if now - self._file < FILE_SECONDS or not self._store.local:
            return
        self._file = now
        path = self._store.local_path(PROGRESS_FILE)
        temp = path.with_suffix(".part")
        with suppress(OSError):  # a run does not stop because it cannot say how it does
            path.parent.mkdir(parents=True, exist_ok=True)
            temp.write_text(json.dumps({"running": {s: n for s, n in self._running.items() if n}}))
            temp.replace(path)

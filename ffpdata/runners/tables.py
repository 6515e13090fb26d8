"""Rows and the state of a run as aligned text, for commands and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ffpdata.core.wording import counted

if TYPE_CHECKING:
    from ffpdata.runners.session import Status


def rows_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as aligned columns; nothing is cut, so that the output can be read by a program too."""
    if not rows:
        return "no rows"
    names = list(rows[0])
    texts = [[("" if row[n] is None else str(row[n])).replace("\n", " ") for n in names] for row in rows]
    widths = [max(len(name), *(len(t[i]) for t in texts)) for i, name in enumerate(names)]
    numeric = [all(isinstance(row[n], (int, float)) or row[n] in (None, "") for row in rows) for n in names]

    def line(cells: list[str]) -> str:
        padded = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, numeric, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(names), *(line(t) for t in texts)])


def status_text(found: Status) -> str:
    """Return a line per stage, the workers of a run that goes on, and the number of pairs."""
    live = any("per_minute" in counts for counts in found.stages.values())
    rows = []
    for name, counts in found.stages.items():
        row = {"stage": name, **{kind: counts[kind] or "" for kind in ("ok", "rejected", "failed", "running")}}
        if live:
            eta = counts.get("eta_seconds")
            row |= {"waiting": counts.get("waiting") or "", "per min": counts.get("per_minute") or ""}
            row |= {"left": f"{eta:.0f} s" if eta else ""}
        slowest = max(counts["slowest"].values(), default=None)
        row["slowest s"] = "" if slowest is None else round(slowest, 2)
        rows.append(row | {"reasons": ", ".join(f"{reason} {n}" for reason, n in counts["reasons"].items())})
    lines = [rows_text(rows)]
    for pool in found.pools:
        starting = f", {pool['starting']} starting" if pool["starting"] else ""
        lines.append(
            f"{counted(pool['workers'], 'worker')}{starting}, {pool['busy']:.0%} busy: {', '.join(pool['stages'])}"
        )
    if found.yields:
        names = ("task", "back_end", "tried", "made", "accepted")
        lines.append(rows_text([{name: row[name] for name in names} for row in found.yields]))
    return "\n".join([*lines, counted(found.pairs, "pair")])

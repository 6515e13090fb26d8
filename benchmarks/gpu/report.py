"""Pure helpers of the GPU benchmark: what a clip costs from what was measured, what fits a card, and the table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PROJECTIONS = ((50, True), (8, False), (4, False))
"""Denoising steps and whether classifier-free guidance doubles each: the library's default, two distilled settings."""

CARDS_GB = {"24 GB": 23.0, "80 GB": 78.0}
"""Memory in GiB that a program's tensors may take on a card of that name: its size less the driver's own share."""

RESERVE = 1.1
"""Counted memory is multiplied by this before it is held against a card: fragmentation, the kernels' workspace."""


def median(values: Sequence[float]) -> float:
    """Return the median of the values without the first, which pays for warming up; of one value, that value."""
    return statistics.median(values[1:] or values)


def fixed_seconds(wall_s: float, forwards_s: Sequence[float]) -> float:
    """Return what a clip costs beside its forward passes: text, VAE, conversions, moving weights."""
    return max(0.0, wall_s - len(forwards_s) * median(forwards_s))


def clip_seconds(fixed_s: float, forward_s: float, steps: int, *, guided: bool) -> float:
    """Return seconds per clip at a number of denoising steps; guidance runs the transformer twice per step."""
    return fixed_s + steps * forward_s * (2 if guided else 1)


def projections(fixed_s: float, forward_s: float) -> dict[str, float]:
    """Return seconds per clip at each of PROJECTIONS, by a readable name."""
    return {
        f"{steps} steps, {'cfg' if guided else 'no cfg'}": clip_seconds(fixed_s, forward_s, steps, guided=guided)
        for steps, guided in PROJECTIONS
    }


def memory_needs(counted: Mapping[str, Any]) -> dict[str, float]:
    """Return GiB that a pipeline needs for tensors, from what was counted, by how its weights are kept.

    `resident`: every part on the card; `models`: each part waits in main memory for its turn; `layers`: so does each
    layer. What the allocator loses to fragmentation and the kernels' workspace come on top.
    """
    weights, live = counted["weights_by_part_gib"], counted["live_by_phase_gib"]
    users = {"text": ("text",), "image": ("image",), "vae_encode": ("vae",), "vae_decode": ("vae",)}
    turns = [live[phase] + sum(weights.get(part, 0) for part in users.get(phase, ("dit", "vace"))) for phase in live]
    return {
        "resident": sum(weights.values()) + max(live.values()),
        "models": max(turns),
        "layers": max(live.values()) + counted["largest_layer_gib"],
    }


def clip_tflop(counted: Mapping[str, Any], steps: int, *, guided: bool) -> tuple[float, float]:
    """Return TFLOP per clip of the transformer at a number of steps, and of everything else."""
    work, runs = counted["tflop"], counted["runs"]
    other = sum(work[phase] * runs[phase] for phase in work if phase != "forward")
    return work["forward"] * steps * (2 if guided else 1), other


def computed(counted: Mapping[str, Any], tflops: float) -> dict[str, Any]:
    """Return what follows from the counts: memory by way of keeping weights, and seconds at an assumed rate."""
    if "forward" not in counted.get("tflop", {}):
        return {"seconds": {name: work / tflops for name, work in counted.get("tflop", {}).items()}}
    seconds = {
        f"{steps} steps, {'cfg' if guided else 'no cfg'}": sum(clip_tflop(counted, steps, guided=guided)) / tflops
        for steps, guided in PROJECTIONS
    }
    needs = memory_needs(counted)
    return {
        "needs_gib": needs,
        "fits": {way: fits(RESERVE * need) for way, need in needs.items()},
        "step_s": 2 * counted["tflop"]["forward"] / tflops,
        "clip_s": seconds,
    }


def fits(peak_gb: float | None) -> list[str]:
    """Return the cards whose memory holds a peak of so many GiB."""
    return [] if peak_gb is None else [card for card, usable in CARDS_GB.items() if peak_gb <= usable]


def rounded(value: Any, digits: int = 3) -> Any:
    """Return the value with every float in it rounded."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, Mapping):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}" if value < 1 else f"{value:.1f}"
    return ", ".join(value) if isinstance(value, list) else str(value)


def table(records: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return a Markdown table; `columns` maps a heading to a dotted path into each record.

    A record that has nothing at any path but its first is left out.
    """
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for record in records:
        cells = [_cell(_at(record, path)) for path in columns.values()]
        if any(cells[1:]):
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _at(record: Mapping[str, Any], path: str) -> Any:
    found: Any = record
    for key in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found

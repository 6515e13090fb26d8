"""A plan as text and as JSON, alone or beside another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ffpdata.planning.flow_model import Amounts, Draws
from ffpdata.planning.plan import Plan

QUANTITIES = {
    "gpu_hours": "GPU-hours",
    "cpu_hours": "CPU-hours",
    "wall_hours": "wall hours",
    "rented_gpu_hours": "GPU-hours rented",
    "usd": "US dollars, GPU-hours",
    "rented_usd": "US dollars, rented",
    "storage_gb": "storage, GB",
    "clips": "clips",
    "pairs": "accepted pairs",
    "requests": "questions",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "answer tokens",
}
"""Name in JSON to what the text calls it."""


def as_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain data; docs/plan.md explains the entries."""
    settings, cluster = plan.settings, plan.cluster
    return {
        "plan": plan.title,
        **{name: _plain(draws) for name, draws in plan.quantities.items()},
        "confidence": settings.confidence,
        "intervals": {name: _interval(plan, draws) for name, draws in plan.quantities.items()},
        "per_pair": {
            name: {"value": _plain(draws), "interval": _interval(plan, draws)} for name, draws in plan.per_pair.items()
        },
        "tasks": {task: _plain(count) for task, count in plan.tasks.items() if task},
        "stages": {name: _stage(plan, amounts) for name, amounts in plan.stages.items()},
        "tracks": {
            track.track: {
                "pipeline": track.pipeline,
                "clips": _plain(track.expected.fed),
                "pairs": _plain(track.expected.all_pairs),
                "rest": track.rest,
                "gpu_hours": _plain(track.expected.total.all_gpu_seconds / 3600),
                "wall_hours": _plain(track.wall_seconds / 3600),
                "stages": {name: _stage(plan, amounts) for name, amounts in track.expected.stages.items()},
                "measured": track.measured,
                "pilot_sources": track.seen,
                "simulated_share": track.wall.share,
                "gpus_busy": track.wall.busy,
                "workers": {", ".join(use.stages): use.most for use in track.wall.run.pools},
            }
            for track in plan.tracks
        },
        "cluster": {
            "gpus": cluster.gpus,
            "server_gpus": cluster.server_gpus,
            "cpus": cluster.cpus,
            "memory_gb": cluster.memory_gb,
            "node_gpus": cluster.node_gpus,
        },
        "price": {"usd_per_gpu_hour": plan.settings.price.usd_per_gpu_hour.value, "date": str(settings.price.date)},
        "pilot_clips_to_halve": plan.halving(),
        "warnings": plan.warnings,
        "assumptions": [{"name": path, **number.model_dump()} for path, number in plan.assumptions],
    }


def as_text(plan: Plan) -> str:
    """Return a plan as a page of text."""
    return "\n".join([plan.title, "", *_stage_lines(plan), "", *_quantity_lines(plan), *_notes(plan)])


def side_by_side(one: Plan, other: Plan) -> str:
    """Return two plans as a table: each quantity with its interval, and the second over the first."""
    lines = [f"A: {one.title}", f"B: {other.title}", "", f"{'':<24}{'A':>46}{'B':>46}{'B / A':>8}"]
    for name, title in QUANTITIES.items():
        a, b = one.quantities[name], other.quantities[name]
        if not a[0] and not b[0]:
            continue
        ratio = f"{b[0] / a[0]:.2f}" if a[0] else ""
        lines.append(f"{title:<24}{_with_interval(one, a):>46}{_with_interval(other, b):>46}{ratio:>8}")
    for name in ("gpu_hours", "usd"):
        if name in one.per_pair and name in other.per_pair:
            a, b = one.per_pair[name], other.per_pair[name]
            title = f"{QUANTITIES[name].split(',')[0]} per pair"
            ratio = f"{b[0] / a[0]:.2f}" if a[0] else ""
            lines.append(f"{title:<24}{_with_interval(one, a):>46}{_with_interval(other, b):>46}{ratio:>8}")
    for letter, plan in (("A", one), ("B", other)):
        lines += [f"{letter}: {line}" for line in plan.warnings]
    return "\n".join(lines)


def _stage_lines(plan: Plan) -> Iterator[str]:
    yield f"{'stage':<20}{'items':>12}{'passed':>12}{'GPU-hours':>12}{'CPU-hours':>12}{'questions':>12}{'GB':>10}"
    for track in plan.tracks:
        if len(plan.tracks) > 1:
            yield f"{track.pipeline}: {track.expected.fed[0]:,.0f} clips, {track.expected.all_pairs[0]:,.0f} pairs"
        for name, each in track.expected.stages.items():
            if not each.items[0]:  # it is for none of these items
                continue
            gpu, cpu = each.all_gpu_seconds[0] / 3600, each.cpu_seconds[0] / 3600
            yield (
                f"{name:<20}{each.items[0]:>12,.0f}{each.passed[0]:>12,.0f}{_number(gpu):>12}{_number(cpu):>12}"
                f"{each.requests[0]:>12,.0f}{_number(each.written[0] / 1e9):>10}"
            )


def _quantity_lines(plan: Plan) -> Iterator[str]:
    yield f"{'':<24}{f'estimate [{plan.settings.confidence:.0%} interval]':>46}{'per accepted pair':>20}"
    each = plan.per_pair
    for name, title in QUANTITIES.items():
        draws = plan.quantities[name]
        if draws[0]:
            per = _number(each[name][0]) if name in each else ""
            yield f"{title:<24}{_with_interval(plan, draws):>46}{per:>20}"


def _notes(plan: Plan) -> Iterator[str]:
    price, cluster = plan.settings.price, plan.cluster
    yield ""
    if cluster.gpus:
        servers = f", {cluster.server_gpus} of them for model servers" if cluster.server_gpus else ""
        yield (
            f"On {cluster.gpus} GPUs{servers}, {cluster.cpus:g} cores; an hour of a GPU at "
            f"{price.usd_per_gpu_hour.value:g} US dollars ({price.date:%Y-%m})."
        )
    else:
        yield f"On {cluster.cpus:g} cores."
    for track in plan.tracks:
        if track.seen:
            what = "what is left of the run" if track.rest else "measured shares and seconds"
            yield f"{track.pipeline}: {what}, from {track.seen} sources."
    seen = {track.track: track.seen for track in plan.tracks}
    for name, clips in plan.halving().items():
        if clips is not None:
            more = f"; this one has {seen[name]}" if seen[name] else ""
            yield f"A pilot of {clips:,} clips of track {name} would halve the interval of the cost per pair{more}."
    kinds: dict[str, int] = {}
    for _, number in plan.assumptions:
        kinds[number.kind] = kinds.get(number.kind, 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    yield f"It rests on {len(plan.assumptions)} assumptions ({told}): --assumptions lists them."
    yield from (f"Warning: {line}" for line in plan.warnings)


def assumption_lines(plan: Plan) -> Iterator[str]:
    """A line for each assumption: its value, interval, kind and source."""
    for path, number in plan.assumptions:
        span = f"[{number.low:g}, {number.high:g}]" if number.low != number.high else ""
        yield f"plan.{path:<34}{number.value:>9g} {span:<18}{number.kind:<10}{number.source}"


def _stage(plan: Plan, amounts: Amounts) -> dict[str, Any]:
    gpu_hours, cpu_hours = amounts.all_gpu_seconds / 3600, amounts.cpu_seconds / 3600
    return {
        "items": _plain(amounts.items),
        "passed": _plain(amounts.passed),
        "gpu_hours": _plain(gpu_hours),
        "cpu_hours": _plain(cpu_hours),
        "requests": _plain(amounts.requests),
        "prompt_tokens": _plain(amounts.prompt_tokens),
        "completion_tokens": _plain(amounts.completion_tokens),
        "storage_gb": _plain((amounts.written + amounts.exported) / 1e9),
        "usd": _plain(gpu_hours * plan.price + cpu_hours * plan.cpu_price),
        "intervals": {
            "items": _interval(plan, amounts.items),
            "gpu_hours": _interval(plan, gpu_hours),
            "cpu_hours": _interval(plan, cpu_hours),
        },
    }


def _plain(draws: Draws) -> float:
    return round(float(draws[0]), 6)


def _interval(plan: Plan, draws: Draws) -> list[float]:
    return [round(end, 6) for end in plan.interval(draws)]


def _with_interval(plan: Plan, draws: Draws) -> str:
    low, high = plan.interval(draws)
    value = _number(draws[0])
    return value if low == high else f"{value} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """Three digits that count, or all of them before the point."""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"

"""A reliability diagram as SVG: predicted against observed share of accepted pairs, per task."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ffpdata.curate.score_fit import Reliability

SIDE, EDGE, GAP = 260, 46, 24


def reliability_svg(found: Mapping[str, Reliability], about: str) -> str:
    """Return the diagram: one square per task, its bins as dots with intervals, the diagonal of a perfect score."""
    width, height = len(found) * (SIDE + EDGE + GAP) + GAP, SIDE + 2 * EDGE + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<style>text {font: 11px sans-serif}</style>",
        f"<title>{escape(about)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (task, result) in enumerate(found.items()):
        parts += _square(EDGE + number * (SIDE + EDGE + GAP), EDGE, task, result)
    return "\n".join([*parts, "</svg>", ""])


def _square(left: int, top: int, task: str, found: Reliability) -> list[str]:
    def x(value: float) -> float:
        return round(left + value * SIDE, 1)

    def y(value: float) -> float:
        return round(top + (1 - value) * SIDE, 1)

    low, high = found.auc_interval
    facts = f"AUC {found.auc:.3f} [{low:.3f}, {high:.3f}], Brier {found.brier:.3f}, {sum(found.count)} pairs"
    lines = [
        f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>',
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke="#bbb" stroke-dasharray="4 3"/>',
        f'<text x="{left}" y="{top - 22}" font-weight="bold">{escape(task)}</text>',
        f'<text x="{left}" y="{top - 8}">{facts}</text>',
        f'<text x="{left + SIDE / 2}" y="{top + SIDE + 30}" text-anchor="middle">predicted</text>',
        f'<text transform="translate({left - 28} {top + SIDE / 2}) rotate(-90)" text-anchor="middle">observed</text>',
    ]
    for tick in (0, 0.5, 1):
        lines.append(f'<text x="{x(tick)}" y="{top + SIDE + 14}" text-anchor="middle">{tick:g}</text>')
        lines.append(f'<text x="{left - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    most = max(found.count, default=1)
    for p, o, a, b, n in zip(found.predicted, found.observed, found.low, found.high, found.count, strict=True):
        lines.append(f'<line x1="{x(p)}" y1="{y(a)}" x2="{x(p)}" y2="{y(b)}" stroke="#4a7"/>')
        lines.append(f'<circle cx="{x(p)}" cy="{y(o)}" r="{2 + 5 * (n / most) ** 0.5:.1f}" fill="#285"/>')
    return lines

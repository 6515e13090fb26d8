"""The losses of a training: as a table and as a curve."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

POINTS = 400
"""Most points of a drawn curve: more are no sharper on a screen."""

SMOOTHING = 10
"""A curve is smoothed over a tenth of its steps: each loss has a timestep of its own, so one alone says little."""

Loss = tuple[int, float, float | None]
"""Step, training loss, and the loss on held-out pairs where it was measured."""


def losses_table(
    losses: Sequence[tuple[int, float]],
    held_out: Sequence[tuple[int, float]],
    terms: Mapping[str, Sequence[tuple[int, float]]] | None = None,
) -> bytes:
    """Return the CSV table of losses: a row per step, empty where a loss was not measured.

    Args:
        losses: (step, training loss), from step 1.
        held_out: (step, held-out loss), from step 0: before the first step.
        terms: further columns by name, each as (step, value).
    """
    columns = {"loss": dict(losses), "held_out": dict(held_out)}
    columns |= {name: dict(values) for name, values in (terms or {}).items()}
    steps = sorted(set().union(*(values.keys() for values in columns.values())))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", *columns])
    table.writerows([step, *(values.get(step, "") for values in columns.values())] for step in steps)
    return text.getvalue().encode()


@dataclass(frozen=True)
class LossCurve:
    """Losses over the steps, in a box of 1000 x 1000 with the largest loss at the top.

    Attributes:
        raw, smooth: training loss, as points of an SVG polyline.
        held_out: held-out loss, as (x, y, step, loss).
        low, high: losses at the bottom and at the top.
        first, last: steps at the left and at the right.
        first_loss, last_loss: smoothed training loss at the left and at the right.
    """

    raw: str
    smooth: str
    held_out: list[tuple[float, float, int, float]]
    low: float
    high: float
    first: int
    last: int
    first_loss: float
    last_loss: float

    @property
    def held_out_line(self) -> str:
        """The held-out loss, as points of an SVG polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in self.held_out)


def loss_curve(losses: Sequence[Loss]) -> LossCurve | None:
    """Place losses in the box of a curve; None where no training loss is finite. Losses that are not are left out."""
    trained = sorted((step, loss) for step, loss, _ in losses if math.isfinite(loss))
    held_out = sorted((step, loss) for step, _, loss in losses if loss is not None and math.isfinite(loss))
    if not trained:
        return None
    steps, values = (np.array(part, np.float64) for part in zip(*trained, strict=True))
    smooth = _smoothed(values)
    # A few outliers would flatten everything else: the raw curve is clipped to the box.
    shown = [*smooth, *(loss for _, loss in held_out), *np.percentile(values, (2, 98))]
    low, high = min(shown), max(shown)
    if high <= low:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    first, last = int(min(steps[0], *(s for s, _ in held_out[:1]))) if held_out else int(steps[0]), int(steps[-1])
    last = max(last, held_out[-1][0] if held_out else last)

    def place(step: float, loss: float) -> tuple[float, float]:
        x = 1000 * (step - first) / (last - first) if last > first else 500.0
        return x, float(np.clip(1000 * (high - loss) / (high - low), 0, 1000))

    def line(losses: np.ndarray) -> str:
        every = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).round().astype(int))
        return " ".join("{:.1f},{:.1f}".format(*place(steps[n], losses[n])) for n in every)

    return LossCurve(
        raw=line(values),
        smooth=line(smooth),
        held_out=[(*place(step, loss), step, loss) for step, loss in held_out],
        low=float(low),
        high=float(high),
        first=first,
        last=last,
        first_loss=float(smooth[0]),
        last_loss=float(smooth[-1]),
    )


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the running mean; at both ends over fewer values."""
    half = len(values) // (2 * SMOOTHING)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    means: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return means


WIDTH, HEIGHT, LEFT, RIGHT, BELOW, ABOVE = 720, 300, 60, 12, 34, 26
"""Size of the SVG picture and its margins, in pixels."""


SMALL = 90
"""Height of the picture of one term, in pixels."""


def loss_svg(
    losses: Sequence[tuple[int, float]],
    held_out: Sequence[tuple[int, float]],
    terms: Mapping[str, Sequence[tuple[int, float]]] | None = None,
) -> str:
    """Draw losses over steps as an SVG file: each loss, the running mean, the held-out loss, and below each term.

    Args:
        losses: (step, training loss), from step 1.
        held_out: (step, held-out loss), from step 0.
        terms: parts of the loss by name, each as (step, value); each gets a scale of its own.
    """
    drawn = loss_curve(
        [*((step, loss, None) for step, loss in losses), *((step, math.nan, loss) for step, loss in held_out)]
    )
    curves = {name: loss_curve([(step, value, None) for step, value in part]) for name, part in (terms or {}).items()}
    small = {name: curve for name, curve in curves.items() if curve}
    height = HEIGHT + SMALL * len(small)
    body = [f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
    if drawn:
        body += _picture(drawn, ABOVE, HEIGHT - BELOW)
        body += [
            f'<text x="{LEFT}" y="{HEIGHT - 12}">step {drawn.first}</text>',
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">{drawn.last}</text>',
            f'<text x="{LEFT + 12}" y="16" fill="#1f5f99">training loss, smoothed</text>',
        ]
        if drawn.held_out:
            body.append(f'<text x="{LEFT + 260}" y="16" fill="#c4501b">held-out loss</text>')
    for number, (name, curve) in enumerate(small.items()):
        top = HEIGHT + SMALL * number
        body += _picture(curve, top + 18, top + SMALL - 8)
        body.append(f'<text x="{LEFT + 12}" y="{top + 12}" fill="#1f5f99">{name.replace("_", " ")}</text>')
    box = f'viewBox="0 0 {WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">'
    return "\n".join([head, *body, "</svg>"])


def _picture(drawn: LossCurve, top: int, base: int) -> list[str]:
    """Axes and lines of a curve between two heights of the picture."""
    end = WIDTH - RIGHT
    scale = f"translate({LEFT} {top}) scale({(end - LEFT) / 1000:.4f} {(base - top) / 1000:.4f})"
    plain = 'vector-effect="non-scaling-stroke"'
    lines = [(drawn.raw, "#9bb8d3", 1), (drawn.smooth, "#1f5f99", 2), (drawn.held_out_line, "#c4501b", 2)]
    return [
        f'<path d="M{LEFT} {top}V{base}H{end}" fill="none" stroke="#999"/>',
        f'<text x="{LEFT - 6}" y="{top + 4}" text-anchor="end">{drawn.high:.3g}</text>',
        f'<text x="{LEFT - 6}" y="{base + 4}" text-anchor="end">{drawn.low:.3g}</text>',
        f'<g transform="{scale}" fill="none">',
        *(
            f'<polyline {plain} stroke="{colour}" stroke-width="{width}" points="{points}"/>'
            for points, colour, width in lines
            if points
        ),
        "</g>",
    ]

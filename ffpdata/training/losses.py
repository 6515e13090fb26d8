"""The losses of a training: their table, and their curve."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POINTS = 400
"""Of a drawn curve: more are no sharper on a screen."""

SMOOTH = 10
"""A curve is smoothed over one such part of its steps."""

Loss = tuple[int, float, float | None]
"""Step, training loss, and the loss on held-out pairs where it was measured."""


def losses_table(losses: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> bytes:
    """`losses.csv`: one row per step; step 0, before the first, has a held-out loss alone."""
    one, other = dict(losses), dict(held_out)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", "loss", "held_out"])
    table.writerows([step, one.get(step, ""), other.get(step, "")] for step in sorted(one.keys() | other.keys()))
    return text.getvalue().encode()


@dataclass(frozen=True)
class LossCurve:
    """The loss over the steps, in a box of 1000 x 1000 with the largest loss at the top.

    Attributes:
        raw, smooth: training loss, as points of an SVG polyline.
        held: loss on held-out pairs, as (x, y, step, loss).
        low, high: losses at the bottom and at the top.
        first, last: steps at the left and at the right.
        begun, ended: smoothed training loss at the left and at the right.
    """

    raw: str
    smooth: str
    held: list[tuple[float, float, int, float]]
    low: float
    high: float
    first: int
    last: int
    begun: float
    ended: float

    @property
    def held_line(self) -> str:
        """The held-out loss, as points of an SVG polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in self.held)


def curve(losses: Sequence[Loss]) -> LossCurve | None:
    """Draw the losses; None where there are none. Those that are not finite have no place in a picture."""
    trained = sorted((step, loss) for step, loss, _ in losses if math.isfinite(loss))
    held = sorted((step, loss) for step, _, loss in losses if loss is not None and math.isfinite(loss))
    if not trained:
        return None
    steps, values = (np.array(part, np.float64) for part in zip(*trained, strict=True))
    smooth = _smoothed(values)
    # A few wild steps would press everything else flat: the raw curve may leave the box.
    shown = [*smooth, *(loss for _, loss in held), *np.percentile(values, (2, 98))]
    low, high = min(shown), max(shown)
    if high <= low:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    first, last = int(min(steps[0], *(s for s, _ in held[:1]))) if held else int(steps[0]), int(steps[-1])
    last = max(last, held[-1][0] if held else last)

    def place(step: float, loss: float) -> tuple[float, float]:
        x = 1000 * (step - first) / (last - first) if last > first else 500.0
        return x, float(np.clip(1000 * (high - loss) / (high - low), 0, 1000))

    def line(losses: np.ndarray) -> str:
        every = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).round().astype(int))
        return " ".join("{:.1f},{:.1f}".format(*place(steps[n], losses[n])) for n in every)

    return LossCurve(
        raw=line(values),
        smooth=line(smooth),
        held=[(*place(step, loss), step, loss) for step, loss in held],
        low=float(low),
        high=float(high),
        first=first,
        last=last,
        begun=float(smooth[0]),
        ended=float(smooth[-1]),
    )


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A running mean; at the ends over what there is."""
    half = len(values) // (2 * SMOOTH)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    means: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return means


WIDE, HIGH, LEFT, RIGHT, BELOW, ABOVE = 720, 300, 60, 12, 34, 26
"""Steps of the moving mean: one loss has a timestep of its own and says little."""


def loss_curve(losses: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> str:
    """Draw losses over steps as SVG: each, their running mean, and the held-out loss; as the round's report does."""
    drawn = curve(
        [*((step, loss, None) for step, loss in losses), *((step, math.nan, loss) for step, loss in held_out)]
    )
    body = [f'<rect width="{WIDE}" height="{HIGH}" fill="#fff"/>']
    if drawn:
        base, end = HIGH - BELOW, WIDE - RIGHT
        scale = f"translate({LEFT} {ABOVE}) scale({(end - LEFT) / 1000:.4f} {(base - ABOVE) / 1000:.4f})"
        plain = 'vector-effect="non-scaling-stroke"'
        lines = [(drawn.raw, "#9bb8d3", 1), (drawn.smooth, "#1f5f99", 2), (drawn.held_line, "#c4501b", 2)]
        body += [
            f'<path d="M{LEFT} {ABOVE}V{base}H{end}" fill="none" stroke="#999"/>',
            f'<text x="{LEFT - 6}" y="{ABOVE + 4}" text-anchor="end">{drawn.high:.3g}</text>',
            f'<text x="{LEFT - 6}" y="{base + 4}" text-anchor="end">{drawn.low:.3g}</text>',
            f'<text x="{LEFT}" y="{HIGH - 12}">step {drawn.first}</text>',
            f'<text x="{end}" y="{HIGH - 12}" text-anchor="end">{drawn.last}</text>',
            f'<text x="{LEFT + 12}" y="16" fill="#1f5f99">training loss, smoothed</text>',
            f'<g transform="{scale}" fill="none">',
            *(
                f'<polyline {plain} stroke="{colour}" stroke-width="{width}" points="{points}"/>'
                for points, colour, width in lines
                if points
            ),
            "</g>",
        ]
        if drawn.held:
            body.append(f'<text x="{LEFT + 260}" y="16" fill="#c4501b">held-out loss</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, *body, "</svg>"])

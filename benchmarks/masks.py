"""Mask operations on 81 masks of 720p.

    python -m benchmarks.masks [--rounds 5] [--width 1280 --height 720 --frames 81]

Bound: an erosion in 0.5 s. The object is an ellipse of a seventh of the frame that crosses it; the worst case is a mask
that fills the frame and has a thousand holes.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import cv2
import numpy as np

from benchmarks.timing import add_size, interleave, verdict
from ffpdata.media import masks as m

BOUND_S = 0.5
Size = tuple[int, int, int]
"""Frames, height and width."""


def crossing_object(size: Size) -> np.ndarray:
    canvas, unit = np.zeros(size, np.uint8), size[1] / 720
    for t, frame in enumerate(canvas):
        middle, axes = (round(unit * (300 + 8 * t)), round(unit * 360)), (round(unit * 150), round(unit * 280))
        cv2.ellipse(frame, middle, axes, t, 0, 360, 1, -1)
    return canvas.view(bool)


def worst_case(size: Size) -> np.ndarray:
    masks = np.ones(size, bool)
    masks[:, 5::23, 7::41] = False
    return masks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    add_size(parser)
    args = parser.parse_args()
    rounds, size = args.rounds, (args.frames, args.height, args.width)
    cv2.setNumThreads(1)
    moving, full = crossing_object(size), worst_case(size)
    good = True
    for name, masks, px in (("object", moving, 8), ("object", moving, 40), ("worst case", full, 8)):
        seconds = interleave(partial(m.erode, masks, px), lambda: None, rounds)[0].wall
        good &= verdict(f"erode {name} by {px} px, s", seconds, BOUND_S, f"{seconds / args.frames * 1e3:.1f} ms a mask")
    for name, work in {
        "dilate by 8 px": partial(m.dilate, moving, 8),
        "hull": partial(m.hull, moving),
        "box": partial(m.box, moving, 0.12, 8),
        "boundary of 4 px": partial(m.boundary, moving, 4),
        "feather of 8 px": partial(m.feather, moving, 8),
        "iou": partial(m.iou, moving, moving),
    }.items():
        seconds = interleave(work, lambda: None, rounds)[0].wall
        print(f"     {name}: {seconds:.2f} s")
    return not good


if __name__ == "__main__":
    sys.exit(main())

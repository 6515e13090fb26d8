"""Mask operations on 81 masks of 720p.

    python -m benchmarks.masks [--rounds 5]

Bound: an erosion in 0.5 s. The object is an ellipse of a seventh of the frame that crosses it; the worst case is a mask
that fills the frame and has a thousand holes.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import cv2
import numpy as np

from benchmarks.timing import interleave, verdict
from ffpdata.media import masks as m

BOUND_S = 0.5
FRAMES, HEIGHT, WIDTH = 81, 720, 1280


def crossing_object() -> np.ndarray:
    canvas = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    for t, frame in enumerate(canvas):
        cv2.ellipse(frame, (300 + 8 * t, 360), (150, 280), t, 0, 360, 1, -1)
    return canvas.view(bool)


def worst_case() -> np.ndarray:
    masks = np.ones((FRAMES, HEIGHT, WIDTH), bool)
    masks[:, 5::23, 7::41] = False
    return masks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    moving, full = crossing_object(), worst_case()
    good = True
    for name, masks, px in (("object", moving, 8), ("object", moving, 40), ("worst case", full, 8)):
        seconds = interleave(partial(m.erode, masks, px), lambda: None, rounds)[0].wall
        good &= verdict(f"erode {name} by {px} px, s", seconds, BOUND_S, f"{seconds / FRAMES * 1e3:.1f} ms a mask")
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

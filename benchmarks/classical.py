"""The embedded segmenter, remover and recolour on the sample scenes, against their ground truth.

    python -m benchmarks.classical [SCENE ...] [--width 1280 --height 720 --frames 81]

Bounds: the fill gains 5 dB over inpainting each frame by itself, inside the mask, on static and panning scenes; the
mean IoU of the masks is 0.75; segmenting takes 7 CPU-seconds and filling 10; no scene takes more than 1.5 GB. Every
scene runs in a process of its own, so that its peak memory is its own; the ground truth is drawn in another.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.timing import peak_megabytes, verdict
from ffpdata.core.errors import nearest
from ffpdata.core.stage import ModelSpec
from ffpdata.media import codec
from ffpdata.media import masks as masklib
from ffpdata.media.geometry import Geometry
from ffpdata.sample.scenes import SCENES, render

MARGIN_DB, MIN_IOU = 5.0, 0.75
SEGMENT_S, FILL_S, PEAK_GB = 7.0, 10.0, 1.5
SPEC = ModelSpec(backend="benchmarks:none")


def draw(name: str, geometry: Geometry, folder: Path) -> None:
    """Write one scene: what its clip, mask and true background are."""
    scene = next(s for s in SCENES if s.name == name)
    frames, backgrounds, masks = (np.stack(part) for part in zip(*render(scene, geometry), strict=True))
    codec.write_video(folder / "clip.mp4", frames, geometry.fps)
    codec.write_masks(folder / "mask.mp4", masks, geometry.fps)
    np.save(folder / "background.npy", backgrounds)


def measured(call):
    start = time.process_time()
    answer = call()
    return answer, time.process_time() - start


def psnr(clip: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    total = sum(
        float(np.square(c[w].astype(np.float32) - t[w]).sum()) for c, t, w in zip(clip, truth, where, strict=True)
    )
    return float(10 * np.log10(255**2 * 3 * where.sum() / total))


def run(folder: Path) -> dict[str, float]:
    """Work on one scene; peak memory is read before the ground truth is loaded."""
    from ffpdata.models.classical.remover import TemporalFill
    from ffpdata.models.classical.segmenter.motion_segmenter import MotionSegmenter
    from ffpdata.models.classical.swapper import Recolour

    cv2.setNumThreads(1)
    frames = codec.read_video(folder / "clip.mp4")
    unit = min(frames.shape[1:3]) / 720
    found, segment_s = measured(lambda: MotionSegmenter(SPEC).segment(frames, ["object"]))
    boxes = masklib.box(found.masks, 0.12, max(1, round(8 * unit)))
    fill, fill_s = measured(lambda: TemporalFill(SPEC).edit(frames, boxes, prompt=""))
    peak = peak_megabytes() / 1024
    recoloured, recolour_s = measured(lambda: Recolour(SPEC).edit(frames, found.masks, prompt=""))
    truth, background = codec.read_masks(folder / "mask.mp4"), np.load(folder / "background.npy", mmap_mode="r")
    some = slice(None, None, 8)
    wide = masklib.dilate(truth[some], max(1, round(3 * unit))).view(np.uint8)
    simple = np.stack([cv2.inpaint(f, w, 3, cv2.INPAINT_TELEA) for f, w in zip(frames[some], wide, strict=True)])
    return {
        "iou": float(masklib.iou(found.masks, truth).mean()),
        "fill_db": psnr(fill.frames, background, truth),
        "telea_db": psnr(simple, background[some], truth[some]),
        "unrevealed": fill.facts["unrevealed"],
        "warp_error": fill.facts["warp_error"],
        "segment_s": segment_s,
        "fill_s": fill_s,
        "recolour_s": recolour_s,
        "delta_e": recoloured.facts["delta_e"],
        "peak_gb": peak,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", default=[s.name for s in SCENES])
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    known = [scene.name for scene in SCENES]
    if unknown := sorted(set(args.scenes) - set(known)):
        parser.error(f"no scene {unknown[0]!r}{nearest(unknown[0], known)}")
    if args.child:
        print(json.dumps(run(args.child)))
        return 0
    geometry = Geometry(width=args.width, height=args.height, frames=args.frames)
    rows = {}
    for name in args.scenes:
        with tempfile.TemporaryDirectory() as folder:
            draw(name, geometry, Path(folder))
            command = [sys.executable, "-m", "benchmarks.classical", "--child", folder]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows[name] = json.loads(told)
        print(f"{name:20}", " ".join(f"{k} {v:.3g}" for k, v in rows[name].items()), flush=True)
    handheld = {s.name for s in SCENES if s.camera_kind == "handheld"}
    fixed = [row for name, row in rows.items() if name not in handheld] or [*rows.values()]
    gain = min(row["fill_db"] - row["telea_db"] for row in fixed)
    iou = float(np.mean([r["iou"] for r in rows.values()]))
    worst = {name: max(row[name] for row in rows.values()) for name in ("segment_s", "fill_s", "peak_gb")}
    good = [
        verdict("5 dB / gain of the fill over Telea, static and pan", MARGIN_DB / gain, 1, f"least gain {gain:.1f} dB"),
        verdict("0.75 / mean IoU", MIN_IOU / iou, 1, f"mean IoU {iou:.3f}"),
        verdict("segment / 7 CPU-s", worst["segment_s"] / SEGMENT_S, 1, f"slowest scene {worst['segment_s']:.1f} s"),
        verdict("fill / 10 CPU-s", worst["fill_s"] / FILL_S, 1, f"slowest scene {worst['fill_s']:.1f} s"),
        verdict("peak memory / 1.5 GB", worst["peak_gb"] / PEAK_GB, 1, f"largest process {worst['peak_gb']:.2f} GB"),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Seconds and peak memory of the production models on 720p x 81 frames, with random weights of the official shapes.

    python -m benchmarks.gpu_models [--only vace_1_3b ...] [--json OUT.json]   on a GPU: measured
    python -m benchmarks.gpu_models --device meta                              anywhere: counted, nothing is run
    python -m benchmarks.gpu_models --tiny                                     every case, tiny, on a CPU, to try it

No checkpoint is read: speed and memory depend on shapes, not on values. Results: benchmarks/results/gpu_models.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import importlib.util
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu import shapes
from benchmarks.gpu.report import computed, fits, rounded, table

SMALL_CARD_GIB = 23.0
LIBRARIES = ("torch", "transformers", "diffsynth", "accelerate")
COLUMNS = {
    "case": "case",
    "weights GiB": "measured.weights_gib",
    "peak GiB": "measured.peak_allocated_gib",
    "reserved GiB": "measured.peak_reserved_gib",
    "text s": "measured.text_s",
    "encode s": "measured.vae_encode_s",
    "step s": "measured.step_s",
    "decode s": "measured.vae_decode_s",
    "frame s": "measured.frame_s",
    "clip s": "measured.clip_s",
    "answer s": "measured.answer_s",
    "50 steps cfg s": "projected.clip_s.50 steps, cfg",
    "8 steps s": "projected.clip_s.8 steps, no cfg",
    "4 steps s": "projected.clip_s.4 steps, no cfg",
    "fits": "fits",
    "note": "error",
}

COUNTED = {
    "case": "case",
    "weights GiB": "counted.weights_gib",
    "live GiB": "counted.live_gib",
    "needs resident": "computed.needs_gib.resident",
    "models in turn": "computed.needs_gib.models",
    "layers in turn": "computed.needs_gib.layers",
    "forward TFLOP": "counted.tflop.forward",
    "encode TFLOP": "counted.tflop.vae_encode",
    "decode TFLOP": "counted.tflop.vae_decode",
    "window TFLOP": "counted.tflop.window",
    "frame TFLOP": "counted.tflop.frame",
    "track TFLOP": "counted.tflop.track",
    "step s": "computed.step_s",
    "50 steps cfg s": "computed.clip_s.50 steps, cfg",
    "8 steps s": "computed.clip_s.8 steps, no cfg",
    "4 steps s": "computed.clip_s.4 steps, no cfg",
    "note": "error",
}
ASSUMED_TFLOPS = 250.0
COUNTABLE = {*shapes.WAN, *shapes.GROUNDING_DINO, *shapes.SAM2, *shapes.DEPTH, *shapes.QWEN, "vace_1_3b_reference"}
"""Cases whose counts differ: how weights are kept, tiles and kernels change times, not the arithmetic."""

Case = Callable[..., dict[str, Any]]


def cases() -> dict[str, Case]:
    """Return every measurement by name; each takes (clip, device, tiny=...)."""
    from benchmarks.gpu import kernels, vision, wan

    setting = wan.Setting
    few, library, small = wan.FEW_TILES, wan.LIBRARY_TILES, SMALL_CARD_GIB
    found: dict[str, Case] = {"kernels": kernels.ceilings}
    found |= {name: partial(vision.grounding_dino, name) for name in shapes.GROUNDING_DINO}
    found |= {name: partial(vision.sam2, name) for name in shapes.SAM2}
    found |= {name: partial(vision.depth, name) for name in shapes.DEPTH}
    found |= {name: partial(vision.qwen, name) for name in shapes.QWEN}
    found |= {
        "vae": partial(wan.vae_alone, tiles=None, cap_gib=None),
        "vae_24gb": partial(wan.vae_alone, tiles=None, cap_gib=small),
        "vae_4_tiles": partial(wan.vae_alone, tiles=few, cap_gib=None),
        "vae_30_tiles": partial(wan.vae_alone, tiles=library, cap_gib=None),
    }
    runs = {
        "vace_1_3b": ("vace_1_3b", setting()),
        "vace_1_3b_cudnn": ("vace_1_3b", setting(attention="cudnn")),
        "vace_1_3b_reference": ("vace_1_3b", setting(reference=True, steps=1)),
        "vace_1_3b_24gb": ("vace_1_3b", setting(offload="models", cap_gib=small, tiles=few)),
        "vace_14b": ("vace_14b", setting()),
        "vace_14b_cudnn": ("vace_14b", setting(attention="cudnn")),
        "vace_14b_offload": ("vace_14b", setting(offload="models", tiles=few)),
        "vace_14b_24gb": ("vace_14b", setting(offload="layers", cap_gib=small, tiles=few)),
        "i2v_14b": ("i2v_14b", setting()),
        "i2v_14b_cudnn": ("i2v_14b", setting(attention="cudnn")),
        "i2v_14b_24gb": ("i2v_14b", setting(offload="layers", cap_gib=small, tiles=few)),
    }
    return found | {case: partial(wan.generate, name, setting=chosen) for case, (name, chosen) in runs.items()}


def machine(device: str) -> dict[str, Any]:
    """Return what the numbers depend on: device, libraries, date."""
    import torch

    found: dict[str, Any] = {
        "device": "none: counted" if device == "meta" else "CPU",
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python -m benchmarks.gpu_models " + " ".join(sys.argv[1:]),
    }
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "memory_gib": properties.total_memory / 1024**3,
            "cuda": torch.version.cuda,
        }
    return found


def measure(case: Case, clip: shapes.Clip, device: str, *, tiny: bool) -> dict[str, Any]:
    """Run one case; a failure is a record too, so that it does not lose the others' numbers."""
    from benchmarks.gpu.meter import free_memory

    free_memory()
    start = time.perf_counter()
    try:
        record = case(clip=clip, device=device, tiny=tiny)
    except Exception as error:  # noqa: BLE001 - see above
        traceback.print_exc()
        record = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    peak = record.get("measured", {}).get("peak_reserved_gib")
    if not record.get("error") and device.startswith("cuda"):
        record["fits"] = fits(peak)
    record["took_s"] = time.perf_counter() - start
    free_memory()
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["*"], help="names or patterns of cases, e.g. 'vace_14b*'")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--json", type=Path, help="file to write after every case")
    parser.add_argument("--device", help="cuda, cpu or meta (count, do not run)")
    parser.add_argument("--tflops", type=float, default=ASSUMED_TFLOPS, help="rate that counted work is projected at")
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="start no case after so many seconds")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    args = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        parser.exit(message="nothing is measured: torch is not installed; pip install 'ffpdata[models]'\n")
    device = args.device or ("cpu" if args.tiny else "cuda")
    clip = shapes.TINY_CLIP if args.tiny else shapes.FULL_CLIP
    every = cases()
    if args.list:
        print("\n".join(every))
        return 0
    chosen = [name for pattern in args.only for name in every if fnmatch.fnmatch(name, pattern)]
    if device == "meta":
        chosen = [name for name in chosen if name in COUNTABLE]
    if not chosen:
        parser.error(f"no case matches {args.only}; cases: {', '.join(every)}")
    records: list[dict[str, Any]] = []
    result: dict[str, Any] = {"machine": machine(device), "cases": records}
    if device == "meta":
        result["assumed_tflops"] = args.tflops
    start = time.perf_counter()
    for name in dict.fromkeys(chosen):
        if time.perf_counter() - start > args.budget_s:
            print(f"{name}: not started, out of time")
            continue
        records.append({"case": name, **measure(every[name], clip, device, tiny=args.tiny)})
        if "counted" in records[-1]:
            records[-1]["computed"] = computed(records[-1]["counted"], args.tflops)
        print(json.dumps(rounded(records[-1])), flush=True)
        if args.json:
            args.json.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rounded(result["machine"])))
    print(table(records, COUNTED if device == "meta" else COLUMNS))
    return 1 if any("error" in record for record in records) and args.tiny else 0


if __name__ == "__main__":
    raise SystemExit(main())

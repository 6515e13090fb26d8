"""A small folder in the layout of EditVerseBench, and outputs of methods that go as outputs go."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ffpdata.media.codec import write_video

HEIGHT, WIDTH, FRAMES, FPS = 48, 64, 5, 16.0
TYPES = {
    "0": "add object",
    "1": "remove object",
    "2": "stylization",
    "3": "change color",
    "4": "add object",
    "5": "camera change",
}


def scene(seed: int, *, frames: int = FRAMES, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """A ramp that pans, uint8 (T, H, W, 3)."""
    height, width = size
    ramp = np.linspace(10 * seed, 200, width + 2 * frames)[None, :, None] * np.ones((height, 1, 3))
    return np.stack([ramp[:, 2 * t : 2 * t + width] for t in range(frames)]).astype(np.uint8)


def edited(seed: int, **how: int | tuple[int, int]) -> np.ndarray:
    """The scene with a lighter part."""
    frames = scene(seed, **how)  # type: ignore[arg-type]
    frames[:, 8:24, 8:24] = 240
    return frames


def make_benchmark(folder: Path) -> Path:
    """Write `test.json` and the sources; that of item 4 is missing."""
    (folder / "videos").mkdir(parents=True)
    items = {}
    for name, kind in TYPES.items():
        texts = {"<text>": f"Edit <video1>, {name}.", "target_prompt": f"A scene {name}.", "type": kind}
        items[name] = {**texts, "<video1>": f"videos/{name}.mp4", "direction": "horizontal"}
        if name != "4":
            write_video(folder / "videos" / f"{name}.mp4", scene(int(name)), FPS)
    (folder / "test.json").write_text(json.dumps(items))
    return folder


def make_results(folder: Path, method: str = "ours") -> Path:
    """Write outputs: 0 as it should be, 1 of another size, 2 longer, 3 broken, 4 without its source; none of 5."""
    outputs = {
        "0": edited(0),
        "1": edited(1, size=(96, 128)),
        "2": edited(2, frames=9),
        "4": edited(4),
    }
    for name, frames in outputs.items():
        (folder / method / name).mkdir(parents=True)
        write_video(folder / method / name / "generate.mp4", frames, FPS)
    (folder / method / "3").mkdir()
    (folder / method / "3" / "generate.mp4").write_bytes(b"no clip" * 40)
    return folder / method

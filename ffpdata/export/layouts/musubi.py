"""musubi-tuner (kohya-ss/musubi-tuner): JSON lines of videos with control videos, and the TOML that names them.

Read by `--dataset_config musubi-train.toml`. It looks for files from the folder that it is started in, so start it in
the export's folder. A dataset there has one number of frames and one rate, so pairs of another length or rate are a
dataset of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ffpdata.export.layouts.layout import LayoutPair


class Musubi:
    """Target as `video_path`, source as `control_path`, the instruction as `caption`."""

    name = "musubi"

    def documents(self, split: str, pairs: Sequence[LayoutPair]) -> Mapping[str, str]:
        """Write `musubi-<split>.toml`, and `musubi-<split>-<frames>x<fps>.jsonl` per length and rate."""
        groups: dict[tuple[int, float], list[LayoutPair]] = {}
        for pair in pairs:
            groups.setdefault((pair.frames, pair.fps), []).append(pair)
        width, height = max((pair.width * pair.height, pair.width, pair.height) for pair in pairs)[1:]
        lines = ["[general]", f"resolution = [{width}, {height}]", "enable_bucket = true", "batch_size = 1"]
        files = {}
        for (frames, fps), these in sorted(groups.items()):
            name = f"musubi-{split}-{frames}x{fps:g}"
            files[f"{name}.jsonl"] = "".join(map(_line, these))
            lines += ["", "[[datasets]]", f'video_jsonl_file = "{name}.jsonl"', f'cache_directory = "cache/{name}"']
            lines += [f"target_frames = [{frames}]", 'frame_extraction = "head"', f"source_fps = {float(fps)}"]
        return {f"musubi-{split}.toml": "\n".join(lines) + "\n", **files}


def _line(pair: LayoutPair) -> str:
    entry = {"video_path": pair.target, "caption": pair.instruction, "control_path": pair.source}
    return json.dumps(entry, ensure_ascii=False) + "\n"

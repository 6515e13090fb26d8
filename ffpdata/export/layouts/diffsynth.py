"""DiffSynth-Studio: JSON lines for `UnifiedDataset`, with the keys of its VACE and Wan-Video training.

Read by `--dataset_base_path OUT --dataset_metadata_path OUT/diffsynth-train.jsonl`. `--data_file_keys` lists which of
`video,vace_video,vace_video_mask,vace_reference_image` are opened. A line has no key without a file, because the loader
opens whatever a key holds; lines with a mask stand once more in a file of their own, for trainings that ask every
sample for one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ffpdata.export.layouts.layout import LayoutPair


class DiffSynth:
    """Target as `video`, source as `vace_video`, the edited first frame as `vace_reference_image`."""

    name = "diffsynth"

    def documents(self, split: str, pairs: Sequence[LayoutPair]) -> Mapping[str, str]:
        """Write `diffsynth-<split>.jsonl`, and `diffsynth-<split>-masked.jsonl` where pairs have masks."""
        masked = [pair for pair in pairs if pair.mask]
        files = {f"diffsynth-{split}.jsonl": pairs} | ({f"diffsynth-{split}-masked.jsonl": masked} if masked else {})
        return {name: "".join(map(_line, these)) for name, these in files.items()}


def _line(pair: LayoutPair) -> str:
    entry = {
        "video": pair.target,
        "prompt": pair.instruction,
        "vace_video": pair.source,
        "vace_reference_image": pair.first_frame,
    }
    if pair.mask:
        entry["vace_video_mask"] = pair.mask
    return json.dumps(entry, ensure_ascii=False) + "\n"

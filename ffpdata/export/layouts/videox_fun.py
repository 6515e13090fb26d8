"""VideoX-Fun (aigc-apps/VideoX-Fun): the JSON list of its control training, for Wan Fun Control and VACE.

Read by `--train_data_dir OUT --train_data_meta OUT/videox-fun-train.json`. `control_file_path` is the source clip,
`file_path` the edited one, `text` the instruction. Its loader opens `object_file_path` without the data folder before
it, so no style image is listed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ffpdata.export.layouts.layout import LayoutPair


class VideoXFun:
    """One object per pair, with the size that its bucket sampler sorts by."""

    name = "videox-fun"

    def documents(self, split: str, pairs: Sequence[LayoutPair]) -> Mapping[str, str]:
        """Write `videox-fun-<split>.json`."""
        entries = [
            {
                "file_path": pair.target,
                "control_file_path": pair.source,
                "text": pair.instruction,
                "type": "video",
                "width": pair.width,
                "height": pair.height,
            }
            for pair in pairs
        ]
        return {f"videox-fun-{split}.json": json.dumps(entries, ensure_ascii=False, indent=1) + "\n"}

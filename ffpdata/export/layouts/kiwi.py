"""Kiwi-Edit (showlab/Kiwi-Edit): CSV with the columns of its video stage and of its reference-video stage.

Read by `--dataset_base_path OUT --vid_dataset_metadata_path OUT/kiwi-train.csv`, and
`--vid_ref_dataset_metadata_path OUT/kiwi-train-reference.csv` for stylizations whose style image is exported. The two
are apart because its loader opens every cell of a column that it knows, also an empty one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from ffpdata.export.layouts.layout import LayoutPair


class Kiwi:
    """Columns `prompt,src_video,tgt_video`, and `ref_image` in the file of the pairs with a style image."""

    name = "kiwi"

    def documents(self, split: str, pairs: Sequence[LayoutPair]) -> Mapping[str, str]:
        """Write `kiwi-<split>.csv`, and `kiwi-<split>-reference.csv` where pairs have a style image."""
        files = {f"kiwi-{split}.csv": _table(("prompt", "src_video", "tgt_video"), map(_row, pairs))}
        styled = [[*_row(pair), pair.reference] for pair in pairs if pair.reference]
        if styled:
            files[f"kiwi-{split}-reference.csv"] = _table(("prompt", "src_video", "tgt_video", "ref_image"), styled)
        return files


def _row(pair: LayoutPair) -> list[str | None]:
    return [pair.instruction, pair.source, pair.target]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()

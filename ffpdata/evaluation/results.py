"""The table of an evaluation: a row per method and item, whatever became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import Stage
from ffpdata.training.atomic_files import make_atomically

RESULTS = "results.parquet"
"""Its name in the evaluation's folder."""

TEXTS = (
    *("method", "item", "category", "status", "reason", "instruction", "target_prompt", "source", "target", "judge"),
    *("aligned_by", "source_fault", "error"),
)
COUNTS = ("width", "height", "frames", "source_width", "source_height", "source_frames", "held_frames")
"""What the clips are; pixels and frames."""
NO_METRIC = ("fps", "source_fps")
"""Columns of floats that measure no edit."""

LEARNED = (
    *("clip_consistency", "source_clip_consistency", "dino_consistency", "source_dino_consistency", "frame_text"),
    *("video_text", "pick_score", "judge_score", "judge_follows", "judge_quality", "judge_unedited"),
    *("input_similarity", "first_frame_similarity", "first_frame_similarity_rest", "image_quality"),
)
"""Metrics that need a model, in the order of the tables; all are there, and null where the profile has no model."""


def metrics_by(stages: Iterable[Stage]) -> list[str]:
    """Names of the metrics that the stages of a pipeline write, those that need a model first."""
    written = [name for stage in stages for name, kind in stage.writes.items() if kind is float]
    return [*LEARNED, *(name for name in dict.fromkeys(written) if name not in (*LEARNED, *NO_METRIC))]


def schema_of(metrics: Sequence[str]) -> pa.Schema:
    """Columns of the table: texts, counts and metrics, each of which may be null."""
    fields = [pa.field(name, pa.string(), nullable=name not in ("method", "item", "status")) for name in TEXTS]
    fields += [pa.field(name, pa.int64()) for name in COUNTS]
    return pa.schema([*fields, *(pa.field(name, pa.float64()) for name in metrics)])


def table_of(rows: Iterable[Mapping[str, Any]], metrics: Sequence[str]) -> pa.Table:
    """Make the table of rows by column; what a row lacks is null.

    Args:
        rows: with at least `method`, `item` and `status`.
        metrics: names of the metrics.
    """
    schema = schema_of(metrics)
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def write_results(table: pa.Table, folder: Path) -> Path:
    """Write the table into an evaluation's folder; it appears complete or not at all."""
    path = folder / RESULTS
    make_atomically(path, lambda temp: pq.write_table(table, temp))
    return path


def read_results(folder: Path) -> pa.Table:
    """Read the table of an evaluation.

    Raises:
        FatalError: there is none, or it cannot be read.
    """
    path = folder / RESULTS
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise FatalError(f"{path} is not there: `ffpdata evaluate` writes it at its end") from None
    except (pa.ArrowException, OSError) as err:
        raise FatalError(f"{path} cannot be read ({err}): evaluate again, what is done is kept") from err

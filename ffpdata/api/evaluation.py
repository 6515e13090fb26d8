"""Score outputs of methods of video editing on a benchmark: `ffpdata evaluate`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata import __version__
from ffpdata.api.run import Run, Runner, run
from ffpdata.core.config import load_pipeline
from ffpdata.core.entries import assignment
from ffpdata.core.errors import UsageError
from ffpdata.core.file_names import text_of
from ffpdata.evaluation.benchmarks import read_benchmark
from ffpdata.evaluation.entries import Choice, write_entries
from ffpdata.evaluation.results import LEARNED, metrics_of, table_of, write_results
from ffpdata.inputs.listing import list_inputs
from ffpdata.manifests.views import CURATE
from ffpdata.training.atomic_files import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

PIPELINE, JUDGE = "evaluation", "judge_scores"
ENTRIES, UNPACKED, FACTS = "evaluation.jsonl", "pairs", "evaluation.json"
"""Files in an evaluation's folder: the table that it is run of, the clips of pairs, and how it was made."""


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        run: `status`, `sql` and `retry` work on it.
        choice: what was evaluated, and how it was chosen.
        table: a row per method and item, as in `results.parquet`.
        metrics: names of the table's metrics; those that need a model are null where the profile has none.
    """

    run: Run
    choice: Choice
    table: pa.Table
    metrics: list[str]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return Path(self.run.path)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Per method: `items`, `scored`, `reasons`, and `means` of the metrics, each with its `n`."""
        return {method: self._of(method) for method in self.choice.methods}

    def _of(self, method: str) -> dict[str, Any]:
        rows = [row for row in self.table.to_pylist() if row["method"] == method]
        reasons: dict[str, int] = {}
        for row in rows:
            if row["status"] != "ok":
                reasons[row["reason"] or row["status"]] = reasons.get(row["reason"] or row["status"], 0) + 1
        means = {}
        for name in self.metrics:
            values = [row[name] for row in rows if row["status"] == "ok" and row[name] is not None]
            if values:
                means[name] = {"mean": sum(values) / len(values), "n": len(values)}
        scored = sum(row["status"] == "ok" for row in rows)
        return {"items": len(rows), "scored": scored, "reasons": reasons, "means": means}


def evaluate(
    results: Sequence[str | Path],
    benchmark: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    ids: str | Path | None = None,
    full: bool = False,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    runner: Runner = "inline",
    quiet: bool = True,
) -> Evaluation:
    """Score the outputs of methods; the same call again resumes, and a changed output alone is scored anew.

    Args:
        results: folders of outputs: of one method, of one with a folder per method, or `NAME=FOLDER`.
        benchmark: `editverse`, `unic`, `pairs` (of exports and runs), or a table of items.
        out: local folder for the run and `results.parquet`.
        data: folder of the benchmark, as it was downloaded.
        ids: file with an item's id on each line, in place of the benchmark's default choice.
        full: take all items, also those that the default leaves out.
        profile: whose models score, e.g. `perception`; none leaves the columns empty that need a model.
        overrides: settings of the pipeline `evaluation`.
        runner: as for `run`.
        quiet: show no progress.

    Raises:
        UsageError: the benchmark or the results cannot be read.
        As `run`.
    """
    if "://" in str(out):
        raise UsageError(f"--out {out}: an evaluation lies in a local folder, beside its page")
    folder = Path(out).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file: name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    choice = read_benchmark(
        benchmark,
        [str(one) for one in results],
        Path(data).expanduser() if data else None,
        unpacked=folder / UNPACKED,
        ids=Path(ids).expanduser() if ids else None,
        full=full,
    )
    write_entries(folder / ENTRIES, choice.entries)
    root = [] if any(assignment(text)[0] == ["input", "root"] for text in overrides) else ["input.root=/"]
    settings = [*root, *overrides]
    done = run(PIPELINE, folder / ENTRIES, folder, profile=profile, overrides=settings, runner=runner, quiet=quiet)
    pipeline = load_pipeline(PIPELINE, profile, settings)
    metrics = metrics_of(pipeline.build())
    table = table_of(_rows(done, choice), metrics)
    write_results(table, folder)
    models = {role: spec.label for role, spec in pipeline.models.items()}
    write_atomically(folder / FACTS, _facts(benchmark, choice, data, pipeline.profile, models))
    return Evaluation(done, choice, table, metrics)


def _rows(done: Run, choice: Choice) -> Iterator[dict[str, Any]]:
    """Rows of the table, in the order of the entries: what the manifests have of each."""
    settings = done.pipelines[PIPELINE].input
    listed = {
        (item.values["meta"]["method"], item.values["meta"]["item"]): item
        for item in list_inputs(str(Path(done.path, ENTRIES)), settings)
    }
    found = done.sql("select * from items").to_pylist()
    by_id = {row["item_id"]: row for row in found}
    by_name = {(row["method"], row["item"], row["path"]): row for row in found}
    for entry in choice.entries:
        item = listed[entry.method, entry.item]
        row = by_name.get((entry.method, entry.item, item.values["path"])) or by_id.get(item.item_id) or {}
        # What passes the last stage has no row of it, and what curation thinks of a pair is another question.
        fine = bool(row) and (row["status"] in ("ok", "pending") or row["stage"] == CURATE)
        unjudged = bool(row) and row["status"] == "rejected" and row["stage"] == JUDGE
        given = {"method": entry.method, "item": entry.item, "category": entry.category or None}
        given |= {"instruction": entry.instruction or None, "target_prompt": entry.target_prompt or None}
        given |= {"source": row.get("source_video"), "target": row.get("target_video")}
        if fine:
            given |= {"status": "ok", "reason": None, "error": None}
        elif unjudged:  # the other models' scores are there, and the reason says why the judge's is not
            given |= {"status": "ok"}
        elif not row:
            given |= {"status": "failed", "reason": "no_outcome"}
        yield row | given


def _facts(benchmark: str, choice: Choice, data: str | Path | None, profile: str, models: dict[str, str]) -> bytes:
    facts = {
        "benchmark": benchmark,
        "data": text_of(str(Path(data).expanduser().absolute())) if data else None,
        "methods": choice.methods,
        "choice": choice.rule,
        "items": choice.items,
        "of": choice.of,
        "left_out": dict(choice.left_out),
        "item_ids": list(dict.fromkeys(entry.item for entry in choice.entries)),
        "notes": list(choice.notes),
        "profile": profile or None,
        "models": models,
        "need_models": list(LEARNED),
        "ffpdata": __version__,
    }
    return (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()

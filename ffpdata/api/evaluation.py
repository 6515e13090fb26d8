"""Score outputs of methods of video editing on a benchmark: `ffpdata evaluate`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from ffpdata.evaluation.page import PAGE, write_page
from ffpdata.evaluation.results import metrics_by, table_of, write_results
from ffpdata.evaluation.statistics import Summary, metrics_of, summarise
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
    """

    run: Run
    choice: Choice
    table: pa.Table

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return Path(self.run.path)

    @property
    def page(self) -> Path:
        """The page, which plays the clips beside it."""
        return self.folder / PAGE

    @property
    def measured(self) -> list[str]:
        """Names of the metrics that some row has a number of."""
        return metrics_of(self.table)

    def summaries(self, metrics: Sequence[str] | None = None) -> list[Summary]:
        """Means with intervals, per method and metric; by default of all that was measured."""
        return summarise(self.table, self.measured if metrics is None else metrics)

    def fates(self) -> dict[str, dict[str, Any]]:
        """Per method its number of `items`, how many are `scored`, and `reasons` of the others."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.table.select(["method", "status", "reason"]).to_pylist():
            of_method = found.setdefault(row["method"], {"items": 0, "scored": 0, "reasons": {}})
            of_method["items"] += 1
            if row["status"] == "ok":
                of_method["scored"] += 1
            else:
                reason = row["reason"] or row["status"]
                of_method["reasons"][reason] = of_method["reasons"].get(reason, 0) + 1
        return found


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
        out: local folder for the run, `results.parquet` and the page `index.html`.
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
    table = table_of(_rows(done, choice), metrics_by(pipeline.build()))
    write_results(table, folder)
    models = [
        {"role": role, "model": spec.label, "licence": spec.licence or None, "columns": list(stage.writes)}
        for stage in pipeline.build()
        for role, spec in stage.specs.items()
        if not stage.idle
    ]
    write_atomically(folder / FACTS, _facts(benchmark, choice, data, pipeline.profile, models))
    write_page(table, folder, benchmark=benchmark, title=f"Evaluation on {Path(benchmark).stem}", subset=choice.subset)
    return Evaluation(done, choice, table)


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


def _facts(
    benchmark: str, choice: Choice, data: str | Path | None, profile: str, models: Sequence[Mapping[str, Any]]
) -> bytes:
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
        "models": list(models),
        "ffpdata": __version__,
    }
    return (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()

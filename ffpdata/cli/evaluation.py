"""The command that scores outputs of methods on a benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ffpdata.cli.options import JsonOption, OverridesOption, QuietOption, Runner, RunnerOption, as_asked

if TYPE_CHECKING:
    from ffpdata.api.evaluation import Evaluation

SHOWN = (
    *("clip_consistency", "dino_consistency", "frame_text", "video_text", "pick_score", "judge_score"),
    *("change", "structure", "flicker", "motion"),
)
"""Metrics of the printed table, where they were measured."""


def evaluate(
    results: Annotated[
        list[str] | None,
        typer.Argument(metavar="RESULTS...", help="Folder of a method, folder with one per method, or NAME=FOLDER."),
    ] = None,
    benchmark: Annotated[
        str, typer.Option(metavar="NAME", help="`editverse`, `unic`, `pairs`, or a table of items.")
    ] = "editverse",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the benchmark.")] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for the run; the same one resumes.")] = Path(
        "evaluation"
    ),
    ids: Annotated[Path | None, typer.Option(metavar="FILE", help="Ids of the items that count, one a line.")] = None,
    full: Annotated[bool, typer.Option("--full", help="All items, also those that the default leaves out.")] = False,
    profile: Annotated[
        str | None, typer.Option(help="Whose models score, e.g. perception. Default: no models.")
    ] = None,
    runner: RunnerOption = Runner.INLINE,
    overrides: OverridesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score the outputs of methods on a benchmark. The same command again resumes."""
    from ffpdata.api.evaluation import evaluate as start

    with as_asked():
        done = start(
            results or [],
            benchmark,
            out,
            data=data,
            ids=ids,
            full=full,
            profile=profile,
            overrides=overrides or [],
            runner=runner.value,
            quiet=quiet or as_json,
        )
    if as_json:
        told = {"items": done.choice.items, "of": done.choice.of, "choice": done.choice.rule}
        typer.echo(json.dumps(told | {"methods": done.summary()}, ensure_ascii=False))
        return
    for line in _lines(done):
        typer.echo(line)


def _lines(done: Evaluation) -> list[str]:
    """What a person is told: the choice, and a line per method."""
    lines = [done.choice.told()]
    if left := done.choice.left_out:
        lines.append("Left out: " + ", ".join(f"{count} {name or 'of no type'}" for name, count in left.items()))
    for method, found in done.summary().items():
        means = [f"{name} {found['means'][name]['mean']:.4g}" for name in SHOWN if name in found["means"]]
        lost = [f"{count} {reason}" for reason, count in found["reasons"].items()]
        n = f"{found['scored']} of {found['items']} scored" + (f" ({', '.join(lost)})" if lost else "")
        lines.append(f"{method}: {n}{': ' if means else ''}{', '.join(means)}")
    return [*lines, f"Table: {done.folder / 'results.parquet'}"]

"""The command that scores outputs of methods on a benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ffpdata.cli.options import JsonOption, OverridesOption, QuietOption, Runner, RunnerOption, as_asked

if TYPE_CHECKING:
    from ffpdata.api.evaluation import Evaluation
    from ffpdata.evaluation.against import Agreement

PAPERS = ("clip_consistency", "dino_consistency", "frame_text", "video_text", "pick_score", "judge_score")
"""Metrics of the papers' tables."""
BARE = ("change", "structure", "flicker", "motion", "colour_drift")
"""Those that are shown where none of the papers' was measured."""


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
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="[METHOD=]CSV", help="Numbers per item of another program, to compare with."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the means as a Markdown table.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the means as a LaTeX table.")] = False,
    runner: RunnerOption = Runner.INLINE,
    overrides: OverridesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score the outputs of methods on a benchmark. The same command again resumes."""
    from ffpdata.api.evaluation import evaluate as start
    from ffpdata.core.errors import UsageError

    if as_json + markdown + latex > 1:
        raise UsageError("--json, --markdown and --latex print one thing each: give one of them")
    for text in against or []:
        if not _csv(text)[1].is_file():
            raise UsageError(f"--against {text}: no such file")
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
            quiet=quiet or as_json or markdown or latex,
        )
        agreements = {text: _agreements(done, text) for text in against or []}
    if as_json:
        typer.echo(json.dumps(_facts(done, agreements), ensure_ascii=False))
        return
    if markdown or latex:
        _print_rows(done, benchmark, as_latex=latex)
    else:
        for line in _lines(done):
            typer.echo(line)
    for text, found in agreements.items():
        for one in found:
            typer.echo(f"{text}: {_agreement_line(one)}", err=markdown or latex)


def _csv(text: str) -> tuple[str | None, Path]:
    """Method and file of `--against`."""
    method, sign, rest = text.partition("=")
    return (method, Path(rest)) if sign and not Path(text).is_file() else (None, Path(text))


def _agreements(done: Evaluation, text: str) -> list[Agreement]:
    from ffpdata.evaluation.against import agreement

    method, file = _csv(text)
    return agreement(done.table, file, method=method)


def _agreement_line(one: Agreement) -> str:
    from ffpdata.core.wording import counted
    from ffpdata.evaluation.against import TOLERANCE

    alone = f"only ours: {counted(len(one.only_ours), 'item')}, only theirs: {counted(len(one.only_theirs), 'item')}"
    if one.largest is None:
        return f"{one.metric}: no item in common; {alone}"
    told = "agrees" if one.agrees else f"{one.beyond} differ by more than {TOLERANCE:g}"
    return (
        f"{one.metric}: {told}; n {one.n}, relative difference at most {one.largest:.2g} (item {one.worst}), "
        f"median {one.median:.2g}; {alone}"
    )


def _facts(done: Evaluation, agreements: Mapping[str, Sequence[Agreement]]) -> dict[str, Any]:
    """What `--json` prints."""
    methods: dict[str, dict[str, Any]] = {name: {**fate, "means": {}} for name, fate in done.fates().items()}
    for one in done.summaries():
        if one.mean is not None:
            entries = {"mean": one.mean, "n": one.n, "low": one.low, "high": one.high}
            methods[one.method]["means"][one.metric] = entries
    compared = {text: [asdict(one) | {"agrees": one.agrees} for one in found] for text, found in agreements.items()}
    choice = {"items": done.choice.items, "of": done.choice.of, "choice": done.choice.rule}
    return choice | {"methods": methods} | ({"against": compared} if compared else {})


def _shown(done: Evaluation) -> list[str]:
    """Metrics of a table for people."""
    return [name for name in PAPERS if name in done.measured] or [name for name in BARE if name in done.measured]


def _print_rows(done: Evaluation, benchmark: str, *, as_latex: bool) -> None:
    """Print the table, below ours the printed rows of the benchmark; on the error stream what they differ in."""
    from ffpdata.evaluation.published import differences, published
    from ffpdata.evaluation.rows import latex, markdown

    metrics = _shown(done)
    summaries = done.summaries(metrics)
    printed = published(benchmark) if set(metrics) & set(PAPERS) else ()
    typer.echo((latex if as_latex else markdown)(summaries, printed), nl=False)
    n = max((one.n for one in summaries), default=0)
    judges = {name for name in done.table["judge"].to_pylist() if name}
    told = [
        f"{row.source}: {why}"
        for row in printed
        for why in differences(row, n=n, judges=judges, subset=done.choice.subset)
    ]
    for line in dict.fromkeys(told):
        typer.echo(line, err=True)


def _lines(done: Evaluation) -> list[str]:
    """What a person is told: the choice, and a line per method."""
    lines = [done.choice.told()]
    if left := done.choice.left_out:
        lines.append("Left out: " + ", ".join(f"{count} {name or 'of no type'}" for name, count in left.items()))
    lines += [f"Note: {note}" for note in done.choice.notes]
    summaries = done.summaries(_shown(done))
    for method, found in done.fates().items():
        means = [f"{one.metric} {one.mean:.4g}" for one in summaries if one.method == method and one.mean is not None]
        lost = [f"{count} {reason}" for reason, count in found["reasons"].items()]
        n = f"{found['scored']} of {found['items']} scored" + (f" ({', '.join(lost)})" if lost else "")
        lines.append(f"{method}: {n}{': ' if means else ''}{', '.join(means)}")
    return [*lines, f"Page: {done.page}; table: {done.folder / 'results.parquet'}"]

"""The commands about one run: make it, look into it, take the dataset out of it."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ffpdata.cli.options import (
    EXIT_FAILED_ITEMS,
    EXIT_FATAL,
    JsonOption,
    OverridesOption,
    QuietOption,
    RunArgument,
    Runner,
    RunnerOption,
)

if TYPE_CHECKING:
    from ffpdata.runners.session import Status


def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; made if it is not there.")],
) -> None:
    """Write sample clips and style images with known ground truth."""
    from ffpdata.sample import write_samples

    write_samples(folder)
    typer.echo(f"Sample clips, style images and ground truth are in {folder}. Try:")
    typer.echo(
        f"  ffpdata run pipelines/local_editing.yaml --input {shlex.quote(f'{folder}/clips.csv')} --run runs/first"
    )


def run(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Pipeline file, or a name: local_editing.")],
    source: Annotated[
        str, typer.Option("--input", help="Folder, glob, or table (CSV, JSON lines, Parquet) with `path`.")
    ],
    run_folder: Annotated[str, typer.Option("--run", metavar="RUN", help="Run folder; the same one resumes.")],
    profile: Annotated[
        str | None, typer.Option(help="Which models: a name or a file. Default: the pipeline's.")
    ] = None,
    runner: RunnerOption = Runner.INLINE,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first N entries of the input.")] = None,
    stages: Annotated[str, typer.Option(metavar="A..B", help="Compute only these stages: a..b, a.., ..b or a.")] = "",
    overrides: OverridesOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where an item failed.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Run a pipeline on an input. The same command again resumes: what is done is kept."""
    from ffpdata.api.run import run as start

    done = start(
        pipeline,
        source,
        run_folder,
        profile=profile,
        overrides=overrides or [],
        runner=runner.value,
        limit=limit,
        stages=stages,
        quiet=quiet,
    )
    _finish(done.result or done.status(), strict=strict)
    quoted = shlex.quote(run_folder)
    typer.echo(f"Next: ffpdata report {quoted}   or   ffpdata export {quoted} OUT")


def retry(
    run_folder: RunArgument,
    stage: Annotated[str | None, typer.Option(help="Only outcomes of this stage.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only outcomes with this reason; rejected ones too.")] = None,
    lost: Annotated[bool, typer.Option("--lost", help="Also outcomes whose files are gone from the folder.")] = False,
    runner: RunnerOption = Runner.INLINE,
    quiet: QuietOption = False,
) -> None:
    """Try failed items again as the run was set up; with --stage or --reason rejected ones too."""
    from ffpdata.api.run import open_run

    found = open_run(run_folder)
    _finish(found.retry(stage=stage, reason=reason, lost=lost, runner=runner.value, quiet=quiet), strict=False)


def status(run_folder: RunArgument, as_json: JsonOption = False) -> None:
    """Show where a run stands, also while it goes on."""
    from ffpdata.api.run import open_run

    found = open_run(run_folder).status()
    if as_json:
        typer.echo(json.dumps(vars(found)))
    else:
        typer.echo(str(found))


def sql(
    run_folder: RunArgument,
    query: Annotated[str, typer.Argument(metavar="SQL", help='E.g. "select task, count(*) from items group by 1".')],
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Let SQL use other files and extensions.")] = False,
) -> None:
    """Query the manifests: a view per stage, `<stage>_history` with all rows, and the wide view `items`."""
    from ffpdata.api.run import open_run
    from ffpdata.cli.query_result import csv_text, json_text, table_text

    found = open_run(run_folder).sql(query, unsafe=unsafe)
    if as_json:
        typer.echo(json_text(found))
    elif as_csv:
        typer.echo(csv_text(found), nl=False)
    else:
        typer.echo(table_text(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))


def export(
    run_folder: RunArgument,
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder for shards, index, card.")],
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, metavar="MB", help="Largest size of a shard.")
    ] = 1000,
) -> None:
    """Write the accepted pairs as WebDataset shards with an index and a dataset card."""
    from ffpdata.api.run import open_run

    open_run(run_folder).export(out, shard_size_mb=shard_size)
    typer.echo(f"Exported to {out}. Check it with: ffpdata verify {shlex.quote(out)}")


def verify(out: Annotated[str, typer.Argument(metavar="OUT", help="Exported dataset.")]) -> None:
    """Read an exported dataset again, every byte and every frame, and list what is wrong."""
    from ffpdata.export.verify import verify as check

    report = check(out)
    for problem in report.problems:
        typer.echo(problem, err=True)
    if report.problems:
        typer.echo(f"{out}: {len(report.problems)} problems", err=True)
        raise typer.Exit(EXIT_FATAL)
    typer.echo(f"{out}: {report.summary}")


def report(run_folder: RunArgument) -> None:
    """Write RUN/report/index.html: the funnel, the distributions and a gallery of the pairs."""
    from ffpdata.api.run import open_run

    typer.echo(f"Report: {open_run(run_folder).report()}")


def _finish(result: Status, *, strict: bool) -> None:
    typer.echo(str(result))
    if strict and result.failed:
        typer.echo(f"{result.failed} items failed (--strict)", err=True)
        raise typer.Exit(EXIT_FAILED_ITEMS)

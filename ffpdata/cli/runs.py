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
    ExitCode,
    JsonOption,
    OverridesOption,
    QuietOption,
    RunArgument,
    Runner,
    RunnerOption,
    as_asked,
)
from ffpdata.core.wording import counted

if TYPE_CHECKING:
    from ffpdata.manifests.run_folder import RunFolder
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

    with as_asked():
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
    result = done.result or done.status()
    _finish(done.folder, result, strict=strict)
    quoted = shlex.quote(run_folder)
    export_it = f"   or   ffpdata export {quoted} OUT" if result.pairs else ""
    typer.echo(f"Next: ffpdata report {quoted}{export_it}")


def retry(
    run_folder: RunArgument,
    stage: Annotated[str | None, typer.Option(help="Only outcomes of this stage.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only outcomes with this reason; rejected ones too.")] = None,
    lost: Annotated[bool, typer.Option("--lost", help="Also outcomes whose files are gone or damaged.")] = False,
    runner: RunnerOption = Runner.INLINE,
    quiet: QuietOption = False,
) -> None:
    """Try failed items again as the run was set up; with --stage or --reason rejected ones too."""
    from ffpdata.api.run import open_run

    found = open_run(run_folder)
    result = found.retry(stage=stage, reason=reason, lost=lost, runner=runner.value, quiet=quiet)
    _finish(found.folder, result, strict=False)
    if not result.computed:
        gone = " and no outcome has lost a file" if lost else ""
        typer.echo(
            f"Nothing was tried again: no item failed{gone}. Rejected ones take --reason REASON or --stage STAGE."
        )


def status(run_folder: RunArgument, as_json: JsonOption = False) -> None:
    """Show where a run stands, also while it goes on."""
    from ffpdata.api.run import open_run

    found = open_run(run_folder).status()
    if as_json:
        typer.echo(json.dumps({name: value for name, value in vars(found).items() if name != "computed"}))
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
    layouts: Annotated[
        list[str] | None,
        typer.Option(
            "--layout",
            metavar="NAME",
            help="webdataset, or diffsynth, kiwi, musubi, videox-fun: these may be repeated.",
        ),
    ] = None,
    overrides: OverridesOption = None,
    sample_of: Annotated[
        int,
        typer.Option("--sample", min=0, metavar="N", help="Instead: N random pairs, rejected ones too, to look at."),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
) -> None:
    """Write the accepted pairs as WebDataset shards with an index and a card, or as files for another trainer."""
    from ffpdata.api.run import open_run

    run = open_run(run_folder)
    if sample_of:
        with as_asked():
            pack = run.sample_pack(out, sample_of, seed=seed)
        typer.echo(f"{counted(pack.pairs, 'pair')} of {pack.total}, {pack.accepted} of them accepted: {pack.page}")
        return
    if layouts and layouts != ["webdataset"]:
        with as_asked():
            run.export_files(out, layouts, overrides=overrides or [])
        typer.echo(f"Exported to {out}. Its metadata files say where everything lies.")
        return
    run.export(out, shard_size_mb=shard_size, overrides=overrides or [])
    typer.echo(f"Exported to {out}. Check it with: ffpdata verify {shlex.quote(out)}")


def verify(
    folder: Annotated[str, typer.Argument(metavar="OUT|RUN", help="Exported dataset, or a run folder.")],
) -> None:
    """Read an exported dataset or a run again, every byte (and frame of an export), and list what is wrong."""
    from ffpdata.export.verify import verify as check
    from ffpdata.manifests.run_check import check_run
    from ffpdata.manifests.run_folder import RUN_FILE, RunFolder

    run = RunFolder(folder)
    of_run = check_run(run) if run.store.exists(RUN_FILE) else None
    report = of_run or check(folder)
    for problem in report.problems:
        typer.echo(problem, err=True)
    if report.problems:
        typer.echo(f"{folder}: {counted(len(report.problems), 'problem')}", err=True)
        if of_run is None:
            typer.echo(f"Next: ffpdata export RUN {shlex.quote(folder)} writes what is damaged anew.", err=True)
        elif of_run.lost:
            typer.echo(f"Next: ffpdata retry {shlex.quote(folder)} --lost makes these files anew.", err=True)
        raise typer.Exit(ExitCode.FATAL)
    typer.echo(f"{folder}: {report.summary}")


def takedown(
    folder: Annotated[str, typer.Argument(metavar="RUN|DATASET", help="Run folder, or exported dataset.")],
    sources: Annotated[
        list[str] | None, typer.Option("--source", metavar="ID", help="Source id, item or path; may be repeated.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="One a line, or another takedown's log.")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="For the log.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take sources out of a run or a dataset: what was made of them is deleted and never made again."""
    from ffpdata.core.errors import UsageError
    from ffpdata.manifests.run_folder import RUN_FILE, RunFolder
    from ffpdata.manifests.tombstones import Tombstones
    from ffpdata.takedown import of_export, of_run
    from ffpdata.takedown.request import listed

    run = RunFolder(folder)
    asked = [*(sources or []), *(listed(from_file) if from_file else [])]
    if not asked and not Tombstones.load(run.store).pending:
        raise UsageError("name what is to be taken down: --source ID, or --from FILE")
    of_a_run = run.store.exists(RUN_FILE)
    done = of_run.take_down(run, asked, reason) if of_a_run else of_export.take_down(folder, asked, reason)
    if as_json:
        typer.echo(json.dumps(vars(done)))
        return
    for line in done.lines("file" if of_a_run else "shard"):
        typer.echo(line)
    if of_a_run:
        typer.echo(f"Next: ffpdata export {shlex.quote(folder)} OUT brings an export up to date.")


def report(run_folder: RunArgument) -> None:
    """Write RUN/report/index.html: the funnel, the distributions and a gallery of the pairs."""
    from ffpdata.api.run import open_run

    typer.echo(f"Report: {open_run(run_folder).report()}")


def _finish(run: RunFolder, result: Status, *, strict: bool) -> None:
    from ffpdata.runners.no_pairs import why_none

    typer.echo(str(result))
    for line in why_none(run, result):
        typer.echo(line)
    if strict and result.failed:
        typer.echo(f"{counted(result.failed, 'item')} failed (--strict)", err=True)
        raise typer.Exit(ExitCode.FAILED_ITEMS)

"""The commands for what reviewers decide and what follows from it: new models, new thresholds."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

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


def review(
    run_folder: RunArgument,
    export_to: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write the verdicts: .parquet, or Label Studio's .json."),
    ] = None,
    import_from: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Take verdicts from such a file.")
    ] = None,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of pairs that two people judge, to know how they agree.")
    ] = 0.1,
    lease: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="So long a pair is kept for whom it was shown to.")
    ] = 600,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")] = 8700,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name under which the server is reached.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file with the certificate, for https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with its key.")] = None,
) -> None:
    """Judge pairs in the browser, several people at once; or exchange verdicts with other tools."""
    from ffpdata.core.errors import UsageError
    from ffpdata.manifests.run_folder import RunFolder

    folder = RunFolder.existing(run_folder)
    if export_to and import_from:
        raise UsageError("--export and --import: one at a time")
    if export_to:
        from ffpdata.review.exchange import export_verdicts

        typer.echo(f"{counted(export_verdicts(folder, export_to), 'verdict')} written to {export_to}")
        return
    if import_from:
        from ffpdata.review.exchange import import_verdicts

        taken = import_verdicts(folder, import_from)
        for problem in taken.problems:
            typer.echo(problem, err=True)
        typer.echo(f"{counted(taken.new, 'verdict')} taken, {taken.known} known already, {len(taken.problems)} refused")
        raise typer.Exit(ExitCode.FATAL if taken.problems else ExitCode.OK)
    from ffpdata.review.server import Address, serve

    address = Address(host, port, tuple(allow_host or ()), tls_cert, tls_key)
    serve(folder, address, overlap, lease, typer.echo)


def refine(
    run_folder: RunArgument,
    settings: Annotated[
        str, typer.Option(metavar="FILE", help="Settings of the loop: a name or a file.")
    ] = "refinement",
    runner: RunnerOption = Runner.INLINE,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the training keeps its files; needed where RUN is remote.")
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Give the open round up, or go back behind the last promoted one.")
    ] = False,
    overrides: OverridesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune the remover on accepted removals, make all anew, and keep the round only if it is better.

    Goes on from wherever the loop stands to the next point where reviewers are needed.
    """
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.refine.rounds import LoopOptions, roll_back
    from ffpdata.refine.rounds import refine as go_on
    from ffpdata.refine.settings import load

    folder = RunFolder.existing(run_folder)
    with as_asked():
        wanted = load(settings, overrides or [])

    def say(text: str) -> None:
        if not quiet:
            typer.echo(text, err=as_json)

    means = LoopOptions(runner, quiet or as_json, work, say)
    stand = roll_back(folder, means) if rollback else go_on(folder, wanted, means)
    if as_json:
        typer.echo(json.dumps(stand.to_dict()))
        return
    for line in stand.lines:
        typer.echo(line)
    if stand.report:
        typer.echo(f"Report: {folder.store.url(stand.report)}")


def calibrate(
    run_folder: RunArgument,
    precision: Annotated[float, typer.Option(min=0.5, max=0.999, help="Wanted share of good pairs.")] = 0.95,
    reviewer_error: Annotated[
        float | None, typer.Option(min=0, max=0.49, help="How often a reviewer errs; else read from the overlap.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the thresholds as a profile, to be laid over one.")] = None,
    diagram: Annotated[Path | None, typer.Option(help="Write the score's reliability diagram, an SVG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the score to the verdicts, and find the thresholds at which reviewers accept a wanted share of pairs."""
    from dataclasses import asdict

    from ffpdata.curate.calibrate import calibrate_run, overlay
    from ffpdata.manifests.run_folder import RunFolder

    found = calibrate_run(RunFolder.existing(run_folder), precision, error=reviewer_error)
    if out and found.settings:
        out.write_text(overlay(found, precision), encoding="utf-8")
    if diagram and found.score:
        from ffpdata.curate.reliability_plot import reliability_svg

        curves = {task: fit.reliability for task, fit in found.score.fits.items()}
        diagram.write_text(reliability_svg(curves, found.score.model.about), encoding="utf-8")
    if as_json:
        cuts = [{"score": name, "task": task} | asdict(cut) for (name, task), cut in found.cuts.items()]
        typer.echo(json.dumps({"cuts": cuts, "reviewer_error": found.error, "settings": found.settings}))
        return
    for line in found.lines():
        typer.echo(line)
    if out and found.settings:
        typer.echo(f"Written: {out}. Lay it over a profile: --profile {shlex.quote(f'cpu,{out}')}")

"""The `ffpdata` command. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ffpdata import __version__

if TYPE_CHECKING:
    from ffpdata.core.config import Pipeline
    from ffpdata.runners.session import Status

EXIT_FATAL, EXIT_USAGE, EXIT_FAILED_ITEMS, EXIT_INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    help="Build paired video-editing datasets: (source, edited, instruction) pairs from clips and images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Runner(StrEnum):
    """How a run is executed."""

    INLINE = "inline"
    RAY = "ray"


RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run folder.")]
RunnerOption = Annotated[
    Runner, typer.Option(help="`inline`: in this process. `ray`: on all cores, or on the cluster of RAY_ADDRESS.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ffpdata {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; made if it is not there.")],
) -> None:
    """Write sample clips and style images with known ground truth."""
    from ffpdata.sample import write_samples

    write_samples(folder)
    typer.echo(f"Sample clips, style images and ground truth are in {folder}. Try:")
    typer.echo(f"  ffpdata run pipelines/local_editing.yaml --input {folder}/clips.csv --run runs/first")


@app.command()
def run(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Pipeline file, or a name: local_editing.")],
    source: Annotated[str, typer.Option("--input", help="Folder, glob, or CSV/Parquet table with a `path` column.")],
    run_folder: Annotated[str, typer.Option("--run", metavar="RUN", help="Run folder; the same one resumes.")],
    profile: Annotated[
        str | None, typer.Option(help="Which models: a name or a file. Default: the pipeline's.")
    ] = None,
    runner: RunnerOption = Runner.INLINE,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first N entries of the input.")] = None,
    stages: Annotated[str, typer.Option(metavar="A..B", help="Compute only these stages: a..b, a.., ..b or a.")] = "",
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one setting.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where an item failed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")] = False,
) -> None:
    """Run a pipeline on an input. The same command again resumes: what is done is kept."""
    from ffpdata.core.config import load_pipeline
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.runners.session import StartOptions, start

    resolved = load_pipeline(pipeline, profile, overrides or [])
    _warn_of_refined(run_folder, resolved)
    work = StartOptions(runner=runner, limit=limit, stages=stages, quiet=quiet)
    _finish(start(RunFolder(run_folder), resolved, source, work), strict=strict)
    typer.echo(f"Next: ffpdata report {run_folder}   or   ffpdata export {run_folder} OUT")


@app.command()
def retry(
    run_folder: RunArgument,
    stage: Annotated[str | None, typer.Option(help="Only outcomes of this stage.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only outcomes with this reason; rejected ones too.")] = None,
    lost: Annotated[bool, typer.Option("--lost", help="Also outcomes whose files are gone from the folder.")] = False,
    runner: RunnerOption = Runner.INLINE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")] = False,
) -> None:
    """Try failed items again as the run was set up; with --stage or --reason rejected ones too."""
    from ffpdata.core.config import Pipeline
    from ffpdata.core.errors import UsageError, nearest
    from ffpdata.core.stage import Stage
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.manifests.views import CURATE
    from ffpdata.runners.execute import Outcome, lost_files
    from ffpdata.runners.session import StartOptions, start, status

    folder = RunFolder.existing(run_folder)
    before = status(folder)
    stages = {name: counts for name, counts in before.stages.items() if name != CURATE}
    known = {r for counts in stages.values() for r in counts["reasons"]}
    decided = set(before.stages[CURATE]["reasons"]) - known
    if stage == CURATE or reason in decided:
        option = f"--reason {reason!r}" if reason in decided else f"--stage {stage!r}"
        raise UsageError(f"{option}: curation decides anew at every start; change its settings and run again")
    if stage is not None and stage not in stages:
        raise UsageError(f"--stage {stage!r}: the run has no such stage{nearest(stage, stages)}")
    if reason is not None and reason not in known:
        raise UsageError(f"--reason {reason!r}: no item has it{nearest(reason, known)}")

    def redo(tried: Stage, outcome: Outcome) -> bool:
        if stage not in (None, tried.name):
            return False
        if lost and lost_files(tried, outcome, folder.store):
            return True
        # Failed outcomes are never taken as done; a rejected one is where it was asked for.
        return (stage, reason) != (None, None) and outcome.status == "rejected" and reason in (None, outcome.reason)

    asked = redo if lost or stage or reason else None
    result = before
    for begun in folder.latest().values():
        resolved = Pipeline.model_validate(begun["pipeline"])
        only = begun.get("stages", "")
        work = StartOptions(runner=runner, limit=begun["limit"], stages=only, redo=asked, quiet=quiet)
        result = start(folder, resolved, begun["input"], work)
    _finish(result, strict=False)


@app.command()
def status(run_folder: RunArgument, as_json: JsonOption = False) -> None:
    """Show where a run stands, also while it goes on."""
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.runners.session import status as read

    found = read(RunFolder.existing(run_folder))
    if as_json:
        typer.echo(json.dumps(vars(found)))
    else:
        _print_status(found)


@app.command()
def sql(
    run_folder: RunArgument,
    query: Annotated[str, typer.Argument(metavar="SQL", help='E.g. "select task, count(*) from items group by 1".')],
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Query the manifests: a view per stage, `<stage>_history` with all rows, and the wide view `items`."""
    import duckdb

    from ffpdata.core.errors import UsageError
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.manifests.views import about_manifests, records

    with RunFolder.existing(run_folder).reading() as connection:
        try:
            rows = records(connection, query)
        except duckdb.Error as err:
            if about_manifests(err):
                raise
            raise UsageError(f"SQL: {err}") from err
    if as_json:
        typer.echo(json.dumps(rows, default=str))
    elif as_csv:
        import csv

        writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print_rows(rows)


@app.command()
def export(
    run_folder: RunArgument,
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder for shards, index, card.")],
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, metavar="MB", help="Largest size of a shard.")
    ] = 1000,
) -> None:
    """Write the accepted pairs as WebDataset shards with an index and a dataset card."""
    from ffpdata.curate import curate
    from ffpdata.export.shards import export as write
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.storage.lock import run_lock

    folder = RunFolder.existing(run_folder)
    with run_lock(folder.store) as lock:
        curate(folder, guard=lock.check)
    write(folder, out, shard_size_mb=shard_size)
    typer.echo(f"Exported to {out}. Check it with: ffpdata verify {out}")


@app.command()
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


@app.command()
def report(run_folder: RunArgument) -> None:
    """Write RUN/report/index.html: the funnel, the distributions and a gallery of the pairs."""
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.report.page import write_report

    typer.echo(f"Report: {write_report(RunFolder.existing(run_folder))}")


@app.command()
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

        typer.echo(f"{export_verdicts(folder, export_to)} verdicts written to {export_to}")
        return
    if import_from:
        from ffpdata.review.exchange import import_verdicts

        taken = import_verdicts(folder, import_from)
        for problem in taken.problems:
            typer.echo(problem, err=True)
        typer.echo(f"{taken.new} verdicts taken, {taken.known} known already, {len(taken.problems)} refused")
        raise typer.Exit(EXIT_FATAL if taken.problems else 0)
    from ffpdata.review.server import Address, serve

    address = Address(host, port, tuple(allow_host or ()), tls_cert, tls_key)
    serve(folder, address, overlap, lease, typer.echo)


@app.command()
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
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one setting.")] = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")] = False,
) -> None:
    """Fine-tune the remover on accepted removals, make all anew, and keep the round only if it is better.

    Goes on from wherever the loop stands to the next point where reviewers are needed.
    """
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.refine.rounds import LoopOptions, roll_back
    from ffpdata.refine.rounds import refine as go_on
    from ffpdata.refine.settings import load

    folder, wanted = RunFolder.existing(run_folder), load(settings, overrides or [])

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


@app.command()
def calibrate(
    run_folder: RunArgument,
    precision: Annotated[float, typer.Option(min=0.5, max=0.999, help="Wanted share of good pairs.")] = 0.95,
    reviewer_error: Annotated[
        float | None, typer.Option(min=0, max=0.49, help="How often a reviewer errs; else read from the overlap.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the thresholds as a profile, to be laid over one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the thresholds of scores at which reviewers accept a wanted share of pairs."""
    from dataclasses import asdict

    from ffpdata.curate.calibrate import calibrate_run, overlay
    from ffpdata.manifests.run_folder import RunFolder

    found = calibrate_run(RunFolder.existing(run_folder), precision, error=reviewer_error)
    if out and found.settings:
        out.write_text(overlay(found, precision), encoding="utf-8")
    if as_json:
        cuts = [{"score": name, "task": task} | asdict(cut) for (name, task), cut in found.cuts.items()]
        typer.echo(json.dumps({"cuts": cuts, "reviewer_error": found.error, "settings": found.settings}))
        return
    for line in found.lines():
        typer.echo(line)
    if out and found.settings:
        typer.echo(f"Written: {out}. Lay it over a profile: --profile cpu,{out}")


@app.command()
def doctor(
    profile: Annotated[str, typer.Option(help="Which models: a name or a file.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Check this machine and a profile's models, and show their licences."""
    from ffpdata.doctor import examine

    findings = examine(profile)
    if as_json:
        typer.echo(json.dumps([vars(f) for f in findings]))
    else:
        for finding in findings:
            mark = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}[finding.level]
            typer.echo(f"{mark}  {finding.subject:<28} {finding.detail}")
    if any(f.level == "error" for f in findings):
        raise typer.Exit(EXIT_FATAL)


@app.command("serve-vlm")
def serve_vlm(
    model: Annotated[str, typer.Option(help="Checkpoint: a name at the hub, or a folder.")] = "",
    profile: Annotated[str, typer.Option(help="Take model and revision from this profile's vision_language.")] = "",
    revision: Annotated[str, typer.Option(help="Of the checkpoint.")] = "",
    name: Annotated[str, typer.Option("--name", help="What questions call the model; by default its checkpoint.")] = "",
    servers: Annotated[int, typer.Option(min=1, help="Copies of the model, each a server.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs per server; the model is split over them. 0: CPU.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen at, without --ray.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the first server; the others follow.")] = 8000,
    ray: Annotated[bool, typer.Option("--ray", help="As actors on the cluster of RAY_ADDRESS.")] = False,
    vllm: Annotated[str, typer.Option(help="vLLM's program, in its own environment.")] = "vllm",
    max_model_len: Annotated[int, typer.Option(min=1024, help="Most tokens of a question with its answer.")] = 32768,
    wait: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Until all must be ready.")] = 1800,
    logs: Annotated[Path, typer.Option(help="Folder for the servers' logs.")] = Path("serve-vlm-logs"),
    api_key_env: Annotated[str, typer.Option(help="Environment variable with a key to ask clients for.")] = "",
    flags: Annotated[list[str] | None, typer.Argument(metavar="[-- VLLM_FLAGS]", help="More flags for vLLM.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Start vLLM servers for the vision-language model, print their endpoints, and end them with Ctrl-C."""
    from ffpdata.serve.fleet import serve
    from ffpdata.serve.vllm_flags import plan_for

    plan = plan_for(
        model,
        profile,
        revision=revision,
        served_model=name,
        servers=servers,
        gpus=gpus,
        host=host,
        port=port,
        vllm=vllm,
        max_model_len=max_model_len,
        flags=tuple(flags or ()),
        api_key_env=api_key_env,
    )

    def ready(endpoints: list[str]) -> None:
        if as_json:
            typer.echo(json.dumps({"model": plan.served_model, "endpoints": endpoints}))
            return
        typer.echo("All ready. Ctrl-C ends them. In a profile, under models.vision_language.runtime, or with a run:")
        typer.echo(f"  --set 'models.vision_language.runtime.endpoint=[{', '.join(endpoints)}]'")

    serve(plan, ray=ray, wait=wait, logs=logs, say=lambda text: typer.echo(text, err=as_json), ready=ready)


def _warn_of_refined(run_folder: str, pipeline: Pipeline) -> None:
    """Say where a run that was refined is about to make its removals by another model."""
    from ffpdata.refine import PROMOTED
    from ffpdata.storage.store import Store

    if not Store(run_folder).exists(PROMOTED):
        return
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.refine.round import ROLE
    from ffpdata.refine.rounds import promoted

    refined, given = promoted(RunFolder(run_folder)), pipeline.models.get(ROLE)
    if refined and given and given.identity() != refined.identity():
        typer.echo(
            f"This run was refined, and this start makes all removals by {given.label} again. To keep those of the "
            f"refinement: --profile {pipeline.profile},{run_folder}/{PROMOTED}",
            err=True,
        )


def _finish(result: Status, *, strict: bool) -> None:
    _print_status(result)
    if strict and result.failed:
        typer.echo(f"{result.failed} items failed (--strict)", err=True)
        raise typer.Exit(EXIT_FAILED_ITEMS)


def _print_status(found: Status) -> None:
    live = any("per_minute" in counts for counts in found.stages.values())
    rows = []
    for name, counts in found.stages.items():
        row = {"stage": name, **{kind: counts[kind] or "" for kind in ("ok", "rejected", "failed", "running")}}
        if live:
            eta = counts.get("eta_seconds")
            row |= {"waiting": counts.get("waiting") or "", "per min": counts.get("per_minute") or ""}
            row |= {"left": f"{eta:.0f} s" if eta else ""}
        row["slowest s"] = max(counts["slowest"].values(), default="")
        rows.append(row | {"reasons": ", ".join(f"{reason} {n}" for reason, n in counts["reasons"].items())})
    _print_rows(rows)
    for pool in found.pools:
        starting = f", {pool['starting']} starting" if pool["starting"] else ""
        typer.echo(f"{pool['workers']} workers{starting}, {pool['busy']:.0%} busy: {', '.join(pool['stages'])}")
    typer.echo(f"{found.pairs} pairs")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    """Print aligned columns; nothing is cut, so that the output can be read by a program too."""
    if not rows:
        typer.echo("no rows")
        return
    names = list(rows[0])
    texts = [[("" if row[n] is None else str(row[n])).replace("\n", " ") for n in names] for row in rows]
    widths = [max(len(name), *(len(t[i]) for t in texts)) for i, name in enumerate(names)]
    numeric = [all(isinstance(row[n], (int, float)) or row[n] in (None, "") for row in rows) for n in names]

    def line(cells: list[str]) -> str:
        padded = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, numeric, strict=True)]
        return "  ".join(padded).rstrip()

    typer.echo("\n".join([line(names), *(line(t) for t in texts)]))


def main() -> None:
    """Entry point: one clear message per error, and the exit codes that scripts rely on."""
    from ffpdata.core.errors import FfpdataError, UsageError

    try:
        app()
    except UsageError as err:
        typer.echo(f"ffpdata: {err}", err=True)
        sys.exit(EXIT_USAGE)
    except FfpdataError as err:
        typer.echo(f"ffpdata: {err}", err=True)
        sys.exit(EXIT_FATAL)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. Finished items are kept: the same command goes on from here.", err=True)
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()

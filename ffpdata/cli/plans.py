"""The command that says what a dataset will cost."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ffpdata.cli.options import JsonOption, OverridesOption, as_asked


def plan(
    pipelines: Annotated[list[str], typer.Argument(metavar="PIPELINE...", help="Pipeline files, or names.")],
    clips: Annotated[float | None, typer.Option(metavar="N", help="Inputs of each pipeline.")] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(metavar="N|TRACK=N", help="Accepted pairs that are wanted, in place of --clips."),
    ] = None,
    gpus: Annotated[int, typer.Option(metavar="K", help="GPUs of the cluster, those of model servers included.")] = 0,
    cpus: Annotated[float | None, typer.Option(help="Cores of the cluster. [14 a GPU, or this machine's]")] = None,
    memory_gb: Annotated[float | None, typer.Option(help="Main memory of the cluster.")] = None,
    node_gpus: Annotated[int | None, typer.Option(help="GPUs of one machine. [8]")] = None,
    disk_gb: Annotated[float | None, typer.Option(help="Room for the run folder and the export.")] = None,
    profile: Annotated[str | None, typer.Option(help="Which models: a name or a file.")] = None,
    preset: Annotated[str, typer.Option(help="paper, economy, or a file: profile, pairs, assumptions.")] = "",
    from_run: Annotated[
        str | None, typer.Option("--from", metavar="RUN", help="Take what this run measured; alone: plan its rest.")
    ] = None,
    price: Annotated[float | None, typer.Option(metavar="USD", help="Of an hour of a GPU.")] = None,
    overrides: OverridesOption = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="a.b=c", help="A second plan with this setting, too, beside the first."),
    ] = None,
    against_preset: Annotated[str, typer.Option(help="A second plan by this preset, beside the first.")] = "",
    assumptions: Annotated[bool, typer.Option("--assumptions", help="List what the plan assumes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what pairs will cost: GPU-hours, wall time, storage, questions and money, with intervals."""
    from dataclasses import replace

    from ffpdata.planning.estimate import Request, given_pairs, make_plan
    from ffpdata.planning.shown import as_dict, as_text, assumption_lines, side_by_side

    with as_asked():
        asked = Request(
            pipelines=pipelines,
            clips=clips,
            pairs=given_pairs(pairs or []),
            gpus=gpus,
            cpus=cpus,
            memory_gb=memory_gb,
            node_gpus=node_gpus,
            disk_gb=disk_gb,
            profile=profile,
            preset=preset,
            overrides=overrides or [],
            run=from_run,
            price=price,
        )
        made, other = make_plan(asked), None
        if against or against_preset:
            changed = [*asked.overrides, *(against or [])]
            other = make_plan(replace(asked, overrides=changed, preset=against_preset or preset))
    if as_json:
        answer = as_dict(made)
        if other:
            answer["against"] = as_dict(other)
        typer.echo(json.dumps(answer))
        return
    typer.echo(side_by_side(made, other) if other else as_text(made))
    if assumptions:
        typer.echo("\n" + "\n".join(assumption_lines(other or made)))

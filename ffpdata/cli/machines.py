"""The commands about machines: what this one can do, and servers for the vision-language model."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ffpdata.cli.options import ExitCode, JsonOption, as_asked


def doctor(
    profile: Annotated[str, typer.Option(help="Which models: a name or a file. [what a run takes]")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check this machine and a profile's models, and show their licences."""
    from ffpdata.doctor import examine, first_step

    with as_asked():
        findings = examine(profile)
    if as_json:
        typer.echo(json.dumps([vars(f) for f in findings]))
    else:
        for finding in findings:
            mark = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}[finding.level]
            typer.echo(f"{mark}  {finding.subject:<28} {finding.detail}")
        typer.echo(first_step(findings))
    if any(f.level == "error" for f in findings):
        raise typer.Exit(ExitCode.FATAL)


def serve_vlm(
    model: Annotated[str, typer.Option(help="Checkpoint: a name at the hub, or a folder.")] = "",
    profile: Annotated[str, typer.Option(help="Take model and revision from this profile's vision_language.")] = "",
    revision: Annotated[str, typer.Option(help="Of the checkpoint.")] = "",
    name: Annotated[str, typer.Option("--name", help="What questions call the model; by default its checkpoint.")] = "",
    servers: Annotated[int, typer.Option(min=1, help="Copies of the model, each a server.")] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs per server; the model is split over them. 0: CPU. [profile's, or 1]")
    ] = None,
    card_gib: Annotated[
        float | None, typer.Option(min=1, help="Memory of a GPU, GiB, for the sum of its memory. [profile's]")
    ] = None,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Start it even if that sum exceeds the GPU.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen at, without --ray.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the first server; the others follow.")] = 8000,
    ray: Annotated[bool, typer.Option("--ray", help="As actors on the cluster of RAY_ADDRESS.")] = False,
    vllm: Annotated[str, typer.Option(help="vLLM's program, in its own environment.")] = "vllm",
    max_model_len: Annotated[
        int | None,
        typer.Option(min=1024, help="Most tokens of a question with its answer. [what the profile asks, or 32768]"),
    ] = None,
    wait: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Until all must be ready.")] = 1800,
    logs: Annotated[Path, typer.Option(help="Folder for the servers' logs.")] = Path("serve-vlm-logs"),
    api_key_env: Annotated[str, typer.Option(help="Environment variable with a key to ask clients for.")] = "",
    flags: Annotated[list[str] | None, typer.Argument(metavar="[-- VLLM_FLAGS]", help="More flags for vLLM.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Start vLLM servers for the vision-language model, print their endpoints, and end them with Ctrl-C."""
    from ffpdata.serve.fleet import serve
    from ffpdata.serve.vllm_flags import plan_for

    with as_asked():
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
            card_gib=card_gib or 0.0,
            unchecked=unchecked,
        )
    if plan.memory:
        typer.echo(f"Memory of each GPU, counted: {plan.memory}", err=as_json)

    def ready(endpoints: list[str]) -> None:
        if as_json:
            typer.echo(json.dumps({"model": plan.served_model, "endpoints": endpoints}))
            return
        typer.echo("All ready. Ctrl-C ends them. In a profile, under models.vision_language.runtime, or with a run:")
        setting = f"models.vision_language.runtime.endpoint=[{', '.join(endpoints)}]"
        typer.echo(f"  --set {shlex.quote(setting)}")

    serve(plan, ray=ray, wait=wait, logs=logs, say=lambda text: typer.echo(text, err=as_json), ready=ready)

"""The commands about packaged networks: install them, list them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ffpdata.cli.options import ExitCode, JsonOption

app = typer.Typer(help="Install and list the small pretrained networks that packages carry.", no_args_is_help=True)

NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Default: those of `pretrained`.")]


@app.command()
def install(
    names: NamesArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="All whose licences are open.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch networks out of their packages, check their digests and keep them on this machine."""
    from ffpdata.models.packaged.catalogue import chosen
    from ffpdata.models.packaged.install import install as fetch
    from ffpdata.models.packaged.location import missing

    models = chosen(names or (), everything=everything)
    failed = fetch(models, lambda line: typer.echo(line, err=as_json))
    left = {model.name: why for model in models if (why := missing([model.name])) and model.name not in failed}
    if as_json:
        here = [model.name for model in models if model.name not in failed]
        typer.echo(json.dumps({"installed": here, "failed": failed, "needs": left}))
    else:
        for why in failed.values():
            typer.echo(f"not installed: {why}", err=True)
        for why in left.values():
            typer.echo(why, err=True)
        if not failed:
            typer.echo(f"Installed: {', '.join(model.name for model in models)}")
    if failed:
        raise typer.Exit(ExitCode.FATAL)


@app.command("list")
def list_networks(as_json: JsonOption = False) -> None:
    """Show each network: what it does, whether it is here, its size, licences, digest and package."""
    from ffpdata.models.packaged.catalogue import MODELS
    from ffpdata.models.packaged.location import installed, remedy

    rows = [
        {
            "name": model.name,
            "version": model.version,
            "about": model.about,
            "installed": installed(model.name),
            "default": model.default,
            "bytes": model.size,
            "licence_package": model.package.licence,
            "licence_weights": model.weights_licence,
            "licence_source": model.licence_source,
            "source": model.source,
            "package": str(model.package),
            "sha256": model.network.sha256,
        }
        for model in MODELS
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        state = "installed" if row["installed"] else f"not here: {remedy([str(row['name'])])}"
        typer.echo(f"{row['name']} ({state}): {row['about']}")
        typer.echo(f"    {float(str(row['bytes'])) / 1e6:.1f} MB of {row['package']}, sha256 {row['sha256']}")
        typer.echo(f"    weights {row['licence_weights']} ({row['licence_source']}); package {row['licence_package']}")

"""The `ffpdata` command. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ffpdata import __version__
from ffpdata.cli import machines, reviews, runs
from ffpdata.cli.options import ExitCode

__all__ = ["ExitCode", "app", "main"]

app = typer.Typer(
    help="Build paired video-editing datasets: (source, edited, instruction) pairs from clips and images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(runs.sample, runs.run, runs.retry, runs.status, runs.sql, runs.export, runs.verify, runs.report),
    *(reviews.review, reviews.refine, reviews.calibrate, machines.doctor, machines.serve_vlm),
)
for _command in _COMMANDS:
    app.command()(_command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ffpdata {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


def main() -> None:
    """Entry point: one clear message per error, and the exit codes that scripts rely on."""
    from ffpdata.core.errors import FfpdataError, UsageError

    try:
        with warnings.catch_warnings():
            _show_warnings()
            app()
    except UsageError as err:
        typer.echo(f"ffpdata: {err}", err=True)
        sys.exit(ExitCode.USAGE)
    except FfpdataError as err:
        typer.echo(f"ffpdata: {err}", err=True)
        sys.exit(ExitCode.FATAL)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. Finished items are kept: the same command goes on from here.", err=True)
        sys.exit(ExitCode.INTERRUPTED)


def _show_warnings() -> None:
    """Print what ffpdata itself warns of as plain lines; what libraries warn of stays as it is."""
    from ffpdata.core.errors import FfpdataWarning

    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, FfpdataWarning):
            typer.echo(str(message), err=True)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show
    warnings.simplefilter("always", FfpdataWarning)

"""The `ffpdata` command. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ffpdata import __version__
from ffpdata.cli import evaluation, heads, machines, networks, plans, propagation, reviews, runs
from ffpdata.cli.options import ExitCode

__all__ = ["ExitCode", "app", "main"]

_STARTED_ANEW = "FFPDATA_UTF8"
"""Environment variable that says that the command was started anew, so that it is not a second time."""

app = typer.Typer(
    help="Build paired video-editing datasets: (source, edited, instruction) pairs from clips and images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(runs.sample, plans.plan, runs.run, runs.retry, runs.status, runs.sql, runs.export, runs.verify, runs.takedown),
    *(runs.report, reviews.review, reviews.refine, reviews.calibrate, heads.heads, propagation.train),
    *(propagation.propagate, evaluation.evaluate, machines.doctor, machines.serve_vlm),
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(networks.app, name="models")


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

    _use_utf8()
    try:
        _check_arguments()
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


def _use_utf8() -> None:
    """Start anew in Python's UTF-8 mode where the locale is another, as with `LC_ALL=C`: names and texts are UTF-8.

    Child processes inherit it. What is printed is never a reason to stop.
    """
    if sys.getfilesystemencoding() != "utf-8" and not os.environ.get(_STARTED_ANEW):
        os.execve(  # noqa: S606 - the same program with the same arguments
            sys.executable,
            [sys.executable, "-X", "utf8", *sys.orig_argv[1:]],
            os.environ | {"PYTHONUTF8": "1", _STARTED_ANEW: "1"},
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _check_arguments() -> None:
    """Refuse names that no manifest can hold; raises UsageError."""
    from ffpdata.core.errors import UsageError
    from ffpdata.core.file_names import is_text, printable

    for word in sys.argv[1:]:
        if not is_text(word):
            raise UsageError(f"'{printable(word)}': this name is not UTF-8: rename the file or folder")


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

"""Options that several commands share, and the exit codes that scripts rely on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, StrEnum
from typing import Annotated

import typer


class ExitCode(IntEnum):
    """Every code that a command ends with; README.md has the same table."""

    OK = 0
    """The command did its work; a run ended, whatever was rejected or failed."""
    FATAL = 1
    """It cannot go on, or `verify`, `doctor` or `review --import` found problems."""
    USAGE = 2
    """What was asked for is wrong: the command line, or a pipeline, profile, question, table or class that it names."""
    FAILED_ITEMS = 3
    """`run --strict`: the run ended, and items failed."""
    INTERRUPTED = 130
    """SIGINT or SIGTERM; finished items are kept."""


@contextmanager
def as_asked() -> Iterator[None]:
    """Around what reads files that the command line names: what is wrong in them is wrong with the command."""
    from ffpdata.core.errors import ConfigError, UsageError

    try:
        yield
    except ConfigError as err:
        raise UsageError(str(err)) from err


class Runner(StrEnum):
    """How a run is executed."""

    INLINE = "inline"
    RAY = "ray"


RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run folder.")]
RunnerOption = Annotated[
    Runner, typer.Option(help="`inline`: in this process. `ray`: on all cores, or on the cluster of RAY_ADDRESS.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")]
OverridesOption = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one setting.")]

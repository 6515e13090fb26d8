"""Options that several commands share, and the exit codes that scripts rely on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

EXIT_FATAL, EXIT_USAGE, EXIT_FAILED_ITEMS, EXIT_INTERRUPTED = 1, 2, 3, 130


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

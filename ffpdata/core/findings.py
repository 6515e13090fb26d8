"""What a check of a folder found; the checks of a run and of an export add what they counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from ffpdata.core.wording import counted


@dataclass
class Findings:
    """What is wrong with a folder.

    Attributes:
        problems: one line each; an empty list means that the folder is sound.
    """

    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def state(self) -> str:
        """How many problems there are, in words."""
        return counted(len(self.problems), "problem") if self.problems else "no problems"

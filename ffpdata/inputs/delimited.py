"""The records of a text with separated cells: which separator, which lines, and what is wrong with one."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_END = "\0end of table"
"""A last line of ours: where it does not come back as a record of its own, a quotation mark was left open."""
_SEPARATORS = (",", ";", "\t", "|")


@dataclass
class Record:
    """One record: where it stands, its cells without blanks around them, and its fault.

    An empty line has no cells. `unclosed` says that a quotation mark opened in it is open at the end of the text.
    """

    where: str
    cells: list[str] = field(default_factory=list)
    fault: str = ""
    unclosed: bool = False


def records(text: str, usual: str) -> Iterator[Record]:
    """Split a text into records.

    Args:
        text: of a file, from its header.
        usual: the separator that its ending stands for. Another one is taken where the header has a `path` with that
            one only, or where a first line says so (`sep=;`, as Excel writes).
    """
    lines = list(io.StringIO(text, newline=""))
    separator, before = _separator(lines, usual)
    lines = lines[before:]
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += "\n"
    reader = csv.reader(itertools.chain(lines, [_END]), delimiter=separator, skipinitialspace=True)
    while reader.line_num <= len(lines):
        first, fault, cells = reader.line_num + 1, "", list[str]()
        try:
            cells = next(reader)
        except csv.Error as err:
            fault = str(err)
        last = min(reader.line_num, len(lines))
        where = f"line {first + before}" if last <= first else f"lines {first + before} to {last + before}"
        if reader.line_num <= len(lines):
            yield Record(where, [cell.strip() for cell in cells], fault)
        elif cells != [_END]:
            yield Record(where, unclosed=True)


def _separator(lines: Sequence[str], usual: str) -> tuple[str, int]:
    """Return what separates the cells, and the number of lines before the header."""
    if lines and lines[0].lower().startswith("sep=") and lines[0][4:].strip("\r\n"):
        return lines[0][4], 1
    header = next((line for line in lines if line.strip()), "")
    for one in (usual, *_SEPARATORS):
        try:
            cells = next(csv.reader([header], delimiter=one, skipinitialspace=True), [])
        except csv.Error:
            break
        if "path" in [cell.strip() for cell in cells]:
            return one, 0
    return usual, 0

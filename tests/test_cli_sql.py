"""`ffpdata sql` prints what the query found, for a program and for a person; commands to paste are quoted."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from ffpdata.cli.options import ExitCode
from ffpdata.cli.query_result import csv_text, json_text, table_text
from ffpdata.manifests.run_folder import RunFolder
from tests.test_cli import Command, begun, command

__all__ = ["command"]

ODD = """
select 1 as n, 2 as n, 3 as n_2, 'nan'::double as nan, '-inf'::float as inf, ['nan'::double, 1.5] as many,
  1.50::decimal(9, 2) as price, sum(range) as total, 12345678901234567890.5::decimal(30, 1) as exact, 'a'::blob as raw,
  timestamp '2026-01-02 03:04:05' as at, timestamptz '2026-01-02 03:04:05+00' as tz, timestamp 'infinity' as never,
  timestamp_ns '2026-01-02 00:00:00.000000001' as fine, date '2026-01-02' as day, time '10:00' as hour,
  interval 2 hour as span, {'x': 'nan'::double} as struct, map {'k': 1} as map, null as nothing, true as yes,
  'é "' as text
from range(4)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("sql")
    return begun(root / "it's a run", root / "in")


def test_json_is_json_whatever_was_found(run: RunFolder, command: Command) -> None:
    code, said = command("sql", run.store.root, ODD, "--json")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    [row] = json.loads(said, parse_constant=refuse)
    assert code == 0
    assert [row[name] for name in ("n", "n_2", "n_2_2")] == [1, 2, 3]
    assert [row[name] for name in ("nan", "inf", "many", "struct")] == [None, None, [None, 1.5], {"x": None}]
    assert [row[name] for name in ("price", "total", "exact")] == [1.5, 6, "12345678901234567890.5"]
    assert [row[name] for name in ("at", "tz", "day", "hour")] == [
        *("2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00", "2026-01-02", "10:00:00"),
    ]
    assert (row["raw"], row["text"], row["nothing"], row["yes"]) == ("YQ==", 'é "', None, True)
    assert row["fine"].endswith("00.000000001")
    assert len(row) == 22


def test_csv_has_every_column_and_a_header_without_rows(run: RunFolder, command: Command) -> None:
    _, said = command("sql", run.store.root, ODD, "--csv")
    header, row = csv.reader(io.StringIO(said, newline=""))
    found = dict(zip(header, row, strict=True))
    assert (len(header), found["n_2"], found["nan"], found["many"]) == (22, "2", "nan", "[null, 1.5]")
    assert command("sql", run.store.root, "select 1 as a, 2 as b where false", "--csv") == (0, "a,b\r\n")
    assert command("sql", run.store.root, "select 1 as a where false", "--json") == (0, "[]\n")


def test_a_file_gets_a_line_per_row_and_a_terminal_what_fits_it(run: RunFolder) -> None:
    """A real terminal of 60 columns, and a pipe."""
    words = [sys.executable, "-m", "ffpdata", "sql", run.store.root, "from items"]
    columns = RunFolder(run.store.root).connect().view("items").columns
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "60"}
    piped = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert piped.splitlines()[0].split() == columns
    assert len(piped.splitlines()) == 3
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # the end of a terminal
            pass
        assert process.wait(60) == 0
    os.close(ours)
    lines = shown.decode().splitlines()
    assert lines[0] == "-- row 1 of 2"
    assert [line.split()[0] for line in lines[1 : len(columns) + 1]] == columns
    assert lines[len(columns) + 1] == "-- row 2 of 2"


def test_narrow_rows_stay_a_table() -> None:
    table = pa.table({"a": ["x", None], "long_name": [1.0, math.nan]})
    aligned = ["a  long_name", "x        1.0", "         nan"]
    assert table_text(table, 12).splitlines() == table_text(table, None).splitlines() == aligned
    assert table_text(table, 11).splitlines() == [
        *("-- row 1 of 2", "a          x", "long_name  1.0", "-- row 2 of 2", "a", "long_name  nan"),
    ]
    assert (json_text(pa.table({})), csv_text(pa.table({})), table_text(pa.table({}), 80)) == ("[]", "\r\n", "no rows")


def test_unsafe_opens_files(run: RunFolder, command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n7\n")
    query = f"select x from '{tmp_path}/a.csv'"
    code, said = command("sql", run.store.root, query)
    assert (code, "`ffpdata sql --unsafe`" in said) == (ExitCode.USAGE, True)
    assert command("sql", run.store.root, query, "--unsafe", "--json") == (0, '[{"x": 7}]\n')


def test_commands_to_paste_are_quoted(tmp_path: Path, command: Command) -> None:
    """Pasted into a shell they name the same folder, whatever is in its name."""
    folder = tmp_path / "it's $(a) run;"
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.mp4").write_bytes(b"")
    words = ["run", "local_editing", "--input", str(source), "--run", str(folder), "--stages", "source", "--quiet"]
    code, said = command(*words)
    assert code == 0
    [line] = [line for line in said.splitlines() if line.startswith("Next: ")]
    assert shlex.split(line)[1:4] == ["ffpdata", "report", str(folder)]
    assert "ffpdata export" not in line, "there is no pair"
    command("report", str(folder))
    page = (folder / "report/index.html").read_text(encoding="utf-8")
    assert "ffpdata sql &#39;it&#39;&#34;&#39;&#34;&#39;s $(a) run;&#39;" in page

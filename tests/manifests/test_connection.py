"""A connection reaches the manifests of its run and nothing else, whatever stands in the folder or in a query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from ffpdata.api.run import Run, open_run
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.manifests.manifest import SQL_TYPES, stage_schema
from ffpdata.manifests.run_folder import RUN_FILE, RunFolder
from ffpdata.manifests.views import current
from tests.s3_server import s3_proxy


def folder(root: Path | str, **columns: Any) -> RunFolder:
    """A run of two stages with a row each, and with the columns that its run.yaml declares."""
    run = RunFolder(root)
    stages = [{"name": name, "use": "tests.toys:Upper"} for name in ("first", "last")]
    start = {"pipeline": {"name": "p", "track": "t", "stages": stages}, "columns": {"first": columns, "last": {}}}
    run.store.write(RUN_FILE, yaml.safe_dump(start, explicit_start=True).encode())
    for stage, key, upstream in (("first", "f", ""), ("last", "l", "f")):
        row = {"item_id": "a", "entered_id": "a", "track": "t", "stage": stage, "key": key, "upstream": upstream}
        run.manifest.append(
            stage, [row | {"status": "ok", "attempt": 1, "seconds": 1.0, "n": 1}], stage_schema({"n": int})
        )
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("runs")
    (root / "secret.csv").write_text("a\n1\n")
    folder(root / "a [1] o'run ü")
    return open_run(root / "a [1] o'run ü")


READS = [
    "select n from first",
    "from items select n limit 1;",
    "-- a remark\nselect n from last -- and one more",
    "with one as (select 1) select n from items",
    "create temp table mine as select n from items; select n from mine",
    "create macro half(a) as a / 2; select half(2)::int as n",
    "pivot (select 'n' as name, 1 as value) on name using sum(value)",
    "select n from (pivot (select 'n' as name, 1 as value) on name using sum(value))",
    "select '{\"n\": 1}'::json->>'n' as n, now()",
    "set variable n = 1; select getvariable('n') as n",
]


@pytest.mark.parametrize("query", READS)
def test_what_reads(run: Run, query: str) -> None:
    [row] = run.sql(query).to_pylist()
    assert int(row["n"]) == 1


@pytest.mark.parametrize(
    "query", ["show tables", "describe items", "summarize first", "explain select 1", "explain analyze from first"]
)
def test_what_describes(run: Run, query: str) -> None:
    assert run.sql(query).num_rows
    assert run.sql("").num_rows == 0


DOES_MORE = [
    "copy items to '{out}'",
    "copy items to '{run}/manifests/first/part-00000000000000000001.parquet'",
    "COPY (select 1) TO '{out}'",
    "explain analyze copy (select 1) to '{run}/manifests/out.csv'",
    "explain (analyze) copy (select 1) to '{run}/manifests/out.csv'",
    "/* */ explain /* */ analyze copy (select 1) to '{run}/manifests/out.csv'",
    "copy (pivot (select 1 a, 2 b) on a using sum(b)) to '{run}/manifests/out.csv'",
    "explain analyze copy (pivot (select 1 a, 2 b) on a using sum(b)) to '{run}/manifests/out.csv'",
    "select 1; copy (select 1) to '{run}/manifests/out.csv'",
    "prepare p as copy (select 1) to '{run}/manifests/out.csv'; execute p",
    "attach '{out}' as other",
    "attach '{run}/manifests/out.db' as other",
    "export database '{run}/manifests/out'",
    "import database '{run}/manifests/out'",
    "install httpfs",
    "load httpfs",
    "update extensions",
    "create persistent secret s (type http)",
    "from read_csv('{secret}')",
    "from '{secret}'",
    "from read_text('/etc/passwd')",
    "from read_text('{run}/run.yaml')",
    "from read_csv('{run}/manifests/../../secret.csv')",
    "from glob('/etc/*')",
    "from read_parquet('https://example.org/x.parquet')",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "set allowed_directories = ['/']",
    "set temp_directory = '{out}'",
    "reset enable_external_access",
    "pragma enable_profiling = 'json'",
    "set profiling_output = '{out}'",
    "call pragma_version()",
]


@pytest.mark.parametrize("query", DOES_MORE)
def test_what_does_more_is_refused_and_does_nothing(run: Run, query: str) -> None:
    root = Path(run.path).parent
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    words = {"run": run.path.replace("'", "''"), "out": root / "out", "secret": root / "secret.csv"}
    with pytest.raises(UsageError, match="SQL: "):
        run.sql(query.format(**words))
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_unsafe_is_duckdb_as_it_is(run: Run, tmp_path: Path) -> None:
    secret = Path(run.path).parent / "secret.csv"
    assert run.sql(f"select a from '{secret}'", unsafe=True).to_pylist() == [{"a": 1}]
    run.sql(f"copy (select n from items) to '{tmp_path}/out.csv'", unsafe=True)
    assert (tmp_path / "out.csv").read_text().split() == ["n", "1"]
    run.sql("set threads = 1", unsafe=True)
    with pytest.raises(UsageError, match="`ffpdata sql --unsafe`"):
        run.sql(f"from '{secret}'")


def test_show_tables_lists_the_views_that_the_documentation_names(run: Run) -> None:
    names = {row["name"] for row in run.sql("show tables").to_pylist()}
    assert names == {"items", "yields", *(f"{s}{h}" for s in ("first", "last", "curate") for h in ("", "_history"))}
    assert {
        row["table_name"]
        for row in run.sql("select table_name from information_schema.tables where table_schema = 'main'").to_pylist()
    } == names


HOSTILE = [
    "varchar as x from (copy (select 1) to '{out}')) --",
    "varchar; copy (select 1) to '{out}'; --",
    "bigint as b, (select content from read_text('/etc/passwd')) as c, null::bigint",
    "no_such_type",
    "struct(a int)",
    "",
    5,
    None,
    ["varchar"],
    {"varchar": 1},
]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_type_that_is_none_never_becomes_sql(tmp_path: Path, kind: Any) -> None:
    kind = kind.replace("{out}", str(tmp_path / "out")) if isinstance(kind, str) else kind
    hostile = folder(tmp_path / "run", n="bigint", x=kind)
    for ask in (lambda: open_run(hostile.store.root).sql("from items"), lambda: open_run(hostile.store.root).report()):
        with pytest.raises(FatalError, match=r"run\.yaml: column 'x' of stage 'first' has the type"):
            ask()
    assert not (tmp_path / "out").exists()


def test_names_of_a_hostile_folder_are_names(tmp_path: Path) -> None:
    out = tmp_path / "out"
    bad = f"x\"; copy (select 1) to '{out}'; --"
    hostile = folder(tmp_path / "run", **{bad: "varchar"})
    start = yaml.safe_load(hostile.store.read(RUN_FILE))
    columns = open_run(hostile.store.root).sql("from items").column_names
    assert bad in columns
    start["pipeline"]["stages"][1]["name"] = bad
    hostile.store.write(RUN_FILE, yaml.safe_dump(start, explicit_start=True).encode())
    with pytest.raises(FatalError, match="is no name of a stage"):
        open_run(hostile.store.root).sql("from items")
    assert not out.exists()


def test_every_type_of_a_manifest_is_one(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", **{f"c{n}": kind for n, kind in enumerate(SQL_TYPES)})
    assert open_run(run.store.root).sql("from first").num_rows == 1


def test_connections_of_the_program_are_closed_too(run: Run) -> None:
    """The report, the review and an export read through these."""
    with run.folder.connect() as views, current(run.folder.store, run.folder.tracks()) as rows:
        for connection in (views, rows):
            with pytest.raises(duckdb.PermissionException):
                connection.execute("from read_text('/etc/passwd')")


def test_a_run_in_an_object_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with s3_proxy(monkeypatch):
        remote = folder("s3://bucket/run")
        found = open_run(remote.store.root)
        assert found.sql("select n from items").to_pylist() == [{"n": 1}]
        for query in ("from read_text('/etc/passwd')", f"copy items to '{tmp_path}/out'"):
            with pytest.raises(UsageError):
                found.sql(query)

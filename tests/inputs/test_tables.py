"""Every row of a table is one item or one typed error, whatever program wrote it; nothing is lost on the way."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import io
import json
import math
import random
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffpdata.core.errors import ConfigError, FfpdataWarning, UsageError
from ffpdata.core.keys import digest
from ffpdata.core.sections import InputSettings
from ffpdata.core.stage import Item
from ffpdata.inputs.listing import KNOWN_COLUMNS, OWN_KIND, list_inputs

CLIPS = InputSettings()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def listed(folder: Path, name: str, content: str | bytes | pa.Table, **settings: Any) -> list[Item]:
    """The items of a table in `folder`."""
    table = folder / name
    table.parent.mkdir(exist_ok=True)
    if isinstance(content, pa.Table):
        pq.write_table(content, table)
    else:
        table.write_bytes(content.encode() if isinstance(content, str) else content)
    return list_inputs(str(table), InputSettings(**settings))


def problems(items: list[Item]) -> list[str]:
    return [" ".join(item.values.get("problem", ())) for item in items]


def names(items: list[Item]) -> list[str]:
    return [Path(item.values["path"]).name for item in items]


def storable(items: list[Item]) -> None:
    """What the rest of a run does with items: keys, JSON text, Parquet text."""
    for item in items:
        assert digest(item.values)
        assert json.dumps(item.values, allow_nan=False)
        repr(item.values).encode()
    pa.array([json.dumps(item.values) for item in items])


# --- numbers that are none ---

NAN, INF = math.nan, math.inf


def test_nan_means_not_known_in_every_column(folder: Path) -> None:
    columns = {name: [NAN] for name in (*KNOWN_COLUMNS[1:], "score") if name not in OWN_KIND}
    [item] = listed(folder, "t.parquet", pa.table({"path": ["a.mp4"], **columns}))
    assert not {"problem", "given_object", "given_box", "given_caption", "licence", "url", "meta"} & set(item.values)
    line = ", ".join(f'"{name}": NaN' for name in columns)
    [item] = listed(folder, "t.jsonl", f'{{"path": "a.mp4", {line}}}\n')
    assert not {"problem", "given_object", "given_box", "given_caption", "licence", "url", "meta"} & set(item.values)
    [item] = listed(folder, "t.csv", f"path,{','.join(columns)}\na.mp4{',nan' * len(columns)}\n")
    assert {key for key in item.values if key not in ("path", "root", "fingerprint")} == {"meta"}
    assert item.values["meta"] == {"score": "nan"}, "the text of a column that only travels along stays as it is"


@pytest.mark.parametrize("path", ["", "nan", None, NAN])
def test_a_row_without_a_path_says_where_it_stands(folder: Path, path: Any) -> None:
    if path is None or path is NAN:
        found = listed(folder, "t.parquet", pa.table({"path": pa.array([path], pa.string() if path is None else None)}))
        assert problems(found) == ["missing_path row 1: the row's `path` is empty"]
    else:
        found = listed(folder, "t.csv", f'path,object\n"{path}",dog\nb.mp4,dog\n')
        assert problems(found) == ["missing_path line 2: the row's `path` is empty", ""]


def test_infinity_travels_as_text_and_makes_no_box(folder: Path) -> None:
    nested = {"more": [{"deep": [INF, NAN]}], "raw": [[b"\xff", b"x"]]}
    [item] = listed(folder, "t.parquet", pa.table({"path": ["a.mp4"], "score": [-INF], **nested}))
    assert item.values["meta"] == {"score": "-inf", "more": '{"deep": ["inf", null]}', "raw": '["\\\\xff", "x"]'}
    for box in ('"0,0,inf,inf"', '"0,0,nan,5"', '"0,0,1e999,5"'):
        bad, good = listed(folder, "t.csv", f'path,box\na.mp4,{box}\nb.mp4,"0,0,640,360"\n')
        assert problems([bad, good])[0].startswith("bad_box")
        assert good.values["given_box"] == [0, 0, 640, 360]


@pytest.mark.parametrize(
    "box",
    [5, True, "[1, 2, 3]", [1, 2, None, 4], [0, 0, True, 5], {"x": 1}, [0, 0, 10**400, 5], [[1], 2, 3, 4], "0 0 5 5"],
)
def test_what_is_no_box(folder: Path, box: Any) -> None:
    [item] = listed(folder, "t.jsonl", json.dumps({"path": "a.mp4", "box": box}))
    assert problems([item])[0].startswith("bad_box")
    storable([item])


@pytest.mark.parametrize("box", ["[10, 20, 30, 40]", "10;20;30;40", " 10, 20 ,30,40.0", [10, "20", 30.0, 40]])
def test_boxes_in_the_spellings_of_other_programs(folder: Path, box: Any) -> None:
    [item] = listed(folder, "t.jsonl", json.dumps({"path": "a.mp4", "box": box}))
    assert item.values["given_box"] == [10, 20, 30, 40]


# --- kinds of columns ---


def test_text_in_every_arrow_type(folder: Path) -> None:
    kinds = [pa.binary(), pa.large_string(), pa.large_binary(), pa.string_view(), pa.binary(5), pa.string()]
    for kind in [*kinds, pa.dictionary(pa.int32(), pa.string())]:
        text = pa.array(["a.mp4", "b.mp4"], pa.string())
        text = text.dictionary_encode() if pa.types.is_dictionary(kind) else text.cast(pa.binary()).cast(kind)
        found = listed(folder, "t.parquet", pa.table({"path": text, "object": text}))
        assert names(found) == ["a.mp4", "b.mp4"], kind
        assert [item.values["given_object"] for item in found] == ["a.mp4", "b.mp4"]
        assert problems(found) == ["", ""]


def test_cells_that_python_has_no_value_for(folder: Path) -> None:
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\5\0\0\0"), pa.py_buffer(b"caf\xe9."))
    table = pa.table(
        {
            "path": ["a.mp4"],
            "far": pa.array([2**40], pa.timestamp("s")),
            "fine": pa.array([1], pa.timestamp("ns")),
            "nowhere": pa.array([1], pa.timestamp("us", "Nowhere/X")),
            "all": pa.array([[2**62]], pa.list_(pa.timestamp("ms"))),
            "latin": text,
            "price": [decimal.Decimal("12345678901234567890.5")],
            "huge": pa.array([2**64 - 1], pa.uint64()),
            "day": [dt.date(2026, 1, 2)],
            "yes": [True],
        }
    )
    [item] = listed(folder, "t.parquet", table)
    meta = item.values["meta"]
    assert (meta["latin"], meta["price"], meta["huge"]) == ("caf\\xe9.", "12345678901234567890.5", 2**64 - 1)
    assert (meta["day"], meta["yes"]) == ("2026-01-02", True)
    assert "000000001" in meta["fine"]
    assert set(meta) == set(table.column_names) - {"path"}
    storable([item])


def test_numbers_in_columns_of_text(folder: Path) -> None:
    [item] = listed(
        folder, "t.jsonl", '{"path": "a.mp4", "object": 7, "caption": 1.5, "licence": 3, "big": 1%s}' % ("0" * 300)
    )
    assert [item.values[key] for key in ("given_object", "given_caption", "licence")] == ["7", "1.5", "3"]
    assert item.values["meta"]["big"] == 10**300
    for odd in ("[1]", '{"a": 1}', "true"):
        for column in ("path", "object", "caption", "licence", "url"):
            [item] = listed(folder, "t.jsonl", json.dumps({"path": "a.mp4"} | {column: json.loads(odd)}))
            assert problems([item])[0].startswith(f"bad_row line 1: {column} "), (odd, column)


# --- CSV ---


def test_blanks_around_cells_do_not_count(folder: Path) -> None:
    text = 'path, object, box\na.mp4, red ball, "10,10,200,100"\n b.mp4 ,"dog" , "1,2,3,4"\n'
    first, second = listed(folder, "t.csv", text)
    assert (first.values["given_object"], first.values["given_box"]) == ("red ball", [10, 10, 200, 100])
    assert (second.values["given_object"], second.values["given_box"]) == ("dog", [1, 2, 3, 4])
    assert problems([first, second]) == ["", ""]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\xff\xfe"], ids=["plain", "bom", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_line_ends_and_marks(folder: Path, start: bytes, mark: str, end: str) -> None:
    rows = [["object", "path", "box"], ['a "red"\nball é', "a.mp4", f"1{mark}2,3,4"], ["dog", "b.mp4", "1,2,3,4"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=mark, lineterminator=end).writerows(rows)
    data = text.getvalue().encode("utf-16-le") if start == b"\xff\xfe" else text.getvalue().encode()
    first, second = listed(folder, "t.csv", start + data)
    assert (first.values["given_object"], second.values["given_object"]) == ('a "red" ball é', "dog")
    assert second.values["given_box"] == [1, 2, 3, 4]


def test_excel_says_its_separator(folder: Path) -> None:
    short, good = listed(folder, "t.csv", "sep=;\r\npath;object\r\na.mp4\r\nb.mp4;dog\r\n")
    assert problems([short]) == ["bad_row line 3: 1 cells for 2 columns: quote a cell that holds the separator"]
    assert good.values["given_object"] == "dog"


def test_rows_of_another_length_are_errors_of_their_own(folder: Path) -> None:
    text = (
        'path,object,box\na.mp4\nb.mp4,dog,\na.mp4,dog,1,2,3,4\n\nb.mp4,cat,"1,2,3,4",,\n"a.mp4\n,dog\nb.mp4",x\n,,\n'
    )
    found = listed(folder, "t.csv", text)
    assert [problem.partition(":")[0] for problem in problems(found)] == [
        "bad_row line 2",
        "",
        "bad_row line 4",
        "",
        "bad_row lines 7 to 9",
        "missing_path line 10",
    ]
    assert found[3].values["given_box"] == [1, 2, 3, 4]
    assert names(found)[:2] == ["a.mp4", "b.mp4"], "the row of an error has its path, where it is known"


@pytest.mark.parametrize("last", ['"', '"dog', '"dog\nb.mp4,cat', 'dog\nb.mp4,"cat'])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_quotation_mark_that_is_never_closed(folder: Path, last: str, end: str) -> None:
    with pytest.raises(ConfigError, match=r"t\.csv: lines? \d.*never closed"):
        listed(folder, "t.csv", f"path,object\nb.mp4,dog\na.mp4,{last}{end}")


def test_two_columns_of_one_name(folder: Path) -> None:
    for name, content in (
        ("t.csv", "path,object, object\na.mp4,dog,cat\n"),
        ("t.parquet", pa.Table.from_arrays([pa.array(["a"])] * 3, names=["path", "object", " object"])),
    ):
        with pytest.raises(ConfigError, match=f"{name}: the table has two columns 'object'"):
            listed(folder, name, content)
    [item] = listed(folder, "t.jsonl", '{"path": "a.mp4", "object": "dog", "object": "cat"}')
    assert problems([item]) == ["bad_row line 1: not JSON: two entries 'object' in one object"]
    [item] = listed(folder, "t.csv", ",path,,object\n0,a.mp4,,dog\n")
    assert item.values["meta"] == {"column_1": "0"}, "a column without a name, as pandas writes its index"


def test_a_long_cell_is_one_row(folder: Path) -> None:
    long, after = listed(folder, "t.csv", f"path,caption\na.mp4,{'x' * 200_000}\nb.mp4,y\n")
    assert len(long.values.get("given_caption", "")) == 200_000 or problems([long])[0].startswith("bad_row line 2")
    assert after.values["given_caption"] == "y"


def test_bytes_that_are_not_utf8_fault_their_row_alone(folder: Path) -> None:
    text = b"path,object,note\ncaf\xe9.mp4,dog,x\na.mp4,caf\xe9,x\nb.mp4,dog,caf\xe9\n"
    name, hint, note = listed(folder, "t.csv", text)
    assert problems([name, hint, note]) == [
        f"name_not_utf8 the name '{folder}/caf\\xe9.mp4' is not UTF-8, which no table can hold: rename the file",
        "bad_row line 3: object 'caf\\xe9' is not text in UTF-8",
        "",
    ]
    assert note.values["meta"] == {"note": "caf\\xe9"}
    storable([name, hint, note])
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        listed(folder, "t.csv", b"path,caf\xe9\na.mp4,x\n")


# --- lists in other forms ---


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "JSONL", "json"])
def test_json_lines(folder: Path, suffix: str) -> None:
    lines = ['{"path": "a.mp4", "box": [1, 2, 3, 4], "note": "é"}', "", '"b.mp4"', "7", "{not json", '{"object": "x"}']
    lines += ["[" * 100_000, '{"path": "a.mp4", "n": 1%s}' % ("0" * 5000), '{"path": "a\\ud800.mp4"}']
    found = listed(folder, f"t.{suffix}", "\n".join(lines))
    assert names(found)[:2] == ["a.mp4", "b.mp4"]
    assert found[0].values["meta"] == {"note": "é"}
    assert [problem.partition(":")[0][:18].strip() for problem in problems(found)] == [
        *("", "", "bad_row line 4", "bad_row line 5", "missing_path line", "bad_row line 7", "bad_row line 8"),
        "name_not_utf8 the",
    ]
    storable(found)


def test_a_json_list(folder: Path) -> None:
    found = listed(folder, "t.json", json.dumps([{"path": "a.mp4", "object": "dog"}, "b.mp4", 5], indent=2))
    assert names(found)[:2] == ["a.mp4", "b.mp4"]
    assert problems(found)[2] == "bad_row entry 3: expected an object with `path`, found int"
    with pytest.raises(ConfigError, match="not a readable JSON list"):
        listed(folder, "t.json", "[1, 2")


def test_a_path_a_line(folder: Path) -> None:
    found = listed(folder, "t.txt", b"a.mp4\r\n\n  b.mp4\ncaf\xe9.mp4\n../x.mp4")
    assert names(found)[:2] == ["a.mp4", "b.mp4"]
    assert [problem.partition(" ")[0] for problem in problems(found)] == [
        *("", "", "name_not_utf8", "path_outside_input"),
    ]


def test_a_folder_of_parquet_parts_is_a_table(folder: Path) -> None:
    """As Spark, Dask and Polars write one: parts, folders that name a column, marks of the writer."""
    parts = folder / "clips.parquet"
    (parts / "licence=CC0-1.0").mkdir(parents=True)
    pq.write_table(pa.table({"path": ["a.mp4", "gone.mp4"], "object": ["dog", None]}), parts / "part-0.snappy.parquet")
    pq.write_table(pa.table({"path": ["../b.mp4", None]}), parts / "licence=CC0-1.0/part-1.parquet")
    for mark in ("_SUCCESS", ".part-0.crc"):
        (parts / mark).write_bytes(b"")
    found = list_inputs(str(parts), CLIPS)
    assert [item.values["path"] for item in found] == [
        *(str(folder / "b.mp4"), "", str(folder / "a.mp4"), str(folder / "gone.mp4")),
    ]
    assert found[0].values["licence"] == "CC0-1.0"
    assert found[2].values["given_object"] == "dog"
    assert problems(found) == [
        "",
        "missing_path licence=CC0-1.0/part-1.parquet row 2: the row's `path` is empty",
        "",
        "",
    ]
    (parts / "b.mp4").write_bytes(b"x")
    assert len(list_inputs(str(parts), CLIPS)) == 4, "with a clip among them it is a folder of files"


def test_a_folder_of_lists_has_their_paths_in_it(folder: Path) -> None:
    lists = folder / "lists"
    lists.mkdir()
    (lists / "c.mp4").write_bytes(b"x")
    [item] = listed(folder, "lists/0.csv", f"path\n{lists}/c.mp4\n")
    (lists / "c.mp4").rename(folder / "c.mp4")
    [item] = list_inputs(str(lists), InputSettings(root=str(folder)))
    assert item.values["path"] == f"{lists}/c.mp4"
    (lists / "0.csv").write_text("path\n../a.mp4\nb.mp4\n")
    outside, inside = list_inputs(str(lists), CLIPS)
    assert outside.values["problem"][0] == "path_outside_input"
    assert inside.values["path"] == f"{lists}/b.mp4"
    (lists / "1.jsonl").write_text('{"path": "c.mp4"}\n')
    with pytest.raises(ConfigError, match=r"nothing but tables \(\.csv, \.jsonl\): give one of them"):
        list_inputs(str(lists), CLIPS)


@pytest.mark.parametrize("suffix", ["xlsx", "csv.gz", "feather", "zip"])
def test_a_list_in_a_form_that_is_not_read_is_no_clip(folder: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match=f"not read from .{suffix.rpartition('.')[2]}: write it as CSV, JSON lines"):
        listed(folder, f"t.{suffix}", b"x")


# --- styles ---


def test_styles_of_a_table_are_text(folder: Path) -> None:
    (folder / "s.png").write_bytes(b"x")
    found = listed(
        folder,
        "t.jsonl",
        '{"path": "a.mp4", "style": ["s.png"]}\n{"path": "b.mp4", "style": [7]}\n{"path": "b.mp4", "style": {"a": 1}}',
        kind="styled",
    )
    assert [problem.partition(":")[0] for problem in problems(found)] == ["", "bad_row line 2", "bad_row line 3"]


def test_a_style_with_a_name_that_is_no_text_is_said_and_left_out(folder: Path) -> None:
    for name in (b"s.png", b"\xff.png"):
        (Path(folder) / name.decode("utf-8", "surrogateescape")).write_bytes(b"x")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = list_inputs(str(folder), InputSettings(kind="styled"))
    assert [str(one.message) for one in said if one.category is FfpdataWarning] == [
        f"no style is '{folder}/\\xff.png': its name is not UTF-8, rename it"
    ]
    assert [Path(item.values["path"]).name for item in found] == ["a.mp4", "b.mp4", "s.png", "\\xff.png"]
    assert problems(found)[3].startswith("name_not_utf8")
    assert all(item.values.get("style_paths", []) in ([], [str(folder / "s.png")]) for item in found)
    storable(found)


# --- whatever comes ---


def cell(draw: random.Random) -> Any:
    """A value that some program may have written."""
    texts = [
        "",
        "dog",
        "a.mp4",
        "café",
        "nan",
        'say "x"',
        "a,b;c\td",
        "line\nbreak",
        "\x00",
        "\ufeff",
        " x ",
        "../a",
        "=1",
    ]
    simple = [None, NAN, INF, -INF, 0, -1, 2**63, 10**40, 1e308, True, False, b"\xff", b"b.mp4", *texts]
    if draw.random() < 0.25:
        return draw.choice([[1, 2, 3, 4], [NAN] * 4, [], ["a.mp4", None], {"x": NAN}, {}, [[INF]], [True], "1,2,3,4"])
    return draw.choice(simple)


def table(draw: random.Random) -> tuple[list[str], list[list[Any]]]:
    names = ["path", *draw.sample([*KNOWN_COLUMNS[1:], "n", "é", "a b", "status", "0"], draw.randrange(0, 6))]
    draw.shuffle(names)
    return names, [[cell(draw) for _ in names] for _ in range(draw.randrange(1, 9))]


def as_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)


def arrow(draw: random.Random, values: list[Any]) -> pa.Array:
    """A column in the type of one of its values; what does not fit is null."""
    for kind in draw.sample(
        [pa.float64(), pa.float32(), pa.binary(), pa.list_(pa.float64()), pa.bool_(), pa.uint64()], 3
    ):
        fits = []
        for value in values:
            try:
                fits.append(pa.scalar(value, kind).as_py())
            except (pa.ArrowException, OverflowError, TypeError, ValueError):
                fits.append(None)
        if any(fit is not None for fit in fits):
            return pa.array(fits, kind)
    return pa.array([as_text(value) for value in values], draw.choice([pa.string(), pa.large_string()]))


@pytest.mark.parametrize("seed", range(60))
def test_random_tables(folder: Path, seed: int) -> None:
    """One item per row in every format, with values that the rest of a run can hold."""
    draw = random.Random(seed)
    columns, rows = table(draw)
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=draw.choice(",;\t")).writerows([columns, *([as_text(v) for v in row] for row in rows)])
    broken = text.getvalue().encode(draw.choice(["utf-8", "utf-8-sig"]))
    lines = [
        json.dumps(dict(zip(columns, [as_text(v) if isinstance(v, bytes) else v for v in row], strict=True)))
        for row in rows
    ]
    whole = {
        "t.csv": broken,
        "t.jsonl": "\n".join(lines),
        "t.parquet": pa.table(
            {name: arrow(draw, list(of)) for name, of in zip(columns, zip(*rows, strict=True), strict=True)}
        ),
    }
    for name, content in whole.items():
        found = listed(folder, name, content, kind=draw.choice(["clips", "clips"]))
        assert len(found) == len(rows), name
        assert len({item.item_id for item in found}) == len(rows)
        storable(found)


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_typed(folder: Path, seed: int) -> None:
    """Bytes changed, cut or put in: items that can be stored, or one ConfigError for the table."""
    draw = random.Random(1000 + seed)
    columns, rows = table(draw)
    sink = io.BytesIO()
    pq.write_table(pa.table({n: [as_text(row[i]) for row in rows] for i, n in enumerate(columns)}), sink)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *([as_text(v) for v in row] for row in rows)])
    lines = "\n".join(json.dumps({n: as_text(v) for n, v in zip(columns, row, strict=True)}) for row in rows)
    for name, data in (
        ("t.csv", text.getvalue().encode()),
        ("t.jsonl", lines.encode()),
        ("t.parquet", sink.getvalue()),
    ):
        damaged = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(damaged))
            damaged[at : at + draw.randrange(3)] = draw.choice([b'"', b"\xff", b",", b"\n", b"", b"{", b"\x00"])
        with suppress(ConfigError):
            storable(listed(folder, name, bytes(damaged)))

"""A table of items, or of outputs, as a benchmark."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffpdata.core.errors import UsageError
from ffpdata.evaluation.table import read_items

ITEMS = "item,source,instruction,target_prompt,category\n7,s/7.mp4,Make it red.,A red wall.,colour\n8,,Blur it.,,\n"


def test_a_table_of_items_with_outputs_in_folders(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    for name in ("a/7.mp4", "b/7/generate.mp4"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).touch()
    choice = read_items(tmp_path / "items.csv", [str(tmp_path / "out")], None)
    assert (choice.items, choice.of, choice.methods) == (2, 2, ["a", "b"])
    first, second, third, _ = choice.entries
    assert (first.target, first.source) == (tmp_path / "out/a/7.mp4", tmp_path / "s/7.mp4")
    assert (first.instruction, first.target_prompt, first.category) == ("Make it red.", "A red wall.", "colour")
    assert (second.target, second.source) == (tmp_path / "out/a/8.mp4", None)
    assert third.target == tmp_path / "out/b/7/generate.mp4"
    (tmp_path / "ids.txt").write_text("8\n")
    few = read_items(tmp_path / "items.csv", [str(tmp_path / "out")], None, ids=tmp_path / "ids.txt")
    assert [(e.method, e.item) for e in few.entries] == [("a", "8"), ("b", "8")]


def test_a_table_of_outputs(tmp_path: Path) -> None:
    rows = [{"target": "x/0.mp4", "method": "m"}, {"target": "x/1.mp4", "method": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mine.parquet")
    choice = read_items(tmp_path / "mine.parquet", [], None)
    assert [(e.method, e.item, e.target) for e in choice.entries] == [
        ("m", "0000", tmp_path / "x/0.mp4"),
        ("mine", "0001", tmp_path / "x/1.mp4"),
    ]
    assert read_items(tmp_path / "mine.parquet", ["/else"], None).entries[0].target == Path("/else/x/0.mp4")


def test_what_is_wrong_with_a_table(tmp_path: Path) -> None:
    table = tmp_path / "items.csv"
    for text, why in (
        ("targt,source\na,b\n", "a column `target` or `item` is needed"),
        ("target,source\n,b\n", "`target` is empty"),
        ("target,source\na,b,c\n", "3 cells for 2 columns"),
        ("item,item\na,b\n", "two columns 'item'"),
    ):
        table.write_text(text)
        with pytest.raises(UsageError, match=why):
            read_items(table, [], None)
    with pytest.raises(UsageError, match="no such table"):
        read_items(tmp_path / "gone.csv", [], None)
    table.write_text(ITEMS)
    with pytest.raises(UsageError, match="name the folder of the results"):
        read_items(table, [], None)

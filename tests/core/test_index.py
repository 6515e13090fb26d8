from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from ffpdata.core import index
from ffpdata.core.index import not_done
from ffpdata.core.manifest import Manifest, column_tag, stage_schema
from ffpdata.core.store import Store
from ffpdata.core.views import scan


def wanted(*keys: str) -> pa.Table:
    return pa.table({"item_id": [f"item-{key}" for key in keys], "key": list(keys)})


@pytest.mark.parametrize("slice_rows", [2, 1000])
def test_only_keys_without_a_finished_row_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_rows: int
) -> None:
    monkeypatch.setattr(index, "SLICE_ROWS", slice_rows)
    store = Store(tmp_path)
    rows = [{"key": "a", "status": "ok"}, {"key": "b", "status": "rejected"}, {"key": "c", "status": "failed"}]
    Manifest(store).append("segment", rows, stage_schema({}))
    Manifest(store).append("segment", [{"key": "d", "status": "ok"}], stage_schema({}))
    with duckdb.connect() as connection:
        left = not_done(connection, store, "segment", wanted(*"abcdefg"))
        assert sorted(left["key"].to_pylist()) == ["c", "e", "f", "g"]
        assert set(left["item_id"].to_pylist()) == {"item-c", "item-e", "item-f", "item-g"}
        assert not_done(connection, store, "segment", wanted()).num_rows == 0
        assert not_done(connection, store, "other", wanted("a")).num_rows == 1


def test_parts_with_other_columns_are_read_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifest = Manifest(store)
    manifest.append("segment", [{"item_id": "a", "key": "1"}], stage_schema({}))
    manifest.append("segment", [{"item_id": "b", "key": "2", "area": 0.5}], stage_schema({"area": float}))
    manifest.append("segment", [{"item_id": "c", "key": "3"}], stage_schema({}))
    query = f"select item_id, area, part_row from {scan(store, 'segment')} order by part"
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == [("a", None, 0), ("b", 0.5, 0), ("c", None, 0)]
    assert len({column_tag(part) for part in manifest.parts("segment")}) == 2
    manifest.compact("segment")
    assert len(manifest.parts("segment")) == 1
    query = f"select item_id, area, part_row from {scan(store, 'segment')} order by part_row"
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == [("a", None, 0), ("b", 0.5, 1), ("c", None, 2)]

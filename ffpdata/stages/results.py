"""Take one output of a method: its words, and hashes of its files, so that what is scored is named by content."""

from __future__ import annotations

from typing import Any

from ffpdata.core.keys import digest, source_id
from ffpdata.core.stage import Child, Reject, Row, Stage
from ffpdata.stages.source import open_regular


class Results(Stage):
    """Turn an entry of an evaluation's table into an item that is named by the hash of the output's bytes."""

    name, version = "results", 1
    reads = ("path", "fingerprint", "problem", "meta")
    uses = ("root",)
    optional = ("problem",)
    writes = {
        **dict.fromkeys(("method", "item", "category", "instruction", "target_caption"), str),
        **dict.fromkeys(("path", "target_sha", "source_path", "source_sha", "image_path", "image_sha"), str),
    }
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        """Return one child.

        Raises:
            Reject: `missing_output`, or of the file: `empty_file`, `not_a_regular_file`, ...
        """
        given = row.get("meta") or {}
        columns: dict[str, Any] = {n: given.get(n) for n in ("method", "item", "category", "instruction")}
        columns |= {"target_caption": given.get("target_prompt"), "path": row["path"]}
        columns |= {"source_path": given.get("source"), "image_path": given.get("first_frame")}
        if row.get("problem"):
            reason, detail = row["problem"]
            raise Reject(reason, detail, columns)
        try:
            columns["target_sha"] = _hash(row, row["path"])
        except Reject as err:
            if err.reason == "missing_file":
                raise Reject("missing_output", f"{row['path']} is not there", columns) from None
            raise Reject(err.reason, err.detail, columns) from None
        for name in ("source", "image"):
            columns[f"{name}_sha"] = _hash_if_there(row, columns[f"{name}_path"])
        sha = str(columns["target_sha"])
        return [Child(f"{sha}-{digest(columns['method'], columns['item'])[:6]}", columns, source_id=sha)]


def _hash(row: Row, path: str) -> str:
    with open_regular(row.input(path)) as stream:
        if not stream.read(1):
            raise Reject("broken_output", f"{path} has 0 bytes")
        stream.seek(0)
        return source_id(stream)


def _hash_if_there(row: Row, path: str | None) -> str | None:
    """None where there is none, or where it cannot be read: the next stage says so."""
    if not path:
        return None
    try:
        return _hash(row, path)
    except Reject:
        return None

"""An output and what it was made of: hashes, words, and an output that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffpdata.core.keys import source_id
from ffpdata.core.stage import Reject
from ffpdata.stages.results import Results
from tests.stages.alone import Alone

META = {"method": "ours", "item": "7", "instruction": "Make it red.", "target_prompt": "A red wall."}


def test_files_are_named_by_content(tmp_path: Path) -> None:
    for name in ("output", "source"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    given = {"path": "output.mp4", "fingerprint": "1-1", "root": str(tmp_path)}
    meta = {**META, "source": "source.mp4", "first_frame": "gone.png"}
    [child] = Alone(tmp_path).expand(Results(), **given, meta=meta)
    assert child.source_id == child.suffix[:16] == child.columns["target_sha"]
    with (tmp_path / "source.mp4").open("rb") as stream:
        assert child.columns["source_sha"] == source_id(stream)
    assert (child.columns["image_path"], child.columns["image_sha"]) == ("gone.png", None)
    assert (child.columns["target_caption"], child.columns["instruction"]) == ("A red wall.", "Make it red.")
    [other] = Alone(tmp_path).expand(Results(), **given, meta={**meta, "method": "theirs"})
    assert other.suffix != child.suffix, "the same output of two methods is two items"
    assert Results().key_of({**given, "meta": meta}) == Results().key_of({**given, "meta": meta, "root": "/else"})


def test_what_is_no_output_keeps_its_names(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    problem = ["path_outside_input", "it is elsewhere"]
    for path, more, reason in (
        ("gone.mp4", {}, "missing_output"),
        ("empty.mp4", {}, "broken_output"),
        (".", {}, "not_a_regular_file"),
        ("gone.mp4", {"problem": problem}, "path_outside_input"),
    ):
        with pytest.raises(Reject) as found:
            Alone(tmp_path).expand(Results(), path=path, root=str(tmp_path), meta=META, **more)
        assert found.value.reason == reason
        assert (found.value.facts["method"], found.value.facts["item"]) == ("ours", "7")

"""What names a sample's content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ffpdata.training.removal_sample import RemovalSample, content_key


def sample(folder: Path) -> RemovalSample:
    paths = {name: folder / f"{name}.mp4" for name in ("source_video", "condition_mask", "target_video")}
    folder.mkdir()
    for path in paths.values():
        path.write_text(path.name)
    return RemovalSample(item_id="a", prompt="A yard.", negative="dog", seed=1, pair="p", verdict="accept", **paths)


def test_a_sample_is_what_its_files_hold_and_what_is_asked_wherever_it_lies(tmp_path: Path) -> None:
    here, there = sample(tmp_path / "here"), sample(tmp_path / "there")
    assert content_key(here) == content_key(there)
    for changed in ({"prompt": "A wall."}, {"negative": "cat"}, {"seed": 2}):
        assert content_key(replace(here, **changed)) != content_key(here)
    there.target_video.write_text("another")
    assert content_key(there) != content_key(here)


def test_files_whose_content_has_a_name_are_not_read(tmp_path: Path) -> None:
    one = replace(sample(tmp_path / "one"), content="abc")
    key = content_key(one)
    one.target_video.unlink()
    assert content_key(one) == key != content_key(replace(one, content="abd"))

"""The `export` section: what it may name, and how it says what is wrong."""

from pathlib import Path

import pytest

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.errors import ConfigError
from ffpdata.core.sections import FIXED_COLUMNS, FIXED_MEMBERS, LONGEST_MEMBER, ExportSettings
from ffpdata.export.pair_record import FIRST_FRAME, MEMBERS, RECORD
from ffpdata.export.reproducible_tar import header
from ffpdata.export.shard_index import INDEX
from ffpdata.export.shard_plan import MAX_KEY


def style(*overrides: str) -> Pipeline:
    return load_pipeline("stylization", overrides=overrides)


def test_a_section_by_overrides() -> None:
    whole = style("export.members={depth.mp4: depth_video}", "export.columns=[depth_kind, edit_facts]").export
    assert whole == ExportSettings(members={"depth.mp4": "depth_video"}, columns=["depth_kind", "edit_facts"])
    parted = style("export.members.depth.mp4=depth_video", "export.members.a.b.png=reference_image").export
    assert parted.members == {"depth.mp4": "depth_video", "a.b.png": "reference_image"}
    assert style("export.members={a.mp4: depth_video}", "export.members.a.mp4=source_video").export.members == {
        "a.mp4": "source_video"
    }
    assert load_pipeline("local_editing").export == ExportSettings()


def test_all_that_is_wrong_is_one_error_with_file_and_line(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "pipelines/stylization.yaml").read_text()
    lines = text.count("\n")
    section = "export:\n  members:\n    depth.mp4: depth_vdeo\n  columns:\n    - depth_kind\n    - depth_knd\n"
    (tmp_path / "mine.yaml").write_text(text + section)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(str(tmp_path / "mine.yaml"))
    told = "{}/mine.yaml:{}: export.{}: no stage of this pipeline writes a {}; did you mean {}?".format
    assert str(caught.value).splitlines() == [
        told(tmp_path, lines + 3, "members", "file 'depth_vdeo'", "'depth_video'"),
        told(tmp_path, lines + 6, "columns", "column 'depth_knd'", "'depth_kind'"),
    ]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("members={source.mp4: depth_video}", "'source.mp4' is a file of every sample"),
        ("members={json: depth_video}", "'json' is a file of every sample"),
        ("members={mask.mp4: mask_video}", "'mask.mp4' is a file of every sample"),
        ("members={Depth.mp4: depth_video}", "'Depth.mp4' is no name of a member: .* lower-case"),
        ("members={depth: depth_video}", "'depth' is no name of a member"),
        ("members={.mp4: depth_video}", "is no name of a member"),
        ("members={a/depth.mp4: depth_video}", "is no name of a member"),
        ("members={__key__.mp4: depth_video}", "is no name of a member"),
        (f"members={{{'d' * 32}.mp4: depth_video}}", "has 36 characters, a member's name at most 35"),
        ("members={depth.npy: depth_video}", r"the files of 'depth_video' end in \.mp4"),
        ("members={kind.mp4: depth_kind}", "'depth_kind' holds no file: list it under `columns`"),
        ("columns=[depth_video]", "'depth_video' holds files: write depth_video.mp4: depth_video under `members`"),
        ("columns=[depth_kind, depth_kind]", "'depth_kind' is listed twice"),
        ("columns=[instruction]", "every index has a column 'instruction' already"),
        ("columns=[mask_coverage]", "no stage of this pipeline writes a column 'mask_coverage'"),
        ("columns=depth_kind", "export.columns: must be a list"),
        ("colums=[a]", "unknown entry 'export.colums'; did you mean 'columns'"),
    ],
)
def test_what_cannot_be_exported_is_refused(section: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^--set export.*{told}"):
        style(f"export.{section}")


def test_what_every_sample_has_is_what_the_export_writes() -> None:
    assert {*MEMBERS, FIRST_FRAME, RECORD} == FIXED_MEMBERS
    assert set(INDEX.names) == FIXED_COLUMNS
    assert header(f"{'k' * MAX_KEY}.{'m' * LONGEST_MEMBER}", 0)
    with pytest.raises(ValueError, match="name is too long"):
        header(f"{'k' * MAX_KEY}.{'m' * LONGEST_MEMBER}x", 0)

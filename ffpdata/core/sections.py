"""Sections of a pipeline file: how the input is read, what becomes of finished pairs, and what an export adds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.stage import Artifact


class InputSettings(BaseModel):
    """How `--input` is read."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["clips", "styled", "referenced", "propagated"] = "clips"
    """`clips`: a folder, glob or table of videos. `styled`: sources with style references (`content/` and `style/`).
    `referenced`: clips with pictures of what is to be put into them (`content/` and `reference/`). `propagated`: a
    table of clips, each with its first frame after an edit (`path` and `edited_first_frame`)."""
    root: str = ""
    """Folder that every path of a table must lie in; by default the folder of the table."""
    styles_per_source: int = Field(default=2, ge=1)
    """How many style references a source is offered where the table names none; see `references.most`."""
    references_per_source: int = Field(default=1, ge=1)
    """How many pictures of objects a source gets where the table names none, for `referenced`."""


CAPPED = ("task", "object", "style", "motion", "aspect")
"""What `curate.caps` can count by; see `curate/balance.py`."""


class CurateSettings(BaseModel):
    """What happens to finished pairs before export; see `ffpdata/curate/`."""

    model_config = ConfigDict(extra="forbid")

    variants: Literal["best", "all"] = "best"
    """Keep only the better of an item's variants by score, or all of them."""
    duplicate_bits: int = Field(default=10, ge=0, le=64)
    """Two frames whose 64-bit perceptual hashes differ in at most so many bits count as the same picture."""
    duplicate_cosine: float = Field(default=0.5, ge=0.4, le=1)
    """Two clips whose vectors (stage `embed`) have at least this cosine count as the same, beside those by hash."""
    verdicts: Literal["use", "ignore", "require"] = "use"
    """Of reviewers: `use` keeps out what they reject, `require` also what they did not accept, `ignore` neither."""
    splits: dict[str, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}
    """Split name to fraction; a source belongs to exactly one."""
    seed: int = 0
    caps: dict[str, int] = {}
    """Most kept pairs with one value: `{object: 2000, task: 100000}`. The best by score stay; motion has bands."""
    together: list[Literal["style"]] = []
    """What shares a split beside a source and those that look like it: `style`, sources with one style image."""

    @field_validator("caps")
    @classmethod
    def _check_caps(cls, caps: dict[str, int]) -> dict[str, int]:
        for name in caps:
            if name not in CAPPED:
                raise ValueError(f"{name!r} has no cap{nearest(name, CAPPED)}")
        if wrong := {name: cap for name, cap in caps.items() if cap < 1}:
            raise ValueError(f"a cap is at least 1, not {wrong}; leave out what has none")
        return caps

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, splits: dict[str, float]) -> dict[str, float]:
        bad = sorted(name for name in splits if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name))
        if bad:
            raise ValueError(f"a split names a folder of the export: use letters, digits, - and _, not {bad}")
        if not splits or min(splits.values()) < 0 or not 0 < sum(splits.values()) < math.inf:
            raise ValueError("the fractions must be at least 0 and one of them above it")
        return splits


FIXED_MEMBERS = frozenset({"source.mp4", "target.mp4", "mask.mp4", "edited_first_frame.png", "json"})
"""Files that samples have without being asked; `export/pair_record.py` makes them."""

FIXED_COLUMNS = frozenset(
    {
        *("key", "item_id", "source_id", "source_group", "track", "task", "split", "object", "instruction", "licence"),
        *("score", "width", "height", "frames", "fps", "bytes", "members"),
        *("variant", "caption", "target_caption", "motion", "mask_area", "scores", "licence_class", "derived_from"),
    }
)
"""Columns that every index has; `export/shard_index.py` writes them."""

MEMBER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)+")
"""webdataset puts members in lower case, takes the name of a sample up to the first dot and keeps names with `__` for
itself: what is written so comes out of it as it was put in."""

LONGEST_MEMBER = 35
"""Characters. With the longest key (64) and the dot between them that is what a plain tar header holds (100)."""


CONDITIONS = {"reference": ("reference.png", "reference_image"), "depth": ("depth.mp4", "depth_video")}
"""What conditions an edit beside its instruction: name to the file in a sample and the column that it is from."""


class ExportSettings(BaseModel):
    """What `ffpdata export` adds to the samples of a track, and which pairs it takes."""

    model_config = ConfigDict(extra="forbid")

    inverse: bool = False
    """Also write every removal backwards, as an `addition` with key, instruction and captions of its own. Off by
    default: the source of such a pair is what a model made, and not every trainer wants that."""
    conditions: list[Literal["reference", "depth"]] = []
    """Files of a track whose stages write them: the style or object image (`reference.png`), the source's depth
    (`depth.mp4`). Under other names: `members`."""
    licences: list[
        Literal["public-domain", "attribution", "share-alike", "non-commercial", "restricted", "unknown"]
    ] = []
    """Take only pairs whose inherited licence is of one of these classes (`core/licences.py`); empty: all."""

    members: dict[str, str] = {}
    """Name of a file in a sample (`depth.mp4`) to the artifact column that it is a copy of (`depth_video`)."""
    columns: list[str] = []
    """Plain columns: each is an entry of `columns` in the record, and a column of the index."""

    @field_validator("members", mode="before")
    @classmethod
    def _flat(cls, members: Any) -> Any:
        """Put names together that `--set export.members.depth.mp4=depth_video` takes apart at their dots."""
        if not isinstance(members, Mapping):
            return members
        flat: dict[str, Any] = {}
        for name, column in members.items():
            if isinstance(column, Mapping):
                flat |= {f"{name}.{rest}": value for rest, value in cls._flat(column).items()}
            else:
                flat[str(name)] = column
        return flat

    def files_of(self, writes: Mapping[str, Any]) -> dict[str, str]:
        """Return `members` with those of `conditions` that stages which write these columns have."""
        asked = dict(CONDITIONS[name] for name in self.conditions)
        return {member: column for member, column in asked.items() if column in writes} | self.members

    def check(self, writes: Mapping[str, Any], file: str, lines: Mapping[tuple[str, ...], str] | None = None) -> None:
        """Refuse what cannot be exported, all of it in one ConfigError.

        Args:
            writes: columns that the stages of the pipeline write, and their types.
            file: what set these settings, for messages.
            lines: path of an entry of the pipeline to the `file:line` that set it.
        """
        lines = lines or {}
        wrong = []
        for section, name, text in self._problems(writes):
            entry = ("export", section)
            places = [(*entry, name), (*entry, *name.split(".")), entry, entry[:1]]
            spot = next((lines[place] for place in places if place in lines), file)
            wrong.append(f"{spot}: export.{section}: {text}")
        if wrong:
            raise ConfigError("\n".join(wrong))

    def _problems(self, writes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """The section of each wrong entry, its name there, and what is wrong."""
        files = {name: kind for name, kind in writes.items() if isinstance(kind, Artifact)}
        for member, column in self.members.items():
            wrong = _member_problem(member) or _file_problem(member, column, files, writes)
            if wrong:
                yield "members", member, wrong
        plain = set(writes) - set(files) - FIXED_COLUMNS
        for place, column in enumerate(self.columns):
            wrong = _column_problem(column, files, plain)
            if column in self.columns[:place]:
                wrong = f"{column!r} is listed twice"
            if wrong:
                yield "columns", column, wrong


def _member_problem(member: str) -> str:
    if member in FIXED_MEMBERS:
        return f"{member!r} is a file of every sample: choose another name"
    if not MEMBER_NAME.fullmatch(member):
        return (
            f"{member!r} is no name of a member: write <name>.<extension> in lower-case letters, digits, - and _ "
            "(webdataset would read it as another key)"
        )
    if len(member) > LONGEST_MEMBER:
        return f"{member!r} has {len(member)} characters, a member's name at most {LONGEST_MEMBER}"
    return ""


def _file_problem(member: str, column: str, files: Mapping[str, Artifact], writes: Mapping[str, Any]) -> str:
    if column not in files:
        if column in writes:
            return f"the column {column!r} holds no file: list it under `columns`"
        return f"no stage of this pipeline writes a file {column!r}{nearest(column, files)}"
    ext = files[column].ext
    if not member.endswith(f".{ext}"):
        return f"the files of {column!r} end in .{ext}: the member's name must, too"
    return ""


def _column_problem(column: str, files: Mapping[str, Artifact], plain: set[str]) -> str:
    if column in FIXED_COLUMNS:
        return f"every index has a column {column!r} already: leave it out, or give a column of your own another name"
    if column in files:
        return f"the column {column!r} holds files: write {column}.{files[column].ext}: {column} under `members`"
    if column not in plain:
        return f"no stage of this pipeline writes a column {column!r}{nearest(column, plain)}"
    return ""

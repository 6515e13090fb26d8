"""What the `export` sections of a run's tracks add: files of a sample, entries of its record, columns of the index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from ffpdata.core.config import Pipeline
from ffpdata.core.errors import FatalError, nearest
from ffpdata.core.sections import ExportSettings
from ffpdata.core.stage import Stage
from ffpdata.manifests.manifest import arrow_type, encode
from ffpdata.manifests.views import in_items, of_each

INVERSE = "inverse_of"
"""Column of the chosen rows that only inverse pairs have a value in; see `export/inverse.py`."""
COLUMNS = "columns"
"""Entry of a record that holds the plain columns of the pipeline's own choice."""


@dataclass(frozen=True)
class Extra:
    """One file or plain column that a track adds.

    Attributes:
        name: of the file in a sample, or of the column.
        column: the column of the run that it is from.
        kind: type of the column as its stage declares it; an `Artifact` for a file.
        stage: the stage that wrote it, the last one where several do.
        given: what the view `items` calls the column, of the last stage first.
    """

    name: str
    column: str
    kind: Any
    stage: str
    given: tuple[str, ...]


@dataclass(frozen=True)
class Extras:
    """What all tracks of a run add; empty where no pipeline has an `export` section.

    Attributes:
        members: per track its files.
        columns: per track its plain columns.
        sections: per track its section, as far as it says something.
        stages: per track its stages, of which pairs inherit their licences; empty where these are not asked for.
    """

    members: Mapping[str, Sequence[Extra]] = field(default_factory=dict)
    columns: Mapping[str, Sequence[Extra]] = field(default_factory=dict)
    sections: Mapping[str, ExportSettings] = field(default_factory=dict)
    stages: Mapping[str, Sequence[Stage]] = field(default_factory=dict)

    @classmethod
    def of(cls, pipelines: Mapping[str, Pipeline], sections: Mapping[str, ExportSettings] | None = None) -> Extras:
        """Look up what the tracks add.

        Args:
            pipelines: per track the pipeline that says it.
            sections: per track what holds in place of its pipeline's `export` section.

        Raises:
            ConfigError: a section names what cannot be exported.
            FatalError: there is no such track, or two tracks have a column of one name and two types.
        """
        sections = sections or {}
        for track in sections:
            if track not in pipelines:
                raise FatalError(f"export: the run has no track {track!r}{nearest(track, pipelines)}")
        wanted = {track: sections.get(track, pipeline.export) for track, pipeline in pipelines.items()}
        stages = {track: pipeline.build() for track, pipeline in pipelines.items()}
        taken = of_each({track: [stage.name for stage in made] for track, made in stages.items()})
        members, columns = {}, {}
        for track, section in wanted.items():
            made = stages[track]
            writes = {n: kind for stage in made for n, kind in stage.writes.items()}
            section.check(writes, f"track {track!r}")
            members[track] = [_extra(m, c, made, taken) for m, c in sorted(section.files_of(writes).items())]
            columns[track] = [_extra(c, c, made, taken) for c in sorted(section.columns)]
        _check_types([extra for found in columns.values() for extra in found], stages)
        return cls(members, columns, wanted, stages)

    def with_inverse(self) -> Extras:
        """The same, with the inverse pairs of every track."""
        asked = {track: section.model_copy(update={"inverse": True}) for track, section in self.sections.items()}
        return replace(self, sections=asked)

    @property
    def inverse(self) -> list[str]:
        """Tracks whose removals are written backwards, too."""
        return sorted(track for track, section in self.sections.items() if section.inverse)

    @property
    def licences(self) -> dict[str, list[str]]:
        """Classes of the licences of the pairs that are taken, of the tracks that do not take all."""
        return {track: list(section.licences) for track, section in self.sections.items() if section.licences}

    @property
    def given(self) -> set[str]:
        """Columns of the view `items` that are needed."""
        return {name for each in (self.members, self.columns) for es in each.values() for e in es for name in e.given}

    @property
    def kinds(self) -> dict[str, Any]:
        """Name and type of every plain column, of all tracks together, sorted by name."""
        kinds = {extra.name: extra.kind for found in self.columns.values() for extra in found}
        return dict(sorted(kinds.items()))

    @property
    def schema(self) -> list[pa.Field]:
        """The same as columns of the index."""
        return [pa.field(name, arrow_type(kind)) for name, kind in self.kinds.items()]

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Per track the `export` section that says it; tracks that add nothing are left out."""
        sections: dict[str, dict[str, Any]] = {}
        for track in sorted(self.members):
            members = {extra.name: extra.column for extra in self.members[track]}
            columns = [extra.name for extra in self.columns[track]]
            if members or columns:
                sections[track] = {"members": members, "columns": columns}
            switches = {"inverse": track in self.inverse, "licences": sorted(self.licences.get(track, ()))}
            if told := {name: value for name, value in switches.items() if value}:
                sections[track] = sections.get(track, {}) | told
        return sections

    def files(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Member name to path in the run folder, of what the pair has; an inverse pair has none of these files."""
        if row.get(INVERSE):
            return {}
        found = {e.name: _first(row, e.given) for e in self.members.get(str(row["track"]), ())}
        return {name: path for name, path in found.items() if path}

    def file_columns(self, track: str) -> dict[str, str]:
        """Member name to the column of the run that it is from."""
        return {extra.name: extra.column for extra in self.members.get(track, ())}

    def values(self, track: str, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The entry `COLUMNS` of a record: every column that its track adds, None where the pair has no value."""
        return {extra.name: columns.get(extra.column) for extra in self.columns.get(track, ())}

    def index_columns(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The same values as the index holds them."""
        kinds = {extra.name: extra.kind for extra in self.columns.get(record["track"], ())}
        return encode(record.get(COLUMNS, {}), kinds)

    def describe(self, counts: Counter[tuple[str, str]]) -> dict[str, list[dict[str, Any]]]:
        """What `dataset.json` lists of them; `counts` has the pairs with each, by track and name."""

        def told(track: str, extra: Extra) -> dict[str, Any]:
            return {"name": extra.name, "track": track, "stage": extra.stage, "pairs": counts[track, extra.name]}

        members = [told(t, e) | {"column": e.column} for t, es in sorted(self.members.items()) for e in es]
        columns = [told(t, e) | {"type": type_name(e.kind)} for t, es in sorted(self.columns.items()) for e in es]
        return {"members": members, "columns": columns}


def type_name(kind: Any) -> str:
    """A column's type as its stage writes it down: `float`, `list[str]`."""
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _extra(name: str, column: str, stages: Sequence[Stage], taken: Collection[str]) -> Extra:
    writers = [stage for stage in stages if column in stage.writes][::-1]
    given = tuple(dict.fromkeys(in_items(stage.name, column, taken) for stage in writers))
    return Extra(name, column, writers[0].writes[column], writers[0].name, given)


def _check_types(columns: Sequence[Extra], stages: Mapping[str, Sequence[Stage]]) -> None:
    """Refuse a column that has another type elsewhere: the tracks share their tables."""
    for extra in columns:
        for track, made in stages.items():
            for stage in made:
                kind = stage.writes.get(extra.column, extra.kind)
                if kind != extra.kind:
                    raise FatalError(
                        f"export.columns: {extra.column!r} is {type_name(extra.kind)} of the stage {extra.stage!r} and "
                        f"{type_name(kind)} of the stage {stage.name!r} of the track {track!r}: rename one of them"
                    )


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)

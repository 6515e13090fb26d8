"""The view `yields`: how many edits each model tried, how many it made, and how many of these passed what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from ffpdata.manifests.sql_text import literal, quote

YIELDS = "yields"
OWN = ("track", "task", "model", "back_end", "tried", "made", "accepted", "seconds")
"""Columns of every row, beside one for each stage after the one that makes the edit."""

_MADE = "target_video"


def create_yields(connection: duckdb.DuckDBPyConnection, tracks: Mapping[str, Sequence[str]], curate: str) -> None:
    """Create the view from those of the stages: a row for each track, task, model and name among several back ends.

    `task` is the one that was asked for, before a stage corrected it. A stage's column counts the edits that passed it,
    and is null where none came to it. `seconds` is the time of all that were tried.

    Args:
        connection: with a view of every stage.
        tracks: per track the names of its stages in order.
        curate: name of the view of the curation's decisions.
    """
    columns = {stage: set(connection.view(stage).columns) for stages in tracks.values() for stage in stages}
    found = [query for track, stages in tracks.items() if (query := _of_track(track, stages, columns, curate))]
    nothing = "null::varchar as track, null::varchar as task, null::varchar as model, null::varchar as back_end, "
    nothing += "null::bigint as tried, null::bigint as made, null::bigint as accepted, null::double as seconds"
    found.append(f"(select {nothing} where false)")
    connection.execute(f"create view {YIELDS} as {' union all by name '.join(found)}")


def _of_track(track: str, stages: Sequence[str], columns: Mapping[str, set[str]], curate: str) -> str:
    """The rows of one track; empty where none of its stages makes an edit."""
    maker = next((stage for stage in stages if _MADE in columns[stage]), None)
    if maker is None:
        return ""
    place = stages.index(maker)
    planned = next((stage for stage in stages[:place] if "task" in columns[stage]), None)
    mine = f"where track = {literal(track)}"
    joins = f"(from {quote(maker)} {mine}) m"
    named = {"task": "null::varchar", "back_end": "null::varchar"}
    if planned:
        # An edit that is no longer asked for has its row still: its key is that of work that holds.
        joins += f" join (from {quote(planned)} {mine}) p on p.item_id = m.entered_id"
        named |= {name: f"p.{name}" for name in named if name in columns[planned]}
    counts = []
    for number, stage in enumerate([*stages[place + 1 :], curate]):
        joins += f" left join (select entered_id, status from {quote(stage)} {mine}) s{number}"
        joins += f" on s{number}.entered_id = m.item_id"
        passed = f"count(*) filter (s{number}.status = 'ok')"
        if stage == curate:
            counts.append(f"{passed} as accepted")
        elif stage not in OWN:
            counts.append(f"case when count(s{number}.status) > 0 then {passed} end as {quote(stage)}")
    given = ", ".join(f"{text} as {name}" for name, text in named.items())
    return (
        f"(select {literal(track)} as track, {given}, m.model, "
        f"count(*) as tried, count(*) filter (m.status = 'ok') as made, {', '.join(counts)}, sum(m.seconds) as seconds "
        f"from {joins} group by all)"
    )

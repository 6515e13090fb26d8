"""Curation of a run: which finished pairs are kept, and in which split each source is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from ffpdata.core.keys import digest
from ffpdata.core.sections import CurateSettings
from ffpdata.curate import balance, dedup, likeness, select, split, verdicts
from ffpdata.manifests.manifest import stage_schema, worker_label
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.tombstones import STYLE, TAKEN_DOWN, Tombstones
from ffpdata.manifests.views import CURATE, IS_PAIR, PAIR

VERSION = 1
"""Raised whenever the rules change: all decisions are then made again."""

WRITES = {"split": str, "source_group": str}
"""Columns of the `curate` manifest beside the common ones."""

NOT_BEST, DUPLICATE = "not_best_variant", "near_duplicate"
BY_REVIEWER, NOT_REVIEWED = "rejected_by_reviewer", "not_reviewed"
OVER_CAP = "over_cap"
LIKE_TAKEN_DOWN = "like_taken_down"
"""Reason of a copy of a pair whose source was taken down since: it does not take its place."""

_IDENTITY = ("item_id", "parent_id", "source_id")
_COLUMNS = ("task", "object", STYLE, "reference_id", "source_vector", "target_vector", *select.RANKING)
_HASHES = ("source_hash", "target_hash")


class Hashes(NamedTuple):
    """Hashes of the source and the target of each pair."""

    sources: dedup.ClipHashes
    targets: dedup.ClipHashes

    @classmethod
    def of(cls, pairs: Sequence[Mapping[str, Any]]) -> Hashes:
        """Take them from the pairs themselves."""
        return cls(*(dedup.parse_hashes(pair.get(name) for pair in pairs) for name in _HASHES))


@dataclass(frozen=True)
class CurateResult:
    """Result of a curation.

    Attributes:
        pairs: number of kept pairs.
        rejected: reason to number of pairs.
        splits: split to number of kept pairs.
        sources: number of sources of the kept pairs.
        groups: number of groups of look-alike sources among these.
        written: number of decisions that are new or changed.
    """

    pairs: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    sources: int = 0
    groups: int = 0
    written: int = 0


def curate(run: RunFolder, guard: Callable[[], None] | None = None) -> CurateResult:
    """Decide on every pair that passed all stages, of all tracks, and commit the decisions that changed.

    The settings are those of the run's newest start. A second call without new pairs writes nothing.

    Args:
        run: the run; the caller holds its lock.
        guard: called before writing; raises where the lock was lost.
    """
    started, clock, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    settings = current_settings(run)
    with run.reading() as connection:
        pairs, hashes, current_keys = _read(run, connection)
    decisions = decide(pairs, settings, Tombstones.load(run.store), hashes)
    changed = [
        (pair, decision)
        for pair, decision in zip(pairs, decisions, strict=True)
        if current_keys.get((pair["track"], pair["item_id"])) != decision["key"]
    ]
    if changed:
        common = {
            "stage": CURATE,
            "attempt": 1,
            "started_at": started,
            "seconds": round((time.perf_counter() - clock) / len(changed), 4),
            "cpu_seconds": round((time.process_time() - cpu) / len(changed), 4),
            "worker": worker_label(),
        }
        names = (*_IDENTITY, "track", "upstream")
        rows = [
            common | {name: pair[name] for name in names} | {"entered_id": pair["item_id"]} | decision
            for pair, decision in changed
        ]
        if guard:
            guard()
        run.manifest.append(CURATE, rows, stage_schema(WRITES))
    kept = [(p, d) for p, d in zip(pairs, decisions, strict=True) if d["status"] == "ok"]
    return CurateResult(
        pairs=len(kept),
        rejected=dict(sorted(Counter(d["reason"] for d in decisions if d["reason"]).items())),
        splits={name: sum(d["split"] == name for _, d in kept) for name in settings.splits},
        sources=len({p["source_id"] for p, _ in kept}),
        groups=len({d["source_group"] for _, d in kept}),
        written=len(changed),
    )


def current_settings(run: RunFolder) -> CurateSettings:
    """Return the curation settings of a run: those of its newest start apply to all tracks."""
    starts = run.starts()
    return CurateSettings.model_validate(starts[-1]["pipeline"]["curate"]) if starts else CurateSettings()


@dataclass(frozen=True)
class _Compared:
    """What the comparison of all pairs with each other says.

    Attributes:
        sources: which pairs' source videos look alike.
        refused: position to reason and error of pairs that are kept out whatever the others are; these replace none.
        worse: position of every variant that is not the best, to that of the best.
        copies: position of every near-duplicate to that of the better pair.
        late: positions of copies of pairs whose source was taken down.
        over: position to the reason, in words, of those that a cap keeps out.
    """

    sources: dedup.LookAlikes
    refused: dict[int, tuple[str, str]]
    worse: dict[int, int]
    copies: dict[int, int]
    late: set[int]
    over: dict[int, str]


def _compare(
    pairs: list[dict[str, Any]], hashes: Hashes, settings: CurateSettings, tombstones: Tombstones
) -> _Compared:
    bits, cosine = settings.duplicate_bits, settings.duplicate_cosine
    sources = dedup.find_look_alikes(hashes.sources, bits)
    vectors = likeness.ClipVectors([p.get("source_vector") for p in pairs])
    sources = dedup.together(sources, likeness.find_look_alikes(vectors, cosine))
    refused = _refused_by_reviewers(pairs, settings) | _taken_down(pairs, tombstones)
    order = [position for position in select.rank(pairs) if position not in refused]
    worse = select.worse_variants(pairs, order) if settings.variants == "best" else {}
    twins = tombstones.twins
    late = {position for position in order if twins and select.edit_of(pairs[position]) in twins} - set(worse)
    remaining = [position for position in order if position not in worse and position not in late]
    edited = likeness.ClipVectors([p.get("target_vector") for p in pairs])
    copies = dedup.near_duplicates(
        pairs, remaining, sources, hashes.targets, bits, also=lambda i, j: edited.cosines(i, j) >= cosine
    )
    over = balance.over_caps(pairs, [position for position in remaining if position not in copies], settings.caps)
    return _Compared(sources, refused, worse, copies, late, over)


def _groups(
    pairs: list[dict[str, Any]], sources: dedup.LookAlikes, settings: CurateSettings, tombstones: Tombstones
) -> list[str]:
    """Name of the group of each pair: what is in one group is in one split."""
    tied = [pair.get(STYLE) for pair in pairs] if "style" in settings.together else ()
    return split.source_groups([pair["source_id"] for pair in pairs], sources, tombstones.groups, tied)


def decide(
    pairs: list[dict[str, Any]],
    settings: CurateSettings,
    tombstones: Tombstones | None = None,
    hashes: Hashes | None = None,
) -> list[dict[str, Any]]:
    """Decide on each pair.

    Args:
        pairs: the finished pairs: identity, task, scores, hashes, vectors where there are any, and `decision` of the
            reviewers (a `verdicts.Decision`) where there is one.
        settings: of the curation.
        tombstones: sources that were taken down.
        hashes: of the pairs, where they are not among their columns.

    Returns:
        Per pair `status`, `reason`, `error` (which pair is better, or what reviewers decided), `split`, `source_group`
        and `key`.
    """
    tombstones = tombstones or Tombstones()
    found = _compare(pairs, hashes or Hashes.of(pairs), settings, tombstones)
    groups = _groups(pairs, found.sources, settings, tombstones)
    split_names = {group: split.split_of(group, settings.splits, settings.seed) for group in set(groups)}
    decisions = []
    for position, (pair, group) in enumerate(zip(pairs, groups, strict=True)):
        reason, error = found.refused.get(position, (None, None))
        if position in found.worse:
            winner = pairs[found.worse[position]]
            reason, error = NOT_BEST, f"{winner['item_id']} is better: {_comparison(winner, pair)}"
        elif position in found.copies:
            winner = pairs[found.copies[position]]
            reason, error = DUPLICATE, f"{winner['item_id']} shows the same: {_comparison(winner, pair)}"
        elif position in found.late:
            reason, error = LIKE_TAKEN_DOWN, "it shows the same as a pair whose source was taken down"
        elif position in found.over:
            reason, error = OVER_CAP, found.over[position]
        decision = {
            "status": "rejected" if reason else "ok",
            "reason": reason,
            "error": error,
            "split": split_names[group],
            "source_group": group,
        }
        decisions.append(decision | {"key": digest(CURATE, VERSION, pair["track"], pair["item_id"], decision)})
    return decisions


@dataclass(frozen=True)
class Bonds:
    """What ties the pairs that stay to those of one source.

    Attributes:
        groups: name of the group of look-alikes of every other source that shares one with it.
        twins: edits of others that are left out as copies of its pairs.
    """

    groups: dict[str, str] = field(default_factory=dict)
    twins: list[list[Any]] = field(default_factory=list)


def bonds(run: RunFolder, connection: duckdb.DuckDBPyConnection, sources: Collection[str]) -> dict[str, Bonds]:
    """Per source that is to be taken down, or style image, what ties others to it, as curation sees it now."""
    pairs, hashes, _ = _read(run, connection)
    tombstones, settings = Tombstones.load(run.store), current_settings(run)
    found = _compare(pairs, hashes, settings, tombstones)
    names = _groups(pairs, found.sources, settings, tombstones)
    result = {source: Bonds() for source in sources}
    members: dict[str, set[str]] = {}
    for pair, name in zip(pairs, names, strict=True):
        members.setdefault(name, set()).add(pair["source_id"])
    for name, group in members.items():
        for source in group & set(sources):
            result[source].groups.update(dict.fromkeys(sorted(group - set(sources)), name))
    taken = [{pair["source_id"], pair.get(STYLE)} & set(sources) for pair in pairs]
    for loser, winner in sorted(found.copies.items()):
        for source in sorted(taken[winner] if not taken[loser] else ()):
            result[source].twins.append(list(select.edit_of(pairs[loser])))
    return result


def _taken_down(pairs: list[dict[str, Any]], tombstones: Tombstones) -> dict[int, tuple[str, str]]:
    """Return position to reason and error of the pairs whose source was taken down."""
    gone = {position: tombstones.covers(pair) for position, pair in enumerate(pairs)} if tombstones else {}
    return {position: (TAKEN_DOWN, tombstones.why(source)) for position, source in gone.items() if source}


def _refused_by_reviewers(pairs: list[dict[str, Any]], settings: CurateSettings) -> dict[int, tuple[str, str]]:
    """Return position to reason and error of the pairs that reviewers keep out; these replace no other pair."""
    if settings.verdicts == "ignore":
        return {}
    found = {}
    for position, pair in enumerate(pairs):
        decision: verdicts.Decision | None = pair.get("decision")
        if decision is not None and not decision.accepted:
            found[position] = (BY_REVIEWER, str(decision))
        elif decision is None and settings.verdicts == "require":
            found[position] = (
                NOT_REVIEWED,
                "curate.verdicts is `require`: only pairs that reviewers accepted are kept",
            )
    return found


def _comparison(winner: Mapping[str, Any], loser: Mapping[str, Any]) -> str:
    for name in select.RANKING:
        if winner.get(name) != loser.get(name):
            return f"{name} {_number(winner.get(name))} against {_number(loser.get(name))}"
    return "equal scores, first by item id"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _read(
    run: RunFolder, connection: duckdb.DuckDBPyConnection
) -> tuple[list[dict[str, Any]], Hashes, dict[tuple[str, str], str]]:
    """Read the finished pairs with the key of their last row, their hashes, and the keys of the current decisions."""
    tracks = run.tracks()
    items = connection.view("items") if tracks else None
    if items is None or not set(PAIR) <= set(items.columns):  # nothing here makes pairs
        return [], Hashes.of([]), {}
    columns = [quote(n) for n in ("track", *_IDENTITY, *_COLUMNS, *balance.COLUMNS, *_HASHES) if n in items.columns]
    finished = items.filter(f"(status = 'ok' or stage = '{CURATE}') and {IS_PAIR}")
    pairs: list[dict[str, Any]] = []
    parsed: dict[str, list[dedup.ClipHashes]] = {name: [] for name in _HASHES}
    for track, stages in tracks.items():
        last = f"{verdicts.last_key(stages)} as upstream"
        mine = finished.filter(f"track = {literal(track)}").project(", ".join([*columns, last])).order("item_id")
        table = pa.table(mine.to_arrow_table())
        for name in _HASHES:
            unknown = pa.nulls(table.num_rows, pa.list_(pa.string()))
            parsed[name].append(dedup.parse_hash_column(table[name] if name in table.column_names else unknown))
        pairs += table.drop_columns([name for name in _HASHES if name in table.column_names]).to_pylist()
    hashes = Hashes(*(dedup.joined(parsed[name]) for name in _HASHES))
    decided = verdicts.decisions(verdicts.read(connection))
    for pair in pairs if decided else []:
        pair["decision"] = decided.get(verdicts.pair_key(pair["track"], pair["item_id"], pair["upstream"]))
    keys = connection.view(CURATE).project("track, item_id, key").fetchall()
    return pairs, hashes, {(track, item_id): key for track, item_id, key in keys}

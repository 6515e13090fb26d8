"""WebDataset shards, byte-identical for the same pairs, each with a Parquet index beside it.

A shard has its final name only when it is whole, and its index follows it. An export that starts again keeps a shard
where both are there, carry the digest of the plan, and the tar is byte for byte the one that was written. Shards of an
earlier export go only when all new ones are in place.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb

from ffpdata import __version__
from ffpdata.core.errors import DamagedError, FatalError, FfpdataError
from ffpdata.core.keys import digest
from ffpdata.core.sections import ExportSettings
from ffpdata.export import card
from ffpdata.export.dataset import CARD, DATASET, Dataset, Shard, check_place, only_writer, remove_stale, twin_of
from ffpdata.export.extras import COLUMNS, Extras, type_name
from ffpdata.export.pair_record import FIRST_FRAME, RECORD, TARGET, Records, to_json
from ffpdata.export.reproducible_tar import Member, read_samples, write_tar
from ffpdata.export.shard_index import index_row, read_index, write_index
from ffpdata.export.shard_plan import PlannedPair, ShardPlan, choose, damaged_artifact, plan_shards, rows
from ffpdata.manifests.manifest import INPUTS
from ffpdata.manifests.missing_parts import MissingParts
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.tombstones import Tombstones
from ffpdata.manifests.views import IS_PAIR, PAIR
from ffpdata.media.codec import png, read_first_frame
from ffpdata.storage.digests import CHANGED
from ffpdata.storage.store import TEMP, Store, storage_errors

SHARD_MB = 1000


def export(
    run: RunFolder,
    out: str | Path,
    *,
    shard_size_mb: float = SHARD_MB,
    sections: Mapping[str, ExportSettings] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Write the pairs that curation accepted, with index and dataset card, and return what the export holds.

    Args:
        run: a curated run.
        out: folder or URL: new, empty, or an earlier export, which is brought up to date.
        shard_size_mb: size that a shard keeps below, unless one pair alone is larger.
        sections: per track what holds in place of the `export` section of its pipeline, as of its newest start.
        progress: called after each shard with the number of pairs done and of pairs in all.

    Raises:
        FatalError: there is nothing to export, `out` holds something else or a link in the way of a shard, the disk is
            full, or a section names a column that cannot be exported.
        DamagedError: an artifact is gone, or is not as it was written; its pair is never exported.
        ConfigError: a stage or a back end of the user's own is no longer where it was; nothing is written.
    """
    store = Store(out)
    with chosen_pairs(run, store, sections) as chosen:
        connection, extras, here = chosen.connection, chosen.extras, chosen.here
        records = Records(run, connection, extras)  # what is wrong with the run is told before anything is written
        for spec in records.models():  # the card asks them for their names: better now than when the shards are written
            spec.load_class()
        check_place(store)
        with only_writer(store), ThreadPoolExecutor(os.cpu_count()) as pool:
            writer = _Writer(store, run.store, pool, extras)
            shards: list[Shard] = []
            limit, gone = int(shard_size_mb * 1e6), (here + Tombstones.load(run.store)).pairs
            plans = plan_shards(connection, run.store, limit, extras, chosen.tracks, gone=gone)
            if store.local:
                for path in (f"{TEMP}/new", *(plan.path for plan in plans)):
                    store.refuse_links(path)
            for plan in plans:
                table = rows(connection, plan.entries[0].place, plan.entries[-1].place)
                shards.append(writer.shard(plan, table, records))
                if progress:
                    progress(sum(s.pairs for s in shards), chosen.total)
            about = card.describe(run, connection, shards, shard_size_mb, extras=extras, counts_of_extras=writer.counts)
            if here.pending:  # a takedown that was interrupted: no shard has it any more
                here.finished().save(store)
            Dataset(True, shards, about).save(store)
            store.write(CARD, card.write(about).encode())
            remove_stale(store, shards)
            store.clean_temp()
    return Dataset(True, shards, about)


@dataclass(frozen=True)
class Chosen:
    """The accepted pairs of a run that an export takes, in the table `chosen` of a connection.

    Attributes:
        connection: with the views of the run and the table.
        tracks: per track the names of its stages.
        extras: what the tracks add.
        total: number of pairs.
        here: what was taken down in the export itself.
    """

    connection: duckdb.DuckDBPyConnection
    tracks: Mapping[str, Sequence[str]]
    extras: Extras
    total: int
    here: Tombstones


@contextmanager
def chosen_pairs(
    run: RunFolder, store: Store, sections: Mapping[str, ExportSettings] | None = None
) -> Iterator[Chosen]:
    """Choose the pairs that an export of a run into `store` takes; errors as for `export`."""
    with run.reading() as connection:
        tracks = run.tracks()
        extras = Extras.of(run.pipelines(), sections)
        _refuse_gaps(run, tracks)
        here = Tombstones.load(store)
        total = choose(connection, tracks, extras, without=here) if tracks else 0
        if not total:
            raise FatalError(_why_nothing(run))
        yield Chosen(connection, tracks, extras, total, here)


@dataclass
class _Writer:
    """Writes shards one after the other, or finds them written."""

    store: Store
    artifacts: Store
    pool: ThreadPoolExecutor
    extras: Extras
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pairs that have a member or a value in a column, by track and name."""

    def __post_init__(self) -> None:
        if not self.store.exists(DATASET):
            Dataset(complete=False).save(self.store)
        self._complete = Dataset.load(self.store).complete

    def shard(self, plan: ShardPlan, table: Sequence[Mapping[str, Any]], records: Records) -> Shard:
        """The shard that `plan` wants, for the rows `table`."""
        made = [records.record(row, entry.key, entry.base) for row, entry in zip(table, plan.entries, strict=True)]
        texts = [to_json(record) for record in made]
        files = [sorted(entry.files.items()) for entry in plan.entries]
        kinds = {name: type_name(kind) for name, kind in self.extras.kinds.items()}
        more = [kinds] if kinds else []  # the columns of another track are in this index, too
        key = digest(__version__, plan.path, files, [hashlib.sha256(text).hexdigest() for text in texts], *more)
        self._count(plan, made)
        groups = [row["source_group"] for row in table]
        kept = self._kept(plan, key)
        if kept:
            return self._index(kept[0], made, groups, kept[1])
        if self._complete:  # from here on the old table of contents is wrong
            Dataset(complete=False).save(self.store)
            self._complete = False
        temp = self.store.temp_file(PurePosixPath(plan.path).name)
        loads = [
            partial(load_members, self.artifacts, entry, text) for entry, text in zip(plan.entries, texts, strict=True)
        ]
        try:
            with storage_errors(str(temp.parent)):
                keys = (entry.key for entry in plan.entries)
                written = write_tar(temp, zip(keys, ahead(self.pool, loads), strict=True))
            for entry, members in zip(plan.entries, written.samples, strict=True):
                for name in _changed(entry, members):
                    raise damaged_artifact(self.artifacts, entry.files[name][0], CHANGED)
            self.store.commit(temp, plan.path)
        finally:
            temp.unlink(missing_ok=True)
        shard = Shard(plan.path, plan.split, len(made), written.bytes, "", key)
        return self._index(shard, made, groups, written.samples)

    def _index(
        self,
        shard: Shard,
        records: Sequence[Mapping[str, Any]],
        groups: Sequence[str],
        samples: Sequence[Sequence[Mapping[str, Any]]],
    ) -> Shard:
        rows = [index_row(*sample, self.extras) for sample in zip(records, groups, samples, strict=True)]
        return write_index(self.store, shard, rows, self.extras.schema)

    def _count(self, plan: ShardPlan, records: Sequence[Mapping[str, Any]]) -> None:
        for entry, record in zip(plan.entries, records, strict=True):
            values = record.get(COLUMNS, {})
            names = [*entry.files, *(name for name in values if values[name] is not None)]
            self.counts.update((record["track"], name) for name in names)

    def _kept(self, plan: ShardPlan, key: str) -> tuple[Shard, list[list[dict[str, Any]]]] | None:
        """The shard that is in place already, with its samples, where it is the one that is wanted.

        Every byte of it is read: one that the disk changed since is written anew, as is what lies behind a link.
        """
        if self.store.is_link(plan.path):
            return None
        try:
            shard, table = read_index(self.store, twin_of(plan.path))
            if shard.plan != key or self.store.size(plan.path) != shard.bytes:
                return None
            with self.store.open(plan.path) as stream:
                samples = read_samples(stream)
        except (OSError, ValueError):
            return None
        told = dict(zip(table["key"].to_pylist(), table["members"].to_pylist(), strict=True))
        if samples != told or list(samples) != [entry.key for entry in plan.entries]:
            return None
        if any(_changed(entry, samples[entry.key]) for entry in plan.entries):  # made anew since
            return None
        return shard, list(samples.values())


def _changed(entry: PlannedPair, members: Sequence[Mapping[str, Any]]) -> list[str]:
    """Members of a sample that are not the artifacts that were recorded."""
    return [m["name"] for m in members if entry.sha256.get(m["name"], m["sha256"]) != m["sha256"]]


def load_members(artifacts: Store, entry: PlannedPair, record: bytes) -> list[Member]:
    """The members of one sample in the order of their names; what is not local is fetched into memory."""
    content: dict[str, bytes | Path] = {RECORD: record}
    for member, (path, _) in entry.files.items():
        content[member] = artifacts.own_file(path) if artifacts.local else artifacts.read(path)
    try:
        content[FIRST_FRAME] = _first_frame(artifacts, content[TARGET])
    except FatalError:
        raise
    except FfpdataError as err:
        raise damaged_artifact(artifacts, entry.files[TARGET][0], f"is damaged ({err})") from err
    return [Member(name, content[name]) for name in sorted(content)]


def _first_frame(artifacts: Store, video: bytes | Path) -> bytes:
    if isinstance(video, Path):
        return png(read_first_frame(video))
    copy = artifacts.temp_file("target.mp4")  # the decoder wants a file
    try:
        with storage_errors(str(copy.parent)):
            copy.write_bytes(video)
        return png(read_first_frame(copy))
    finally:
        copy.unlink(missing_ok=True)


def ahead(pool: ThreadPoolExecutor, tasks: Iterable[Callable[[], list[Member]]]) -> Iterator[list[Member]]:
    """Run tasks in the pool and yield their results in order, with a few samples in memory at most."""
    waiting: deque[Future[list[Member]]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(task))
            if len(waiting) > 2 * (os.cpu_count() or 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _refuse_gaps(run: RunFolder, tracks: Mapping[str, Sequence[str]]) -> None:
    """Refuse a run of whose manifests somebody deleted a part: pairs would be left out without a word."""
    missing = MissingParts(run.manifest, [stage for stages in tracks.values() for stage in stages])
    lost = missing.since_last_start(run.manifest.parts(INPUTS))
    if lost:
        raise DamagedError(
            f"{run.store.root}: a part of the manifest of {', '.join(lost)} is gone: start the run again, and what it "
            "told is read back or made anew"
        )


def _why_nothing(run: RunFolder) -> str:
    if not run.tracks():
        return f"{run.store.root} has no pairs: no pipeline was started in it"
    with run.reading() as connection:
        counts = dict(connection.execute("select status, count(*) from items group by status").fetchall())
        columns = connection.view("items").columns
        lacking = [column for column in PAIR if column not in columns]
        finished = connection.view("items").filter("status = 'ok'")
        pairs = 0 if lacking else len(finished.filter(IS_PAIR))
    if counts.get("ok") and not pairs:
        names = " and ".join(f"`{column}`" for column in PAIR)
        why = f"no stage writes `{lacking[0]}`" if lacking else "none of them has both"
        return (
            f"{run.store.root}: {counts['ok']} items are finished, and none is a pair, which is {names}: {why}. Add a "
            f"stage to the pipeline that does, and run it again; `ffpdata sql` has what the stages found out"
        )
    if counts.get("ok"):
        return f"{run.store.root}: {counts['ok']} pairs are finished but not curated: let `ffpdata run` end first"
    ends = ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "nothing was put in"
    return f"{run.store.root} has no accepted pair to export ({ends}): `ffpdata status` tells the reasons"

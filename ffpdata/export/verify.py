"""Read an export again, every byte and every frame, and list all that is wrong with it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ffpdata.core.answer_schema import schema_violations
from ffpdata.core.errors import FfpdataError
from ffpdata.core.findings import Findings
from ffpdata.core.wording import counted
from ffpdata.export.dataset import CARD, DATASET, Dataset, Shard, shard_files
from ffpdata.export.pair_record import FIRST_FRAME, MASK, RECORD, SCHEMA, SOURCE, TARGET
from ffpdata.export.reproducible_tar import DamagedTarError, read_tar
from ffpdata.export.shard_index import INDEX, read_index
from ffpdata.export.verify_extras import ExtraChecks
from ffpdata.media.codec import read_masks, read_video, video_info
from ffpdata.media.images import decode_image
from ffpdata.storage.store import OutsideError, Store, storage_errors

TURNED = {SOURCE: TARGET, TARGET: SOURCE}
"""File of a removal to that of its inverse pair."""
FIRST_FRAME_PSNR = 35.0
"""dB that the first-frame image must reach against the target's decoded first frame; made from it, it is equal."""


@dataclass
class VerifyReport(Findings):
    """What `verify` found.

    Attributes:
        pairs: samples that were read.
        shards: shards that were read.
    """

    pairs: int = 0
    shards: int = 0

    @property
    def summary(self) -> str:
        """One line."""
        return f"{counted(self.pairs, 'pair')} in {counted(self.shards, 'shard')} read, {self.state}"


def verify(out: str | Path, *, decode: bool = True, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Check an export: tars against indexes and `dataset.json`, records, videos, first frames, splits.

    Args:
        out: folder or URL of the export.
        decode: decode every frame; without it only structure, hashes and records are checked.
        progress: called after each pair with the number of pairs done and of pairs in all.

    Raises:
        FatalError: `out` is no export at all.
    """
    store = Store(out)
    report = VerifyReport()
    dataset = Dataset.load(store)
    if not dataset.complete:
        report.problems.append(f"{DATASET}: the export was interrupted: run `ffpdata export` again")
    if dataset.changed:
        report.problems.append(f"{DATASET}: is not as it was written: export again, and it is written anew")
    checks = _Checks(store, report, decode, ExtraChecks(dataset.about))
    total = sum(shard.pairs for shard in dataset.shards)
    for shard in dataset.shards:
        report.shards += 1
        for _ in checks.shard(shard):
            report.pairs += 1
            if progress:
                progress(report.pairs, total)
    checks.across(dataset)
    return report


class _Checks:
    """The checks of one export, and what they remember across shards."""

    def __init__(self, store: Store, report: VerifyReport, decode: bool, extras: ExtraChecks) -> None:
        self._store, self._report, self._decode, self._extras = store, report, decode, extras
        self._homes: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._keys: Counter[str] = Counter()
        self._tasks: Counter[tuple[str, str]] = Counter()
        self._before: tuple[str, dict[str, str]] = ("", {})
        """Key of the sample before, and the hash of each of its files."""

    def _problem(self, where: str, text: str) -> None:
        self._report.problems.append(f"{where}: {text}")

    def shard(self, shard: Shard) -> Iterator[None]:
        """Check one shard; yields once per sample."""
        rows: dict[str, dict[str, Any]] = {}
        try:
            told, table = read_index(self._store, shard.twin)
            rows = {row["key"]: row for row in table.to_pylist()}
            if told != shard:
                self._problem(shard.twin, f"is not the index that {DATASET} lists: its hash or its facts differ")
            if len(rows) != shard.pairs:
                self._problem(shard.twin, f"has {len(rows)} samples, {DATASET} says {shard.pairs}")
            for text in self._extras.index(table.column_names[len(INDEX) :]):
                self._problem(shard.twin, text)
        except FileNotFoundError:
            self._problem(shard.twin, "is missing")
        except (ValueError, OSError) as err:
            self._problem(shard.twin, str(err))
        try:
            size = self._store.size(shard.path)
            if size != shard.bytes:
                self._problem(shard.path, f"has {size} bytes, {DATASET} says {shard.bytes}")
            with self._store.open(shard.path) as stream:
                for key, files in self._samples(shard, stream):
                    self._sample(shard, key, files, rows.pop(key, None))
                    yield
        except FileNotFoundError:
            self._problem(shard.path, "is missing")
        except OutsideError as err:
            self._problem(shard.path, f"is none: {err}")
        except OSError as err:
            self._problem(shard.path, f"cannot be read to its end: {err}")
        for key in rows:
            self._problem(shard.path, f"sample {key} is in the index and not in the tar")

    def _samples(self, shard: Shard, stream: IO[bytes]) -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
        """Samples of a tar: key, and per member its offset and bytes."""
        key, files, seen = "", dict[str, tuple[int, bytes]](), set[str]()
        try:
            for name, offset, data in read_tar(stream):
                stem, _, kind = name.partition(".")
                if stem != key:
                    if files:
                        yield key, files
                    if stem in seen:
                        self._problem(shard.path, f"the files of sample {stem} do not lie together")
                    key, files = stem, {}
                    seen.add(stem)
                files[kind] = (offset, data)
        except DamagedTarError as err:
            self._problem(shard.path, f"is damaged: {err}")
        if files:
            yield key, files

    def _sample(
        self, shard: Shard, key: str, files: Mapping[str, tuple[int, bytes]], row: Mapping[str, Any] | None
    ) -> None:
        where = f"{shard.path}: {key}"
        if row is None:
            self._problem(where, "is in the tar and not in the index")
        else:
            self._members(where, files, row)
        self._keys[key] += 1
        record = self._record(where, files)
        if record is not None:
            self._tasks[shard.split, str(record.get("task"))] += 1
            self._homes["source", str(record.get("source_id"))].add(shard.split)
            if record.get("key") != key:
                self._problem(where, f"its record has the key {record.get('key')!r}")
            if record.get("split") != shard.split:
                self._problem(where, f"belongs to the split {record.get('split')!r} and lies in {shard.split!r}")
            self._columns(where, files, record, row or {})
            self._derived(where, files, record)
        if row is not None:
            self._homes["source", row["source_id"]].add(shard.split)
            self._homes["group of sources", row["source_group"]].add(shard.split)
        wanted = {SOURCE, TARGET, FIRST_FRAME, RECORD}
        if record and {"area", "coverage"} & set(record.get("mask") or {}):  # the record measures a mask: it is there
            wanted.add(MASK)
        missing = sorted(wanted - set(files))
        if missing:
            self._problem(where, f"lacks {', '.join(missing)}")
        elif record is not None and self._decode:
            content = {name: data for name, (_, data) in files.items()}
            self._media(where, content, record)
            for text in self._extras.unreadable(content, str(record["track"])):
                self._problem(where, text)

    def _columns(self, where: str, files: Mapping[str, Any], record: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        for name in ("item_id", "source_id", "task", "split", "instruction"):
            if name in row and row[name] != record.get(name):
                self._problem(where, f"its index says {name} {row[name]!r}, its record {record.get(name)!r}")
        for text in self._extras.sample(files, record, row):
            self._problem(where, text)

    def _derived(self, where: str, files: Mapping[str, tuple[int, bytes]], record: Mapping[str, Any]) -> None:
        """Check that an inverse pair lies behind its removal and holds the same clips the other way round."""
        hashes = {name: hashlib.sha256(files[name][1]).hexdigest() for name in (SOURCE, TARGET, MASK) if name in files}
        key, removal = self._before
        origin = record.get("derived_from")
        if origin is None:
            self._before = (str(record.get("key")), hashes)
        elif origin["key"] != key:
            self._problem(where, f"is derived from {origin['key']!r}, which does not lie before it")
        elif hashes != {TURNED.get(name, name): found for name, found in removal.items()}:
            self._problem(where, f"is derived from {key}, and does not hold its clips the other way round")

    def _members(self, where: str, files: Mapping[str, tuple[int, bytes]], row: Mapping[str, Any]) -> None:
        listed = {member["name"]: member for member in row["members"]}
        for name in sorted(set(listed) ^ set(files)):
            self._problem(where, f"{name} is {'missing from the tar' if name in listed else 'not in the index'}")
        for name in sorted(set(listed) & set(files)):
            offset, data = files[name]
            if (offset, len(data)) != (listed[name]["offset"], listed[name]["bytes"]):
                self._problem(where, f"{name} lies elsewhere or has another size than the index says")
            if hashlib.sha256(data).hexdigest() != listed[name]["sha256"]:
                self._problem(where, f"{name} is damaged: its sha256 is not the one in the index")

    def _record(self, where: str, files: Mapping[str, tuple[int, bytes]]) -> dict[str, Any] | None:
        if RECORD not in files:
            return None
        try:
            record = json.loads(files[RECORD][1])
        except (ValueError, RecursionError) as err:
            self._problem(where, f"its record is no JSON: {err}")
            return None
        problems = schema_violations(record, SCHEMA, "record")
        for text in problems:
            self._problem(where, text)
        return None if problems else record

    def _media(self, where: str, files: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
        """Decode everything and compare sizes, lengths, rates and the first frame."""
        want = record["geometry"]
        shape = (want["frames"], want["height"], want["width"])
        first = None
        with tempfile.TemporaryDirectory(prefix="ffpdata-verify-") as folder, storage_errors(folder):
            for name in (n for n in (SOURCE, TARGET, MASK) if n in files):
                path = Path(folder) / name
                path.write_bytes(files[name])
                try:
                    fps = video_info(path).fps
                    frames = read_masks(path) if name == MASK else read_video(path)
                except (FfpdataError, ValueError) as err:
                    self._problem(where, f"{name} cannot be decoded: {err}".replace(f"{folder}/", ""))
                    continue
                if frames.shape[:3] != shape:
                    self._problem(where, f"{name} has (frames, height, width) {frames.shape[:3]}, its record {shape}")
                if abs(fps - want["fps"]) > 0.01:
                    self._problem(where, f"{name} has {fps:g} frames per second, its record says {want['fps']:g}")
                if name == TARGET:
                    first = frames[0]
                del frames
            picture = Path(folder) / FIRST_FRAME
            picture.write_bytes(files[FIRST_FRAME])
            try:
                image = decode_image(picture)
            except FfpdataError as err:
                self._problem(where, f"{FIRST_FRAME} cannot be decoded: {err}".replace(f"{folder}/", ""))
                return
        if first is not None and (image.shape != first.shape or _psnr(image, first) < FIRST_FRAME_PSNR):
            self._problem(where, f"{FIRST_FRAME} is not the first frame of {TARGET}")

    def across(self, dataset: Dataset) -> None:
        """Check what only the whole export shows: splits, keys, counts, stray files."""
        for (what, name), splits in sorted(self._homes.items()):
            if len(splits) > 1:
                self._problem("splits", f"{what} {name} is in {' and '.join(sorted(splits))}: it leaks")
        for key, times in self._keys.items():
            if times > 1:
                self._problem("keys", f"{key} occurs {times} times")
        if dataset.complete:
            self._counts(dataset)
            for text in [self._extras.damaged] if self._extras.damaged else self._extras.counts():
                self._problem(DATASET, text)
        if dataset.complete and not self._store.exists(CARD):
            self._problem(CARD, "is missing: the dataset has no card")
        known = {name for shard in dataset.shards for name in (shard.path, shard.twin)}
        for path in shard_files(self._store):
            if path not in known:
                self._problem(path, f"is not listed in {DATASET}: it is left over from another export")

    def _counts(self, dataset: Dataset) -> None:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for (split, task), count in sorted(self._tasks.items()):
            found[split][task] = count
        listed: Counter[str] = Counter()
        for shard in dataset.shards:
            listed[shard.split] += shard.pairs
        try:
            told = {split: dict(entry["tasks"]) for split, entry in dataset.about["splits"].items()}
            same = {split: sum(tasks.values()) for split, tasks in told.items()} == dict(listed)
            same &= dataset.about["pairs"] == listed.total()
        except (KeyError, TypeError, AttributeError) as err:
            self._problem(DATASET, f"lacks its counts: {err!r}")
            return
        if not same or told != dict(found):
            self._problem(DATASET, f"counts {told}, but the shards hold {dict(found)}")


def _psnr(one: Any, other: Any) -> float:
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))

"""Read an export: plain Python with numpy frames, or a webdataset pipeline. Neither needs torch.

for pair in pairs("dataset", "train"):
    pair["source"], pair["target"], pair["instruction"]
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ffpdata.core.errors import FatalError, nearest, shown
from ffpdata.export.dataset import Dataset, Shard
from ffpdata.export.epochs import Epochs, ShuffledSamples, ShuffledShards
from ffpdata.export.pair_record import FIRST_FRAME, MASK, RECORD, SOURCE, TARGET
from ffpdata.media.codec import read_image, read_masks, read_video
from ffpdata.storage.store import Store

if TYPE_CHECKING:
    import webdataset

_READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "source": (SOURCE, read_video),
    "target": (TARGET, read_video),
    "mask": (MASK, read_masks),
    "edited_first_frame": (FIRST_FRAME, read_image),
}

_FIXED = {RECORD, *(member for member, _ in _READERS.values())}
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v")


class Pair(Mapping[str, Any]):
    """One sample: the entries of its record, and its videos, which are decoded when they are asked for.

    `source` and `target` are uint8 (T, H, W, 3) RGB, `mask` is bool (T, H, W), True on the object (local edits only),
    `edited_first_frame` is uint8 (H, W, 3) RGB. Each access decodes anew: keep what you need twice. `json` is the whole
    record: what it says of the mask itself (phrase, score, area, coverage) is `pair["json"]["mask"]`.

    What a pipeline adds by its `export` section is here under the member's whole name: `pair["depth.mp4"]`, videos
    decoded to uint8 (T, H, W, 3) RGB (three equal channels where they are gray), anything else as bytes. Its plain
    columns are the dict `pair["columns"]`.

    Attributes:
        files: the sample's bytes by member name, e.g. `source.mp4`.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self._record: dict[str, Any] = _record(self.files)
        self._added = [name for name in self.files if name not in _FIXED]

    def __getitem__(self, name: str) -> Any:
        if name in self._added:
            return decode_member(self.files[name], read_video) if name.endswith(VIDEO_SUFFIXES) else self.files[name]
        if name == RECORD:
            return self._record
        if name in _READERS:
            member, read = _READERS[name]
            if member not in self.files:
                raise KeyError(f"{self._record['key']} has no {name!r}: it is a {self._record['task']}")
            return decode_member(self.files[member], read)
        if name not in self._record:
            raise KeyError(f"{self._record['key']} has no {name!r}{nearest(str(name), self)}")
        return self._record[name]

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)  # without decoding anything

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._record if name not in _READERS)
        yield RECORD
        yield from (name for name, (member, _) in _READERS.items() if member in self.files)
        yield from self._added

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Pair({self._record['key']!r}, {self._record['task']})"


def _record(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        record = json.loads(files[RECORD])
    except KeyError:
        raise FatalError(f"a sample has no {RECORD}, only {shown(sorted(files))}: `ffpdata verify` says more") from None
    except (ValueError, RecursionError) as err:
        raise FatalError(f"the {RECORD} of a sample is damaged ({err}): `ffpdata verify` says more") from None
    if not isinstance(record, dict):
        raise FatalError(f"the {RECORD} of a sample is {shown(record)}: `ffpdata verify` says more")
    return record


def decode_member(data: bytes, read: Callable[[Path], Any]) -> Any:
    """Return what `read` makes of a file with these bytes."""
    with tempfile.NamedTemporaryFile(prefix="ffpdata-", suffix=".member") as file:  # the decoder wants a file
        file.write(data)
        file.flush()
        return read(Path(file.name))


def pairs(out: str | Path, split: str | None = None, *, min_score: float = 0.0) -> Iterator[Pair]:
    """Read the pairs of an export one after the other, in the order of the shards.

    Args:
        out: folder or URL of the export.
        split: one split; all of them by default.
        min_score: leave out pairs whose `score`, the probability that a person would accept them, is below it.

    Raises:
        FatalError: no complete export is there, it has no such split, or a shard is damaged.
    """
    store = Store(out)
    for shard in shards_of(store, split):
        with store.open(shard.path) as stream:
            key, files = "", dict[str, bytes]()
            for member, data in _members(stream, f"{store.root}/{shard.path}"):
                name, _, kind = member.partition(".")
                if name != key and files:
                    if _scored(files, min_score):
                        yield Pair(files)
                    files = {}
                key, files[kind] = name, data
            if files and _scored(files, min_score):
                yield Pair(files)


def _scored(files: Mapping[str, bytes], least: float) -> bool:
    if least <= 0:
        return True
    score = (_record(files).get("scores") or {}).get("score")
    return isinstance(score, (int, float)) and score >= least


def _members(stream: IO[bytes], where: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files of a tar; nothing of it is unpacked, and a link in it is followed nowhere."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise FatalError(f"{where} is damaged: its member {shown(member.name)} is no file")
                yield member.name, content.read()
    except (tarfile.TarError, EOFError, OverflowError, MemoryError, ValueError) as err:
        raise FatalError(f"{where} is damaged ({err}): `ffpdata verify` says more") from err


def webdataset_pipeline(
    out: str | Path,
    split: str | None = None,
    *,
    decode: bool = True,
    shardshuffle: bool | int = False,
    shuffle: int = 0,
    seed: int | None = None,
    **options: Any,
) -> webdataset.WebDataset:
    """Return a `webdataset.WebDataset` over the local shards of an export, for `.map`, `.batched` and so on.

    Samples have `__key__` and `__url__`, and with `decode` the entries of `Pair`, decoded; without it the raw bytes by
    member name. A damaged shard raises, it is not skipped.

    Shuffled, every epoch has an order of its own, which follows from `seed`, the epoch and the number of workers: also
    in the workers of a `DataLoader`, persistent or not. `dataset.set_epoch(n)` before an epoch makes it the one of that
    number, for a training that goes on. (webdataset's own `.shuffle` takes its order from the clock.)

    Args:
        out: folder of the export.
        split: one split; all of them by default.
        decode: decode videos, image and record.
        shardshuffle: shuffle the shards of each worker.
        shuffle: samples, not decoded yet, in a buffer that they are taken out of at random; 0 keeps their order.
        seed: of the orders; one is chosen by default.
        options: passed on, e.g. `nodesplitter=webdataset.split_by_node`.

    Raises:
        FatalError: no complete export is there, or it has no such split, or it is not local.
    """
    import webdataset

    store = Store(out)
    if not store.local:
        raise FatalError(f"{store.root}: webdataset reads local shards here; use `pairs` for a remote export")
    urls = [str(store.own_file(shard.path)) for shard in shards_of(store, split)]
    epochs = Epochs(seed)
    splitter = options.pop("workersplitter", webdataset.split_by_worker)
    split_shards = ShuffledShards(epochs, splitter, shuffle=bool(shardshuffle))
    fixed = {"shardshuffle": False, "empty_check": False, "workersplitter": split_shards}
    dataset = webdataset.WebDataset(urls, **fixed | options)
    dataset.set_epoch = epochs.set_epoch
    if shuffle:
        dataset = dataset.compose(ShuffledSamples(epochs, shuffle))
    return dataset.map(_decoded) if decode else dataset


def _decoded(sample: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {name: value for name, value in sample.items() if name.startswith("__")}
    return hidden | dict(Pair({name: value for name, value in sample.items() if name not in hidden}))


def shards_of(store: Store, split: str | None) -> list[Shard]:
    """Return the shards of a split, or all; raises FatalError as `pairs`."""
    dataset = Dataset.load(store)
    if not dataset.complete:
        raise FatalError(f"{store.root} is an export that was interrupted: run `ffpdata export`, or `takedown`, again")
    splits = {shard.split for shard in dataset.shards}
    if split is not None and split not in splits:
        raise FatalError(f"{store.root} has no split {split!r}{nearest(split, splits)}")
    return [shard for shard in dataset.shards if split in (None, shard.split)]

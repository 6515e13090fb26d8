"""The order of samples in each epoch of a webdataset pipeline: another one every time, and the same ones from a seed.

webdataset itself has two ways, and neither does both. `shardshuffle` alone seeds its generator anew in every epoch by
one number, so that all epochs have one order. `detshuffle` counts epochs in the pipeline object: workers of a
`DataLoader` get a copy of it whenever they start, so that it says 0 in every epoch, unless they are persistent. Here
the count lies in memory that all copies share, a place for each worker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawArray
from typing import Any

PLACES = 1024
"""Workers of one loader that can be told apart."""


class Epochs:
    """Counts the epochs that each worker has begun.

    Args:
        seed: the order follows from it and the epoch; None chooses one.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = random.SystemRandom().randrange(2**31) if seed is None else seed
        self._begun: Any = RawArray("q", PLACES)

    def __getstate__(self) -> dict[str, Any]:
        """Shared with processes that are being started; elsewhere the counts are copied."""
        shared = get_spawning_popen() is not None
        return {"seed": self.seed, "begun": self._begun if shared else list(self._begun)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]
        begun = state["begun"]
        self._begun = RawArray("q", begun) if isinstance(begun, list) else begun

    def set_epoch(self, epoch: int) -> None:
        """Let the next epoch be this one, of which the first is 0: for a training that goes on."""
        for place in range(PLACES):
            self._begun[place] = epoch

    def begin(self) -> None:
        """A worker begins an epoch."""
        self._begun[_worker()] += 1

    def generator(self, purpose: str) -> random.Random:
        """Random numbers of the epoch that this worker is in; each purpose has its own."""
        return random.Random(f"{self.seed} {self._begun[_worker()] - 1} {purpose}")  # noqa: S311 - an order, no secret


class ShuffledShards:
    """Splits shards among workers and brings those of each into the order of the epoch, which begins here.

    Args:
        epochs: counts.
        split: webdataset's splitter; None keeps all.
        shuffle: whether to shuffle.
    """

    def __init__(self, epochs: Epochs, split: Callable[[Any], Iterable[Any]] | None, *, shuffle: bool) -> None:
        self._epochs, self._split, self._shuffle = epochs, split, shuffle

    def __call__(self, shards: Iterable[Any]) -> Iterator[Any]:
        """Return this worker's shards."""
        self._epochs.begin()
        mine = list(self._split(iter(shards)) if self._split else shards)
        if self._shuffle:
            self._epochs.generator("shards").shuffle(mine)
        return iter(mine)


class ShuffledSamples:
    """Takes samples at random out of a buffer.

    Args:
        epochs: counts.
        size: samples in the buffer.
    """

    def __init__(self, epochs: Epochs, size: int) -> None:
        self._epochs, self._size = epochs, size

    def __call__(self, samples: Iterable[Any]) -> Iterator[Any]:
        """Return the samples in the order of the epoch."""
        chance, buffer = self._epochs.generator("samples"), list[Any]()
        for sample in samples:
            buffer.append(sample)
            if len(buffer) >= self._size:
                yield _take(buffer, chance)
        while buffer:
            yield _take(buffer, chance)


def _take(buffer: list[Any], chance: random.Random) -> Any:
    place = chance.randrange(len(buffer))
    buffer[place], buffer[-1] = buffer[-1], buffer[place]
    return buffer.pop()


def _worker() -> int:
    from webdataset.utils import pytorch_worker_info

    _, _, worker, _ = pytorch_worker_info()
    return int(worker) % PLACES

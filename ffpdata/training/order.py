"""The order of the samples, and the seeds: both follow from the training's seed and the number of a step alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from ffpdata.core.keys import digest
from ffpdata.training.sample import Sample

S = TypeVar("S", bound=Sample)


class SampleOrder(Generic[S]):
    """All samples once per epoch, shuffled anew in each, those of a step from one bucket.

    Where the samples have several buckets, what is left of each when whole steps are cut from it makes mixed steps at
    the two ends of the epoch.

    Args:
        samples: of the training.
        keys: item to the hash of its sample.
        seed: of the shuffling.
        step: samples of a step, over all processes.
    """

    def __init__(self, samples: Sequence[S], keys: Mapping[str, str], seed: int, step: int) -> None:
        self._samples, self._keys, self._seed, self._step = samples, keys, seed, step
        self._mixed = len({sample.bucket for sample in samples}) > 1
        self._epoch: tuple[int, list[S]] = (-1, [])

    def sample(self, index: int) -> S:
        """Return sample number `index` of the training, from 0."""
        epoch, place = divmod(index, len(self._samples))
        return self._shuffled(epoch)[place]

    def _shuffled(self, epoch: int) -> list[S]:
        if self._epoch[0] != epoch:  # there may be hundreds of thousands: they are sorted once per epoch
            samples = sorted(self._samples, key=lambda s: digest("order", self._seed, epoch, self._keys[s.item_id]))
            self._epoch = epoch, self._bucketed(samples, epoch) if self._mixed else samples
        return self._epoch[1]

    def _bucketed(self, samples: list[S], epoch: int) -> list[S]:
        """Bring shuffled samples into steps of one bucket each."""
        step, buckets = self._step, dict[Hashable, list[S]]()
        for sample in samples:
            buckets.setdefault(sample.bucket, []).append(sample)
        whole, left = list[list[S]](), list[S]()
        for of_one in buckets.values():
            cut = len(of_one) // step * step
            whole += [of_one[at : at + step] for at in range(0, cut, step)]
            left += of_one[cut:]
        begun = -epoch * len(samples) % step  # samples that complete the step which the epoch before began
        if len(left) < begun and whole:
            left += whole.pop()
        whole.sort(key=lambda part: digest("step", self._seed, epoch, self._keys[part[0].item_id]))
        return [*left[:begun], *(sample for part in whole for sample in part), *left[begun:]]


def seed_of(*parts: Any) -> int:
    """Hash parts into a seed, 0 to 2^60 - 1."""
    return int(digest(*parts)[:15], 16)

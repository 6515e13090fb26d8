"""The order of the samples: every one once an epoch, and steps of one size."""

from __future__ import annotations

from dataclasses import dataclass

from ffpdata.training.order import SampleOrder


@dataclass(frozen=True)
class Named:
    item_id: str
    bucket: str


def order_of(counts: dict[str, int], step: int, seed: int = 3) -> tuple[list[Named], SampleOrder[Named]]:
    samples = [Named(f"{bucket}{number}", bucket) for bucket, count in counts.items() for number in range(count)]
    return samples, SampleOrder(samples, {sample.item_id: sample.item_id for sample in samples}, seed, step)


def test_each_epoch_has_every_sample_once_in_another_order() -> None:
    for counts in ({"a": 7}, {"wide": 7, "tall": 5}):
        samples, order = order_of(counts, 4)
        epochs = [[order.sample(epoch * len(samples) + n) for n in range(len(samples))] for epoch in range(3)]
        assert all(sorted(epoch, key=str) == sorted(samples, key=str) for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_follows_from_the_seed_alone() -> None:
    samples, order = order_of({"wide": 30, "tall": 11}, 4)
    again = order_of({"wide": 30, "tall": 11}, 4)[1]
    assert [order.sample(n) for n in (80, 3, 41)] == [again.sample(n) for n in (80, 3, 41)]
    other = order_of({"wide": 30, "tall": 11}, 4, seed=4)[1]
    count = len(samples)
    assert [order.sample(n) for n in range(count)] != [other.sample(n) for n in range(count)]


def test_steps_have_one_size_but_for_what_is_left_over() -> None:
    samples, order = order_of({"wide": 33, "tall": 14}, 4)
    steps = [{order.sample(4 * step + n).bucket for n in range(4)} for step in range(4 * len(samples) // 4)]
    mixed = sum(len(sizes) > 1 for sizes in steps)
    assert mixed <= 8  # four epochs, with what is left of two sizes at both ends of each
    assert len({tuple(sizes) for sizes in steps if len(sizes) == 1}) == 2

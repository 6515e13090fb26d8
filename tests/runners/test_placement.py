"""Where workers go, in numbers."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import Resources
from ffpdata.runners.placement import Node, grow, needed_in_hand, place, refuse


def gpu_node(name: str, gpus: int) -> Node:
    return Node(name, cpus=4, memory_gb=16, gpus=[1.0] * gpus)


def planned(
    nodes: list[Node], needs: dict[str, Resources], cost: dict[str, float | None], most: int = 99
) -> dict[str, int]:
    """Worker counts that `grow` comes to from nothing."""
    count = dict.fromkeys(needs, 0)

    def put(name: str) -> bool:
        placed = place(needs[name], nodes)
        count[name] += placed is not None
        return placed is not None

    grow(dict(count), cost, dict.fromkeys(needs, most), put, stop_when_full=True)
    return count


def test_fractions_fill_a_gpu_and_the_slow_stage_has_the_others() -> None:
    needs = {"a": Resources(gpus=0.3), "b": Resources(gpus=0.4), "slow": Resources(gpus=1), "c": Resources(gpus=0.3)}
    count = planned([gpu_node("n", 8)], needs, {"a": 1.0, "b": 5.0, "slow": 60.0, "c": 1.0})
    assert count == {"a": 1, "b": 1, "slow": 7, "c": 1}


def test_the_slowest_gets_the_next_worker_until_it_fits_nowhere() -> None:
    needs = {name: Resources(gpus=1) for name in "ab"}
    assert planned([gpu_node("n", 4), gpu_node("m", 4)], needs, {"a": 10.0, "b": 30.0}) == {"a": 2, "b": 6}


def test_without_seconds_everybody_has_one() -> None:
    needs = {name: Resources(gpus=1) for name in "ab"}
    assert planned([gpu_node("n", 8)], needs, {"a": 1.0, "b": None}) == {"a": 1, "b": 1}


def test_what_does_not_fit_waits_for_a_later_phase() -> None:
    needs = {"a": Resources(gpus=1), "b": Resources(gpus=2), "c": Resources(gpus=1)}
    assert planned([gpu_node("n", 2)], needs, dict.fromkeys(needs, 1.0)) == {"a": 2, "b": 0, "c": 0}


def test_no_more_workers_than_items_are_left() -> None:
    assert planned([gpu_node("n", 8)], {"a": Resources(gpus=1)}, {"a": 1.0}, most=3) == {"a": 3}


def test_several_gpus_are_those_of_one_node() -> None:
    nodes = [gpu_node("m", 1), gpu_node("n", 3)]
    placed = place(Resources(gpus=2), nodes)
    assert placed is not None
    assert (placed[0].node_id, placed[1]) == ("n", [0, 1])
    assert place(Resources(gpus=2), nodes) is None
    nodes[1].give(Resources(gpus=2), placed[1])
    assert place(Resources(gpus=3), nodes) is not None


def test_workers_on_cpus_spread_and_give_back() -> None:
    nodes = [Node("m", 2, 4), Node("n", 2, 4)]
    need = Resources(cpus=1, memory_gb=1.5)
    assert [place(need, nodes)[0].node_id for _ in range(4)] == ["m", "n", "m", "n"]  # type: ignore[index]
    assert place(need, nodes) is None
    nodes[1].give(need, [])
    assert place(Resources(cpus=1, memory_gb=3), nodes) is None, "its memory is taken"
    assert place(need, nodes) is not None


def test_a_worker_on_a_gpu_holds_no_cpu() -> None:
    assert place(Resources(cpus=16, gpus=1), [gpu_node("n", 1)]) is not None


@pytest.mark.parametrize(
    ("need", "text"),
    [
        (Resources(gpus=2), "stage 'x' needs 2 GPU on one node"),
        (Resources(cpus=8), "stage 'x' needs 8 CPU and 1.5 GB"),
        (Resources(memory_gb=64), "--set resources.x.memory_gb"),
    ],
)
def test_what_fits_nowhere_is_named_with_what_there_is(need: Resources, text: str) -> None:
    said = refuse({"x": need}, [gpu_node("node-one", 1), gpu_node("node-two", 1)])
    assert said is not None
    assert text in said
    assert "node-one: 4 CPU, 16.0 GB, 1 GPU" in said
    assert refuse({"x": Resources(gpus=1)}, [gpu_node("n", 1)]) is None


def test_a_part_of_a_gpu_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="whole GPUs"):
        Resources(gpus=1.5)


@pytest.mark.parametrize(
    ("turn", "files", "in_hand"),
    [(2.0, 5.65, 6), (2.0, 1.35, 5), (3150.0, 6.0, 1), (20.0, 6.0, 5), (0.2, 6.0, 6), (0.0, 0.0, 1), (2.0, 0.0, 1)],
)
def test_as_many_items_in_hand_as_keep_a_gpu_busy(turn: float, files: float, in_hand: int) -> None:
    """And no second one where it would only wait."""
    assert needed_in_hand(turn, files, 6) == in_hand

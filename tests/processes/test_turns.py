"""Items of one worker take turns: one computes, the others wait for their files."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ffpdata.processes.turns import Turn, Turns, clock, computing, decoding, file_work


def in_threads(turns: Turns, work: Callable[[Turn], object], count: int) -> list[Turn]:
    """Let items work at once, and return their turns in the order in which they entered."""
    entered = [turns.new() for _ in range(count)]

    def go(turn: Turn) -> None:
        with turn.in_this_thread():
            work(turn)

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(go, entered))
    return entered


def test_one_computes_while_others_wait_for_files() -> None:
    lock, inside, both = threading.Lock(), {"compute": 0, "files": 0}, {"compute": 0, "files": 0}

    def count(kind: str) -> None:
        with lock:
            inside[kind] += 1
            both[kind] = max(both[kind], inside[kind])
        time.sleep(0.05)
        with lock:
            inside[kind] -= 1

    def work(turn: Turn) -> None:
        with computing():
            with file_work():
                count("files")
            count("compute")
            with file_work():
                count("files")
            assert turn.has

    start = time.perf_counter()
    turns = in_threads(Turns(), work, 4)
    assert both["compute"] == 1
    assert both["files"] > 1
    assert time.perf_counter() - start < 4 * 0.15 - 0.05, "one after another they take 0.6 s"
    assert sum(turn.held for turn in turns) == pytest.approx(0.2, abs=0.1)


def test_the_oldest_that_waits_is_next() -> None:
    turns, order = Turns(), list[int]()
    first, *others = (turns.new() for _ in range(4))
    first.take()

    def go(turn: Turn) -> None:
        turn.take()
        order.append(turn.number)
        turn.give()

    with ThreadPoolExecutor(3) as threads:
        for turn in reversed(others):
            threads.submit(go, turn)
            while turn not in turns.waiting:
                time.sleep(0.001)
        first.give()
    assert order == [turn.number for turn in others]


def test_short_turns_go_before_those_that_compute() -> None:
    """Learned from the item before: it reads twice, computes, writes and returns. The oldest of equals comes first."""
    turns, order = Turns(), list[str]()

    def work(turn: Turn, stop: int = 0) -> None:
        """Take the turns of an item up to the one before `stop`."""
        for step in range(1, stop or 5):
            turn.take()
            time.sleep(0.1 if step == 3 else 0.0)
            turn.give()

    work(turns.new())
    ready, reading, entering, written, holder = (turns.new() for _ in range(5))
    work(ready, stop=3)
    work(reading, stop=2)
    work(written, stop=4)
    holder.take()
    waiting = {"ready": ready, "reading": reading, "entering": entering, "written": written}

    def go(name: str) -> None:
        waiting[name].take()
        order.append(name)
        waiting[name].give()

    with ThreadPoolExecutor(len(waiting)) as threads:
        for name in waiting:
            threads.submit(go, name)
        while len(turns.waiting) < len(waiting):
            time.sleep(0.001)
        holder.give()
    assert order[-1] == "ready"
    assert sorted(order[:-1]) == ["entering", "reading", "written"]


def test_waiting_for_the_turn_is_no_work_of_the_item() -> None:
    measured = {}

    def work(turn: Turn) -> None:
        start = clock()
        with computing():
            time.sleep(0.2)
        measured[turn.number] = clock() - start

    turns = in_threads(Turns(), work, 3)
    assert [measured[turn.number] for turn in turns] == pytest.approx([0.2] * 3, abs=0.1)
    assert max(turn.waited for turn in turns) > 0.35

    turns_of_two = Turns()
    holder, waiter = turns_of_two.new(), turns_of_two.new()
    holder.take()
    thread = threading.Thread(target=waiter.take)
    thread.start()
    time.sleep(0.2)
    assert waiter.seconds() < 0.1 < holder.seconds(), "asked from outside, while it waits"
    holder.give()
    thread.join()


def test_one_decodes_at_a_time_and_the_first_is_ready_first() -> None:
    spans, own = [], []

    def work(turn: Turn) -> None:
        with computing(), decoding():
            began = time.perf_counter()
            time.sleep(0.1)
            spans.append((began, time.perf_counter()))
        own.append(turn.seconds())

    in_threads(Turns(), work, 3)
    spans.sort()
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert own == pytest.approx([0.1] * 3, abs=0.08)


def test_an_error_leaves_the_turn_to_the_next() -> None:
    def work(turn: Turn) -> None:
        with pytest.raises(ValueError, match="encoder"), computing(), file_work():
            raise ValueError("encoder")
        assert not turn.has

    in_threads(Turns(), work, 3)


def test_a_thread_without_a_turn_is_not_affected() -> None:
    @file_work()
    def double(number: int) -> int:
        return 2 * number

    with computing(), file_work():
        assert double(4) == 8
    assert clock() == pytest.approx(time.perf_counter(), abs=0.1)

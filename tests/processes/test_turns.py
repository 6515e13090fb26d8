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


def test_an_item_that_wrote_its_files_does_not_wait_for_all_that_are_ready() -> None:
    """It is done once it has returned, and the worker has room for the next; an older one may have been read later."""
    turns, order = Turns(), list[int]()
    older, written, holder = (turns.new() for _ in range(3))
    for turn in (older, written, written):
        turn.take()
        turn.give()
    holder.take()

    def go(turn: Turn) -> None:
        turn.take()
        order.append(turn.number)
        turn.give()

    with ThreadPoolExecutor(2) as threads:
        threads.submit(go, older)
        threads.submit(go, written)
        while len(turns.waiting) < 2:
            time.sleep(0.001)
        holder.give()
    assert order == [written.number, older.number]


def test_an_item_that_enters_reads_its_files_before_the_next_computes() -> None:
    """Else its files would be read only after all that are ready have computed, while nothing is at the GPU."""
    turns, order = Turns(), list[str]()
    holder, ready, late = (turns.new() for _ in range(3))
    ready.take()
    ready.give()  # it has begun, and read its files
    holder.take()

    def go(turn: Turn, name: str) -> None:
        with turn.in_this_thread():
            turn.take()
            with file_work():
                order.append(f"{name} reads")
            order.append(f"{name} computes")
            turn.give()

    def compute(turn: Turn) -> None:
        turn.take()
        order.append("ready computes")
        time.sleep(0.1)
        turn.give()

    with ThreadPoolExecutor(2) as threads:
        threads.submit(compute, ready)
        threads.submit(go, late, "late")
        while len(turns.waiting) < 2:
            time.sleep(0.001)
        holder.give()
    assert order == ["late reads", "ready computes", "late computes"]


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

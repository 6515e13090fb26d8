"""Items of one GPU worker take turns: one computes, while the files of the others are read and written.

A worker on a GPU has several items in hand, each in a thread of its own. The code of its stage runs only while its item
has the turn, so stage and models see one item at a time. Whatever reads or writes files (`media/codec`, the store)
gives the turn away until it is done. Next is the item whose coming turn is expected to be the shortest, and of such
the oldest: the short ones lead to a read, or to the end of an item, and cost the GPU nothing. How long an item's first,
second, third turn takes is learned from the items before; one that is not known counts as short.

A thread without a turn, in every other worker and runner, is not affected.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Turns:
    """The turns of one worker."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: list[Turn] = []
        self.holder: Turn | None = None
        self.decoder = threading.Lock()
        self.expected: dict[int, float] = {}
        """Seconds of an item's first, second, ... turn, of the item that had it last."""
        self._count = 0

    def new(self) -> Turn:
        """Enter one more item; it waits behind all that entered before it."""
        with self.changed:
            self._count += 1
            return Turn(self, self._count)


class Turn:
    """One item's part in the turns of its worker.

    Attributes:
        number: grows from item to item.
        held: seconds that it had the turn.
        waited: seconds that it waited for the turn, which are no work of its own.
    """

    def __init__(self, turns: Turns, number: int) -> None:
        self.number = number
        self.held = self.waited = 0.0
        self._turns, self._began, self._since = turns, time.perf_counter(), 0.0
        self._waits, self._times = False, 0

    @property
    def has(self) -> bool:
        """Whether the item has the turn."""
        return self._turns.holder is self

    def seconds(self) -> float:
        """Seconds since the item entered, without those that it waited for the turn. Any thread may ask."""
        with self._turns.changed:
            now = time.perf_counter()
            return now - self._began - self.waited - (now - self._since if self._waits else 0.0)

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """The calling thread works on this item."""
        _thread.turn = self
        try:
            yield
        finally:
            _thread.turn = None

    def take(self) -> None:
        """Wait for the turn."""
        turns = self._turns
        with turns.changed:
            self._waits, self._since = True, time.perf_counter()
            turns.waiting.append(self)
            turns.changed.wait_for(self._is_next)
            turns.waiting.remove(self)
            turns.holder = self
            now = time.perf_counter()
            self.waited += now - self._since
            self._waits, self._since = False, now
            self._times += 1

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """A block in which no other item of the worker decodes; waiting for that is no work of its own either."""
        changed, decoder = self._turns.changed, self._turns.decoder
        with changed:
            self._waits, self._since = True, time.perf_counter()
        with decoder:
            with changed:
                self.waited += time.perf_counter() - self._since
                self._waits = False
            yield

    def give(self) -> None:
        """Let the next item have the turn."""
        with self._turns.changed:
            seconds = time.perf_counter() - self._since
            self.held += seconds
            self._turns.expected[self._times] = seconds
            self._turns.holder = None
            self._turns.changed.notify_all()

    def _is_next(self) -> bool:
        turns = self._turns
        return turns.holder is None and self is min(turns.waiting, key=Turn._place)

    def _place(self) -> tuple[float, int]:
        return self._turns.expected.get(self._times + 1, 0.0), self.number


@contextmanager
def computing() -> Iterator[None]:
    """A block that runs only while the item of this thread has the turn."""
    turn = _current()
    if turn is None:
        yield
        return
    turn.take()
    try:
        yield
    finally:
        turn.give()


@contextmanager
def file_work() -> Iterator[None]:
    """A block, or a decorated function, that reads or writes files: the turn is given away and taken back after it."""
    turn = _current()
    if turn is None or not turn.has:
        yield
        return
    turn.give()
    try:
        yield
    finally:
        turn.take()


@contextmanager
def decoding() -> Iterator[None]:
    """`file_work` that decodes, which takes every core: several at once would all be ready late."""
    turn = _current()
    with file_work():
        if turn is None:
            yield
            return
        with turn.decoding():
            yield


def clock() -> float:
    """Seconds of a clock that stands still while the item of this thread waits for its turn."""
    turn = _current()
    return time.perf_counter() - (turn.waited if turn else 0.0)


_thread = threading.local()


def _current() -> Turn | None:
    with suppress(AttributeError):
        found: Turn | None = _thread.turn
        return found
    return None

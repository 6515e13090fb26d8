"""Connections of the review server: limits on their number, and on the time that a client takes to send and to read."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 200
"""Most open connections. A browser has six; above this one that sends nothing makes room for a new one."""

MAX_HEAD = 32 * 1024
"""Most bytes of a request's first line and headers; a larger head is answered by 400."""

REQUEST_SECONDS = 10.0
"""A request must be complete, with its body, so long after the connection began or its first bytes came."""

STALL_SECONDS = 120.0
"""A client that takes nothing of its answer for so long is given up."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedConnection(H11Protocol):
    """One connection. Uvicorn itself limits only the time between two requests."""

    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where too many are at work."""
        full = len(self.connections) >= MAX_CONNECTIONS and not self._make_room()
        super().connection_made(transport)
        if full:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request; until its first bytes come, uvicorn's own limit counts."""
        super().on_response_complete()
        if self._idle():
            self._cancel()
        else:  # the next one came together with the last one
            self._watch()

    def pause_writing(self) -> None:
        """Wait until the client has read some of the answer."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a closed connection."""
        self._cancel()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        """Return whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """Start the clock of a request that is not complete, or stop it."""
        if not self.transport.is_closing() and (self._idle() or self.cycle.more_body):
            if self._deadline is None:
                self._deadline = self.loop.call_later(REQUEST_SECONDS, self._give_up)
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.transport.get_write_buffer_size() or not (self._idle() or not self.cycle.response_started):
            self.transport.abort()  # an answer is on its way: another one cannot follow
        else:
            self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request; False where all have one."""
        waiting: list[Any] = [
            each for each in self.connections if isinstance(each, LimitedConnection) and each._deadline is not None
        ]
        if not waiting:
            return False
        min(waiting, key=lambda each: each._deadline.when()).transport.abort()
        return True

"""All endpoints of one model as one service: bounded concurrency, health checks, fail-over, retries, usage.

A process has one service per model and runtime for all its stages: they share its connections, its limits and the state
of its endpoints.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ffpdata.core.errors import FatalError, RetryableError
from ffpdata.models.vlm.endpoint import Completion, Endpoint, EndpointError
from ffpdata.models.vlm.event_loop import call
from ffpdata.models.vlm.settings import VisionRuntime

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
"""Interval at which a waiting request checks for an available endpoint, seconds."""
BREAKER = 3
"""Failures in a row after which an endpoint counts as down, even if it responds."""
MOST_DOUBLINGS = 5
GRACE_SECONDS = 30.0
"""Seconds of the watchdog beyond the sum of all limits."""


class Service:
    """The endpoints of one model. Its methods are called from any thread.

    Args:
        runtime: endpoints and limits.
        model: the model's name at the servers.

    Raises:
        FatalError: the key's variable is not set, no endpoint answers within `start_seconds`, or one refuses the key or
            does not serve the model.
    """

    def __init__(self, runtime: VisionRuntime, model: str) -> None:
        self.runtime, self.model = runtime, model
        self._slots = threading.BoundedSemaphore(runtime.concurrency)
        self._totals: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._endpoints: list[Endpoint] = []
        import openai.resources.chat
        import openai.resources.models  # noqa: F401 - seconds of imports, which must not hold up the event loop

        try:
            call(self._start(_key(runtime)))
        except BaseException:
            self.close()
            raise

    def ask(self, request: Mapping[str, Any], question: str = "") -> tuple[Completion, int]:
        """Send a request to the least busy endpoint, and to others when it fails.

        Args:
            request: arguments of the chat completions call, `model` excepted.
            question: name under which `usage` counts it.

        Returns:
            The reply, and the number of requests made.

        Raises:
            RetryableError: the service failed `attempts` times, or every endpoint is down for `outage_seconds`.
            RequestRefusedError: this request is invalid.
            FatalError: every request would fail.
        """
        limits = self.runtime
        most = limits.total_seconds + limits.longest_backoff_seconds + limits.outage_seconds
        with self._slots:
            troubles: list[EndpointError] = []
            try:
                reply = call(self._ask(request, troubles), limits.attempts * most + GRACE_SECONDS)
            finally:
                kinds: Counter[str] = Counter(trouble.kind for trouble in troubles)
                self._count(question, failures=len(troubles), **kinds)
        self._count(
            question,
            answers=1,
            prompt_tokens=reply.prompt_tokens or 0,
            completion_tokens=reply.completion_tokens or 0,
            milliseconds=round(reply.seconds * 1000),
        )
        return reply, len(troubles) + 1

    def usage(self) -> dict[str, dict[str, int]]:
        """Return per question: `answers`, `failures` of the service (and of which kind), tokens, `milliseconds`."""
        with self._lock:
            return {question: dict(totals) for question, totals in self._totals.items()}

    def health(self) -> dict[str, str]:
        """Return for each endpoint `up`, or its last error."""
        return {e.url: "up" if e.up and e.rests_until <= time.monotonic() else e.last_error for e in self._endpoints}

    def close(self) -> None:
        """Close the connections."""
        call(self._stop())

    # --- on the event loop ---

    async def _start(self, key: str) -> None:
        limits = self.runtime
        self._endpoints = [Endpoint(url, self.model, key, limits) for url in limits.endpoint]
        deadline = time.monotonic() + limits.start_seconds
        while not any(await asyncio.gather(*(endpoint.probe() for endpoint in self._endpoints))):
            if time.monotonic() >= deadline:
                raise FatalError(
                    f"no endpoint of {self.model!r} answers: {self._errors()}. Start one (ffpdata serve-vlm), or set "
                    "`runtime.endpoint` of vision_language to one that runs."
                )
            await asyncio.sleep(min(1.0, limits.health_seconds))
        for endpoint in self._endpoints:
            if not endpoint.up:
                log.warning("%s is left out until it answers", endpoint.last_error)
        self._watch = asyncio.create_task(self._watch_endpoints())

    async def _stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints), return_exceptions=True)

    async def _ask(self, request: Mapping[str, Any], troubles: list[EndpointError]) -> Completion:
        limits, avoid = self.runtime, set[str]()
        while True:
            endpoint = await self._choose(avoid)
            began = time.monotonic()
            try:
                reply = await endpoint.complete(request)
            except EndpointError as trouble:
                troubles.append(trouble)
                self._record_failure(endpoint, trouble, began)
                if len(troubles) >= limits.attempts:
                    raise RetryableError(f"{trouble.text} ({_kinds(troubles)})") from None
                avoid.add(endpoint.url)
                if len(avoid) >= len(self._endpoints):  # all have failed: wait
                    avoid = {endpoint.url} if len(self._endpoints) > 1 else set()
                    await asyncio.sleep(self._backoff(len(troubles), trouble))
            else:
                endpoint.failures, endpoint.rests_until, endpoint.answered_at = 0, 0.0, time.monotonic()
                return reply

    async def _choose(self, avoid: set[str]) -> Endpoint:
        """Wait for an endpoint that is up and return the least busy; those in `avoid` only if there is no other."""
        start = time.monotonic()
        while True:
            now = time.monotonic()
            ready = [e for e in self._endpoints if e.up and e.rests_until <= now]
            ready = [e for e in ready if e.url not in avoid] or ready
            if ready:
                return min(ready, key=lambda e: (e.in_flight, random.random()))  # noqa: S311 - spreads load
            if now - start >= self.runtime.outage_seconds and not any(e.up for e in self._endpoints):
                raise RetryableError(
                    f"every endpoint is down for {now - start:.0f} s: {self._errors()}. Look at the servers' logs."
                )
            await asyncio.sleep(POLL_SECONDS)

    def _record_failure(self, endpoint: Endpoint, trouble: EndpointError, began: float) -> None:
        """Record a failure: an endpoint that is down waits for a health check, a busy one for its `Retry-After`.

        A time-out marks an endpoint as down only if it answered no other request meanwhile: a single request may hang.
        """
        endpoint.last_error = trouble.text
        now, limits = time.monotonic(), self.runtime
        if trouble.kind == "busy":
            if trouble.retry_after is not None:
                endpoint.rests_until = now + min(trouble.retry_after, limits.longest_backoff_seconds)
            return
        endpoint.failures += 1
        silent = trouble.kind == "hung" and endpoint.answered_at < began
        if trouble.kind == "down" or silent or endpoint.failures >= BREAKER:
            if endpoint.up:
                log.warning("%s; not asked until it is well again", trouble.text)
            endpoint.up = False
            # An endpoint that passes health checks but fails requests is used less and less often.
            repeats = min(MOST_DOUBLINGS, endpoint.failures - 1)
            endpoint.rests_until = now + (0 if trouble.kind == "down" else limits.health_seconds * 2**repeats)

    async def _watch_endpoints(self) -> None:
        """Probe endpoints that are down, forever."""
        while True:
            await asyncio.sleep(self.runtime.health_seconds)
            down = [e for e in self._endpoints if not e.up and e.rests_until <= time.monotonic()]
            for endpoint, found in zip(
                down, await asyncio.gather(*(e.probe() for e in down), return_exceptions=True), strict=True
            ):
                if found is True:
                    log.warning("%s is well again", endpoint.url)
                elif isinstance(found, BaseException):  # it is back with another model or key
                    endpoint.last_error = str(found)

    def _backoff(self, failures: int, trouble: EndpointError) -> float:
        limits = self.runtime
        if trouble.retry_after is not None:
            return min(trouble.retry_after, limits.longest_backoff_seconds)
        wait: float = min(limits.backoff_seconds * 2 ** (failures - 1), limits.longest_backoff_seconds)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 - spreads the retries of many requests

    def _errors(self) -> str:
        return "; ".join(endpoint.last_error or f"{endpoint.url} is down" for endpoint in self._endpoints)

    def _count(self, question: str, **numbers: int) -> None:
        with self._lock:
            self._totals.setdefault(question, Counter()).update(numbers)


def _key(runtime: VisionRuntime) -> str:
    if not runtime.api_key_env:
        return ""
    key = os.environ.get(runtime.api_key_env, "").strip()
    if not key:
        raise FatalError(
            f"the environment variable {runtime.api_key_env} is not set: `runtime.api_key_env` of vision_language says "
            "that it holds the API key. On a cluster the workers need it too."
        )
    return key


def _kinds(troubles: list[EndpointError]) -> str:
    counts = Counter(trouble.kind for trouble in troubles)
    return f"{len(troubles)} requests: " + ", ".join(f"{n} {kind}" for kind, n in counts.items())


# --- one service per model and runtime in a process ---

_shared: dict[str, tuple[Service, int]] = {}
_shared_lock = threading.Lock()


def acquire(runtime: VisionRuntime, model: str) -> tuple[Service, Callable[[], None]]:
    """Return the process's service of a model, started at first use, and a function that releases it."""
    name = f"{os.getpid()} {model} {runtime.model_dump_json()}"
    with _shared_lock:
        service, users = _shared.get(name) or (Service(runtime, model), 0)
        _shared[name] = service, users + 1

    def release() -> None:
        with _shared_lock:
            service, users = _shared[name]
            if users > 1:
                _shared[name] = service, users - 1
                return
            del _shared[name]
        service.close()

    return service, release

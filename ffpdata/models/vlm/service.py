"""All endpoints of one model as one service: bounded concurrency, health, fail-over, retries, accounting.

A process has one service per model and runtime, however many stages use it: they share its connections, its limit and
what it knows about the endpoints.
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
"""How often a question that waits for an endpoint looks again."""
BREAKER = 3
"""Failures in a row after which an endpoint that answers counts as down all the same."""
MOST_DOUBLINGS = 5
GRACE_SECONDS = 30.0
"""What the watchdog grants beyond the sum of all limits."""


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
        self._places = threading.BoundedSemaphore(runtime.concurrency)
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
        """Make a request at the endpoint that has least to do, and at others when it fails.

        Args:
            request: arguments of the chat completions call, `model` excepted.
            question: what `usage` counts it under.

        Returns:
            The reply, and how many requests it took.

        Raises:
            RetryableError: the service failed `attempts` times, or every endpoint is down for `outage_seconds`.
            RequestRefusedError: this request is wrong.
            FatalError: every request would be.
        """
        limits = self.runtime
        most = limits.total_seconds + limits.longest_backoff_seconds + limits.outage_seconds
        with self._places:
            tried: list[EndpointError] = []
            try:
                reply = call(self._ask(request, tried), limits.attempts * most + GRACE_SECONDS)
            finally:
                kinds: Counter[str] = Counter(trouble.kind for trouble in tried)
                self._count(question, failures=len(tried), **kinds)
        self._count(
            question,
            answers=1,
            prompt_tokens=reply.prompt_tokens or 0,
            completion_tokens=reply.completion_tokens or 0,
            milliseconds=round(reply.seconds * 1000),
        )
        return reply, len(tried) + 1

    def usage(self) -> dict[str, dict[str, int]]:
        """Return per question: `answers`, `failures` of the service (and of which kind), tokens, `milliseconds`."""
        with self._lock:
            return {question: dict(totals) for question, totals in self._totals.items()}

    def health(self) -> dict[str, str]:
        """Return per endpoint `up`, or why it is not used."""
        return {e.url: "up" if e.up and e.rests_until <= time.monotonic() else e.last_error for e in self._endpoints}

    def close(self) -> None:
        """End the connections."""
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
        self._watch = asyncio.create_task(self._keep_watch())

    async def _stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints), return_exceptions=True)

    async def _ask(self, request: Mapping[str, Any], tried: list[EndpointError]) -> Completion:
        limits, avoid = self.runtime, set[str]()
        while True:
            endpoint = await self._choose(avoid)
            began = time.monotonic()
            try:
                reply = await endpoint.complete(request)
            except EndpointError as trouble:
                tried.append(trouble)
                self._note(endpoint, trouble, began)
                if len(tried) >= limits.attempts:
                    raise RetryableError(f"{trouble.text} ({_kinds(tried)})") from None
                avoid.add(endpoint.url)
                if len(avoid) >= len(self._endpoints):  # each was tried: now wait
                    avoid = {endpoint.url} if len(self._endpoints) > 1 else set()
                    await asyncio.sleep(self._backoff(len(tried), trouble))
            else:
                endpoint.failures, endpoint.rests_until, endpoint.answered_at = 0, 0.0, time.monotonic()
                return reply

    async def _choose(self, avoid: set[str]) -> Endpoint:
        """Wait for an endpoint that is up, the least busy first; `avoid` are taken where there is no other."""
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

    def _note(self, endpoint: Endpoint, trouble: EndpointError, began: float) -> None:
        """Remember a failure: who is down waits for a health check, who is busy rests for as long as it says.

        Silence means that an endpoint is down only where nobody was answered in the meantime: one question may hang
        alone.
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
            # One that answers the health check and fails at questions is asked ever more rarely.
            repeats = min(MOST_DOUBLINGS, endpoint.failures - 1)
            endpoint.rests_until = now + (0 if trouble.kind == "down" else limits.health_seconds * 2**repeats)

    async def _keep_watch(self) -> None:
        """Look at endpoints that are down until they are well again."""
        while True:
            await asyncio.sleep(self.runtime.health_seconds)
            down = [e for e in self._endpoints if not e.up and e.rests_until <= time.monotonic()]
            for endpoint, found in zip(
                down, await asyncio.gather(*(e.probe() for e in down), return_exceptions=True), strict=True
            ):
                if found is True:
                    log.warning("%s is well again", endpoint.url)
                elif isinstance(found, BaseException):  # it came back with another model or key
                    endpoint.last_error = str(found)

    def _backoff(self, failures: int, trouble: EndpointError) -> float:
        limits = self.runtime
        if trouble.retry_after is not None:
            return min(trouble.retry_after, limits.longest_backoff_seconds)
        wait: float = min(limits.backoff_seconds * 2 ** (failures - 1), limits.longest_backoff_seconds)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 - so that many questions do not come back at once

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


def _kinds(tried: list[EndpointError]) -> str:
    counts = Counter(trouble.kind for trouble in tried)
    return f"{len(tried)} requests: " + ", ".join(f"{n} {kind}" for kind, n in counts.items())


# --- one service per model and runtime in a process ---

_shared: dict[str, tuple[Service, int]] = {}
_shared_lock = threading.Lock()


def acquire(runtime: VisionRuntime, model: str) -> tuple[Service, Callable[[], None]]:
    """Return the process's service of a model, started at its first use, and what gives it back."""
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

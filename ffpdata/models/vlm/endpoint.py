"""One endpoint: streamed requests, its health, and its errors as typed exceptions."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from ffpdata.core.errors import FatalError, FfpdataError, nearest
from ffpdata.models.vlm.settings import VisionRuntime

if TYPE_CHECKING:
    from openai import APIStatusError

LONGEST_ANSWER = 100_000
"""Characters after which a stream is aborted: more than any `max_tokens` allows."""
PROBE_SECONDS = 10.0
KEEPALIVE_SECONDS = 2.0
"""Seconds that an idle connection stays open. vLLM's server closes it after 5, and a request at that moment fails."""
MAX_MESSAGE = 400
"""Largest number of characters of a server's message in an error."""

REFUSED = (400, 413, 415, 422)
"""Statuses of invalid requests, which other endpoints would refuse too."""


class RequestRefusedError(FfpdataError):
    """The server refuses the request, e.g. as too long or for an unknown setting: the item fails with its message."""


class EndpointError(Exception):
    """The endpoint failed; a retry may succeed.

    Args:
        kind: `down` (no connection), `hung` (a time-out), `busy` (429, 503) or `broken` (5xx, a broken connection, an
            invalid response).
        text: message.
        retry_after: the server's `Retry-After`, seconds; None without one.
    """

    def __init__(
        self, kind: Literal["down", "hung", "busy", "broken"], text: str, retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.kind, self.text, self.retry_after = kind, text, retry_after


@dataclass(frozen=True)
class Completion:
    """The response to a request.

    Attributes:
        text: the model's text.
        finish: finish reason: `stop`, `length`, `content_filter`.
        prompt_tokens: None where the server does not return it.
        completion_tokens: likewise.
        seconds: from the request to the last byte.
        first_token_seconds: from the request to the first text.
        endpoint: URL of the endpoint.
    """

    text: str
    finish: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    first_token_seconds: float
    endpoint: str


class Endpoint:
    """One base URL. Used on the event loop's thread only; `complete` and `probe` are the only waits.

    Args:
        url: the base URL, `http://host:port/v1`.
        model: the model's name at the server.
        key: the API key; messages never contain it.
        runtime: the time limits.
    """

    def __init__(self, url: str, model: str, key: str, runtime: VisionRuntime) -> None:
        import httpx2
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        self.url, self.model, self._key, self._runtime = url, model, key, runtime
        # `complete` limits every wait; the client's own timeout would limit only the time between bytes.
        limits = httpx2.Timeout(runtime.total_seconds, connect=runtime.connect_seconds)
        pool = httpx2.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_SECONDS)
        # `Service` retries, as it has other endpoints. A key must be set: otherwise the client would send the value of
        # OPENAI_API_KEY to a server that it is not meant for.
        self._client = AsyncOpenAI(
            base_url=url,
            api_key=key or "none",
            timeout=limits,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(limits=pool),
        )
        self.up = True
        self.in_flight = 0
        self.failures = 0
        """Failures in a row."""
        self.answered_at = 0.0
        """Monotonic time of its last response, seconds."""
        self.rests_until = 0.0
        """Monotonic time before which it gets no request, seconds."""
        self.last_error = ""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def complete(self, request: Mapping[str, Any]) -> Completion:
        """Make one request and read its stream to the end.

        Args:
            request: arguments of the chat completions call, `model` and streaming excepted.

        Raises:
            EndpointError: the endpoint failed.
            RequestRefusedError: this request is invalid.
            FatalError: every request would fail: wrong key, path or model.
        """
        import httpx2
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        start = time.monotonic()
        self.in_flight += 1
        try:
            async with (
                asyncio.timeout(self._runtime.total_seconds) as total,
                asyncio.timeout(self._runtime.first_byte_seconds) as silence,
            ):
                return await self._read(request, start, silence)
        except TimeoutError:
            waited = time.monotonic() - start
            what = "did not end" if total.expired() else "fell silent"
            raise EndpointError("hung", f"{self.url}: the answer {what} within {waited:.1f} s") from None
        except APITimeoutError:
            raise EndpointError(
                "down", f"{self.url}: no connection within {self._runtime.connect_seconds:g} s"
            ) from None
        except APIStatusError as err:
            raise self._error_for_status(err) from None
        except (APIConnectionError, httpx2.HTTPError, httpx2.StreamError, OSError) as err:
            cause = err.__cause__ or err
            kind: Literal["down", "broken"] = "down" if isinstance(cause, httpx2.ConnectError) else "broken"
            raise EndpointError(kind, f"{self.url}: {self._clean(_describe(cause))}") from None
        except APIError as err:  # sent within a started stream
            text = f"{self.url}: {self._clean(err.message)}"
            raise (
                RequestRefusedError(text) if str(err.code) in map(str, REFUSED) else EndpointError("broken", text)
            ) from None
        except (ValueError, TypeError, AttributeError) as err:
            raise EndpointError(
                "broken", f"{self.url}: not a chat completion stream: {self._clean(str(err))}"
            ) from None
        finally:
            self.in_flight -= 1

    async def _read(self, request: Mapping[str, Any], start: float, silence: asyncio.Timeout) -> Completion:
        loop, texts, length, finish, first = asyncio.get_running_loop(), [], 0, "", 0.0
        usage: Any = None
        stream = await self._client.chat.completions.create(
            model=self.model, stream=True, stream_options={"include_usage": True}, **request
        )
        async with stream:
            async for chunk in stream:
                silence.reschedule(loop.time() + self._runtime.idle_seconds)
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    piece = choice.delta.content or ""
                    if piece and not length:
                        first = time.monotonic() - start
                    texts.append(piece)
                    length += len(piece)
                    finish = choice.finish_reason or finish
                if length > LONGEST_ANSWER:
                    raise EndpointError("broken", f"{self.url}: the answer has no end ({length} characters so far)")
        if not finish:
            raise EndpointError("broken", f"{self.url}: the answer broke off after {length} characters")
        return Completion(
            text="".join(texts),
            finish=finish,
            prompt_tokens=getattr(usage, "prompt_tokens", None),
            completion_tokens=getattr(usage, "completion_tokens", None),
            seconds=time.monotonic() - start,
            first_token_seconds=first,
            endpoint=self.url,
        )

    async def probe(self) -> bool:
        """Request the endpoint's models, set `up` and `last_error`, and return `up`.

        Raises:
            FatalError: it refuses the key, or does not serve the model.
        """
        import httpx2
        from openai import APIError, APIStatusError

        try:
            async with asyncio.timeout(PROBE_SECONDS):
                page = await self._client.models.list()
                names = [model.id for model in page.data]
        except APIStatusError as err:
            if err.status_code in (404, 405):  # a server without this list: errors come with the first request
                self.up = True
                return True
            error = self._error_for_status(err)
            if isinstance(error, FatalError):
                raise error from None
            self.up, self.last_error = False, str(error)
            return False
        except (TimeoutError, APIError, httpx2.HTTPError, OSError, ValueError, TypeError, AttributeError) as err:
            silent = f"no list of models within {PROBE_SECONDS:g} s"
            text = silent if isinstance(err, TimeoutError) else _describe(err.__cause__ or err)
            self.up, self.last_error = False, f"{self.url}: {self._clean(text)}"
            return False
        if self.model not in names:
            raise FatalError(
                f"{self.url} does not serve {self.model!r}{nearest(self.model, names)}. Set `model` (or "
                "`runtime.served_model`, the name at the server) of vision_language, or the endpoint."
            )
        self.up = True
        return True

    def _error_for_status(self, err: APIStatusError) -> Exception:
        """Return the exception for a status; its class defines whether the request is retried."""
        status, text = err.status_code, f"{self.url} answered {err.status_code}: {self._clean(err.message)}"
        if status in (401, 403):
            how = f"the key in ${self._runtime.api_key_env}" if self._runtime.api_key_env else "no key"
            return FatalError(
                f"{text}. It was sent {how}: set `runtime.api_key_env` of vision_language to the name of the "
                "environment variable with a valid key."
            )
        if status == 404:
            return FatalError(
                f"{text}. Check `runtime.endpoint` (its path usually ends in /v1) and `model` ({self.model!r}) of "
                "vision_language."
            )
        if status == 400 and "media_io_kwargs" in text:
            return FatalError(
                f"{text}. Questions tell the rate of their frames: start vLLM with --trust-request-mm-kwargs, as "
                "`ffpdata serve-vlm` does, or set `settings.request_fps` of vision_language to false."
            )
        if status in REFUSED:
            return RequestRefusedError(f"{text}. Fewer `frames` or `clip_pixels` make a question shorter.")
        kind: Literal["busy", "broken"] = "busy" if status in (429, 503) else "broken"
        return EndpointError(kind, text, retry_after(err.response.headers.get("retry-after")))

    def _clean(self, text: str) -> str:
        """Shorten a server's message and remove the key from it."""
        text = " ".join(text.split())
        return (text.replace(self._key, "***") if self._key else text)[:MAX_MESSAGE]


def _describe(err: BaseException) -> str:
    return f"{type(err).__name__}: {err}" if str(err) else type(err).__name__


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header (a number or a date); None without a valid one."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None

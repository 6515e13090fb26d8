"""The production vision-language model: Qwen2.5-VL behind vLLM, or any model behind a server of the OpenAI protocol."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import FatalError, Reject
from ffpdata.models.requirements import Requirements
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.vlm.answers import Answer, correction, read_answer
from ffpdata.models.vlm.frame_sampling import EncodedMedia, encode_media
from ffpdata.models.vlm.service import acquire
from ffpdata.models.vlm.settings import VisionRuntime, VisionSettings

if TYPE_CHECKING:
    from ffpdata.core.prompt import Prompt
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.vlm.endpoint import Completion

log = logging.getLogger(__name__)


class ServedVision:
    """A `VisionLanguage` behind a server. `ask` is called from as many threads as its stage has items at once.

    Raises:
        ConfigError: a wrong entry of `settings` or `runtime`.
        FatalError: no endpoint answers, or it does not serve the model, or refuses the key.
    """

    name = "served_vision"
    version = 2
    kind = "model"
    Settings = VisionSettings
    Runtime = VisionRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        runtime = parse_runtime(self.Runtime, spec)
        self._service, self._release = acquire(runtime, runtime.served_model or spec.model)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return the client's package, and a check of its server."""
        runtime = parse_runtime(cls.Runtime, spec).model_copy(update={"start_seconds": 0.0})
        model = runtime.served_model or spec.model

        def reach() -> str:
            service, release = acquire(runtime, model)
            try:
                return "; ".join(f"{url} serves {model}" if at == "up" else at for url, at in service.health().items())
            finally:
                release()

        return Requirements(packages=("openai",), reach=reach)

    def close(self) -> None:
        """Close the connections, unless other stages of this process use them."""
        release, self._release = self._release, lambda: None
        release()

    def usage(self) -> dict[str, dict[str, int]]:
        """Return the costs of each prompt in this process so far; see `Service.usage`."""
        return self._service.usage()

    def more_media(self, prompt: Prompt) -> tuple[str, ...]:
        """Return the media that a close-up of the prompt needs beside `prompt.media`."""
        closeup = self.settings.view(prompt.name).closeup
        return (closeup.around,) if closeup and closeup.of in prompt.media else ()

    def ask(self, prompt: Prompt, media: Mapping[str, Any], fields: Mapping[str, Any]) -> Answer:
        """Send the prompt with its media to the model and return the answer.

        An answer that breaks the schema or a rule of the prompt is sent back to the model with its faults. If the last
        answer fits the schema but breaks a rule, it is returned: the stage decides.

        Args:
            prompt: the question, its schema and its rules.
            media: clips uint8 (T, H, W, 3) and images uint8 (H, W, 3), RGB, by name, and masks bool (T, H, W).
            fields: values for the template's inputs; `fps`, the rate of the clips, where it is known.

        Raises:
            Reject: `answer_invalid` (no JSON that fits the schema; the detail quotes the text) or `answer_refused`.
            RequestRefusedError: the server refuses this request.
            RetryableError: the service fails.
            FatalError: wrong key, path, model or media.
        """
        start = time.monotonic()
        encoded = encode_media(prompt, media, self.settings, fields.get("fps"))
        text = prompt.render(fields)
        if self.settings.schema_mode != "json_schema":
            text += f"\n\nThe JSON must fit this schema: {json.dumps(prompt.schema)}"
        messages: list[dict[str, Any]] = [{"role": "user", "content": [*encoded.parts, {"type": "text", "text": text}]}]
        replies: list[Completion] = []
        requests = 0
        while True:
            reply, count = self._service.ask(self._request(prompt, messages, encoded), prompt.name)
            replies.append(reply)
            requests += count
            answer, faults = read_answer(reply.text, reply.finish, prompt, fields)
            if not faults or len(replies) > self.settings.repairs:
                break
            messages = [messages[0], *correction(reply.text, faults, prompt.schema)]
        facts = {**encoded.facts(), "requests": requests, **_cost(replies)}
        facts["seconds"] = round(time.monotonic() - start, 3)
        log.debug("%s: %s", prompt.name, facts)
        if answer is None:
            if reply.finish == "content_filter":
                raise Reject("answer_refused", f"{prompt.name}: the server's filter stopped the answer", facts)
            quoted = " ".join(reply.text.split())[:200]
            detail = f"{prompt.name}: {'; '.join(faults)} (asked {len(replies)} times): {quoted!r}"
            raise Reject("answer_invalid", detail, facts)
        return Answer(answer, facts)

    def _request(self, prompt: Prompt, messages: list[dict[str, Any]], encoded: EncodedMedia) -> dict[str, Any]:
        settings = self.settings
        request: dict[str, Any] = {
            "messages": messages,
            "temperature": settings.temperature,
            "seed": settings.seed,
            "max_tokens": settings.max_tokens,
        }
        if settings.schema_mode == "json_schema":
            schema = {"name": prompt.name, "schema": prompt.schema, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif settings.schema_mode == "json_object":
            request["response_format"] = {"type": "json_object"}
        if encoded.rates and settings.clips_as == "video" and settings.request_fps:
            request["extra_body"] = {"media_io_kwargs": {"video": _video_arguments(prompt, encoded.rates)}}
        return request


def _video_arguments(prompt: Prompt, rates: Mapping[str, float]) -> dict[str, Any]:
    """Return vLLM's arguments for the videos of a request: there is one rate for all of them.

    `num_frames` must stand beside it, or vLLM replaces the server's by its default and drops frames after the 32nd.
    """
    slowest, fastest = min(rates.values()), max(rates.values())
    if fastest > 1.01 * slowest:
        raise FatalError(
            f"the prompt {prompt.name!r} shows clips whose frames have different rates ({rates}); "
            "vLLM takes one rate per request: set clips_as to images, or request_fps to false"
        )
    return {"fps": slowest, "num_frames": -1}


def _cost(replies: list[Completion]) -> dict[str, Any]:
    """Return the costs of an answer, including repairs; counts that the server does not return are left out."""
    facts: dict[str, Any] = {
        "repairs": len(replies) - 1,
        "first_token_seconds": round(replies[0].first_token_seconds, 3),
        "endpoint": replies[-1].endpoint,
        "finish": replies[-1].finish,
    }
    for name in ("prompt_tokens", "completion_tokens"):
        counts = [getattr(reply, name) for reply in replies]
        if None not in counts:
            facts[name] = sum(counts)
    return facts

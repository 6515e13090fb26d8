"""The client against a real local server that misbehaves on purpose: what survives, what fails, and how it says so."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError, Reject, RetryableError
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec
from ffpdata.models.vlm import event_loop
from ffpdata.models.vlm.backend import ServedVision
from ffpdata.models.vlm.endpoint import RequestRefusedError, retry_after
from tests.openai_server import MODEL, Break, Hang, Raw, Say, Server, Stall, Status

PROMPTS = Path(__file__).parents[3] / "prompts"
GOOD = json.dumps({"reason": "A dog stands where the cat was.", "task": "swap"})
FAST = {
    "connect_seconds": 2,
    "first_byte_seconds": 1.5,
    "idle_seconds": 1.0,
    "total_seconds": 5,
    "backoff_seconds": 0.02,
    "health_seconds": 0.1,
    "outage_seconds": 0.6,
    "start_seconds": 0.2,
    "attempts": 3,
}
CLIP = np.zeros((9, 36, 64, 3), np.uint8)


def spec(*endpoints: str, settings: dict[str, Any] | None = None, **runtime: Any) -> ModelSpec:
    return ModelSpec(
        backend="ffpdata.models.vlm.backend:ServedVision",
        model=MODEL,
        settings=settings or {},
        runtime={**FAST, "endpoint": list(endpoints), **runtime},
    )


def ask(model: ServedVision, name: str = "discriminate") -> Any:
    return model.ask(Prompt.load(PROMPTS / f"{name}.yaml"), {"source": CLIP, "target": CLIP}, {"object": "cat"})


@pytest.fixture
def opened() -> Iterator[Any]:
    """Makes servers and models and ends them."""
    things: list[Any] = []

    def make(*scripts: Any, **options: Any) -> tuple[ServedVision, list[Server]]:
        servers = [s if isinstance(s, Server) else Server(s) for s in scripts]
        things.extend(servers)
        model = ServedVision(spec(*(server.url for server in servers), **options))
        things.append(model)
        return model, servers

    yield make
    for thing in reversed(things):
        (thing.close if isinstance(thing, ServedVision) else thing.stop)()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- an answer ---


def test_a_question_carries_schema_frames_and_settings(opened: Any) -> None:
    model, (server,) = opened(
        [Say(GOOD)],
        settings={"questions": {"discriminate": {"frames": 4}}, "seed": 5, "max_tokens": 99, "temperature": 0.2},
    )
    answer = ask(model)
    assert answer == {"reason": "A dog stands where the cat was.", "task": "swap"}
    (body,) = server.requests
    assert (body["model"], body["seed"], body["max_tokens"], body["temperature"]) == (MODEL, 5, 99, 0.2)
    schema = body["response_format"]["json_schema"]
    assert (schema["name"], schema["strict"]) == ("discriminate", True)
    assert list(schema["schema"]["properties"]) == ["reason", "task"]
    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["video_url", "video_url", "text"]
    assert parts[0]["video_url"]["url"].count(",") == 4
    assert "after the cat in it was edited" in parts[2]["text"]


def test_the_facts_say_what_was_shown_and_what_it_cost(opened: Any) -> None:
    model, (server,) = opened([Say(GOOD, pause=0.05)], settings={"questions": {"discriminate": {"frames": 4}}})
    facts = ask(model).facts
    assert facts["frames"] == {"source": [0, 3, 5, 8], "target": [0, 3, 5, 8]}
    assert facts["sizes"]["source"] == [56, 28]
    assert (facts["prompt_tokens"], facts["completion_tokens"]) == (100, 20)
    assert (facts["requests"], facts["repairs"], facts["endpoint"]) == (1, 0, server.url)
    assert 0.04 < facts["first_token_seconds"] < facts["seconds"]
    json.dumps(facts)
    usage = model.usage()["discriminate"]
    assert (usage["answers"], usage["prompt_tokens"], usage["failures"]) == (1, 100, 0)
    assert usage["milliseconds"] >= 140


@pytest.mark.parametrize("mode", ["json_object", "text"])
def test_a_server_without_schemas_reads_it_in_the_question(opened: Any, mode: str) -> None:
    model, (server,) = opened([Say(f"Here you are:\n```json\n{GOOD}\n```\nGood luck!")], settings={"schema_mode": mode})
    assert ask(model)["task"] == "swap"
    body = server.requests[0]
    assert body.get("response_format") == ({"type": "json_object"} if mode == "json_object" else None)
    assert '"enum": ["swap", "modification"]' in body["messages"][0]["content"][-1]["text"]


def test_a_server_that_counts_nothing(opened: Any) -> None:
    model, _ = opened([Say(GOOD, usage=False)])
    assert "prompt_tokens" not in ask(model).facts


# --- the answer is wrong ---


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ('{"reason": "It is', "no complete JSON object"),
        ("They look alike to me.", "no complete JSON object"),
        ('{"reason": "x", "task": "removal"}', "task must be one of"),
        ("", "the answer is empty"),
    ],
    ids=["truncated", "prose", "schema", "empty"],
)
def test_a_wrong_answer_is_repaired_once(opened: Any, bad: str, fault: str) -> None:
    model, (server,) = opened([Say(bad), Say(GOOD)])
    answer = ask(model)
    assert answer["task"] == "swap"
    assert (answer.facts["repairs"], answer.facts["requests"], answer.facts["prompt_tokens"]) == (1, 2, 200)
    first, second = (body["messages"] for body in server.requests)
    assert second[0] == first[0]
    assert second[1] == {"role": "assistant", "content": bad or "(nothing)"}
    assert fault in second[2]["content"]


@pytest.mark.parametrize("bad", ['{"reason": "It is', "I can't.", '{"reason": "x", "task": "removal"}', ""])
def test_what_cannot_be_repaired_is_rejected_with_its_fault(opened: Any, bad: str) -> None:
    model, (server,) = opened([Say(bad)])
    with pytest.raises(Reject) as caught:
        ask(model)
    assert caught.value.reason == "answer_invalid"
    assert "asked 2 times" in caught.value.detail
    assert len(server.requests) == 2


def test_an_answer_cut_off_by_its_length_is_asked_for_in_short(opened: Any) -> None:
    model, (server,) = opened([Say('{"reason": "a long', finish="length"), Say(GOOD)])
    assert ask(model)["task"] == "swap"
    assert "too long" in server.requests[1]["messages"][2]["content"]


def test_a_broken_rule_is_repaired_or_left_to_the_stage(opened: Any) -> None:
    bad, good = '{"objects": ["a very long name of things"]}', '{"objects": ["dog"]}'
    model, (server,) = opened([Say(bad), Say(good), Say(bad)])
    assert ask(model, "identify") == {"objects": ["dog"]}
    assert "wanted 1 to 2" in server.requests[1]["messages"][2]["content"]
    assert ask(model, "identify") == {"objects": ["a very long name of things"]}


def test_repairs_can_be_switched_off(opened: Any) -> None:
    model, (server,) = opened([Say("no")], settings={"repairs": 0})
    with pytest.raises(Reject, match="asked 1 times"):
        ask(model)
    assert len(server.requests) == 1


def test_a_filtered_answer_is_a_decision(opened: Any) -> None:
    model, _ = opened([Say("", finish="content_filter")])
    with pytest.raises(Reject) as caught:
        ask(model)
    assert caught.value.reason == "answer_refused"


# --- the service is in trouble ---

PASSING = {
    "hang": Hang(),
    "stall": Stall(),
    "500": Status(500),
    "502": Status(502),
    "429": Status(429),
    "reset": Break(),
    "reset within": Break('{"reason'),
    "half a stream": Break('{"reason', how="cut"),
    "no end": Break('{"reason', how="in order"),
    "html": Raw(b"<html>Bad gateway</html>", "text/html"),
    "nonsense": Raw(b"data: {]\n\n"),
    "no choices": Raw(b'data: {"choices": null}\n\ndata: [DONE]\n\n'),
    "error within": Raw(b'data: {"error": {"message": "engine died", "code": 500}}\n\n'),
    "endless": Raw(b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"x" * 200_000 + b'"}}]}\n\n'),
}


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_a_passing_fault_is_survived(opened: Any, trouble: Any) -> None:
    model, (server,) = opened([trouble, Say(GOOD)])
    answer = ask(model)
    assert answer["task"] == "swap"
    assert answer.facts["requests"] == len(server.requests) == 2
    assert model.usage()["discriminate"]["failures"] == 1


@pytest.mark.parametrize("trouble", [Hang(), Stall(), Status(500), Break()], ids=["hang", "stall", "500", "reset"])
def test_a_lasting_fault_is_retryable_after_the_cap(opened: Any, trouble: Any) -> None:
    model, (server,) = opened([trouble])
    start = time.monotonic()
    with pytest.raises(RetryableError, match="3 requests"):
        ask(model)
    assert len(server.requests) == 3
    assert time.monotonic() - start < 15


def test_a_slow_drip_ends_at_the_total(opened: Any) -> None:
    model, _ = opened([Say(GOOD, pieces=60, pause=0.15)], total_seconds=0.8, attempts=1)
    start = time.monotonic()
    with pytest.raises(RetryableError, match="did not end within"):
        ask(model)
    assert 0.7 < time.monotonic() - start < 4


def test_a_slow_answer_within_its_limits_is_taken(opened: Any) -> None:
    model, _ = opened([Say(GOOD, pieces=8, pause=0.15)])
    assert ask(model).facts["requests"] == 1


def test_retry_after_is_kept(opened: Any) -> None:
    model, _ = opened([Status(429, headers={"Retry-After": "1"}), Say(GOOD)])
    start = time.monotonic()
    assert ask(model)["task"] == "swap"
    assert 0.95 < time.monotonic() - start < 3


def test_retry_after_reads_numbers_and_dates() -> None:
    assert retry_after("2.5") == 2.5
    assert retry_after("-4") == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is retry_after("nan") is retry_after("") is retry_after(None) is None


def test_the_watchdog_gives_up_what_hangs_outside_every_limit() -> None:
    async def stuck() -> None:
        time.sleep(0.8)  # blocks the loop itself

    with pytest.raises(RetryableError, match="given up"):
        event_loop.call(stuck(), 0.1)

    async def well() -> int:
        return 7

    assert event_loop.call(well(), 5) == 7


# --- several endpoints ---


def test_a_dead_endpoint_is_left_out_from_the_start(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    alive = Server([Say(GOOD)])
    dead = f"http://127.0.0.1:{free_port()}/v1"
    with alive, caplog.at_level(logging.WARNING, "ffpdata"):
        model = ServedVision(spec(dead, alive.url))
        assert [ask(model).facts["requests"] for _ in range(4)] == [1, 1, 1, 1]
        assert dead in caplog.text
        model.close()


def test_a_dying_endpoint_fails_over_and_comes_back(opened: Any) -> None:
    model, (one, two) = opened([Say(GOOD)], [Say(GOOD)])
    ask(model)
    two.stop()
    assert {ask(model).facts["endpoint"] for _ in range(8)} == {one.url}
    assert model._service.health()[two.url] != "up"
    two.start()
    one.stop()
    deadline = time.monotonic() + 5
    while model._service.health()[two.url] != "up" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ask(model).facts["endpoint"] == two.url


def test_a_hanging_endpoint_costs_few_questions(opened: Any) -> None:
    model, (bad, good) = opened([Hang()], [Say(GOOD)], health_seconds=5)
    for _ in range(10):
        assert ask(model).facts["endpoint"] == good.url
    assert len(bad.requests) <= 1


def test_all_endpoints_dead_waits_and_is_retryable(opened: Any) -> None:
    model, servers = opened([Say(GOOD)], [Say(GOOD)])
    ask(model)
    for server in servers:
        server.stop()
    start = time.monotonic()
    with pytest.raises(RetryableError, match=r"every endpoint is down|requests: "):
        ask(model)
    assert time.monotonic() - start < 4


def test_an_outage_that_ends_in_time_is_survived(opened: Any) -> None:
    model, (server,) = opened([Say(GOOD)], outage_seconds=10)
    ask(model)
    server.stop()
    timer = threading.Timer(0.8, server.start)
    timer.start()
    assert ask(model)["task"] == "swap"
    timer.join()


def test_no_endpoint_at_the_start_is_fatal() -> None:
    dead = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(FatalError, match="serve-vlm") as caught:
        ServedVision(spec(dead))
    assert dead in str(caught.value)


# --- wrong from the outset ---


def test_a_wrong_model_is_fatal_and_names_the_nearest() -> None:
    with Server([Say(GOOD)], models=("tiny-qwen2",)) as server:
        with pytest.raises(FatalError, match=r"does not serve 'tiny-qwen'; did you mean 'tiny-qwen2'\?"):
            ServedVision(spec(server.url))
        model = ServedVision(spec(server.url, served_model="tiny-qwen2"))
        assert ask(model)["task"] == "swap"
        server.models = ("other",)
        with pytest.raises(FatalError, match="404"):
            ask(model)
        model.close()


def test_a_wrong_key_is_fatal_and_appears_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VLM_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    caplog.set_level(logging.DEBUG)
    with Server([Say(GOOD)], key="sk-right") as server:
        with pytest.raises(FatalError, match="VLM_KEY") as caught:
            ServedVision(spec(server.url, api_key_env="VLM_KEY"))
        assert "401" in str(caught.value)
        assert "sk-" not in str(caught.value)
        with pytest.raises(FatalError, match="api_key_env"):
            ServedVision(spec(server.url))
        assert "Bearer sk-another" not in server.authorization
        monkeypatch.setenv("VLM_KEY", "sk-right")
        model = ServedVision(spec(server.url, api_key_env="VLM_KEY"))
        assert ask(model)["task"] == "swap"
        model.close()
    assert "sk-" not in caplog.text


def test_a_key_that_is_not_set_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLM_KEY", raising=False)
    with pytest.raises(FatalError, match="VLM_KEY is not set"):
        ServedVision(spec("http://127.0.0.1:9/v1", api_key_env="VLM_KEY"))


def test_a_refused_question_fails_its_item_alone(opened: Any) -> None:
    model, (server,) = opened([Status(400, "This model's maximum context length is 4096 tokens"), Say(GOOD)])
    with pytest.raises(RequestRefusedError, match="maximum context length"):
        ask(model)
    assert len(server.requests) == 1
    assert ask(model)["task"] == "swap"


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ({"endpoint": []}, "at least one endpoint"),
        ({"endpoint": "localhost:8000"}, "a URL such as"),
        ({"endpoint": "http://me:secret@host/v1"}, "api_key_env"),
        ({"timeout": 3}, "no entry 'timeout'"),
        ({"attempts": 0}, "attempts"),
    ],
)
def test_a_wrong_runtime_is_a_config_error(runtime: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ServedVision(
            spec("http://127.0.0.1:9/v1").model_copy(update={"runtime": {"endpoint": "http://h/v1", **runtime}})
        )


def test_a_wrong_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no entry 'frame'; did you mean 'frames'\?"):
        ServedVision(spec("http://127.0.0.1:9/v1", settings={"frame": 3}))


def test_a_bare_host_gets_the_usual_path(opened: Any) -> None:
    with Server([Say(GOOD)]) as server:
        model = ServedVision(spec(server.url.removesuffix("/v1")))
        assert ask(model).facts["endpoint"] == server.url
        model.close()


# --- many threads ---


def test_many_threads_share_one_loop_and_one_limit(opened: Any) -> None:
    model, (server,) = opened([Say(GOOD, pause=0.05)], concurrency=4)
    other = ServedVision(spec(server.url, concurrency=4))  # a second stage of the same process
    assert other._service is model._service
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda i: ask(other if i % 2 else model), range(48)))
    assert all(answer["task"] == "swap" for answer in answers)
    assert server.most_at_once == 4
    assert [t.name for t in threading.enumerate()].count("vlm-client") == 1
    assert model.usage()["discriminate"]["answers"] == 48
    other.close()
    assert ask(model)["task"] == "swap"  # still open for the first


def test_one_bad_neighbour_among_many(opened: Any) -> None:
    calls = iter(range(1000))

    def script(body: dict[str, Any]) -> Any:
        if len(body["messages"]) > 1:
            return Say(GOOD)
        return (Say(GOOD), Status(500), Say("prose"), Break())[next(calls) % 4]

    model, _ = opened(script, attempts=20, outage_seconds=5)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(model), range(24)))
    assert all(answer["task"] == "swap" for answer in answers)


def test_load_is_spread_over_the_endpoints(opened: Any) -> None:
    model, servers = opened([Say(GOOD, pause=0.05)], [Say(GOOD, pause=0.05)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(model), range(24)))
    assert all(8 <= len(server.requests) <= 16 for server in servers)

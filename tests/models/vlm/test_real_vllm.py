"""The production client and stages against a real vLLM on the CPU that serves a tiny random Qwen2.5-VL.

`make test-vllm` runs it: it needs vLLM's own environment, whose Python FFPDATA_VLLM names. The model answers nonsense
in the form that it is held to: what is tested is the way there and back, not what it says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.answer_schema import schema_violations
from ffpdata.core.errors import FatalError
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import Item, ModelSpec, Stage
from ffpdata.media.codec import write_video
from ffpdata.models.vlm.backend import ServedVision
from ffpdata.models.vlm.endpoint import RequestRefusedError
from ffpdata.runners.execute import execute
from ffpdata.serve.memory import VLLM_FRAMES
from ffpdata.serve.model_shape import AWQ_BYTES, PUBLISHED
from ffpdata.serve.vllm_flags import plan_for
from ffpdata.stages.caption import Caption
from ffpdata.stages.discriminate import Discriminate
from ffpdata.stages.identify import Identify
from ffpdata.storage.store import Store
from tests.serve.published import config_of
from tests.serve.test_serve_vlm import alive, free_ports

PYTHON = os.environ.get("FFPDATA_VLLM", "")
HERE = Path(__file__).parent
PROMPTS = HERE.parents[2] / "prompts"
NAME = "tiny-qwen"
LENGTH = "12288"
"""The tiny tokenizer cuts words into more tokens than the published one: a profile's own length would be too short."""
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="make test-vllm runs it: a real vLLM in an environment of its own"),
    pytest.mark.timeout(1200),
]
FLAGS = ("--enforce-eager", "--dtype", "bfloat16")
CPU = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def below(pid: int) -> list[int]:
    """Every descendant of a process."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        children = [int(child) for child in tasks.read_text().split()]
        found += children + [pid for child in children for pid in below(child)]
    return found


def kept(port: int) -> list[int]:
    """The supervisor of the server at `port`, and every process below it."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if str(port).encode() in words and any(word.endswith(b"supervisor.py") for word in words):
                found |= {int(path.parent.name), *below(int(path.parent.name))}
    return sorted(found)


@dataclass(frozen=True)
class Served:
    """A running `ffpdata serve-vlm` and its endpoint."""

    process: subprocess.Popen[str]
    endpoint: str
    seconds: float

    def spec(self, **settings: Any) -> ModelSpec:
        return ModelSpec(
            backend="ffpdata.models.vlm.backend:ServedVision",
            model=NAME,
            settings={"frames": 4, "max_tokens": 1024, **settings},
            runtime={"endpoint": self.endpoint, "api_key_env": "OWN_KEY"},
        )


def _limits_of(profile: str) -> list[str]:
    """The flags by which a profile bounds its server's memory, those that hang on the model's size left out."""
    command = plan_for("", profile, vllm=sys.executable).command("127.0.0.1", 8000)
    wanted = ("--max-num-batched-tokens", "--max-num-seqs", "--mm-processor-kwargs")
    return [part for flag in wanted for part in (flag, command[command.index(flag) + 1])]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, start, port = tmp_path_factory.mktemp("vllm"), time.monotonic(), free_ports(1)
    os.environ["OWN_KEY"] = "sk-tiny"
    subprocess.run([PYTHON, HERE / "tiny_qwen.py", folder / "model"], env=os.environ | CPU, check=True)
    program = f"{shlex.quote(PYTHON)} {shlex.quote(str(HERE / 'vllm_cpu.py'))}"
    command = [sys.executable, "-m", "ffpdata.cli", "serve-vlm", "--model", str(folder / "model"), "--name", NAME]
    command += ["--gpus", "0", "--port", str(port), "--vllm", program, "--max-model-len", LENGTH, "--json"]
    command += ["--logs", str(folder / "logs"), "--wait", "900", "--api-key-env", "OWN_KEY", "--", *FLAGS]
    command += _limits_of("gpu")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | CPU)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "logs" / "server-0.log").read_text()[-6000:]
    seconds = time.monotonic() - start
    print(f"\nvLLM was ready after {seconds:.0f} s")
    yield Served(process, json.loads(line)["endpoints"][0], seconds)
    pids = kept(port)
    assert len(pids) >= 4  # two of the supervisor, vLLM, its engine
    process.kill()  # the worst of ends: nothing is told to anybody
    process.wait(30)
    process.stdout.close()
    deadline = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture(scope="module")
def model(served: Served) -> Iterator[ServedVision]:
    made = ServedVision(served.spec())
    yield made
    made.close()


@pytest.mark.parametrize("name", ["gpu", "small"])
def test_the_flags_of_a_profile_are_what_was_summed(name: str, tmp_path: Path) -> None:
    """vLLM's own reading of the command line, with the published config and processors, and without the weights."""
    plan = plan_for("", name, vllm=sys.executable)
    shape = PUBLISHED[plan.model]
    config = json.dumps(config_of(shape))
    subprocess.run([PYTHON, HERE / "tiny_qwen.py", tmp_path, config], env=os.environ | CPU, check=True)
    command = replace(plan, model=str(tmp_path), revision="").command("127.0.0.1", 8000)[1:]
    done = subprocess.run(
        [PYTHON, HERE / "vllm_config.py", *command], env=os.environ | CPU, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["cards"], found["sequences"], found["utilization"]) == (plan.gpus, plan.sequences, plan.utilization)
    assert (found["length"], found["batch"], found["encoder"]) == (plan.max_model_len, plan.batch, plan.batch)
    assert found["cache_bytes"] == shape.cache_bytes(plan.gpus)
    assert found["limits"] == {"video": plan.videos, "image": plan.images}
    assert found["medium"]["image"] == shape.image_tokens(plan.image_pixels)
    most = shape.clip_tokens(VLLM_FRAMES, plan.clip_edge)  # Qwen2.5's bound is of one frame's area
    assert 0.9 * most <= found["medium"]["video"] <= most  # vLLM rounds the frame's sides
    assert ("awq" in str(found["quantization"])) == (shape.linear_bytes == AWQ_BYTES)


def clip(frames: int = 17, seed: int = 0) -> np.ndarray:
    """A bright square that crosses noise."""
    rng = np.random.default_rng(seed)
    made = np.repeat(rng.integers(60, 120, (1, 192, 320, 3), dtype=np.uint8), frames, axis=0)
    for number, frame in enumerate(made):
        frame[60:120, 10 + 6 * number : 70 + 6 * number] = (220, 200, 40)
    return made


MEDIA = {"source": clip(), "target": clip(seed=1), "reference": clip()[0]}
FIELDS = {
    "object": "dog",
    "task": "swap",
    "caption": "The video shows a dog on a lawn.",
    "style": "oil",
    "instruction": "Replace the dog by a cat.",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in PROMPTS.glob("*.yaml")))
def test_every_question_is_answered_in_its_schema(model: ServedVision, name: str) -> None:
    prompt = Prompt.load(PROMPTS / f"{name}.yaml")
    still = {medium: MEDIA[medium][0] for medium, view in prompt.media.items() if view != "clip" and medium == "source"}
    answer = model.ask(prompt, MEDIA | still, FIELDS)
    assert schema_violations(dict(answer), prompt.schema) == []
    facts = answer.facts
    assert facts["prompt_tokens"] > 100
    assert 0 < facts["first_token_seconds"] <= facts["seconds"]
    assert set(facts["frames"]) == set(prompt.media)
    json.dumps(answer).encode()


def test_a_close_up_and_the_rate_of_the_frames_reach_the_server(model: ServedVision) -> None:
    masks = np.zeros(MEDIA["source"].shape[:3], bool)
    masks[:, 60:120, 100:160] = True
    prompt = Prompt.load(PROMPTS / "screen.yaml")
    assert model.more_media(prompt) == ("mask",)
    near = model.ask(prompt, MEDIA | {"mask": masks}, FIELDS | {"fps": 16.0}).facts
    far = model.ask(prompt, MEDIA, FIELDS | {"fps": 16.0}).facts
    assert near["fps"] == {"source": 3.0, "target": 3.0}, "4 frames of 17, at 16 per second"
    assert len(near["frames"]["closeup"]) == 12
    per_image = near["sizes"]["closeup"][0] * near["sizes"]["closeup"][1] / 28**2
    assert near["prompt_tokens"] / (1 + near["repairs"]) > far["prompt_tokens"] / (1 + far["repairs"]) + 12 * per_image


@pytest.mark.parametrize("mode", ["json_object", "text"])
def test_other_schema_modes_reach_the_server(served: Served, mode: str) -> None:
    looser = ServedVision(served.spec(schema_mode=mode, max_tokens=64, repairs=0))
    with pytest.raises(Exception, match="answer_invalid"):  # nothing holds random weights to the schema
        looser.ask(Prompt.load(PROMPTS / "identify.yaml"), MEDIA, {})
    looser.close()


def test_clips_as_images(served: Served) -> None:
    images = ServedVision(served.spec(clips_as="images", frames=2))
    prompt = Prompt.load(PROMPTS / "caption.yaml")
    answer = images.ask(prompt, MEDIA, FIELDS)
    assert schema_violations(dict(answer), prompt.schema) == []
    assert len(answer.facts["frames"]["source"]) == 2
    images.close()


def test_the_same_question_has_the_same_answer(model: ServedVision) -> None:
    prompt = Prompt.load(PROMPTS / "discriminate.yaml")
    assert model.ask(prompt, MEDIA, FIELDS) == model.ask(prompt, MEDIA, FIELDS)


def test_no_frame_is_dropped_by_the_server(served: Served) -> None:
    """By default vLLM keeps the first 32 frames: 48 must cost half as much again."""
    tokens = {}
    for frames in (16, 32, 48):
        longer = ServedVision(served.spec(frames=frames, clip_pixels=56 * 56))
        answer = longer.ask(Prompt.load(PROMPTS / "verify.yaml"), dict.fromkeys(MEDIA, clip(49)), FIELDS)
        tokens[frames] = answer.facts["prompt_tokens"] / (1 + answer.facts["repairs"])
        longer.close()
    assert tokens[48] - tokens[32] == pytest.approx(tokens[32] - tokens[16], rel=0.2)


def test_a_question_that_is_too_long_fails_alone_and_says_why(served: Served) -> None:
    longer = ServedVision(served.spec(frames=49))
    large = clip(49).repeat(2, axis=1).repeat(2, axis=2)
    with pytest.raises(RequestRefusedError, match=LENGTH):
        longer.ask(Prompt.load(PROMPTS / "verify.yaml"), dict.fromkeys(MEDIA, large), FIELDS)
    longer.close()


def test_a_wrong_model_and_a_wrong_key_are_fatal(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FatalError, match="does not serve 'tiny-qwem'; did you mean 'tiny-qwen'"):
        ServedVision(served.spec().model_copy(update={"model": "tiny-qwem"}))
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    runtime = {"endpoint": served.endpoint, "api_key_env": "OTHER_KEY"}
    with pytest.raises(FatalError, match="OTHER_KEY"):
        ServedVision(served.spec().model_copy(update={"runtime": runtime}))


def test_many_threads_are_answered(model: ServedVision) -> None:
    prompt = Prompt.load(PROMPTS / "discriminate.yaml")
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: model.ask(prompt, MEDIA, FIELDS), range(16)))
    print(f"\n16 questions from 8 threads: {time.monotonic() - start:.1f} s")
    assert {answer["task"] for answer in answers} <= {"swap", "modification"}


@pytest.mark.parametrize("stage", [Identify, Caption, Discriminate], ids=lambda s: s.name)
def test_the_stages_ask_it(served: Served, tmp_path: Path, stage: type[Stage]) -> None:
    store = Store(tmp_path)
    for name, frames in (("source.mp4", MEDIA["source"]), ("target.mp4", MEDIA["target"])):
        write_video(tmp_path / name, frames, 16)
    prompts = {name: Prompt.load(PROMPTS / f"{name}.yaml") for name in stage.prompts}
    made = stage(stage.Settings(), {"vision_language": served.spec()}, prompts)
    made.setup()
    row = {"source_video": "source.mp4", "target_video": "target.mp4", "object": "dog", "task": "swap"}
    outcome = execute(made, Item("clip", row), store)
    made.teardown()
    assert outcome.status in ("ok", "rejected"), outcome.error
    if outcome.status == "ok":
        assert set(outcome.children[0].columns) <= set(stage.writes)
    else:  # well formed, and not what the rules want
        assert outcome.reason == "answer_breaks_rules", outcome.error
    assert outcome.model == f"{NAME}@{ServedVision.version}"
    if stage is Discriminate:  # it has no rules that random weights could break
        assert outcome.children[0].columns["task"] in ("swap", "modification")

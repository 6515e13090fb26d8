"""The command line of one vLLM server."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ffpdata.core.errors import UsageError
from ffpdata.models.vlm.settings import Closeup
from ffpdata.serve.memory import ServerMemory, Share, batch_tokens, server_memory
from ffpdata.serve.model_shape import MIN_PIXELS, ModelShape, find_shape
from ffpdata.serve.profile import Serving, prompts_of, serving, shipped_pipelines
from ffpdata.serve.questions import Demand, count_media, demand

VIDEOS = 2
"""Videos in a question, the source and the target, where the profile's questions are not known."""
IMAGES = Closeup().images + 1
"""Images in a question, a close-up and a style reference, likewise."""
LENGTH = 32768
"""Tokens of a question with its answer, likewise."""
UTILIZATION = 0.9
"""vLLM's default has been between 0.90 and 0.92."""
SUMMED = {
    "--max-model-len": "length",
    "--max-num-batched-tokens": "batch",
    "--gpu-memory-utilization": "utilization",
    "--max-num-seqs": "sequences",
    "--tensor-parallel-size": "cards",
}
"""Flags of vLLM behind `--` that the sum of memory takes into account."""
UNSUMMED = (
    "--quantization",
    "--kv-cache-dtype",
    "--kv-cache-memory-bytes",
    "--cpu-offload-gb",
    "--pipeline-parallel-size",
    "--mm-processor-kwargs",
    "--mm-encoder-tp-mode",
    "--hf-overrides",
    "--dtype",
    "--config",
)
"""Flags that change the memory in a way that is not summed: with one of them a server is started without the sum."""


@dataclass(frozen=True)
class ServerPlan:
    """What to serve, and how.

    Attributes:
        model: the checkpoint: a name at the hub, or a folder.
        served_model: the name by which requests address the model.
        revision: of the checkpoint; empty for the newest.
        servers: number of servers; each has a whole copy of the model.
        gpus: GPUs per server, over which the model is split; 0 is the CPU.
        host: address to listen at; on a cluster each node's own.
        port: of the first server; the others have the next ones.
        vllm: the program, with arguments if needed: `vllm`, `/opt/vllm/bin/vllm`.
        videos: most videos in a question.
        images: most images in a question.
        max_model_len: most tokens of a question with its answer.
        batch: most tokens that the server reads at once; 0 for vLLM's default.
        clip_edge: bound of a video, as the model's processor takes it; 0 for the model's own.
        image_pixels: most pixels of an image; 0 for the model's own limit.
        utilization: share of each GPU that the server may fill; 0 for vLLM's default.
        sequences: questions at the same time; 0 for vLLM's default.
        flags: further flags for vLLM, which override those of `command`.
        api_key: required of every client; none where it is empty. It is passed in the environment.
        memory: sum of the GPU memory; None where it is not known.
    """

    model: str
    served_model: str
    revision: str = ""
    servers: int = 1
    gpus: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    vllm: str = "vllm"
    videos: int = VIDEOS
    images: int = IMAGES
    max_model_len: int = LENGTH
    batch: int = 0
    clip_edge: int = 0
    image_pixels: int = 0
    utilization: float = 0.0
    sequences: int = 0
    flags: tuple[str, ...] = ()
    api_key: str = ""
    memory: ServerMemory | None = None

    def command(self, host: str, port: int) -> list[str]:
        """Return program and arguments of the server at `host`:`port`.

        Raises:
            UsageError: the program is not on this machine.
        """
        program = shlex.split(self.vllm)
        found = shutil.which(program[0]) if program else None
        if found is None:
            raise UsageError(
                f"no program {self.vllm!r} here. vLLM lives in an environment of its own: python -m venv vllm-env && "
                "vllm-env/bin/pip install vllm, then --vllm vllm-env/bin/vllm"
            )
        command = [found, *program[1:], "serve", self.model]
        command += ["--host", host, "--port", str(port), "--served-model-name", self.served_model]
        if self.revision:
            command += ["--revision", self.revision]
        if self.gpus > 1:
            command += ["--tensor-parallel-size", str(self.gpus)]
        return [
            *command,
            *("--max-model-len", str(self.max_model_len)),
            *self._limits(),
            *("--limit-mm-per-prompt", json.dumps({"video": self.videos, "image": self.images})),
            # With free white space between JSON tokens, a model may write blanks up to its token limit.
            *("--structured-outputs-config", json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})),
            # Use all frames that are sent: by default vLLM keeps the first 32. Their rate comes with each
            # question; `fps` is for clients that send none.
            *("--media-io-kwargs", json.dumps({"video": {"num_frames": -1, "fps": 2}})),
            "--trust-request-mm-kwargs",
            *self.flags,
        ]

    def _limits(self) -> list[str]:
        """Return the flags that bound its memory, as far as they are known."""
        limits: list[str] = []
        if self.batch:
            limits += ["--max-num-batched-tokens", str(self.batch)]
        if self.sequences:
            limits += ["--max-num-seqs", str(self.sequences)]
        if self.utilization:
            limits += ["--gpu-memory-utilization", str(self.utilization)]
        # By default an image may have 16,384 tokens, and vLLM prepares for a batch of them. The frames that come are
        # never larger, and no server enlarges them.
        pixels = {"images_kwargs": self.image_pixels, "videos_kwargs": self.clip_edge}
        sizes = {kind: {"size": _edges(most)} for kind, most in pixels.items() if most}
        return [*limits, "--mm-processor-kwargs", json.dumps(sizes)] if sizes else limits

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a server in addition to those of this process."""
        own = {"VLLM_NO_USAGE_STATS": "1"}
        return own | {"VLLM_API_KEY": self.api_key} if self.api_key else own


def _edges(pixels: int) -> dict[str, int]:
    """Return bounds of an image's area as Qwen's processors take it; they call them edges."""
    return {"shortest_edge": MIN_PIXELS, "longest_edge": pixels}


def plan_for(
    model: str, profile: str, *, api_key_env: str = "", card_gib: float = 0.0, unchecked: bool = False, **options: Any
) -> ServerPlan:
    """Return the plan of a model, or of the vision-language model of a profile.

    Args:
        model: the checkpoint; empty for that of the profile.
        profile: name or file; empty for none.
        api_key_env: environment variable with the API key; empty for none.
        card_gib: memory of a GPU, GiB; 0 for what the profile says of it.
        unchecked: plan a server even if its memory does not suffice.
        **options: fields of `ServerPlan`, which override those of the profile; None is as if it were not given.

    Raises:
        UsageError: neither is given, the profile's model is not a served one, the key's variable is not set, or the
            memory that the server needs is more than its GPUs have.
    """
    pipelines = shipped_pipelines(profile) if profile else []
    found = serving(pipelines)
    if profile and found is None:
        raise UsageError(f"--profile {profile!r}: its vision_language is not served: it has no runtime.endpoint")
    given = {name: value for name, value in options.items() if value not in (None, "")}
    if found:
        given = _of_profile(found, model) | given
    model = model or (found.spec.model if found else "")
    if not model:
        raise UsageError("what is to be served? --model Qwen/Qwen2.5-VL-72B-Instruct, or --profile gpu")
    if api_key_env:
        given["api_key"] = os.environ.get(api_key_env, "").strip()
        if not given["api_key"]:
            raise UsageError(f"--api-key-env {api_key_env}: that environment variable is not set")
    given.setdefault("served_model", model)
    shape = find_shape(model, given.get("revision", ""))
    if found and shape is None:
        videos, images = count_media(prompts_of(pipelines), found.settings)
        given = {"videos": videos, "images": images} | given
    if shape is None:
        return ServerPlan(model=model, **given)
    if found:
        given = _of_questions(demand(prompts_of(pipelines), found.settings, shape), shape, given) | given
    plan = ServerPlan(model=model, **given)
    share = found.share() if found else None
    card_gib = card_gib or (share.card_gib if share else 0.0)
    if not (card_gib and plan.gpus):
        return plan
    memory = _sum(plan, shape, card_gib, share.workers_gib if share else 0.0)
    if memory and not (memory.fits or unchecked):
        raise UsageError(
            f"{model} does not fit: {memory}. To change: {memory.remedy()}. Other cards: --card-gib. To start it all "
            "the same: --unchecked"
        )
    return ServerPlan(**vars(plan) | {"memory": memory})


def _of_profile(found: Serving, model: str) -> dict[str, Any]:
    """Return what a profile says of its server; of another `model` its name alone."""
    options: dict[str, Any] = {} if model else {"revision": found.spec.revision}
    named = found.spec.runtime.get("served_model")
    options["served_model"] = named or model or found.served_model
    if found.server:
        server = found.server
        options |= {"gpus": server.cards, "utilization": server.utilization, "sequences": server.sequences}
    return options


def _of_questions(wanted: Demand, shape: ModelShape, given: dict[str, Any]) -> dict[str, Any]:
    """Return the limits that a profile's questions need."""
    length = given.get("max_model_len") or wanted.length
    return {
        "max_model_len": length,
        "batch": batch_tokens(shape, wanted, length),
        "clip_edge": wanted.clip_edge,
        "image_pixels": wanted.image_pixels,
        "videos": wanted.videos,
        "images": wanted.images,
    }


def _sum(plan: ServerPlan, shape: ModelShape, card_gib: float, workers_gib: float) -> ServerMemory | None:
    """Return the sum of a plan's memory with vLLM's flags behind `--`; None where one of them is not summed."""
    flags = _flags(plan.flags)
    if any(flag in flags for flag in UNSUMMED):
        return None
    numbers: dict[str, float] = {
        "length": plan.max_model_len,
        "batch": plan.batch or shape.image_tokens(shape.most_pixels),
        "utilization": plan.utilization or UTILIZATION,
        "sequences": plan.sequences or 1,
        "cards": plan.gpus,
    }
    for flag, name in SUMMED.items():
        if flag in flags:
            try:
                numbers[name] = float(flags[flag])
            except ValueError:
                return None  # such as `auto` and `8k`: vLLM reads more than numbers
    share = Share(
        int(numbers["cards"]), card_gib, numbers["utilization"], max(1, int(numbers["sequences"])), workers_gib
    )
    return server_memory(shape, share, length=int(numbers["length"]), batch=int(numbers["batch"]))


def _flags(flags: Sequence[str]) -> dict[str, str]:
    """Return flags of vLLM with their values, written `--flag value` or `--flag=value`, `-` and `_` alike."""
    found: dict[str, str] = {}
    name = ""
    for part in flags:
        if part.startswith("--"):
            name, _, value = part.partition("=")
            name = name.replace("_", "-")
            found[name] = value
        elif name:
            found[name] = part
    return found

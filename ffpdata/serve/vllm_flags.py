"""The command line of one vLLM server."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import dataclass
from typing import Any

from ffpdata.core.errors import UsageError
from ffpdata.models.settings import parse_settings
from ffpdata.models.vlm.settings import View, VisionSettings

VIDEOS = 2
"""Videos in a question: the source and the target."""

STILLS = 1
"""Still images in a question: a style reference."""


def images_of(view: View, clips_as: str = "video") -> int:
    """Return the most images in a question with this view: a reference, a close-up, and each frame sent as an image."""
    frames = VIDEOS * view.frames if clips_as == "images" else 0
    return STILLS + frames + (view.closeup.images if view.closeup else 0)


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
        images: most images in a question.
        max_model_len: most tokens of a question with its answer.
        flags: further flags for vLLM, which override those of `command`.
        api_key: required of every client; none where it is empty. It is passed in the environment.
    """

    model: str
    served_model: str
    revision: str = ""
    servers: int = 1
    gpus: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    vllm: str = "vllm"
    images: int = max(images_of(view) for view in VisionSettings().views().values())
    max_model_len: int = 32768
    flags: tuple[str, ...] = ()
    api_key: str = ""

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
            *("--limit-mm-per-prompt", json.dumps({"video": VIDEOS, "image": self.images})),
            # With free white space between JSON tokens, a model may write blanks up to its token limit.
            *("--structured-outputs-config", json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})),
            # Use all frames that are sent: by default vLLM keeps the first 32. Their rate comes with each
            # question; `fps` is for clients that send none.
            *("--media-io-kwargs", json.dumps({"video": {"num_frames": -1, "fps": 2}})),
            "--trust-request-mm-kwargs",
            *self.flags,
        ]

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a server in addition to those of this process."""
        own = {"VLLM_NO_USAGE_STATS": "1"}
        return own | {"VLLM_API_KEY": self.api_key} if self.api_key else own


def plan_for(model: str, profile: str, *, api_key_env: str = "", **options: Any) -> ServerPlan:
    """Return the plan of a model, or of the vision-language model of a profile.

    Args:
        model: the checkpoint; empty for that of the profile.
        profile: name or file; empty for none.
        api_key_env: environment variable with the API key; empty for none.
        **options: fields of `ServerPlan`, which override those of the profile.

    Raises:
        UsageError: neither is given, the profile's model is not a served one, or the key's variable is not set.
    """
    if profile:
        from ffpdata.core.config import load_pipeline

        spec = load_pipeline("local_editing", profile).models.get("vision_language")
        if spec is None or not spec.runtime.get("endpoint"):
            raise UsageError(f"--profile {profile!r}: its vision_language is not served: it has no runtime.endpoint")
        settings = parse_settings(VisionSettings, spec)
        options["images"] = max(images_of(view, settings.clips_as) for view in settings.views().values())
        options["served_model"] = options.get("served_model") or spec.runtime.get("served_model") or model or spec.model
        options["revision"] = options.get("revision") or ("" if model else spec.revision)
        model = model or spec.model
    if not model:
        raise UsageError("what is to be served? --model Qwen/Qwen2.5-VL-72B-Instruct, or --profile gpu")
    if api_key_env:
        options["api_key"] = os.environ.get(api_key_env, "").strip()
        if not options["api_key"]:
            raise UsageError(f"--api-key-env {api_key_env}: that environment variable is not set")
    options["served_model"] = options.get("served_model") or model
    return ServerPlan(model=model, **options)

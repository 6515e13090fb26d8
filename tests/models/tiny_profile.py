"""Profile `small` with tiny random checkpoints in its roles, and a server that answers in its model's place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ffpdata.core.config import Library
from tests.answers import ANSWERS
from tests.models import tiny_qwen_image, tiny_vision, tiny_wan
from tests.openai_server import Say

CLIP = {"width": 64, "height": 64, "fps": 16, "frames": 9}
OVERRIDES = [
    f"clip={json.dumps(CLIP)}",
    "ingest.min_side=64",
    "input.styles_per_source=1",
    "measure.limits={}",
    "grade.limits={}",
    "wordings.instructions=[short]",
    "wordings.captions=true",
    "wordings.additions=true",
]
LOCAL = ["condition.max_area=1"]
MODEL = "Qwen/Qwen2.5-VL-7B-Instruct-AWQ"


def answer(body: dict[str, Any]) -> Say:
    return Say(json.dumps(ANSWERS[body["response_format"]["json_schema"]["name"]]))


def write_profile(folder: Path, endpoint: str, *, with_lora: bool = True, first_frames: bool = False) -> Path:
    """Write the checkpoints and the profile into `folder`, and return its path.

    Args:
        folder: for all of it.
        endpoint: of the server.
        with_lora: whether a LoRA lies over the remover.
        first_frames: whether the models of first frames are written, too.
    """
    vace, i2v = tiny_wan.write_vace(folder / "vace", shards=2), tiny_wan.write_i2v(folder / "i2v")
    lora = {"model": str(tiny_wan.write_lora(folder / "removal.safetensors", layers=("blocks.0.self_attn.q",)))}
    loras = {"remover": [lora] if with_lora else []}
    path = Library.find().file("pipelines/profiles", "small")
    profile: dict[str, Any] = yaml.safe_load(path.read_text())
    models = profile["models"]
    models["vision_language"]["runtime"]["endpoint"] = endpoint
    models["segmenter"] |= {"model": str(tiny_vision.sam2(folder / "sam2"))}
    models["segmenter"]["settings"] = {
        "detector": str(tiny_vision.grounding_dino(folder / "dino", queries=4)),  # each is tracked
        "max_instances": 50,
        "dtype": "float32",
        **tiny_vision.ANY_MASK,
    }
    for role in ("remover", "swapper", "stylizer"):
        settings = models[role]["settings"] | {"steps": 2, "sources": {}, "loras": loras.get(role, [])}
        models[role] |= {"model": str(vace), "backend": "tests.models.tiny_wan:TinyVace", "settings": settings}
    settings = models["image_to_video"]["settings"] | {"steps": 2, "sources": {}, "loras": []}
    models["image_to_video"] |= {"model": str(i2v), "backend": "tests.models.tiny_wan:TinyAnimator"}
    models["image_to_video"]["settings"] = settings
    models["depth_estimator"] |= {"model": str(tiny_vision.video_depth(folder / "depth"))}
    models["depth_estimator"]["settings"] = {"side": 56, "dtype": "float32"}
    if first_frames:
        _first_frames(models, folder)
    for spec in models.values():
        spec.pop("revision", None)
        if "device" in spec["runtime"]:
            spec["runtime"] = {"device": "cpu"}
        spec["resources"] = {"cpus": 1, "gpus": 0, "memory_gb": 2}
    written = folder / "tiny.yaml"
    written.write_text(yaml.safe_dump(profile))
    return written


def _first_frames(models: dict[str, Any], folder: Path) -> None:
    """Write the image editor and the propagator."""
    qwen, fun = tiny_qwen_image.write(folder / "qwen"), tiny_wan.write_fun_control(folder / "fun_control")
    models["image_editor"] |= {"model": str(qwen), "backend": "tests.models.tiny_qwen_image:TinyQwenImageEdit"}
    models["image_editor"]["settings"] |= {"steps": 2, "sources": {}, "megapixel_input": False}
    models["propagator"] |= {"model": str(fun), "backend": "tests.propagation.tiny_propagation:TinyFunControl"}
    models["propagator"]["settings"] |= {"steps": 2, "sources": {}}

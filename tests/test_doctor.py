"""What `ffpdata doctor` finds: weights in folders, in the hub's cache and at a hub, cards, services."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.openai_server import Say, Server

pytest.importorskip("huggingface_hub", reason="the extra `models` is not installed")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"
DEPTH = "ffpdata.models.video_depth:VideoDepthAnything"
VISION = "ffpdata.models.vlm.backend:ServedVision"
SAM2 = "ffpdata.models.grounded_sam2:GroundedSam2"
VACE = "ffpdata.models.vace:Vace"


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as tells what a repository holds; `owner/gated` is shown and not given."""

    def do_GET(self) -> None:
        name, _, revision = self.path.removeprefix("/api/models/").split("?")[0].partition("/revision/")
        if name.endswith("/auth-check"):
            return self.answer(403 if "gated" in name else 200, {}, "GatedRepo" if "gated" in name else "")
        if "absent" in name:
            return self.answer(404, {"error": "Repository not found"}, "RepoNotFound")
        if revision == "v9":
            return self.answer(404, {"error": "Revision not found"}, "RevisionNotFound")
        files = {"model.safetensors": 2_000_000_000, "config.json": 1000, "pytorch_model.bin": 9_000_000_000}
        if "pickled" in name:
            files.pop("model.safetensors")
        about = {"id": name, "sha": COMMIT, "gated": "manual" if "gated" in name else False, "private": False}
        return self.answer(
            200, about | {"siblings": [{"rfilename": file, "size": size} for file, size in files.items()]}
        )

    def answer(self, status: int, body: dict[str, Any], code: str = "") -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def weights(path: Path) -> Path:
    """A safetensors file of one number, written by hand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", 1.0))
    return path.parent


def nvidia_smi(folder: Path, *cards: str) -> Path:
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{card}'\n" for card in cards))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def doctor(folder: Path, models: dict[str, Any], path: Path | None = None, **environment: str) -> dict[str, str]:
    """What is found of each subject: level and detail. The other roles are those of profile cpu."""
    profile = folder / "mine.yaml"
    profile.write_text(yaml.safe_dump({"name": "mine", "models": models}))
    code = "import sys; from ffpdata.cli import main; main()"
    full = {**os.environ, "HF_HUB_CACHE": str(folder / "cache"), **environment}
    if path:
        full["PATH"] = f"{path}:{full['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--profile", str(profile), "--json"],
        capture_output=True,
        text=True,
        env=full,
        check=False,
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert done.returncode == int(any(one["level"] == "error" for one in found))
    return {one["subject"]: f"{one['level']}: {one['detail']}" for one in found}


def depth(model: str, revision: str = "", **more: Any) -> dict[str, Any]:
    entry = {"backend": DEPTH, "model": model, "revision": revision, "licence": "CC-BY-NC-4.0", **more}
    return {"depth_estimator": {"runtime": {"device": "cpu"}, **entry}}


def test_a_folder(tmp_path: Path) -> None:
    folder = weights(tmp_path / "depth" / "model.safetensors")
    found = doctor(tmp_path, depth(str(folder)))
    assert found["depth_estimator: weights"].startswith("ok: 0.0 GB in ")
    assert found["depth_estimator"].startswith("warning:")
    assert "CC-BY-NC-4.0 (forbids commercial use)" in found["depth_estimator"]
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "pointer of Git LFS" in doctor(tmp_path, depth(str(folder)))["depth_estimator: weights"]
    found = doctor(tmp_path, depth("./models/depth"))
    assert found["depth_estimator: weights"].startswith("error: no folder './models/depth'")


@pytest.mark.parametrize(
    ("model", "revision", "told"),
    [
        ("owner/name", "v1", "warning: not on this machine: the first run fetches 2.0 GB of owner/name@v1"),
        ("owner/name", "v9", "error: owner/name has no revision 'v9'"),
        ("owner/gated", "", "error: owner/gated is gated: accept its licence at https://huggingface.co/owner/gated"),
        ("owner/absent", "", "error: the hub has no repository 'owner/absent'"),
        ("owner/pickled", "", "error: owner/pickled has no file *.safetensors"),
    ],
)
def test_a_repository_that_was_not_fetched(tmp_path: Path, hub: str, model: str, revision: str, told: str) -> None:
    found = doctor(tmp_path, depth(model, revision), HF_ENDPOINT=hub)
    assert found["depth_estimator: weights"].startswith(told)
    assert ("room for weights" in found) == told.startswith("warning")


def test_a_repository_in_the_cache(tmp_path: Path, hub: str) -> None:
    repository = tmp_path / "cache" / "models--owner--name"
    weights(repository / "snapshots" / COMMIT / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    found = doctor(tmp_path, depth("owner/name", COMMIT), HF_ENDPOINT="http://127.0.0.1:9")
    assert found["depth_estimator: weights"] == f"ok: 0.0 GB fetched at {COMMIT[:12]}"
    found = doctor(tmp_path, depth("owner/name"), HF_ENDPOINT="http://127.0.0.1:9")
    assert "name the commit as `revision`" in found["depth_estimator: weights"]
    found = doctor(tmp_path, depth("owner/other"), HF_ENDPOINT="http://127.0.0.1:9")
    assert "the hub cannot be reached" in found["depth_estimator: weights"]


def test_every_part_of_a_model_is_looked_for(tmp_path: Path) -> None:
    folder = weights(tmp_path / "vace" / "diffusion_pytorch_model.safetensors")
    weights(folder / "Wan2.1_VAE.safetensors")
    entry = {"backend": VACE, "model": str(folder), "settings": {"loras": [{"model": str(tmp_path / "lora")}]}}
    dino = {"backend": SAM2, "model": str(folder), "settings": {"detector": str(tmp_path / "dino")}}
    found = doctor(tmp_path, {"remover": entry, "swapper": entry, "segmenter": dino})
    parts = {subject.partition(": ")[2]: text.partition(":")[0] for subject, text in found.items() if ": " in subject}
    assert parts | {"gpu": ""} == {
        "transformer": "ok",
        "text_encoder": "error",
        "vae": "ok",
        "tokenizer": "error",
        "lora": "error",
        "attention": "ok",
        "weights": "ok",
        "detector": "error",
        "gpu": "",
    }
    assert "remover: transformer" not in found or "swapper: transformer" not in found, "one checkpoint, one line"


def test_a_lora_and_a_kernel_are_examined_for_each_role(tmp_path: Path) -> None:
    lora = weights(tmp_path / "lora" / "whole.safetensors")
    entry = {"backend": VACE, "model": str(tmp_path), "runtime": {"device": "cpu"}}
    remover = entry | {"settings": {"loras": [{"model": str(lora)}]}}
    found = doctor(tmp_path, {"remover": remover, "swapper": entry | {"settings": {"attention": "fa3"}}})
    assert found["remover: lora"].startswith("ok:")
    assert found["remover: keys of whole.safetensors"].startswith("error: no LoRA weights")
    assert found["remover: attention"] == "ok: sdpa (auto): PyTorch's own exact kernels"
    assert found["swapper: attention"].startswith("error: settings attention 'fa3' runs on NVIDIA GPUs")


def test_wrong_settings_are_found_before_a_gpu_is_rented(tmp_path: Path) -> None:
    found = doctor(tmp_path, depth(str(tmp_path), settings={"sides": 518}))
    assert found["depth_estimator"].startswith("error:")
    assert "did you mean 'side'" in found["depth_estimator"]
    found = doctor(tmp_path, depth(str(tmp_path), runtime={"devise": "cuda"}))
    assert "did you mean 'device'" in found["depth_estimator"]


BROKEN = """
import nothing_of_this_name


class Mine:
    pass
"""

SOUND = """
class Mine:
    name, version = "mine", 1

    def __init__(self, spec):
        raise OSError("no licence file")
"""


def test_it_goes_on_past_a_broken_back_end_and_ends_with_what_to_do_first(tmp_path: Path) -> None:
    for name, code in {"broken_end": BROKEN, "sound_end": SOUND}.items():
        (tmp_path / f"{name}.py").write_text(code)
    models = {"remover": {"backend": "broken_end:Mine"}, "swapper": {"backend": "sound_end:Mine"}}
    models["segmenter"] = {"backend": "ffpdata.models.classical.segmenter.motion_segmenter:MotionSegmenter"}
    found = doctor(tmp_path, models | depth(str(tmp_path / "nothing")))
    assert "'nothing_of_this_name' is not installed" in found["remover"]
    assert found["remover"].startswith("error: ")
    assert found["swapper"] == "error: sound_end:Mine does not start: OSError: no licence file"
    assert found["segmenter"].startswith("ok: ")
    weights = found["depth_estimator: weights"]
    assert weights.startswith("error: ")
    assert found["depth_estimator"].startswith("error: ")
    assert found["depth_estimator"].endswith("; it cannot run without: weights")
    command = [sys.executable, "-m", "ffpdata", "doctor", "--profile", str(tmp_path / "mine.yaml")]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    assert lines[-1] == f"First: depth_estimator: weights: {weights.removeprefix('error: ')} (2 more after it)"
    subjects = {mark: [line[6:35].strip() for line in lines if line.startswith(mark)] for mark in ("ok", "FAIL")}
    assert not {s.split(":")[0] for s in subjects["ok"]} & {s.split(":")[0] for s in subjects["FAIL"]}


@pytest.mark.slow
def test_cards(tmp_path: Path) -> None:
    asked = depth(str(tmp_path), runtime={"device": "cuda"}, resources={"gpu_memory_gb": 30, "memory_gb": 10**6})
    found = doctor(tmp_path, asked, nvidia_smi(tmp_path / "none"))
    assert found["depth_estimator: gpu"] == "error: it runs on a GPU, and nvidia-smi finds none here"
    path = nvidia_smi(tmp_path / "one", "NVIDIA L4, 23034, 580.65.06", "NVIDIA A10, 23028, 580.65.06")
    found = doctor(tmp_path, asked, path)
    assert found["gpu 0"] == "ok: NVIDIA L4, 24 GB, driver 580.65.06"
    assert found["depth_estimator: gpu"] == "error: it takes 30 GB, the largest card has 24"
    assert found["depth_estimator: memory"].startswith("error: a worker takes 1e+06 GB")


@pytest.mark.slow
def test_a_service(tmp_path: Path) -> None:
    with Server([Say("{}")], models=(QWEN,)) as server:
        entry = {"backend": VISION, "model": QWEN, "runtime": {"endpoint": server.url}}
        found = doctor(tmp_path, {"vision_language": entry})
        assert found["vision_language: service"] == f"ok: {server.url} serves {QWEN}"
        wrong = doctor(tmp_path, {"vision_language": entry | {"model": "Qwen/Qwen2.5-VL-7B-Instruc"}})
        assert f"did you mean {QWEN!r}" in wrong["vision_language: service"]
    found = doctor(tmp_path, {"vision_language": entry})
    assert found["vision_language: service"].startswith("error: no endpoint of")
    assert "ffpdata serve-vlm" in found["vision_language: service"]


@pytest.mark.slow
def test_the_memory_of_a_server(tmp_path: Path) -> None:
    server = {"cards": 2, "card_gib": 79.1, "utilization": 0.95, "sequences": 4}
    runtime = {"endpoint": "http://127.0.0.1:9/v1", "server": server}
    entry = {"backend": VISION, "model": "Qwen/Qwen2.5-VL-72B-Instruct", "runtime": runtime}
    worker = {"backend": "ffpdata.models.classical.remover:TemporalFill", "resources": {"gpus": 0.5}}
    worker["resources"] |= {"gpu_memory_gb": 40}
    found = doctor(tmp_path, {"vision_language": entry, "remover": worker})
    assert found["vision_language: server"].startswith(
        "ok: 2 x 79.1 GiB: weights 68.4 + cache 4.8 (4 sequences of 7936"
    )
    assert found["workers"] == "ok: the largest worker takes 75.5 of 79.1 GiB, CUDA's own included"
    runtime["server"] = server | {"utilization": 0.9, "shared": True}
    found = doctor(tmp_path, {"vision_language": entry, "remover": worker})
    assert found["vision_language: server"].startswith("error: 2 x 79.1 GiB")
    assert "; with CUDA 0.5 and the largest worker 75.5 = " in found["vision_language: server"]
    assert "To change: lower server.utilization to" in found["vision_language: server"]
    assert found["vision_language"].endswith("it cannot run without: server, service")

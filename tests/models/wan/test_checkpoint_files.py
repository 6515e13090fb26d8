"""The files of a checkpoint: complete, whole, and no pickles unless they are allowed."""

import importlib.util
import json
import struct
from pathlib import Path

import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.wan.checkpoint_files import STEMS, find_parts
from ffpdata.models.wan.settings import Source
from ffpdata.models.weights import weight_files

VACE = ("transformer", "text_encoder", "vae")


def write(path: Path, size: int = 16) -> Path:
    """Write a safetensors file of one tensor, by hand: this needs no torch."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    return path


@pytest.fixture
def folder(tmp_path):
    for part in VACE:
        write(tmp_path / f"{STEMS[part]}.safetensors")
    (tmp_path / "google" / "umt5-xxl").mkdir(parents=True)
    (tmp_path / "google" / "umt5-xxl" / "tokenizer.json").write_text("{}")
    return tmp_path


def test_the_official_layout(folder):
    parts = find_parts(Source(model=str(folder)), {}, VACE)
    assert [(part, [Path(file).name for file in files]) for part, files in parts.files] == [
        ("transformer", ["diffusion_pytorch_model.safetensors"]),
        ("text_encoder", ["models_t5_umt5-xxl-enc-bf16.safetensors"]),
        ("vae", ["Wan2.1_VAE.safetensors"]),
    ]
    assert parts.tokenizer == str(folder / "google" / "umt5-xxl")


def test_shards_are_all_there_or_the_model_is_refused(folder):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    for shard in (1, 2):
        write(folder / f"diffusion_pytorch_model-0000{shard}-of-00003.safetensors")
    with pytest.raises(FatalError, match="2 of 3 shards"):
        find_parts(Source(model=str(folder)), {}, VACE)
    write(folder / "diffusion_pytorch_model-00003-of-00003.safetensors")
    assert len(dict(find_parts(Source(model=str(folder)), {}, VACE).files)["transformer"]) == 3


def test_a_pickle_is_read_only_where_it_is_allowed(folder):
    (folder / "Wan2.1_VAE.safetensors").rename(folder / "Wan2.1_VAE.pth")
    with pytest.raises(
        FatalError, match=r"vae of .*Wan2\.1_VAE\.pth is a pickle.*to_safetensors.*settings\.sources\.vae"
    ):
        find_parts(Source(model=str(folder)), {}, VACE)
    found = dict(find_parts(Source(model=str(folder)), {}, VACE, allow_pickle=True).files)
    assert Path(found["vae"][0]).name == "Wan2.1_VAE.pth"


def test_safetensors_are_taken_where_both_are(folder):
    (folder / "Wan2.1_VAE.pth").write_bytes(b"")
    found = dict(find_parts(Source(model=str(folder)), {}, VACE, allow_pickle=True).files)
    assert Path(found["vae"][0]).name == "Wan2.1_VAE.safetensors"


def test_a_part_may_come_from_elsewhere(folder, tmp_path):
    (folder / "models_t5_umt5-xxl-enc-bf16.safetensors").unlink()
    with pytest.raises(FatalError, match=r"text_encoder of .* no file models_t5.*settings\.sources\.text_encoder"):
        find_parts(Source(model=str(folder)), {}, VACE)
    converted = write(tmp_path / "converted" / "model.safetensors")
    sources = {"text_encoder": Source(model=str(converted.parent))}
    assert dict(find_parts(Source(model=str(folder)), sources, VACE).files)["text_encoder"] == (str(converted),)


def test_a_part_that_there_is_not(folder):
    with pytest.raises(ConfigError, match=r"text_encodr.*did you mean 'text_encoder'"):
        find_parts(Source(model=str(folder)), {"text_encodr": Source(model="a/b")}, VACE)


def test_the_tokenizer_is_needed(folder):
    (folder / "google" / "umt5-xxl" / "tokenizer.json").unlink()
    with pytest.raises(FatalError, match="no tokenizer"):
        find_parts(Source(model=str(folder)), {}, VACE)


def test_a_file_that_is_not_whole(folder):
    path = folder / "Wan2.1_VAE.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FatalError, match="fetch it again"):
        weight_files(folder, "Wan2.1_VAE")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(FatalError, match="git lfs pull"):
        weight_files(folder, "Wan2.1_VAE")
    path.write_bytes(b"")
    with pytest.raises(FatalError, match="fetch it again"):
        weight_files(folder, "Wan2.1_VAE")


def test_the_hub_is_asked_for_what_is_needed_at_the_revision(folder, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="the extra `models` is not installed")
    asked = []

    def snapshot(model, revision, allow_patterns):
        asked.append((model, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    sources = {"vae": Source(model="someone/converted", revision="def")}
    find_parts(Source(model="Wan-AI/Wan2.1-VACE-14B", revision="abc"), sources, VACE)
    assert asked[:3] == [
        ("Wan-AI/Wan2.1-VACE-14B", "abc", ["diffusion_pytorch_model*.safetensors"]),
        ("Wan-AI/Wan2.1-VACE-14B", "abc", ["models_t5_umt5-xxl-enc-bf16*.safetensors"]),
        ("someone/converted", "def", ["Wan2.1_VAE*.safetensors"]),
    ]
    assert not any("pth" in pattern for _, _, patterns in asked for pattern in patterns)


def test_a_library_that_is_not_installed_is_named(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for backend in ("ffpdata.models.vace:Vace", "ffpdata.models.vace_diffusers:DiffusersVace"):
        spec = ModelSpec(backend=backend, model=str(folder))
        with pytest.raises(FatalError, match=r"torch and (diffsynth|diffusers).* not installed: pip install"):
            spec.load_class()(spec)

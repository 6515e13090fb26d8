"""Where weights come from: folders, the hub's cache, and what to do where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("safetensors", reason="the extra `models` is not installed")

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.convert_to_safetensors import convert
from ffpdata.models.weights import checkpoint_folder, read_state, torch_device, torch_dtype

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.arange(3.0)}, folder / "model.safetensors")
    return folder


def located(cache: Path, model: str, revision: str) -> str:
    """What `checkpoint_folder` answers in a process that has no network and this cache."""
    code = (
        "import sys\nfrom ffpdata.models.weights import checkpoint_folder\n"
        "from ffpdata.core.errors import FatalError\n"
        "try: print(checkpoint_folder(*sys.argv[1:]))\nexcept FatalError as err: print('FATAL', err)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, model, revision], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "weights")
    assert checkpoint_folder(str(folder)) == folder
    assert read_state(folder)["a"].tolist() == [0, 1, 2]
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(FatalError, match="not a readable safetensors file"):
        read_state(folder)
    with pytest.raises(FatalError, match="no folder"):
        checkpoint_folder(str(tmp_path / "absent"))


def test_a_repository_is_taken_at_its_revision(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    folder = write(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(COMMIT)
    assert located(tmp_path, "owner/name", COMMIT) == located(tmp_path, "owner/name", "v1") == str(folder)
    message = located(tmp_path, "owner/name", "v2")
    assert message.startswith("FATAL cannot fetch owner/name@v2")
    assert "hf download owner/name" in message


def test_pickles_are_not_read_but_converted(tmp_path: Path) -> None:
    import torch

    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"state_dict": {"a": shared, "b": shared.T}}, tmp_path / "model.pth")
    with pytest.raises(FatalError, match=r"it has model\.pth, which could run code .*\.convert_to_safetensors"):
        checkpoint_folder(str(tmp_path))
    convert(tmp_path / "model.pth", tmp_path / "safe")
    state = read_state(checkpoint_folder(str(tmp_path / "safe")))
    assert torch.equal(state["a"], shared)
    assert torch.equal(state["b"], shared.T)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no dict of tensors"):
        convert(tmp_path / "list.pth", tmp_path / "safe")


def test_devices_and_types_are_checked() -> None:
    import torch

    def device(name: str) -> str:
        return str(torch_device(ModelSpec(backend="a:B", runtime={"device": name})))

    assert device("cpu") == "cpu"
    assert torch_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ConfigError, match="write cuda, cuda:1 or cpu"):
        device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(FatalError, match="no GPU is visible"):
            device("cuda")

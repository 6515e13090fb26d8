"""Every key of a LoRA file is accounted for before anything is loaded."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import ModelSpec
from tests.models import tiny_wan as tiny

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")

DIFFSYNTH, DIFFUSERS = "ffpdata.models.vace:Vace", "ffpdata.models.vace_diffusers:DiffusersVace"


@pytest.fixture(scope="module", params=[DIFFSYNTH, DIFFUSERS])
def base(request, tmp_path_factory):
    """A back end and a checkpoint of its layout."""
    pytest.importorskip("diffsynth" if request.param == DIFFSYNTH else "diffusers")
    write = tiny.write_vace if request.param == DIFFSYNTH else tiny.write_vace_diffusers
    return request.param, write(tmp_path_factory.mktemp("base"))


def notes(backend, model, *loras):
    entries = [{"model": str(lora.parent), "file": lora.name} for lora in loras]
    spec = ModelSpec(backend=backend, model=str(model), settings={"loras": entries}, runtime={"device": "cpu"})
    found = spec.load_class().needs(spec).inspect()
    return {subject: f"{level}: {detail}" for level, subject, detail in found if "keys of" in subject}


@pytest.mark.parametrize("spelling", ["lightx2v", "peft", "musubi"])
def test_all_keys_are_counted(base, tmp_path, spelling):
    path = tmp_path / "fast.safetensors"
    tiny.write_distilled(path, spelling=spelling)
    count = {"lightx2v": 43, "peft": 43, "musubi": 55}[spelling]
    biases = 0 if spelling == "peft" else 12
    what = f"12 layers of rank 4, {7 + biases} parameters changed as a whole"
    assert notes(*base, path) == {"keys of fast.safetensors": f"ok: {count} of {count} are laid on: {what}"}
    gone = notes(base[0], tmp_path / "gone", path)["keys of fast.safetensors"]
    assert gone.startswith(f"ok: {count} of {count} are understood: {what}; whether they fit")


def test_keys_of_another_model_are_named(base, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tiny.write_lora(tmp_path / "a.safetensors", ("blocks.0.self_attn.q", "blocks.7.ffn.2"))
    wide = {
        "diffusion_model.head.diff_m": torch.zeros(1, 2, 96),
        "diffusion_model.img_emb.proj.1.diff_b": torch.zeros(4),
    }
    save_file(load_file(path) | wide, path)
    told = notes(*base, path)["keys of a.safetensors"]
    assert told.startswith("error: 2 of 6 keys fit this model; of another model are blocks.7.ffn.2.lora_A.default")
    assert told.endswith(" and 1 more")
    save_file(load_file(path) | {"what.is.this": torch.zeros(1)}, path)
    told = notes(*base, path)["keys of a.safetensors"]
    assert told.startswith("error: 1 of 7 keys are none of a LoRA for Wan")
    path.write_bytes(b"nothing")
    assert notes(*base, path) == {}  # the line about the checkpoint tells of a damaged file


def test_a_file_in_a_folder_of_its_repository(base, tmp_path):
    from ffpdata.models.requirements import find_checkpoint
    from ffpdata.models.wan.settings import Lora

    path = tiny.write_lora(tmp_path / "loras" / "fast.safetensors")
    tiny.write_lora(tmp_path / "loras" / "fast_v2.safetensors")
    lora = Lora(model=str(tmp_path), file="loras/fast.safetensors")
    assert find_checkpoint(lora.checkpoint()).level == "ok"
    spec = ModelSpec(backend=base[0], model=str(base[1]), settings={"loras": [lora.model_dump()]})
    assert [note.subject for note in spec.load_class().needs(spec).inspect() if "keys" in note.subject] == [
        f"keys of {path.name}"
    ]

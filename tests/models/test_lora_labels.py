"""What lies over a model shows in its label, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ffpdata.core.stage import Item, ModelSpec, Stage
from ffpdata.export.card import _backing
from ffpdata.models.settings import check
from ffpdata.runners.execute import execute
from ffpdata.stages.synthesize import Synthesize
from ffpdata.storage.store import Store

VACE = {"backend": "ffpdata.models.vace:Vace", "model": "Wan-AI/Wan2.1-VACE-14B", "revision": "539c162"}
LORAS = [
    {"model": "me/loras", "revision": "ab12cd34", "file": "v2/removal.safetensors"},
    {"model": "/models/removal_round_1"},
    {"model": "lightx2v/Distill", "revision": "main", "strength": 0.5},
]
OVER = "+removal@ab12cd34+removal_round_1+Distill@main+sdpa"


class Dressed:
    """A back end with something over its weights; it answers with what it was told."""

    name, version = "dressed", 3

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = spec.settings

    @classmethod
    def adapters(cls, spec: ModelSpec) -> tuple[str, ...]:
        return tuple(spec.settings["over"])

    def close(self) -> None:
        """Nothing is held."""


class Ask(Stage):
    name = "ask"
    models = ("remover",)

    def process(self, row):
        self.model("remover")
        return {}


@pytest.mark.parametrize(
    "backend",
    ["ffpdata.models.vace:Vace", "ffpdata.models.vace_diffusers:DiffusersVace", "ffpdata.models.wan_i2v:WanAnimator"],
)
def test_loras_are_named_behind_their_model(backend: str) -> None:
    bare = ModelSpec(**VACE | {"backend": backend})
    dressed = ModelSpec(**VACE | {"backend": backend}, settings={"loras": LORAS})
    check(dressed)
    assert bare.label == "Wan-AI/Wan2.1-VACE-14B@539c162+sdpa"
    assert dressed.label == f"Wan-AI/Wan2.1-VACE-14B@539c162{OVER}"
    assert "adapters" not in dressed.identity()
    assert dressed.identity() == bare.identity() | {"settings": {"loras": LORAS}}


def test_a_label_needs_no_model_library() -> None:
    code = (
        "import sys; from ffpdata.core.stage import ModelSpec\n"
        f"print(ModelSpec(**{VACE!r}, settings={{'loras': {LORAS!r}}}).label)\n"
        "print(sorted({'torch', 'diffsynth', 'diffusers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"Wan-AI/Wan2.1-VACE-14B@539c162{OVER}\n[]\n"


def test_the_manifest_shows_it_and_the_key_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(backend=f"{__name__}:Dressed", settings={"over": ["one@1", "a, b@2"]})
    made = execute(Ask(specs={"remover": spec}), Item("a"), Store(tmp_path))
    assert made.model == "dressed@3+one@1+a b@2"
    monkeypatch.delattr(Dressed, "adapters")
    plain = execute(Ask(specs={"remover": spec}), Item("a"), Store(tmp_path), adopt=False)
    assert plain.model == "dressed@3"
    assert plain.key == made.key


def test_the_card_finds_the_model_behind_a_label() -> None:
    """Also where two roles have one model, and where the run was given other LoRAs since."""
    swapper = ModelSpec(**VACE, licence="Apache-2.0")
    remover = ModelSpec(**VACE, licence="ours", settings={"loras": LORAS})
    stage = Synthesize(specs={"remover": remover, "swapper": swapper})
    assert _backing(stage, remover.label) == ("remover", VACE["backend"], "ours")
    assert _backing(stage, swapper.label) == ("swapper", VACE["backend"], "Apache-2.0")
    assert _backing(stage, "Wan-AI/Wan2.1-VACE-14B@0ld+older@1")[1] == VACE["backend"]
    assert _backing(stage, "Wan-AI/Wan2.1-VACE@539c162")[0] == "unknown"

"""The attention kernel is the one that the settings name, is there from the start, and stands in the row."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.wan import attention
from tests.models import tiny_wan as tiny

VACE, I2V = "ffpdata.models.vace:Vace", "ffpdata.models.wan_i2v:WanAnimator"
DIFFUSERS = "ffpdata.models.vace_diffusers:DiffusersVace"
INSTALLED = importlib.util.find_spec("flash_attn_interface")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages of every kernel, as far as a CPU can stand in for them: they compute by torch and note their calls."""
    torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
    for library in ("diffsynth.pipelines.wan_video", "diffusers.models.attention_dispatch"):
        if importlib.util.find_spec(library.partition(".")[0]):
            importlib.import_module(library)  # before the packages are there: it looks for them once
    calls = []

    def function(package, *, heads_first):
        def compute(q, k, v, **_):
            calls.append(package)
            tensors = (q, k, v) if heads_first else (one.transpose(1, 2) for one in (q, k, v))
            out = torch.nn.functional.scaled_dot_product_attention(*tensors)
            return out if heads_first else out.transpose(1, 2)

        return compute

    for kernel in attention.KERNELS.values():
        if kernel.package:
            (tmp_path / f"{kernel.package}.py").write_text("")
            monkeypatch.syspath_prepend(tmp_path)
            package = importlib.import_module(kernel.package)
            compute = function(kernel.package, heads_first=kernel.package == "sageattention")
            monkeypatch.setattr(package, kernel.function, compute, raising=False)
    yield calls
    for kernel in attention.KERNELS.values():
        sys.modules.pop(kernel.package, None)


@pytest.mark.parametrize("backend", [VACE, I2V, DIFFUSERS])
def test_the_row_tells_it_and_a_key_counts_what_was_set(backend):
    """A run without the entry keeps its keys, and what is installed changes none."""
    bare = ModelSpec(backend=backend, model="owner/name", revision="r1")
    assert bare.label == "owner/name@r1+sdpa"
    assert bare.identity()["settings"] == {}
    fast = bare.model_copy(update={"settings": {"attention": "fa3"}})
    assert fast.label == "owner/name@r1+fa3"
    assert fast.identity() != bare.identity()


def test_auto_is_one_kernel_everywhere(installed):
    assert attention.check("auto", device="cuda") == "sdpa"
    assert attention.check("auto", device="cpu", dtype="float32") == "sdpa"
    assert attention.check("auto", device="cuda", ranks=2) == "fa2"
    ranked = ModelSpec(backend=VACE, model="m", revision="r", runtime={"sequence_parallel": 2})
    assert ranked.label == "m@r+fa2"


def test_what_does_not_fit_is_told_before_the_weights_are_read(tmp_path):
    pytest.importorskip("diffsynth", reason="diffsynth is not installed")
    folder = str(tmp_path / "nothing")

    def start(backend, name, **more):
        spec = ModelSpec(backend=backend, model=folder, settings={"attention": name, **more}, runtime={"device": "cpu"})
        spec.load_class()(spec)

    for backend in (VACE, DIFFUSERS):
        with pytest.raises(ConfigError, match="attention 'fa2' runs on NVIDIA GPUs: on the CPU set auto or sdpa"):
            start(backend, "fa2")
        with pytest.raises(ConfigError, match="'attention': must be 'auto', 'sdpa', 'fa2', 'fa3' or 'sage'"):
            start(backend, "flash")


@pytest.mark.skipif(INSTALLED is not None, reason="FlashAttention 3 is installed")
def test_a_kernel_that_is_not_installed_is_an_error():
    with pytest.raises(
        FatalError, match=r"is 'fa3' and flash_attn_interface is not installed: build it .* or set sdpa"
    ):
        attention.check("fa3", device="cuda")


def test_conditions_of_a_kernel(installed):
    with pytest.raises(ConfigError, match="'fa2' computes in half precision: set dtype bfloat16, or sdpa"):
        attention.check("fa2", device="cuda", dtype="float32")
    with pytest.raises(ConfigError, match="is 'fa3', but sequence_parallel computes attention by fa2 alone"):
        attention.check("fa3", device="cuda", ranks=4)
    assert attention.check("sage", device="cuda") == "sage"


def test_a_kernel_that_does_not_run_on_this_card_is_an_error(installed, monkeypatch):
    torch = pytest.importorskip("torch")
    attention.probe("fa3", torch.device("cpu"), torch.bfloat16)
    assert installed == ["flash_attn_interface"]

    def fails(*_):
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr("flash_attn_interface.flash_attn_func", fails)
    with pytest.raises(FatalError, match=r"flash_attn_interface does not run on cpu \(no kernel image .*or set sdpa"):
        attention.probe("fa3", torch.device("cpu"), torch.bfloat16)


def test_doctor_tells_the_kernel(installed):
    assert attention.note("auto") == ("ok", "attention", "sdpa (auto): PyTorch's own exact kernels")
    assert attention.note("sage").detail == "sage: SageAttention, which quantises to 8 bits"
    assert attention.note("fa2", device="cpu").level == "error"
    spec = ModelSpec(backend=VACE, model="/nowhere", settings={"attention": "fa3"}, runtime={"device": "cuda"})
    assert spec.load_class().needs(spec).inspect()[0] == ("ok", "attention", "fa3: FlashAttention 3, exact")


def test_diffsynth_computes_by_what_is_set_and_not_by_what_is_installed(installed, tmp_path, monkeypatch):
    pytest.importorskip("diffsynth", reason="diffsynth is not installed")
    from diffsynth.models import wan_video_dit

    from ffpdata.models.vace import BESIDE, PARTS
    from ffpdata.models.wan.checkpoint_files import find_parts
    from ffpdata.models.wan.engine import DiffsynthEngine
    from ffpdata.models.wan.loading import LoadPlan
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.settings import Source

    for kernel in attention.KERNELS.values():
        if kernel.package:  # as they would be, had they been there when diffsynth was imported
            monkeypatch.setattr(wan_video_dit, kernel.flag, True)
            monkeypatch.setattr(wan_video_dit, kernel.package, importlib.import_module(kernel.package), raising=False)
    sage = importlib.import_module("sageattention").sageattn
    monkeypatch.setattr(wan_video_dit, "sageattn", sage, raising=False)
    parts = find_parts(Source(model=str(tiny.write_vace(tmp_path / "vace"))), {}, PARTS)
    plan = LoadPlan(parts, "bfloat16", "cpu", beside=BESIDE)
    engine = DiffsynthEngine(plan)
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    size = {"height": 32, "width": 32, "frames": 5, "steps": 1, "guidance": 1.0, "shift": 5.0}
    request = Request(prompt="a", negative="", seed=1, control=frames, mask=np.full_like(frames, 255), **size)
    answers = {}
    for name in ("auto", "sdpa", "fa2", "fa3", "sage"):
        installed.clear()
        answers[name] = engine.generate(replace(request, attention=name))
        used = attention.KERNELS[attention.resolve(name)].package
        assert set(installed) == ({used} if used else set()), name
        assert np.abs(answers[name].astype(int) - answers["auto"]).max() <= 2, name  # they compute the same here
    assert np.array_equal(answers["auto"], answers["sdpa"])
    assert wan_video_dit.FLASH_ATTN_3_AVAILABLE
    engine.close()


def test_diffusers_computes_by_what_is_set(tmp_path, monkeypatch):
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    from diffusers.models import attention_dispatch

    from ffpdata.models.vace_diffusers import DiffusersVace

    registry = attention_dispatch._AttentionBackendRegistry
    monkeypatch.setattr(
        registry, "_active_backend", attention_dispatch.AttentionBackendName.SAGE
    )  # by DIFFUSERS_ATTN_BACKEND
    model = DiffusersVace(
        ModelSpec(backend=DIFFUSERS, model=str(tiny.write_vace_diffusers(tmp_path)), runtime={"device": "cpu"})
    )
    processors = [
        block.attn1.processor for block in (*model.pipe.transformer.blocks, *model.pipe.transformer.vace_blocks)
    ]
    assert {processor._attention_backend.value for processor in processors} == {"native"}
    names = {backend.value for backend in attention_dispatch.AttentionBackendName}
    assert {kernel.diffusers for kernel in attention.KERNELS.values()} <= names
    model.close()

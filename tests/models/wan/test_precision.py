"""8-bit layers, compiled blocks and a cache between steps, each on a tiny checkpoint beside the plain result."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.lora_labels import wan_labels
from ffpdata.models.vace import BESIDE, PARTS, Vace, VaceSettings
from ffpdata.models.wan import precision
from ffpdata.models.wan.checkpoint_files import find_parts
from ffpdata.models.wan.loading import LoadPlan
from ffpdata.models.wan.request import Request
from ffpdata.models.wan.settings import Lora, Source
from ffpdata.models.wan_i2v import WanAnimator
from tests.models import tiny_wan as tiny

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_vace(tmp_path_factory.mktemp("vace"))


@pytest.fixture(scope="module")
def plan(folder: Path) -> LoadPlan:
    return LoadPlan(find_parts(Source(model=str(folder)), {}, PARTS), "bfloat16", "cpu", beside=BESIDE)


@pytest.fixture(scope="module")
def request_() -> Request:
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    mask = np.zeros_like(frames)
    mask[:, 16:40, 16:40] = 255
    how = {"height": 64, "width": 64, "frames": 5, "steps": 2, "guidance": 1.0, "shift": 5.0}
    return Request(prompt="a street", negative="car", seed=1, control=frames, mask=mask, **how)


def engine(plan: LoadPlan):
    from ffpdata.models.wan.engine import DiffsynthEngine

    return DiffsynthEngine(plan)


@pytest.fixture(scope="module")
def plain(plan: LoadPlan, request_: Request) -> np.ndarray:
    made = engine(plan)
    frames = made.generate(request_)
    made.close()
    return frames


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


# --- 8 bits ---


@pytest.mark.parametrize(("multiply", "limit"), [(False, 0.03), (True, 0.045)])
def test_an_8_bit_layer_is_close_to_the_plain_one(multiply: bool, limit: float) -> None:
    """e4m3 has 3 bits after the first: each number is off by at most 1/16, 2.6 % of a product's length on average."""
    from ffpdata.models.wan.fp8 import Fp8Linear

    made = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(128, 96).bfloat16()
    with torch.no_grad():
        layer.weight.copy_(0.02 * torch.randn(96, 128, generator=made))
        layer.weight[3] *= 40  # rows of different sizes have scales of their own
    x = torch.randn(2, 50, 128, generator=made).bfloat16() * torch.rand(2, 50, 1, generator=made).bfloat16()
    small = Fp8Linear(layer, multiply=multiply).to(torch.bfloat16)
    with torch.no_grad():
        want, found = layer(x).float(), small(x).float()
    assert found.shape == want.shape
    assert float((found - want).norm() / want.norm()) < limit
    assert sum(value.nbytes for value in small.buffers()) == 96 * 128 + 96 * 4


@pytest.mark.parametrize("quantization", ["fp8", "fp8_weights"])
def test_a_quantised_model_answers_almost_alike_and_loras_come_on_and_off(
    plan: LoadPlan, request_: Request, plain: np.ndarray, quantization: str, tmp_path: Path
) -> None:
    made = engine(replace(plan, quantization=quantization))
    from ffpdata.models.wan.fp8 import Fp8Linear

    quantised = {name for name, module in made.pipe.named_modules() if isinstance(module, Fp8Linear)}
    assert len(quantised) == 4 * 10 + 3  # per block 8 of attention and 2 of the feed-forward layer; VACE's projections
    assert all("blocks." in name for name in quantised)
    first = made.generate(request_)
    assert 0 < difference(first, plain) < 12, "grey levels of a random model, which magnifies every error"
    path = tiny.write_lora(tmp_path / "removal.safetensors")
    assert difference(made.generate(request_, [Lora(model=str(path))]), first) > 1
    tiny.write_distilled(tmp_path / "distilled.safetensors")
    assert difference(made.generate(request_, [Lora(model=str(tmp_path / "distilled.safetensors"))]), first) > 1
    assert np.array_equal(made.generate(request_), first), "exactly"
    made.close()


def test_quantised_weights_weigh_half(folder: Path) -> None:
    from ffpdata.models.weights import safetensors_shapes

    shapes = safetensors_shapes(folder / tiny.DIT)
    whole, small = (precision.weight_bytes(shapes.items(), kind, 2) for kind in ("none", "fp8"))
    layers = [shape for name, shape in shapes.items() if precision.BLOCK_LAYER.match(name)]
    assert len(layers) == 43
    assert whole - small == sum(rows * columns - 4 * rows for rows, columns in layers)


def test_animating_has_them_too(tmp_path: Path) -> None:
    folder = tiny.write_i2v(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    answers = []
    for settings in ({}, {"quantization": "fp8"}):
        spec = ModelSpec.of(
            WanAnimator, model=str(folder), settings={"steps": 1, "guidance": 1, **settings}, runtime={"device": "cpu"}
        )
        model = WanAnimator(spec)
        answers.append(model.animate(image, prompt="waves", frames=5).frames)
        model.close()
    assert 0 < difference(*answers) < 12


def test_labels_and_keys_say_so() -> None:
    settings = VaceSettings(quantization="fp8", compile=True, tea_cache={"threshold": 0.1, "fitted": "Wan2.1-T2V-14B"})
    assert wan_labels(settings) == ("sdpa", "fp8", "compiled", "tea_cache")
    assert wan_labels(VaceSettings()) == ("sdpa",)
    specs = [ModelSpec.of(Vace, settings=settings) for settings in ({}, {"quantization": "fp8"}, {"compile": True})]
    assert len({str(spec.identity()) for spec in specs}) == 3


def test_doctor_says_what_is_computed_how(folder: Path) -> None:
    def notes(device: str = "cpu", **settings: object) -> dict[str, tuple[str, str]]:
        spec = ModelSpec.of(Vace, model=str(folder), settings=settings, runtime={"device": device})
        return {subject: (level, detail) for level, subject, detail in Vace.needs(spec).inspect()}

    assert set(notes()) == {"attention"}
    level, detail = notes(quantization="fp8")["fp8"]
    assert level == "ok"
    assert "8-bit weights and products: the transformer's weights take" in detail
    assert "computed in bfloat16" in notes(quantization="fp8_weights")["fp8_weights"][1]


def test_what_the_device_cannot_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(error: type[Exception], said: str, runtime: dict | None = None, **settings: object) -> None:
        with pytest.raises(error, match=said):
            Vace(ModelSpec.of(Vace, model=str(folder), settings=settings, runtime={"device": "cpu"} | (runtime or {})))

    refused(ConfigError, "'fp8' gives bfloat16, and dtype is float32", quantization="fp8", dtype="float32")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "A100")
    with pytest.raises(FatalError, match=r"A100 has compute capability 8\.0.* set fp8_weights"):
        precision.check(VaceSettings(quantization="fp8"), device=torch.device("cuda:0"), ranks=1, offload="none")
    precision.check(VaceSettings(quantization="fp8_weights"), device=torch.device("cuda:0"), ranks=1, offload="none")
    with pytest.raises(ConfigError, match="sequence_parallel 2"):
        precision.check(VaceSettings(compile=True), device=torch.device("cuda:0"), ranks=2, offload="none")
    with pytest.raises(ConfigError, match="offload 'layers'"):
        precision.check(VaceSettings(compile=True), device=torch.device("cuda:0"), ranks=1, offload="layers")


def test_training_is_of_the_weights_as_they_are(folder: Path) -> None:
    spec = ModelSpec.of(Vace, model=str(folder), settings={"quantization": "fp8"}, runtime={"device": "cpu"})
    assert (Vace.training_plan(spec).quantization, Vace.training_plan(spec).compiled) == ("none", False)


# --- a cache ---


def test_skipped_steps_are_counted(plan: LoadPlan, request_: Request, plain: np.ndarray) -> None:
    made = engine(plan)
    off = made.run(request_)
    assert np.array_equal(off.frames, plain)
    assert off.facts == {}
    cached = replace(request_, steps=5, guidance=3.0, tea_cache=(1e6, "Wan2.1-T2V-1.3B"))
    assert made.run(cached).facts == {"model_runs": 10.0, "skipped_runs": 6.0}  # first and last step run
    made.close()


# --- compiled ---


def test_without_a_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object) -> object:
        def call(*_: object) -> None:
            raise RuntimeError("No working C++ compiler found")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(FatalError, match=r"No working C\+\+ compiler.*apt-get install g\+\+"):
        precision.probe_compiler(torch.device("cpu"))


def test_compiled_blocks_answer_alike_and_loras_are_still_exchanged(
    plan: LoadPlan, request_: Request, plain: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced by dynamo and run as it was traced: the compiler proper is tried on one block below, it takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    made = engine(replace(plan, compiled=True))
    first = made.generate(request_)
    assert difference(first, plain) < 3, "another order of sums"
    path = tiny.write_lora(tmp_path / "removal.safetensors")
    with_it = made.generate(request_, [Lora(model=str(path))])
    assert difference(with_it, first) > 1
    assert np.array_equal(made.generate(request_), first)
    made.close()
    other = engine(plan)
    assert difference(other.generate(request_, [Lora(model=str(path))]), with_it) < 3
    other.close()


@pytest.mark.slow
def test_a_block_is_compiled(plan: LoadPlan) -> None:
    try:
        precision.probe_compiler(torch.device("cpu"))
    except FatalError as err:
        pytest.skip(str(err))
    made = engine(plan)
    layer = made.pipe.dit.blocks[0].ffn
    x = torch.randn(1, 6, tiny.WAN["dim"], generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        want = layer(x)
        precision.compile_blocks([SimpleNamespace(blocks=[layer])])
        assert torch.allclose(layer(x).float(), want.float(), atol=0.03)
    made.close()

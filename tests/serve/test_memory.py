"""The sum of a server's memory: model sizes against transformers, tokens against its processors, shipped profiles."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import UsageError
from ffpdata.models.vlm.frame_sampling import scaled_size
from ffpdata.models.vlm.settings import VisionSettings
from ffpdata.serve.memory import Share, server_memory
from ffpdata.serve.model_shape import GIB, PUBLISHED, ModelShape, find_shape
from ffpdata.serve.profile import beside, prompts_of, serving, shipped_pipelines
from ffpdata.serve.questions import demand
from ffpdata.serve.vllm_flags import plan_for
from tests.serve.published import config_of

LARGE = "Qwen/Qwen2.5-VL-72B-Instruct"
QWEN3 = "Qwen/Qwen3-VL-32B-Instruct"
SMALL_AWQ = "Qwen/Qwen2.5-VL-7B-Instruct-AWQ"


def profile(folder: Path, model: str = LARGE, settings: dict[str, Any] | None = None, **server: Any) -> str:
    entry = {
        "backend": "ffpdata.models.vlm.backend:ServedVision",
        "model": model,
        "settings": settings or {},
        "runtime": {"endpoint": "http://h:8000/v1", **({"server": server} if server else {})},
    }
    path = folder / "own.yaml"
    path.write_text(json.dumps({"models": {"vision_language": entry}}))
    return str(path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_architecture(name: str) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    shape = PUBLISHED[name]
    given = config_of(shape)
    kind = {"qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL", "qwen3_vl_moe": "Qwen3VLMoe"}[given["model_type"]]
    config = getattr(transformers, f"{kind}Config")(**given)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    assert sum(one.numel() for one in model.parameters()) == shape.parameters


def test_transformers_defaults_are_the_largest_model() -> None:
    transformers = pytest.importorskip("transformers")
    text, shape = transformers.Qwen2_5_VLConfig().text_config, PUBLISHED[LARGE]
    found = (text.num_hidden_layers, text.hidden_size, text.intermediate_size, text.num_attention_heads)
    assert found == (shape.layers, shape.hidden, shape.wide, shape.heads)
    assert (text.num_key_value_heads, text.vocab_size) == (shape.kv_heads, shape.vocabulary)


def test_weights_and_cache_are_those_of_published_logs() -> None:
    """34.43 GiB on each of four GPUs (vLLM's issue 16570), 6.9 GB for the 7B model in 4 bit at the hub."""
    assert PUBLISHED[LARGE].weights_gib(4) == pytest.approx(34.43, rel=0.01)
    assert PUBLISHED[LARGE].weights_gib(2) == pytest.approx(68.4, abs=0.05)
    assert PUBLISHED[SMALL_AWQ].weights_gib(1) * GIB / 1e9 == pytest.approx(6.9, abs=0.05)
    assert PUBLISHED[LARGE].cache_bytes(2) * 32768 / GIB == 5.0


def test_a_config_is_read_where_a_model_is_not_in_the_table(tmp_path: Path) -> None:
    for name, shape in PUBLISHED.items():
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config_of(shape)))
        assert find_shape(str(folder)) == shape
    nested = config_of(PUBLISHED[LARGE])
    text = {key: value for key, value in nested.items() if key.startswith(("num_", "hidden", "intermediate", "vocab"))}
    assert ModelShape.of_config({**nested, "text_config": text, "hidden_size": 1}) == PUBLISHED[LARGE]
    fp8 = ModelShape.of_config({**nested, "quantization_config": {"quant_method": "compressed-tensors"}})
    assert fp8 is not None
    assert fp8.weights_gib(2) == pytest.approx(35.7, abs=0.1)
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    assert find_shape(str(tmp_path)) is None
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"')
    assert find_shape(str(tmp_path)) is None
    assert find_shape("owner/unknown") is None


@pytest.mark.parametrize(("frames", "size"), [(8, (1280, 720)), (5, (720, 1280)), (1, (64, 64))])
def test_qwen3_bounds_a_whole_video_and_tells_the_time_of_every_two_frames(frames: int, size: tuple[int, int]) -> None:
    video = pytest.importorskip("transformers.models.qwen3_vl.video_processing_qwen3_vl")
    shape = PUBLISHED[QWEN3]
    settings = VisionSettings(multiple=32)
    width, height = scaled_size(*size, settings.clip_pixels, settings.multiple)
    assert (width % 32, height % 32, shape.multiple) == (0, 0, 32)
    edge = shape.clip_edge(frames, settings.clip_pixels)
    assert edge >= frames * settings.clip_pixels
    bounds = {"temporal_factor": 2, "factor": 32, "min_pixels": 56 * 56}
    assert video.smart_resize(max(frames, 2), height, width, **bounds, max_pixels=edge) == (height, width), (
        "not resized"
    )
    if size == (1280, 720):
        smaller = video.smart_resize(frames, height, width, **bounds, max_pixels=settings.clip_pixels)
        assert smaller < (height, width), "one frame's bound would shrink every frame"
    tokens = math.ceil(frames / 2) * (width // 32) * (height // 32)
    assert tokens + math.ceil(frames / 2) * 8 <= shape.clip_tokens(frames, settings.clip_pixels)


def test_the_server_of_qwen3_closes_and_is_told_the_bounds(tmp_path: Path) -> None:
    plan = plan_for("", "gpu,qwen3", vllm="python3")
    assert plan.model == QWEN3
    assert plan.memory is not None
    assert plan.memory.fits
    command = plan.command("h", 1)
    edges = json.loads(command[command.index("--mm-processor-kwargs") + 1])
    assert edges["videos_kwargs"]["size"]["longest_edge"] >= 8 * 640 * 352
    one = serving(shipped_pipelines("gpu,qwen3"))
    assert one is not None
    assert one.settings.multiple == one.shape.multiple  # type: ignore[union-attr]
    assert one.resizing() == ""
    other = serving([load_pipeline("local_editing", profile(tmp_path, QWEN3))])
    assert other is not None
    assert "set settings.multiple to 32" in other.resizing()


def test_experts_weigh_and_do_not_work() -> None:
    sparse = PUBLISHED["Qwen/Qwen3-VL-30B-A3B-Instruct"]
    assert sparse.parameters == pytest.approx(31.07e9, rel=0.01)
    assert sparse.work_bytes(1) < PUBLISHED["Qwen/Qwen3-VL-8B-Instruct"].work_bytes(1)


@pytest.mark.parametrize(("frames", "size"), [(8, (1280, 720)), (5, (720, 1280)), (3, (3000, 200)), (1, (64, 64))])
def test_tokens_are_bounded_by_those_of_the_processors(frames: int, size: tuple[int, int]) -> None:
    qwen = pytest.importorskip("transformers.models.qwen2_vl.video_processing_qwen2_vl")
    still = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
    shape, settings = PUBLISHED[LARGE], VisionSettings()
    for pixels, count in ((settings.clip_pixels, frames), (settings.image_pixels, 1)):
        width, height = scaled_size(*size, pixels, settings.multiple)
        limits = {"size": {"shortest_edge": 56 * 56, "longest_edge": pixels}}
        if count > 1:
            patches = qwen.Qwen2VLVideoProcessor().get_num_of_video_patches(count, height, width, limits)
        else:
            patches = still.Qwen2VLImageProcessor().get_number_of_image_patches(height, width, limits)
        counted = shape.clip_tokens(count, pixels) if count > 1 else shape.image_tokens(pixels)
        assert patches // shape.merge**2 <= counted
        if size == (1280, 720):
            assert patches // shape.merge**2 == counted


def test_lengths_follow_views_prompts_and_answers() -> None:
    prompts = prompts_of(shipped_pipelines("gpu"))
    shape = PUBLISHED[LARGE]
    plain = demand(prompts, VisionSettings(), shape)
    assert (plain.videos, plain.images, plain.longest) == (2, 12, "screen")
    assert 2 * 4 * 299 + 12 * 256 + 512 < plain.length < 8500
    more = VisionSettings.model_validate({"questions": {"screen": {"frames": 32}}})
    assert demand(prompts, more, shape).longest == "screen"
    assert demand(prompts, more, shape).length > 2 * 16 * 299
    images = demand(prompts, VisionSettings(clips_as="images"), shape)
    assert (images.videos, images.images) == (0, 28)
    assert images.length > 2 * 8 * 299 + 1196
    assert demand(prompts, VisionSettings(max_tokens=2048), shape).length >= plain.length + 2 * (2048 - 512) - 256
    assert demand(prompts, VisionSettings(schema_mode="text"), shape).length > plain.length


@pytest.mark.parametrize("name", ["gpu", "small"])
def test_the_sum_of_every_shipped_profile_closes(name: str) -> None:
    one = serving(shipped_pipelines(name))
    assert one is not None
    memory = one.memory()
    assert memory is not None
    assert memory.fits, str(memory)
    parts = memory.weights + memory.cache + memory.work + 1.0
    assert memory.total == pytest.approx(parts)
    if name == "small":  # on one card, with the largest worker beside it
        assert one.workers_gib > 13
        assert memory.limit + memory.outside <= 23.5
    else:
        assert one.workers_gib <= 79.1


def test_the_former_flags_did_not_start() -> None:
    """One sequence of 32,768 tokens on two 80 GB GPUs at 0.9, the encoder prepared for images of 16,384 tokens."""
    memory = server_memory(PUBLISHED[LARGE], Share(2, 79.1, 0.9, 1), length=32768, batch=16384)
    assert memory.limit - memory.weights == pytest.approx(2.8, abs=0.05)
    assert not memory.fits
    with pytest.raises(UsageError, match=r"does not fit: 2 x 79\.1 GiB: weights 68\.4 \+ cache 5\.0"):
        plan_for(LARGE, "", gpus=2, card_gib=79.1)


@pytest.mark.parametrize(("model", "cards", "sequences"), [(LARGE, 4, 32), (f"{LARGE}-AWQ", 1, 8)])
def test_the_alternatives_that_the_profile_names_close(model: str, cards: int, sequences: int, tmp_path: Path) -> None:
    path = profile(tmp_path, model, cards=cards, card_gib=79.1, utilization=0.9, sequences=sequences)
    plan = plan_for("", path)
    assert (plan.gpus, plan.sequences) == (cards, sequences)
    assert plan.memory is not None
    assert plan.memory.fits


def test_a_sum_that_does_not_close_is_refused_with_what_to_change(tmp_path: Path) -> None:
    path = profile(tmp_path, cards=2, card_gib=79.1, utilization=0.95, sequences=32)
    with pytest.raises(UsageError, match=r"> 75\.1 \(0\.95 of the card\).*lower server\.sequences to 4"):
        plan_for("", path)
    assert plan_for("", path, unchecked=True).memory is not None
    assert plan_for("", path, flags=("--max-num-seqs", "4")).memory is not None
    assert plan_for("", path, flags=("--max_num_seqs=4",)).memory is not None
    assert plan_for("", path, card_gib=139.0).memory is not None
    assert plan_for("", path, gpus=4).memory is not None
    assert plan_for("", path, flags=("--kv-cache-dtype", "fp8")).memory is None  # not summed: vLLM decides
    path = profile(tmp_path, cards=2, card_gib=79.1, utilization=0.99, sequences=1)
    with pytest.raises(UsageError, match=r"lower server\.utilization to 0\.9[78]"):
        plan_for("", path)


def test_a_remedy_does_what_it_says() -> None:
    share = Share(2, 79.1, 0.9, 4)
    memory = server_memory(PUBLISHED[LARGE], share, length=5376, batch=2304)
    assert not memory.fits
    assert "raise server.utilization to 0.93" in memory.remedy()
    for better in (replace(share, utilization=0.93), replace(share, cards=4)):
        assert server_memory(PUBLISHED[LARGE], better, length=5376, batch=2304).fits


def test_a_plan_has_flags_for_what_was_derived(tmp_path: Path) -> None:
    settings = {"clip_pixels": 147456, "questions": {"screen": {"frames": 32, "clip_pixels": 300000}}}
    path = profile(tmp_path, SMALL_AWQ, settings, card_gib=23.5, utilization=0.8, sequences=2)
    command = plan_for("", path, vllm="python3").command("h", 1)
    command.remove("--trust-request-mm-kwargs")
    given = dict(zip(command[3::2], command[4::2], strict=True))
    edges = json.loads(given["--mm-processor-kwargs"])
    assert edges["videos_kwargs"]["size"] == {"shortest_edge": 3136, "longest_edge": 300000}
    assert edges["images_kwargs"]["size"]["longest_edge"] == 1288 * 728
    assert json.loads(given["--limit-mm-per-prompt"]) == {"video": 2, "image": 12}
    assert int(given["--max-num-batched-tokens"]) >= 16 * (300000 // 784)
    assert int(given["--max-model-len"]) >= 2 * 16 * (300000 // 784)
    assert (given["--max-num-seqs"], given["--gpu-memory-utilization"]) == ("2", "0.8")


def test_workers_beside_a_server_are_those_of_the_pipelines_that_ask_it() -> None:
    pipelines = [load_pipeline(name, "small") for name in ("local_editing", "propagate")]
    models = pipelines[0].models
    remover = models.pop("remover")
    models |= {"remover/a": remover, "remover/b": remover}
    found = beside(pipelines)
    assert {"remover/a", "remover/b", "swapper", "segmenter", "vision_language"} <= found.keys()
    assert "propagator" not in found, "its pipeline asks nothing"
    assert {"propagator", "image_editor"} <= beside([load_pipeline("propagation", "small")]).keys()

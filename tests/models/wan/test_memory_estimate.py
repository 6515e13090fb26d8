"""The count of what training takes, against the real network."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.wan.memory_estimate import (
    KEPT_PER_CHANNEL,
    KEPT_PER_WIDE,
    WORK_PER_CHANNEL,
    WORK_PER_WIDE,
    ClipSize,
    Network,
    aligned_bytes,
    latent_bytes,
    training_memory,
)
from tests.models import tiny_wan as tiny

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")

LARGE = Network(5120, 13824, 4096, 40, 8, 17_300_000_000, {})
"""VACE 14B (Wan-AI/Wan2.1-VACE-14B, config.json)."""
HD = ClipSize(81, 720, 1280)
TARGETS = ["q", "k", "v", "o", "ffn.0", "ffn.2"]


def a_block(width: int, wide: int, tokens: int):
    """A block with a LoRA, and what it is given."""
    from diffsynth.models.wan_video_dit import DiTBlock, precompute_freqs_cis_3d
    from peft import LoraConfig, inject_adapter_in_model

    dtype = torch.bfloat16
    block = DiTBlock(False, width, width // 128, wide).requires_grad_(False)
    block = inject_adapter_in_model(LoraConfig(r=1, lora_alpha=1, target_modules=TARGETS), block).to(dtype)
    x = torch.randn(1, tokens, width, dtype=dtype, requires_grad=True)
    context, time = torch.randn(1, 4, width, dtype=dtype), torch.randn(1, 6, width, dtype=dtype)
    places = torch.cat([part[:tokens] for part in precompute_freqs_cis_3d(128)], -1).reshape(tokens, 1, -1)
    return block, (x, context, time, places)


def most_in_use(width: int, wide: int, tokens: int) -> float:
    """Bytes per token that a block holds at most, there and back."""
    block, given = a_block(width, wide, tokens)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        made = block(*given)
        made.backward(torch.ones_like(made))
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    steps = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return float(steps.max()) / tokens


def kept_by_a_block(width: int, wide: int, tokens: int) -> float:
    """Bytes per token that torch keeps of a block for the way back."""
    block, given = a_block(width, wide, tokens)
    free = {value.untyped_storage().data_ptr() for value in (*block.parameters(), given[-1])}
    kept = {}

    def note(value):
        storage = value.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), value)  # the value, so that its place is not used again
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        block(*given)
    return sum(size for place, (size, _) in kept.items() if place not in free) / tokens


def test_what_a_block_keeps():
    narrow, broad = kept_by_a_block(256, 256, 512), kept_by_a_block(256, 1024, 512)
    per_wide = (broad - narrow) / 768
    assert per_wide == pytest.approx(KEPT_PER_WIDE, rel=0.05)
    assert (narrow - 256 * per_wide) / 256 == pytest.approx(KEPT_PER_CHANNEL, rel=0.05)


@pytest.mark.parametrize(("width", "wide"), [(512, 1382), (256, 1493)], ids=["as 14B", "as 1.3B"])
def test_what_a_block_works_with(width, wide):
    counted = WORK_PER_CHANNEL * width + WORK_PER_WIDE * wide
    assert most_in_use(width, wide, 512) == pytest.approx(counted, rel=0.1)


def test_shapes_are_read_from_the_files(tmp_path):
    files = [str(path) for path in tiny.write_vace(tmp_path, shards=2).glob("diffusion_pytorch_model*")]
    network = Network.of(files)
    shape = (network.width, network.wide, network.text_width, network.blocks, network.vace_blocks)
    assert shape == (48, 64, 32, 2, 2)
    # Two blocks of 8 projections of 48 x 48 and a feed-forward layer of 48 x 64: both matrices of rank 4.
    assert network.learned(4, TARGETS) == 2 * (8 * 4 * 96 + 2 * 4 * 112)
    assert network.learned(4, ["ffn.0"]) == 2 * 4 * 112
    network.check_targets(TARGETS)
    with pytest.raises(ConfigError, match=r"VACE has no layer 'ffn\.1'; it has after_proj, before_proj, "):
        network.check_targets(["q", "ffn.1"])


def test_other_files_are_refused(tmp_path):
    tiny.write_i2v(tmp_path)
    with pytest.raises(FatalError, match="not VACE's transformer"):
        Network.of([str(tmp_path / tiny.DIT)])


def test_a_720p_clip_on_the_large_model():
    assert (HD.latents, HD.tokens) == (21 * 90 * 160, 75_600)
    assert latent_bytes(LARGE, HD, 2) == pytest.approx(72e6, rel=0.02)
    learned = 31_000_000
    off, on, offload = (training_memory(LARGE, HD, learned, how, 2) for how in ("off", "on", "offload"))
    assert off.gpu > 500
    assert on.gpu - offload.gpu == pytest.approx(offload.offloaded)
    assert 55 < offload.gpu < 80 < on.gpu
    assert offload.weights == pytest.approx(32.2, abs=0.1)


def test_what_self_distillation_adds() -> None:
    small = Network(1536, 8960, 4096, 30, 0, 1_565_000_000, {})
    tokens, pooled = 21 * 45 * 80, 21 * 9 * 16
    added = aligned_bytes(small, HD, 5, 2)
    features = tokens * 1536 * (2 + 4) + 2 * pooled * 1536 * 4
    assert added == features + 4 * pooled**2 * 4 + 6 * 21 * 144**2 * 4
    assert 0.8e9 < added < 1.0e9
    assert aligned_bytes(small, HD, 1, 2) > 90e9, "without pooling the products alone are 23 GB each"
    plain = training_memory(small, HD, 175_000_000, "on", 2)
    whole = replace(plain, aligned=added / 2**30)
    assert whole.gpu == pytest.approx(plain.gpu + added / 2**30)
    assert "of aligned features" in str(whole)
    assert "aligned" not in str(plain)

"""Positions that a head's kind and the clip decide, against tables of every head; the identity is the base exactly."""

from __future__ import annotations

import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.propagation.settings import preset
from tests.models.propagation.conftest import SMALL, TEMPORAL

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("diffsynth", reason="diffsynth is not installed")

FRAMES, HEIGHT, WIDTH = 3, 2, 4
WAN = {"in_dim": 36, "out_dim": 12, "text_dim": 16, "freq_dim": 32, "eps": 1e-6, "patch_size": (1, 2, 2)}


@pytest.fixture
def dit():
    from diffsynth.models.wan_video_dit import WanModel

    torch.manual_seed(0)
    return WanModel(dim=96, ffn_dim=64, num_heads=4, num_layers=2, has_image_input=False, **WAN)


def run(dit, seed=0, **more):
    from diffsynth.pipelines.wan_video import model_fn_wan_video

    drawn = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 36, FRAMES, 2 * HEIGHT, 2 * WIDTH, generator=drawn)
    return model_fn_wan_video(
        dit=dit, latents=latents, timestep=torch.tensor([500.0]), context=torch.zeros(1, 3, 16), **more
    )


def factors(alpha_s, alpha_t):
    return torch.tensor([float(alpha_s)]), torch.tensor([float(alpha_t)])


def test_at_identity_the_model_is_the_base_bit_for_bit(dit):
    from ffpdata.models.propagation.ast_rope import AstRope

    plain = run(dit)
    with AstRope(dit, TEMPORAL) as rope:
        rope.use(*factors(0, 1), FRAMES)
        assert torch.equal(run(dit), plain)
        rope.use(*factors(0.5, 1), FRAMES)
        assert not torch.equal(run(dit), plain)
        rope.use(*factors(0, 0.5), FRAMES)
        assert not torch.equal(run(dit), plain)
    assert torch.equal(run(dit), plain), "the hooks are gone"
    assert not any(
        block.self_attn._forward_pre_hooks or block.self_attn.attn._forward_pre_hooks for block in dit.blocks
    )


def test_it_is_the_table_of_every_head(dit):
    """Turning queries and keys further gives what a table of angles for every head gives."""
    from ffpdata.models.propagation.ast_rope import AstRope

    alpha_s, alpha_t = 0.3, 0.7
    with AstRope(dit, TEMPORAL) as rope:
        rope.use(*factors(alpha_s, alpha_t), FRAMES)
        found = run(dit)
    rates = torch.angle(dit.freqs[0][1])
    index = torch.arange(FRAMES, dtype=torch.float64)
    spatial = torch.where(index == 0, alpha_s * FRAMES, index)
    hooks = []
    for block, kinds in zip(dit.blocks, TEMPORAL, strict=True):
        turned = torch.stack([torch.outer(alpha_t * index if kind else spatial, rates) for kind in kinds], dim=1)
        times = torch.polar(torch.ones_like(turned), turned)  # F', heads, n

        def replace(_, arguments, times=times):
            x, freqs = arguments
            table = freqs.expand(-1, times.shape[1], -1).clone()
            table[..., : times.shape[2]] = times.repeat_interleave(HEIGHT * WIDTH, dim=0)
            return x, table

        hooks.append(block.self_attn.register_forward_pre_hook(replace))
    wanted = run(dit)
    for hook in hooks:
        hook.remove()
    assert torch.allclose(found, wanted, atol=2e-6)


def test_at_a_frame_apart_the_first_frame_meets_that_frame(dit):
    """alpha_S = j / F' gives frame 0 and frame j one index: their products depend on space alone."""
    from ffpdata.models.propagation.ast_rope import turn, turns

    rates = torch.angle(dit.freqs[0][1]).float()
    found = turns(*factors(2 / FRAMES, 1), rates, FRAMES)
    x = torch.randn(1, FRAMES, 4, generator=torch.Generator().manual_seed(0))
    rates = rates[:2]
    usual = torch.outer(torch.arange(FRAMES).float(), rates)[None, :, None]
    placed = turn(x, usual.cos(), usual.sin(), 1)
    cos, sin = (table[0, :, :, None, :2].permute(0, 1, 2, 3) for table in (found.cos, found.sin))
    moved = turn(placed, cos, sin, 1)
    same = turn(x, usual[:, 2:].cos().expand(1, FRAMES, 1, 2), usual[:, 2:].sin().expand(1, FRAMES, 1, 2), 1)
    assert torch.allclose(moved[0, 0], same[0, 0], atol=1e-6)
    assert torch.equal(moved[0, 1:], placed[0, 1:])


def test_tokens_before_the_clip_keep_their_place():
    from ffpdata.models.propagation.ast_rope import turn

    x = torch.randn(2, 5 + 6, 8, generator=torch.Generator().manual_seed(0))
    angles = torch.rand(2, 3, 2, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    found = turn(x, angles.cos(), angles.sin(), 2, skipped=5)
    assert torch.equal(found[:, :5], x[:, :5])
    assert torch.equal(found[:, 5:], turn(x[:, 5:], angles.cos(), angles.sin(), 2))
    assert not torch.equal(found[:, 5:], x[:, 5:])
    heads = found[:, 5:].unflatten(2, (2, 4))
    assert torch.equal(heads[..., 2:], x[:, 5:].unflatten(2, (2, 4))[..., 2:]), "space is left alone"
    assert torch.allclose(found.norm(dim=2), x.norm(dim=2), atol=1e-5), "a turn keeps lengths"


def test_clips_of_a_batch_have_factors_of_their_own():
    from ffpdata.models.propagation.ast_rope import turns

    rates = torch.tensor([1.0, 0.1])
    both = turns(torch.tensor([0.2, 0.4]), torch.tensor([0.5, 1.5]), rates, FRAMES)
    for clip, (alpha_s, alpha_t) in enumerate([(0.2, 0.5), (0.4, 1.5)]):
        alone = turns(*factors(alpha_s, alpha_t), rates, FRAMES)
        assert torch.equal(both.cos[:, clip], alone.cos[:, 0])
        assert torch.equal(both.sin[:, clip], alone.sin[:, 0])


def test_classes_of_another_transformer_are_refused(dit):
    from ffpdata.models.propagation.ast_rope import AstRope

    with pytest.raises(ConfigError, match="3 layers of 4, the transformer has 2 of 4"):
        AstRope(dit, [*TEMPORAL, TEMPORAL[0]])
    with pytest.raises(ConfigError, match="ffpdata heads"):
        AstRope(dit, [[True], [False]])


def test_attention_over_devices_is_refused(dit):
    """diffsynth replaces the method for sequence parallelism, and what replaces it never comes by the hook."""
    import types

    from ffpdata.models.propagation.ast_rope import AstRope

    attention = dit.blocks[1].self_attn
    attention.forward = types.MethodType(type(attention).forward, attention)
    with pytest.raises(ConfigError, match="sequence_parallel"):
        AstRope(dit, TEMPORAL)


def test_a_pass_without_factors_is_an_error(dit):
    from ffpdata.models.propagation.ast_rope import AstRope

    with AstRope(dit, TEMPORAL), pytest.raises(FatalError, match="use"):
        run(dit)


# --- the predictor ---


def predictor(**settings):
    from ffpdata.models.propagation.alpha_predictor import AlphaPredictor

    torch.manual_seed(0)
    return AlphaPredictor(16, preset("full", **{**SMALL, **settings}))


def test_it_starts_near_the_identity_and_stays_in_range():
    made = predictor()
    source = torch.randn(2, 16, 3, 20, 12, generator=torch.Generator().manual_seed(0))
    alpha_s, alpha_t = made(source)
    assert alpha_s.shape == alpha_t.shape == (2,)
    assert torch.allclose(alpha_s, torch.full((2,), 0.018), atol=1e-6)
    assert torch.allclose(alpha_t, torch.ones(2), atol=1e-6)
    with torch.no_grad():
        made.spatial[2].bias.fill_(50)
        made.temporal[2].bias.fill_(50)
    alpha_s, alpha_t = made(source.bfloat16())
    assert alpha_s.dtype == torch.float32
    assert (alpha_s <= 1).all()
    assert (alpha_t <= 2).all()


def test_it_sees_the_order_of_frames():
    made = predictor()
    with torch.no_grad():
        made.temporal[2].weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    source = torch.randn(1, 16, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        forth, back = made(source)[1], made(source.flip(2))[1]
    assert abs(float(forth - back)) > 1e-4


def test_positions_differ_everywhere():
    from ffpdata.models.propagation.alpha_predictor import positions

    found = positions(torch.zeros(1, 24, 3, 4, 5)).flatten(2)[0].T
    assert len(torch.unique(found, dim=0)) == 3 * 4 * 5
    assert positions(torch.zeros(1, 20, 2, 2, 2))[0, 18:].abs().max() == 0, "channels left over"

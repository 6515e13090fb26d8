"""Densities in blocks against the whole matrix; planted patterns are classified as planted."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.models.propagation.head_study import StudyOptions, margin_of, vote

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")

from ffpdata.models.propagation import head_density  # noqa: E402
from ffpdata.models.propagation.head_density import density  # noqa: E402

FRAMES, TOKENS, WIDTH = 4, 6, 12


def plain(query, key, frames, epsilon):
    weights = torch.softmax(query.double() @ key.double().T / query.shape[1] ** 0.5, dim=1) > epsilon
    tokens = len(query) // frames
    return weights.view(frames, tokens, frames, tokens).double().mean((1, 3))


@pytest.mark.parametrize("rows", [1, 7, 1024])
@pytest.mark.parametrize("epsilon", [1e-6, 0.01])
def test_blocks_give_the_whole_matrix(monkeypatch, rows, epsilon):
    monkeypatch.setattr(head_density, "ROWS", rows)
    drawn = torch.Generator().manual_seed(0)
    query, key = (4 * torch.randn(FRAMES * TOKENS, WIDTH, generator=drawn) for _ in range(2))
    found = density(query, key, FRAMES, epsilon=epsilon)
    assert torch.allclose(found.double(), plain(query, key, FRAMES, epsilon), atol=1e-7)
    assert 0 <= float(found.min()) < float(found.max()) < 1


def test_some_rows_are_a_sample_and_all_rows_are_exact():
    drawn = torch.Generator().manual_seed(1)
    query, key = (6 * torch.randn(FRAMES * TOKENS, WIDTH, generator=drawn) for _ in range(2))
    exact = density(query, key, FRAMES)
    assert torch.equal(density(query, key, FRAMES, rows_per_frame=TOKENS), exact)
    assert torch.equal(density(query, key, FRAMES, rows_per_frame=99), exact)
    assert not torch.equal(density(query, key, FRAMES, rows_per_frame=2), exact)


def planted(kind):
    """Queries and keys of a head that looks within its own frame, at its place in the next frame, or at it in all."""
    frame = torch.arange(FRAMES).repeat_interleave(TOKENS)
    place = torch.arange(TOKENS).repeat(FRAMES)
    own = frame if kind == "spatial" else place if kind == "even" else torch.arange(FRAMES * TOKENS)
    code = torch.nn.functional.one_hot(own, FRAMES * TOKENS).float()
    return 150 * code, code.roll(TOKENS, dims=0) if kind == "temporal" else code


def test_a_planted_pattern_is_classified_as_planted():
    found = np.stack([density(*planted(kind), FRAMES).numpy() for kind in ("spatial", "temporal", "even")])[None]
    heads = vote([found], ["a"], (13, 16, 24), base="b", options=StudyOptions())
    assert heads.temporal == [[False, True, False]]
    assert margin_of(found)[0].tolist() == pytest.approx([-1.0, 1 / TOKENS, 0.0])
    assert heads.density[0][0] == np.eye(FRAMES).tolist()


def test_most_clips_decide_and_an_even_vote_is_spatial():
    kinds = [density(*planted(kind), FRAMES).numpy() for kind in ("spatial", "temporal")]
    for votes, temporal in ((0, False), (5, False), (6, True), (10, True)):
        clips = [kinds[number < votes][None, None] for number in range(10)]
        heads = vote(clips, list("abcdefghij"), (13, 16, 24), base="b", options=StudyOptions())
        assert (heads.votes, heads.temporal) == ([[votes]], [[temporal]])
        assert len(heads.margins) == 10
    assert margin_of(np.ones((2, 3, 1, 1), np.float32)).tolist() == [[-1.0] * 3] * 2, "one frame has nothing between"


def test_a_transformer_is_measured_while_it_runs(load, latents):
    from ffpdata.models.propagation.head_study import base_settings, latent_densities

    pipe = load()
    kept = {}
    hooks = [
        block.self_attn.attn.register_forward_pre_hook(
            lambda _, arguments, layer=layer: kept.update({layer: arguments})
        )
        for layer, block in enumerate(pipe.dit.blocks)
    ]
    found = latent_densities(pipe, latents, base_settings(9), StudyOptions(epsilon=0.02))
    for hook in hooks:
        hook.remove()
    assert found.shape == (2, 4, 3, 3)
    for layer, (query, key, _) in kept.items():
        for head in range(4):
            part = slice(12 * head, 12 * head + 12)
            wanted = plain(query[0, :, part], key[0, :, part], 3, 0.02)
            assert np.allclose(found[layer, head], wanted, atol=1e-6)
    assert not any(block.self_attn.attn._forward_pre_hooks for block in pipe.dit.blocks), "the hooks are gone"
    twice = latent_densities(pipe, latents, base_settings(9), StudyOptions(timesteps=(500, 900), epsilon=0.02))
    late = latent_densities(pipe, latents, base_settings(9), StudyOptions(timesteps=(900,), epsilon=0.02))
    assert np.allclose(twice, (found + late) / 2, atol=1e-6)

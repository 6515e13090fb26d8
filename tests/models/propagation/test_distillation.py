"""The losses against plain loops in float64, at their edges, and where there is nothing to be aligned."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")

from ffpdata.models.propagation.distillation import (  # noqa: E402
    bandwidth,
    drift,
    mmd_loss,
    motion_loss,
    pooled,
    squared_distances,
)

SHAPES = [(4, 3, 5), (2, 1, 4), (2, 6, 3), (5, 1, 2), (3, 4, 1)]
"""Frames, tokens, width; among them two frames, and one token."""


def features(shape, seed, dtype=torch.float32):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1).to(dtype)


def plain_motion(a, b):
    """Equation 3, with a mean over the tokens of each pair of frames."""
    frames, tokens = a.shape[:2]
    total = 0.0
    for i in range(frames):
        for j in range(frames):
            for n in range(tokens):
                for m in range(tokens):
                    if i != j:
                        total += abs(float(a[i, n] @ a[j, m]) - float(b[i, n] @ b[j, m]))
    return total / (frames * (frames - 1) * tokens**2)


def plain_mmd2(p, q, sigma):
    def kernel(x, y):
        return math.exp(-float(((x - y) ** 2).sum()) / (2 * sigma**2))

    def mean(x, y):
        return sum(kernel(r, s) for r in x for s in y) / (len(x) * len(y))

    return mean(p, p) + mean(q, q) - 2 * mean(p, q)


def plain_drift(z, sigma):
    relations = [z[0] @ z[i].T for i in range(len(z))]
    return [plain_mmd2(relations[0], relation, sigma) for relation in relations]


def plain_sigma(z):
    own = z[0] @ z[0].T
    found = sorted(float((own[n] - own[m]).norm()) for n in range(len(own)) for m in range(n + 1, len(own)))
    return (found[(len(found) - 1) // 2] or 1.0) if found else 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_motion_is_the_plain_sum(shape):
    a, b = features(shape, 1, torch.float64), features(shape, 2, torch.float64)
    assert float(motion_loss(a.float(), b.float())) == pytest.approx(plain_motion(a, b), rel=1e-5, abs=1e-6)
    assert 0 <= float(motion_loss(a, -b)) <= 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_mmd_is_the_plain_sum(shape, sigma):
    a, b = features(shape, 3, torch.float64), features(shape, 4, torch.float64)
    width = sigma or plain_sigma(b)
    if not sigma:
        assert float(bandwidth(b)) == pytest.approx(width, rel=1e-9)
    wanted = sum(abs(x - y) for x, y in zip(plain_drift(a, width)[1:], plain_drift(b, width)[1:], strict=True))
    assert float(mmd_loss(a, b, sigma)) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert float(mmd_loss(a.float(), b.float(), sigma)) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_the_first_frame_does_not_drift_from_itself():
    z = features((4, 6, 3), 5)
    assert float(drift(z, torch.tensor(0.8))[0]) == 0.0
    still = z[:1].expand(4, -1, -1)
    assert torch.equal(drift(still, torch.tensor(0.8)), torch.zeros(4))


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_lost_where_both_see_the_same(shape):
    a = features(shape, 6).requires_grad_()
    loss = motion_loss(a, a.detach()) + mmd_loss(a, a.detach())
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert torch.isfinite(a.grad).all()


def test_one_frame_has_no_relations():
    a, b = features((1, 4, 3), 7).requires_grad_(), features((1, 4, 3), 8)
    assert float(motion_loss(a, b).detach()) == 0.0
    assert float(mmd_loss(a, b).detach()) == 0.0


def test_tokens_that_are_all_alike_have_a_bandwidth():
    alike = torch.ones(3, 4, 2) / math.sqrt(2)
    assert float(bandwidth(alike)) == 1.0
    a = features((3, 4, 2), 9).requires_grad_()
    mmd_loss(a, alike).backward()
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("loss", [motion_loss, mmd_loss])
def test_the_gradient_is_that_of_small_changes(loss):
    a, b = features((3, 3, 4), 10, torch.float64).requires_grad_(), features((3, 3, 4), 11, torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, b), (a,))


def test_a_raw_product_would_leave_no_gradient():
    """Why tokens are brought to length 1, and the bandwidth is measured: raw relations are thousands apart."""
    raw = (torch.randn(3, 8, 512, generator=torch.Generator().manual_seed(0)) * 2).requires_grad_()
    drift(raw, torch.tensor(1.0)).sum().backward()
    assert float(raw.grad.abs().max()) < 1e-12
    tokens = torch.nn.functional.normalize(raw.detach(), dim=-1).requires_grad_()
    drift(tokens, bandwidth(tokens.detach())).sum().backward()
    assert float(tokens.grad.abs().max()) > 1e-4


def test_distances_are_never_negative():
    a = torch.full((2, 3, 100), 0.1)
    found = squared_distances(a, a)
    assert float(found.min()) >= 0
    assert float(found.max()) < 1e-6


def test_features_are_averaged_per_frame_and_of_length_one():
    frames, height, width = 2, 4, 6
    tokens = torch.arange(frames * height * width, dtype=torch.float32)
    both = torch.stack([tokens, torch.ones_like(tokens)], dim=1)[None]
    found = pooled(torch.cat([torch.full((1, 5, 2), 99.0), both], dim=1), (frames, height, width), 2, skipped=5)
    assert found.shape == (2, 6, 2)
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, 6))
    first = tokens.view(frames, height, width)[0, :2, :2].mean()
    assert torch.allclose(found[0, 0], torch.tensor([first, 1.0]) / (first**2 + 1).sqrt())
    assert pooled(both, (frames, height, width), 5).shape == (2, 1, 2), "a side that is not divided"
    assert pooled(both, (frames, height, width), 9).shape == (2, 1, 2), "more than there is"

"""What is trained, and what a loss is made of, on a tiny random Fun-Control."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError
from ffpdata.models.propagation.settings import preset
from tests.models.propagation.conftest import SMALL

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("diffsynth", reason="diffsynth is not installed")


def test_latents_of_a_pair(latents):
    shapes = {name: tuple(value.shape) for name, value in latents.items()}
    assert shapes["source"] == shapes["target"] == (1, 16, 3, 8, 8)
    assert shapes["first_frame"] == (1, 16, 1, 8, 8)
    assert shapes["clip_feature"] == (1, 257, 1280)
    assert shapes["context"][0] == 1
    assert shapes["context"][2] == 32
    assert shapes["context"][1] < int(latents["context_length"]) == 512
    # The VAE is causal: its first latent frame is that of the first frame alone, which the target's is here.
    assert torch.allclose(latents["first_frame"], latents["target"][:, :, :1], atol=1e-5)


def test_a_pair_of_another_size_is_refused(load, pair):
    from ffpdata.models.propagation.training import PropagationEncoding

    source, target, first, text = pair
    encoding = PropagationEncoding(None, preset("full", **SMALL))
    with pytest.raises(ValueError, match="of 9 frames"):
        encoding(source[:5], target[:5], first, text)
    with pytest.raises(ValueError, match="must be one size"):
        encoding(source, target, first[:32], text)


def test_the_parts_are_the_lora_the_columns_and_the_predictor(training):
    module = training("full")
    parts = module.parts()
    assert set(parts) == {"lora", "propagation"}
    assert "blocks.0.self_attn.q.lora_A.default.weight" in parts["lora"]
    assert {name.split(".")[0] for name in parts["propagation"]} == {"predictor", "patch_embedding"}
    assert sum(map(len, parts.values())) == len(module.learned())
    adapted = {name.split(".lora_")[0].split(".", 2)[2] for name in parts["lora"]}
    attention = {f"{kind}.{part}" for kind in ("self_attn", "cross_attn") for part in "qkvo"}
    assert adapted == attention | {"ffn.0", "ffn.2"}
    base = training("baseline", mask_channels=0)
    assert set(base.parts()) == {"lora"}
    whole = training("baseline", rank=0)
    assert set(whole.parts()) == {"transformer", "propagation"}


def test_one_seed_gives_one_loss_and_the_terms_add_up(training, latents):
    module = training("full", identity_share=0, text_dropout=0)
    losses = [float(module(latents, seed).detach()) for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]
    loss = float(module(latents, 3).detach())
    terms = module.terms
    weight = float(module._schedule.training_weight(torch.tensor([terms["timestep"]])))
    assert loss == pytest.approx(weight * terms["flow_matching"] + 5 * terms["motion"] + terms["mmd"], rel=1e-4)
    assert terms["motion"] > 0
    assert terms["mmd"] > 0
    assert terms["alpha_s"] == pytest.approx(0.018, abs=1e-6)
    assert terms["alpha_t"] == pytest.approx(1.0)


def test_measuring_is_the_plain_task_with_its_text(training, latents):
    modules = {name: training(name, identity_share=1.0 if name == "full" else 0.0) for name in ("baseline", "full")}
    with torch.no_grad():
        losses = {name: float(module(latents, 5, (0.25, 0.5))) for name, module in modules.items()}
        assert modules["full"].terms["identity"] == 0
        assert 500 < modules["full"].terms["timestep"] < 1000
    assert "motion" not in modules["full"].terms
    assert losses["full"] == pytest.approx(losses["baseline"], rel=1e-2)  # alpha_S is 0.018, not 0


def test_the_identity_task_and_the_text_are_drawn(training, latents):
    module = training("full", identity_share=0.5, text_dropout=0.0)
    kinds = []
    for seed in range(12):
        module(latents, seed)
        kinds.append(module.terms["identity"])
        assert ("motion" in module.terms) == (not module.terms["identity"]), "the teacher's own task teaches nothing"
    assert 2 <= sum(kinds) <= 10
    dropped, kept = (training("baseline", text_dropout=share) for share in (1.0, 0.0))
    assert float(dropped(latents, 1).detach()) != float(kept(latents, 1).detach())
    silent = {**latents, "context": latents["empty_context"]}
    assert float(dropped(latents, 1).detach()) == float(kept(silent, 1).detach())


def test_the_teacher_of_an_identity_sees_the_same(training, latents):
    """Where the source is the target already, student and teacher are one, and nothing is to be aligned."""
    same = {**latents, "source": latents["target"], "first_frame": latents["target"][:, :, :1]}
    module = training("full", identity_share=0, text_dropout=0)
    module(same, 2)
    assert module.terms["motion"] == 0
    assert module.terms["mmd"] == 0


@pytest.mark.parametrize("name", ["baseline", "full"])
def test_checkpointing_changes_no_gradient(training, latents, name):
    found = {}
    for kind in ("off", "on", "offload"):
        module = training(name, gradient_checkpointing=kind, identity_share=0)
        _wake(module)
        module(latents, 7).backward()
        found[kind] = {key: value.grad.clone() for key, value in module.learned().items()}
    for kind in ("on", "offload"):
        assert all(torch.equal(found["off"][key], found[kind][key]) for key in found["off"])
    silent = [key for key, grad in found["off"].items() if not grad.any()]
    assert silent == [], "every trained parameter learns"


def test_two_samples_before_one_backward_pass_keep_their_own_positions(training, latents):
    """A block that is computed again for the backward pass turns by the factors of its own sample."""
    other = {**latents, "source": latents["source"].flip(2)}
    grads = []
    for together in (True, False):
        module = training("ast_rope")
        _wake(module)
        if together:
            (module(latents, 1) + module(other, 2)).backward()
        else:
            module(latents, 1).backward()
            module(other, 2).backward()
        grads.append({key: value.grad for key, value in module.learned().items()})
    for key, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][key], rtol=1e-4, atol=1e-7), key


def test_a_step_lowers_the_loss(training, latents):
    module = training("full", identity_share=0, text_dropout=0)
    optimizer = torch.optim.AdamW(module.learned().values(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = module(latents, 1)
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.99 * losses[0], losses


def test_half_precision_trains(training, latents):
    module = training("full", dtype="bfloat16", identity_share=0)
    _wake(module)
    loss = module(latents, 1)
    loss.backward()
    assert np.isfinite(float(loss.detach()))
    assert all(value.grad is not None for value in module.learned().values())
    kinds = {value.dtype for name, value in module.learned().items() if name.startswith("predictor")}
    assert kinds == {torch.float32}, "angles break in half precision"


def test_zero_reference_tokens_and_no_clip(training, latents):
    """With reference tokens the clip starts behind them; without CLIP its tokens are zeros."""
    module = training("full", reference_tokens="zero", clip_embedding="zero", identity_share=0)
    lean = {name: value for name, value in latents.items() if name != "clip_feature"}
    module(lean, 1).backward()
    assert module.terms["motion"] > 0


def test_ast_rope_wants_classes(load):
    from ffpdata.models.propagation.training import PropagationTraining

    with pytest.raises(ConfigError, match="ffpdata heads"):
        PropagationTraining(load(), settings=preset("full", **SMALL), heads=None, seed=0)
    with pytest.raises(ConfigError, match="2 of 4"):
        PropagationTraining(load(), settings=preset("full", **SMALL), heads=[[True] * 12], seed=0)


def _wake(module) -> None:
    """Move what starts at zero, so that a gradient reaches everything behind it."""
    with torch.no_grad():
        made = torch.Generator().manual_seed(0)
        for _, value in sorted(module.learned().items()):
            if not value.any():
                value.copy_(0.02 * torch.randn(value.shape, generator=made))

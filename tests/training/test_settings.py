"""The learning rate over the steps, and what a fingerprint counts."""

import math

import pytest

from ffpdata.training.settings import LoopSettings, LoraSettings


def test_a_cosine_rises_and_falls_to_nothing() -> None:
    settings = LoopSettings(learning_rate=2e-4, schedule="cosine", warm_up=0.1, steps=100)
    rates = [settings.rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([2e-4 * (step + 1) / 11 for step in range(10)])
    assert max(rates) == rates[10] == pytest.approx(2e-4)
    assert rates[55] == pytest.approx(1e-4)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] == pytest.approx(2e-4 * 0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert {LoopSettings(steps=5).rate(step, 5) for step in range(5)} == {1e-4}


def test_epochs_count_samples_of_all_processes() -> None:
    settings = LoopSettings(epochs=2, accumulate=2, gpus=4, nodes=2)
    assert (settings.processes, settings.samples_per_step) == (8, 16)
    assert settings.total_steps(100) == 13
    assert LoopSettings(steps=7, gpus=0).total_steps(100) == 7


def test_a_fingerprint_counts_what_the_weights_follow_from() -> None:
    def count(**settings: object) -> dict[str, object]:
        return LoraSettings(**settings).fingerprint(100)

    assert count(steps=10) == count(steps=20) == count(latent_cache_gb=1.0) == count(save_every=3)
    assert not {"schedule", "warm_up", "clip_norm", "nodes", "steps"} & count().keys()  # as before there were these
    assert count(clip_norm=1.0) != count()
    assert count(schedule="cosine", steps=10) != count(schedule="cosine", steps=20)

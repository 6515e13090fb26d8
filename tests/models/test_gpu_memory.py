"""A full GPU: whose fault it is decides the error, and what the failed work held is let go."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager

import pytest

from ffpdata.core.errors import RetryableError
from ffpdata.models import gpu_memory

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")


def working() -> AbstractContextManager[None]:
    return gpu_memory.inference(torch.device("cpu"), "a clip", "Use a smaller one.")


def fill(held: list[weakref.ref[torch.Tensor]]) -> None:
    tensor = torch.zeros(4)
    held.append(weakref.ref(tensor))
    raise torch.OutOfMemoryError("no room\nmore")


def test_a_clip_that_does_not_fit_is_not_tried_again() -> None:
    with (
        pytest.raises(
            gpu_memory.GpuMemoryError, match=r"a clip: out of GPU memory .*\(no room\)\. Use a smaller one\."
        ),
        working(),
    ):
        fill([])


def test_a_gpu_filled_by_others_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_memory, "_memory_of_others", lambda device: (60.0, 80.0))
    with pytest.raises(RetryableError, match=r"a clip: .*other processes hold 60\.0 of its 80\.0 GiB"), working():
        fill([])


def test_what_the_failed_work_held_is_free_before_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    kept = []
    monkeypatch.setattr(gpu_memory, "release", lambda device: kept.append(held[0]() is not None))
    with pytest.raises(gpu_memory.GpuMemoryError), working():
        fill(held)
    assert kept == [False]


def test_gradients_are_off() -> None:
    with working():
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()

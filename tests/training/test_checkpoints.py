"""Checkpoints: which stay, and which are taken up."""

import pytest

from ffpdata.training import checkpoints
from ffpdata.training.checkpoints import Progress

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")


def at(folder, step, fingerprint="same"):
    progress = Progress(step, [(n, 0.1 * n) for n in range(1, step + 1)], [(0, 1.5)], 3.25)
    return checkpoints.save(folder, fingerprint, progress, {"layer|weight": torch.full((3,), float(step))})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_stay_and_the_newest_is_taken_up(tmp_path):
    for step in (50, 100, 150):
        at(tmp_path, step)
    assert names(tmp_path) == ["step-00000100.safetensors", "step-00000150.safetensors"]
    progress, state = checkpoints.load(tmp_path, "same", 500)
    assert (progress.step, progress.seconds, progress.held_out) == (150, 3.25, [[0, 1.5]])
    assert progress.losses[-1] == [150, 0.1 * 150]
    assert torch.equal(state["layer|weight"], torch.full((3,), 150.0))


def test_one_of_other_settings_or_beyond_the_last_step_is_left_alone(tmp_path):
    at(tmp_path, 50)
    at(tmp_path, 100, "other")
    assert checkpoints.load(tmp_path, "same", 500)[0].step == 50
    assert checkpoints.load(tmp_path, "same", 49) is None
    assert checkpoints.load(tmp_path, "third", 500) is None
    at(tmp_path, 60)  # as after a start with fewer steps: the one beyond it goes, not the new one
    assert names(tmp_path) == ["step-00000050.safetensors", "step-00000060.safetensors"]


def test_one_that_cannot_be_read_gives_way_to_the_one_before(tmp_path, caplog):
    at(tmp_path, 50)
    newest = at(tmp_path, 100)
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoints.load(tmp_path, "same", 500)[0].step == 50
    assert "step-00000100.safetensors cannot be read" in caplog.text


def test_what_a_kill_left_under_a_temporary_name_is_no_checkpoint_and_goes(tmp_path):
    (tmp_path / ".4711.step-00000150.safetensors").write_bytes(b"half")
    assert checkpoints.load(tmp_path, "same", 500) is None
    at(tmp_path, 50)
    assert names(tmp_path) == ["step-00000050.safetensors"]

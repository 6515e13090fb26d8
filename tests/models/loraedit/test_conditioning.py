"""What the image-to-video model is shown: diffsynth's own bytes for a plain image, and one input for both uses."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.models.loraedit.region import of_clip
from ffpdata.models.loraedit.settings import TuningSettings
from ffpdata.models.wan import loading
from tests.models import tiny_wan as tiny
from tests.propagation.tiny_loraedit import TinyLoraEdit, clip, spec_of

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("diffsynth", reason="diffsynth is not installed")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("i2v")
    tiny.write_i2v(folder)
    return loading.load(TinyLoraEdit.training_plan(spec_of(folder, folder)))


def test_a_mask_that_keeps_the_first_frame_alone_is_diffsynths_own_input(pipe):
    from diffsynth.pipelines.wan_video import WanVideoUnit_ImageEmbedderVAE
    from PIL import Image

    from ffpdata.models.loraedit.conditioning import encode_condition

    frames, _, region = clip()
    unit = WanVideoUnit_ImageEmbedderVAE()
    image = Image.fromarray(frames[0])
    theirs = unit.process(pipe, image, None, len(frames), 64, 64, tiled=False, tile_size=(30, 52), tile_stride=(15, 26))
    with torch.no_grad():
        ours = encode_condition(pipe, frames, of_clip(np.ones_like(region)))
    assert ours.shape == (1, 20, 3, 8, 8)
    assert torch.equal(ours, theirs["y"])


def test_tuning_and_edit_are_shown_the_same_bytes(pipe, monkeypatch):
    """A clip whose first frame is not edited is asked for exactly as it was learned."""
    from ffpdata.models.loraedit.conditioning import model_inputs
    from ffpdata.models.loraedit.engine import LoraEditEngine
    from ffpdata.models.loraedit.training import LoraEditEncoding, LoraEditTraining

    frames, _, region = clip()
    learned = LoraEditEncoding(pipe, clip_embedding=True)(frames, of_clip(region), frames, "p3rs0n, waves")
    shown: list[dict[str, torch.Tensor]] = []

    def model_fn(**arguments):
        shown.append({name: arguments[name] for name in ("y", "context", "clip_feature")})
        return torch.zeros_like(arguments["latents"])

    monkeypatch.setattr(pipe, "model_fn", model_fn)
    engine = LoraEditEngine.__new__(LoraEditEngine)
    engine.pipe, engine.device = pipe, torch.device("cpu")
    engine.settings = TinyLoraEdit.Settings(steps=1, guidance=1.0, dtype="float32")
    engine.plan = loading.LoadPlan(parts=None, dtype="float32", device="cpu")
    monkeypatch.setattr(engine, "use_loras", lambda loras: None)
    engine.edit(frames, frames[0], region, prompt="p3rs0n, waves", negative="", seed=0, loras=[])
    training = LoraEditTraining.__new__(LoraEditTraining)
    torch.nn.Module.__init__(training)
    object.__setattr__(training, "pipe", pipe)
    training._checkpointing = "off"
    training(learned, 1)
    assert len(shown) == 2
    for name in shown[0]:
        assert torch.equal(shown[0][name], shown[1][name]), name
        assert torch.equal(shown[0][name], model_inputs(learned)[name]), name


def test_masks_are_folded_four_frames_to_a_latent():
    from ffpdata.models.loraedit.conditioning import folded, kept_latents

    kept = torch.arange(9.0)[:, None, None].expand(9, 2, 3)
    found = folded(kept)
    assert found.shape == (1, 4, 3, 2, 3)
    assert found[0, :, :, 0, 0].T.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    with pytest.raises(ValueError, match=r"4n\+1"):
        folded(kept[:8])
    region = np.zeros((9, 16, 24), bool)
    region[[0, 3], :8, :8] = True  # one frame of four is enough to draw a latent anew; the first one is given
    assert kept_latents(region)[0, 0, :, 0, 0].tolist() == [1, 0, 1]
    assert kept_latents(region).sum() == 3 * 6 - 1


def test_the_papers_values_are_the_defaults():
    tuning = TuningSettings()
    assert (tuning.decoupling_steps, tuning.appearance_steps, tuning.learning_rate) == (100, 100, 1e-4)
    assert TinyLoraEdit.Settings().text("a pond ") == "p3rs0n, a pond"
    assert TinyLoraEdit.Settings().text("") == "p3rs0n"
    with pytest.raises(ValueError, match="13 as in the paper"):
        TuningSettings(window=12)

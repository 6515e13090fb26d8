"""What the transformer is shown: the order of its channels, and the same bytes in training and when it is asked."""

from __future__ import annotations

import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.propagation.settings import preset
from tests.models.propagation.conftest import SMALL, TEMPORAL

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("diffsynth", reason="diffsynth is not installed")


@pytest.mark.parametrize("mask", [0, 1, 4])
def test_source_mask_and_padded_first_frame(mask):
    from ffpdata.models.propagation.conditioning import condition

    source, first = torch.rand(1, 16, 3, 4, 6), torch.rand(1, 16, 1, 4, 6)
    found = condition(source, first, mask)
    assert found.shape == (1, 32 + mask, 3, 4, 6)
    assert torch.equal(found[:, :16], source)
    assert (found[:, 16 : 16 + mask, 0] == 1).all()
    assert (found[:, 16 : 16 + mask, 1:] == 0).all()
    assert torch.equal(found[:, 16 + mask :, :1], first)
    assert (found[:, 16 + mask :, 1:] == 0).all()


class Seen:
    """What went into a transformer's first layers."""

    LAYERS = ("patch_embedding", "text_embedding", "img_emb", "ref_conv", "time_embedding")

    def __init__(self, dit):
        self.inputs = {}
        for name in self.LAYERS:
            getattr(dit, name).register_forward_pre_hook(
                lambda _, arguments, name=name: self.inputs.setdefault(name, arguments[0].detach().clone())
            )


@pytest.mark.parametrize(
    "variant", [{}, {"reference_tokens": "zero"}, {"clip_embedding": "zero"}, {"mask_channels": 0}]
)
def test_training_and_asking_show_the_same_bytes(load, training, pair, variant):
    """Training from cached latents; asking from the frames, by the code that the propagator runs."""
    from ffpdata.models.propagation.conditioning import encode_inputs
    from ffpdata.models.propagation.sampling import Positions, Sampling, sample
    from ffpdata.models.propagation.training import PropagationEncoding

    options = {"identity_share": 0, "text_dropout": 0, **variant}
    settings = preset("ast_rope", **{**SMALL, **options})
    encoders = load("text_encoder", "vae", "image_encoder")
    module = training("ast_rope", **options)
    trained = Seen(module.pipe.dit)
    noise_end = (0.0, 0.001)  # the first timestep, where the noisy input is the noise
    module(PropagationEncoding(encoders, settings)(*pair), 4, noise_end)
    module.close()
    source, _, first, text = pair
    with torch.no_grad():
        latents = encode_inputs(encoders, source, first, text, settings)
    asked = Seen(module.pipe.dit)
    positions = Positions(module.predictor, TEMPORAL)
    sample(module.pipe, latents, settings, seed=4, sampling=Sampling(1, guidance=1.0), positions=positions)
    assert set(trained.inputs) == set(asked.inputs)
    assert ("ref_conv" in asked.inputs) == (settings.reference_tokens == "zero")
    for name in set(trained.inputs) - {"patch_embedding"}:
        assert torch.equal(trained.inputs[name], asked.inputs[name]), name
    assert torch.equal(trained.inputs["patch_embedding"][:, 16:], asked.inputs["patch_embedding"][:, 16:])
    shape = asked.inputs["patch_embedding"].shape
    assert shape == (1, 48 + settings.mask_channels, 3, 8, 8)
    assert trained.inputs["text_embedding"].shape == (1, 512, 32), "with its padding"


def test_the_first_frame_is_encoded_alone(load, pair):
    """diffsynth's own unit encodes grey frames behind it: the same first latent, and others where zeros belong."""
    from diffsynth.pipelines.wan_video import WanVideoUnit_ImageEmbedderVAE
    from PIL import Image

    from ffpdata.models.propagation.conditioning import encode_video

    pipe = load("transformer", "vae")
    first = pair[2]
    with torch.no_grad():
        alone = encode_video(pipe, first[None])
        own = WanVideoUnit_ImageEmbedderVAE().process(pipe, Image.fromarray(first), None, 9, 64, 64, False, None, None)
    assert alone.shape == (1, 16, 1, 8, 8)
    assert torch.allclose(own["y"][:, 4:, :1], alone, atol=1e-5)
    assert own["y"][:, 4:, 1:].abs().mean() > 0.1


# --- the mask's columns ---


def test_new_columns_change_nothing_until_they_learn(load, latents):
    from ffpdata.models.propagation.conditioning import model_inputs
    from ffpdata.models.propagation.patch_embedding import prepare

    pipe = load()
    noisy = torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    answers = []
    for mask in (0, 1):
        settings = preset("baseline", **{**SMALL, "mask_channels": mask})
        prepare(pipe.dit, settings)
        with torch.no_grad():
            inputs = model_inputs(latents, settings)
            answers.append(pipe.model_fn(dit=pipe.dit, latents=noisy, timestep=torch.tensor([500.0]), **inputs))
    assert pipe.dit.in_dim == 49
    assert torch.equal(*answers)
    with torch.no_grad():
        pipe.dit.patch_embedding.mask.fill_(0.1)
        assert not torch.equal(
            pipe.model_fn(dit=pipe.dit, latents=noisy, timestep=torch.tensor([500.0]), **inputs), answers[0]
        )


def test_it_is_the_wider_convolution():
    from ffpdata.models.propagation.patch_embedding import WidenedPatchEmbedding

    torch.manual_seed(0)
    base = torch.nn.Conv3d(48, 24, (1, 2, 2), stride=(1, 2, 2))
    made = WidenedPatchEmbedding(base, 4)
    with torch.no_grad():
        made.mask.normal_()
        wide = torch.nn.Conv3d(52, 24, (1, 2, 2), stride=(1, 2, 2))
        wide.weight.copy_(torch.cat([base.weight[:, :32], made.mask, base.weight[:, 32:]], dim=1))
        wide.bias.copy_(base.bias)
        x = torch.randn(1, 52, 3, 8, 8)
        assert torch.allclose(made(x), wide(x), atol=1e-5)


def test_another_transformer_is_not_widened(load):
    from ffpdata.models.propagation.patch_embedding import prepare

    dit = load().dit
    prepare(dit, preset("full", **SMALL))
    with pytest.raises(FatalError, match="49 channels, one of Fun-Control 48"):
        prepare(dit, preset("full", **SMALL))
    dit = load().dit
    dit.has_ref_conv = False
    with pytest.raises(ConfigError, match="reference_tokens zero"):
        prepare(dit, preset("full", **SMALL, reference_tokens="zero"))

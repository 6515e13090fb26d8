"""ViCLIP: the official names load completely, the numbers are those of its published layout, both kinds of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("transformers", reason="the extra `models` is not installed")

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import write_video
from ffpdata.models.perception.viclip import ViClip, frame_pixels, official_state
from ffpdata.models.perception.viclip_network import build, shape_of
from ffpdata.stages.video_text_scores import VideoTextScores
from tests.models import tiny_perception as tiny


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("viclip")
    save_file(tiny.viclip_state(), folder / "model.safetensors")
    return folder


def spec(model: Path, tokenizer: Path) -> ModelSpec:
    return ModelSpec(
        backend="ffpdata.models.perception.viclip:ViClip",
        model=str(model),
        settings={"tokenizer": str(tokenizer)},
        runtime={"device": "cpu"},
    )


def noise(frames: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 40, 60, 3), np.uint8)


def test_the_official_names_and_shapes_load_completely() -> None:
    import torch

    state = {name: torch.empty(shape, device="meta") for name, shape in tiny.viclip_shapes().items()}
    network = build(state)
    assert len(state) == 447
    assert set(network.state_dict()) == set(state)
    clip, positions = 427_616_513, 8 * 1024 - (77 - 32) * 768  # ViT-L/14's parameters; in time more, in texts fewer
    assert sum(value.numel() for value in network.parameters()) == clip + positions
    shape = shape_of(state)
    assert (shape.side, shape.frames, shape.tokens, shape.joint) == (224, 8, 32, 768)


def test_other_weights_are_refused() -> None:
    import torch

    state = {name: torch.empty(shape, device="meta") for name, shape in tiny.viclip_shapes("tiny").items()}
    lost = "text_encoder.transformer.resblocks.1.mlp.c_fc.bias"
    for changed, message in (
        ({k: v for k, v in state.items() if k != lost}, f"Missing key.*{lost}"),
        (state | {"vision_encoder.extra": state[lost]}, "Unexpected key.*vision_encoder.extra"),
        (state | {lost: torch.empty(7, device="meta")}, f"size mismatch for {lost}"),
        ({"logit_scale": state[lost]}, "'vision_encoder.conv1.weight' is missing"),
    ):
        with pytest.raises(FatalError, match=f"(?s){message}"):
            build(changed)


def test_both_files_and_none_other(folder: Path, tokenizer: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"model": tiny.viclip_state()}, tmp_path / "ViClip.pth")
    pickled, plain = (ViClip(spec(path, tokenizer)) for path in (tmp_path / "ViClip.pth", folder))
    np.testing.assert_array_equal(pickled.encode_clip(noise()), plain.encode_clip(noise()))
    np.testing.assert_array_equal(pickled.encode_text("a dog"), plain.encode_text("a dog"))
    torch.save(tiny.viclip_state(), tmp_path / "bare.pth")
    with pytest.raises(FatalError, match="holds no tensors under 'model'"):
        official_state(str(tmp_path / "bare.pth"))
    torch.save({"model": Path("x")}, tmp_path / "code.pth")
    with pytest.raises(FatalError, match="restricted loader refuses it"):
        official_state(str(tmp_path / "code.pth"))
    with pytest.raises(FatalError, match="no folder"):
        official_state(str(tmp_path / "nowhere.pth"))


def test_numbers_of_both_towers(folder: Path, tokenizer: Path) -> None:
    """Written out a second time, in float64 and numpy: tokens of all frames in one sequence, the class token once."""
    state = {name: value.double().numpy() for name, value in tiny.viclip_state().items()}
    model = ViClip(spec(folder, tokenizer))
    frames = noise()
    chosen = [0, 2, 5, 7, 10, 12, 15, 17]
    pixels = np.stack([frame_pixels(frames[t], 28) for t in chosen]).astype(np.float64)

    kernel = state["vision_encoder.conv1.weight"][:, :, 0].reshape(64, -1)
    places = state["vision_encoder.positional_embedding"]
    tokens = [state["vision_encoder.class_embedding"] + places[0]]
    for t in range(8):
        for n, (y, x) in enumerate(((0, 0), (0, 14), (14, 0), (14, 14))):
            patch = kernel @ pixels[t, :, y : y + 14, x : x + 14].reshape(-1)
            tokens.append(patch + places[1 + n] + state["vision_encoder.temporal_positional_embedding"][0, t])
    hidden = through(state, "vision_encoder", normed(np.stack(tokens), state, "vision_encoder.ln_pre"))
    vector = normed(hidden, state, "vision_encoder.ln_post")[0] @ state["vision_encoder.proj"]
    np.testing.assert_allclose(model.encode_clip(frames), vector / np.linalg.norm(vector), atol=2e-5)

    numbers = model.tokens("a dog")
    assert (len(numbers), numbers[6:]) == (32, [0] * 26)
    embedded = state["text_encoder.token_embedding.weight"][numbers] + state["text_encoder.positional_embedding"]
    hidden = through(state, "text_encoder", embedded, causal=True)
    end = normed(hidden, state, "text_encoder.ln_final")[numbers.index(189)]
    vector = end @ state["text_encoder.text_projection"]
    np.testing.assert_allclose(model.encode_text("a dog"), vector / np.linalg.norm(vector), atol=2e-5)


def normed(states: Any, weights: dict[str, Any], name: str) -> Any:
    centred = states - states.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def through(weights: dict[str, Any], tower: str, states: Any, *, causal: bool = False) -> Any:
    for layer in range(2):
        block = f"{tower}.transformer.resblocks.{layer}"
        seen = normed(states, weights, f"{block}.ln_1")
        mixed = seen @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]
        query, key, value = np.split(mixed, 3, axis=1)  # one head of 64 channels
        scores = query @ key.T / 8
        if causal:
            scores[np.triu_indices(len(scores), 1)] = -np.inf
        shares = np.exp(scores - scores.max(1, keepdims=True))
        attended = shares / shares.sum(1, keepdims=True) @ value
        states = states + attended @ weights[f"{block}.attn.out_proj.weight"].T + weights[f"{block}.attn.out_proj.bias"]
        seen = normed(states, weights, f"{block}.ln_2")
        wide = seen @ weights[f"{block}.mlp.c_fc.weight"].T + weights[f"{block}.mlp.c_fc.bias"]
        wide = wide / (1 + np.exp(-1.702 * wide))
        states = states + wide @ weights[f"{block}.mlp.c_proj.weight"].T + weights[f"{block}.mlp.c_proj.bias"]
    return states


def test_long_texts_end_in_their_mark_and_short_clips_repeat_frames(
    folder: Path, tokenizer: Path, tmp_path: Path
) -> None:
    import torch

    model = ViClip(spec(folder, tokenizer))
    numbers = model.tokens("the dog runs over the long, long road")
    assert (len(numbers), numbers[0], numbers[-1]) == (32, 188, 189)
    assert model.tokens("salt &amp;amp; pepper") == model.tokens(" salt & pepper ")
    single = noise(1)
    np.testing.assert_array_equal(model.encode_clip(single), model.encode_clip(np.repeat(single, 8, axis=0)))
    state = tiny.viclip_state()
    name = "text_encoder.token_embedding.weight"
    torch.save({"model": state | {name: state[name][:7]}}, tmp_path / "other.pth")
    with pytest.raises(FatalError, match="knows 190 tokens"):
        ViClip(spec(tmp_path / "other.pth", tokenizer))


def test_pixels_as_torchvision_has_them() -> None:
    """`Resize`, `CenterCrop`, `ToTensor` and `Normalize`, where half a pixel has to be rounded."""
    from PIL import Image
    from torchvision import transforms

    frame = noise(1)[0][:, :59]
    ours = frame_pixels(frame, 28)
    theirs = transforms.Compose(
        [
            transforms.Resize(28, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(28),
            transforms.ToTensor(),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )(Image.fromarray(frame))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


def test_a_stage_on_clips(folder: Path, tokenizer: Path, tmp_path: Path) -> None:
    from ffpdata.core.stage import Row

    stage = VideoTextScores(specs={"video_text_encoder": spec(folder, tokenizer)})
    write_video(tmp_path / "a.mp4", noise(5), 16)
    row = Row({"target_video": str(tmp_path / "a.mp4"), "target_caption": "a dog"})
    assert -100 < stage.process(row)["video_text"] < 100
    stage.teardown()

"""Tiny random checkpoints of the real architectures, written to disk in the layout of the published ones.

The back ends load them as they load the real ones. diffsynth knows a checkpoint by a hash of its names and shapes, so
the tiny ones are entered into its table here, in the tests, with what it would say of the real ones. The entries lie
beside the files; `TinyVace` and `TinyAnimator` read them in the processes of a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffpdata.core.stage import ModelSpec
from ffpdata.models.vace import PARTS, Vace
from ffpdata.models.wan.loading import LoadPlan
from ffpdata.models.wan_i2v import WanAnimator

SEED = 7

WAN: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "freq_dim": 256,
    "text_dim": 32,
    "out_dim": 16,
    "eps": 1e-6,
    "dim": 48,
    "ffn_dim": 64,
    "num_heads": 4,
    "num_layers": 2,
}
VACE: dict[str, Any] = {
    "dit": {**WAN, "has_image_input": False, "in_dim": 16},
    "vace": {
        **{name: WAN[name] for name in ("patch_size", "dim", "num_heads", "ffn_dim", "eps")},
        "vace_layers": (0, 1),
        "vace_in_dim": 96,
        "has_image_input": False,
    },
}
I2V: dict[str, Any] = {"dit": {**WAN, "has_image_input": True, "in_dim": 36}}
FUN_CONTROL: dict[str, Any] = {"dit": {**WAN, "has_image_input": True, "in_dim": 48, "has_ref_conv": True}}
TEXT: dict[str, Any] = {"vocab": 256, "dim": 32, "dim_attn": 32, "dim_ffn": 64, "num_heads": 4, "num_layers": 1}
VAE: dict[str, Any] = {"dim": 8, "z_dim": 16, "num_res_blocks": 1}
IMAGE_LAYERS = 2  # the encoder's width, 1280, is fixed by the library

KNOWN = ".known.json"
CONVERTERS = "diffsynth.utils.state_dict_converters"
MODELS = "diffsynth.models"
T5, VAE_FILE = "models_t5_umt5-xxl-enc-bf16.safetensors", "Wan2.1_VAE.safetensors"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors"
DIT = "diffusion_pytorch_model.safetensors"
STANDS_FOR = {
    f"{__name__}.tiny_vae": "wan_video_vae.WanVideoVAE",
    f"{__name__}.tiny_image_encoder": "wan_video_image_encoder.WanImageEncoder",
}


def tiny_vae() -> Any:
    """A WanVideoVAE of few channels: the class takes no width, and so an instance is put together."""
    import torch
    from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE

    made = WanVideoVAE.__new__(WanVideoVAE)
    torch.nn.Module.__init__(made)
    made.mean, made.std = torch.zeros(16), torch.ones(16)
    made.scale = [made.mean, 1.0 / made.std]
    made.model, made.upsampling_factor, made.z_dim = VideoVAE_(**VAE).eval(), 8, 16
    return made


def tiny_image_encoder() -> Any:
    """A WanImageEncoder of two layers."""
    import torch
    from diffsynth.models.wan_video_image_encoder import WanImageEncoder, clip_xlm_roberta_vit_h_14

    made = WanImageEncoder.__new__(WanImageEncoder)
    torch.nn.Module.__init__(made)
    made.model, made.transforms = clip_xlm_roberta_vit_h_14(
        return_transforms=True, dtype=torch.float32, device="cpu", vision_layers=IMAGE_LAYERS
    )
    return made


def write_vace(folder: Path, shards: int = 1) -> Path:
    """Write a VACE checkpoint: transformer and control layers in one file or in shards, and what goes with them."""
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.models.wan_video_vace import VaceWanModel

    state = {
        **_state(_random(lambda: WanModel(**VACE["dit"]))),
        **_state(_random(lambda: VaceWanModel(**VACE["vace"]))),
    }
    paths = _save_shards(state, folder, shards)
    _know(paths, "wan_video_dit", "wan_video_dit.WanModel", VACE["dit"], "wan_video_dit.WanVideoDiTStateDictConverter")
    converter = "wan_video_vace.VaceWanModelDictConverter"
    _know(paths, "wan_video_vace", "wan_video_vace.VaceWanModel", VACE["vace"], converter)
    return _write_common(folder)


def _save_shards(state: dict[str, Any], folder: Path, shards: int) -> list[Path]:
    stem, names = DIT.removesuffix(".safetensors"), sorted(state)
    return [
        _save({name: state[name] for name in names[number::shards]}, folder / f"{stem}{end}.safetensors")
        for number, end in enumerate(f"-{n + 1:05d}-of-{shards:05d}" if shards > 1 else "" for n in range(shards))
    ]


def write_vace_fun(folder: Path) -> Path:
    """Write a VACE checkpoint of two transformers, in the folders of Wan2.2-VACE-Fun-A14B."""
    import torch
    from safetensors.torch import load_file

    for number, name in enumerate(("high_noise_model", "low_noise_model")):
        write_vace(folder / name)
        path = folder / name / DIT
        made = torch.Generator().manual_seed(number)
        state = load_file(path)
        drawn = {key: value + 0.02 * torch.randn(value.shape, generator=made) for key, value in state.items()}
        _save(drawn, path)
        _move_common(folder / name, folder)
    return folder


def _move_common(source: Path, folder: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name != DIT:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def write_i2v(folder: Path) -> Path:
    """Write an image-to-video checkpoint: as VACE's, without control layers and with the image encoder."""
    from diffsynth.models.wan_video_dit import WanModel

    path = _save(_state(_random(lambda: WanModel(**I2V["dit"]))), folder / DIT)
    _know([path], "wan_video_dit", "wan_video_dit.WanModel", I2V["dit"])
    return _write_with_image_encoder(folder)


def write_fun_control(folder: Path, shards: int = 2) -> Path:
    """Write a checkpoint of Wan2.1-Fun-V1.1-Control: 48 channels into the transformer, and the image encoder."""
    from diffsynth.models.wan_video_dit import WanModel

    paths = _save_shards(_state(_random(lambda: WanModel(**FUN_CONTROL["dit"]))), folder, shards)
    _know(paths, "wan_video_dit", "wan_video_dit.WanModel", FUN_CONTROL["dit"])
    return _write_with_image_encoder(folder)


def _write_with_image_encoder(folder: Path) -> Path:
    clip = _random(tiny_image_encoder)
    path = _save({name.removeprefix("model."): value for name, value in _state(clip).items()}, folder / CLIP)
    converter = "wan_video_image_encoder.WanImageEncoderStateDictConverter"
    _know([path], "wan_video_image_encoder", f"{__name__}.tiny_image_encoder", {}, converter)
    return _write_common(folder)


def _write_common(folder: Path) -> Path:
    from diffsynth.models.wan_video_text_encoder import WanTextEncoder

    path = _save(_state(_random(lambda: WanTextEncoder(**TEXT))), folder / T5)
    _know([path], "wan_video_text_encoder", "wan_video_text_encoder.WanTextEncoder", TEXT)
    path = _save(
        {name.removeprefix("model."): value for name, value in _state(_random(tiny_vae)).items()}, folder / VAE_FILE
    )
    _know([path], "wan_video_vae", f"{__name__}.tiny_vae", {}, "wan_video_vae.WanVideoVAEStateDictConverter")
    write_tokenizer(folder / "google" / "umt5-xxl")
    return folder


def write_tokenizer(folder: Path) -> Path:
    """Write a tokenizer of T5's kind that knows the letters."""
    from transformers import T5TokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    T5TokenizerFast(vocab=vocabulary, extra_ids=0).save_pretrained(folder)
    return folder


def write_vace_diffusers(folder: Path) -> Path:
    """Write a checkpoint of diffusers' WanVACEPipeline."""
    import torch
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(SEED)
    transformer = WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=12,
        text_dim=32,
        freq_dim=256,
        ffn_dim=64,
        num_layers=2,
        vace_layers=[0, 1],
        vace_in_channels=96,
    )
    pipe = WanVACEPipeline(
        tokenizer=_tokenizer(folder / "made"),
        text_encoder=UMT5EncoderModel(
            UMT5Config(vocab_size=256, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
        ).eval(),
        vae=_fill(AutoencoderKLWan(base_dim=8, z_dim=16, num_res_blocks=1)),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        transformer=_fill(transformer),
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(write_tokenizer(folder))


def write_lora(
    path: Path,
    layers: tuple[str, ...] = ("blocks.0.self_attn.q", "vace_blocks.1.ffn.2"),
    *,
    style: str = "diffsynth",
    rank: int = 4,
    seed: int = 1,
) -> Path:
    """Write a LoRA in one of the spellings that trainers use: `diffsynth`, `lightx2v` or `diffusers`."""
    import torch

    from ffpdata.models.wan.lora_keys import diffusers_name

    made = torch.Generator().manual_seed(seed)
    sizes = {"ffn.0": (48, 64), "ffn.2": (64, 48)}
    state: dict[str, torch.Tensor] = {}
    for layer in layers:
        wide, out = next((size for end, size in sizes.items() if layer.endswith(end)), (48, 48))
        down, up = torch.randn(rank, wide, generator=made), torch.randn(out, rank, generator=made)
        if style == "lightx2v":
            state[f"diffusion_model.{layer}.lora_down.weight"] = down
            state[f"diffusion_model.{layer}.lora_up.weight"] = up
            state[f"diffusion_model.{layer}.alpha"] = torch.tensor(float(rank))
        elif style == "diffusers":
            state[f"transformer.{diffusers_name(layer)}.lora_A.weight"] = down
            state[f"transformer.{diffusers_name(layer)}.lora_B.weight"] = up
        else:
            state[f"{layer}.lora_A.default.weight"], state[f"{layer}.lora_B.default.weight"] = down, up
    return _save(state, path, dtype=None)


def write_distilled(path: Path, *, spelling: str = "lightx2v") -> dict[str, Any]:
    """Write a LoRA of the tiny VACE with every kind of key that LightX2V's extractor writes, or in another spelling.

    Args:
        path: of the file.
        spelling: `lightx2v`, `peft` (diffusers' names, biases beside the up matrix) or `musubi` (dots replaced).

    Returns:
        The tensor that is added to each parameter, by Wan's own names.
    """
    import torch

    from ffpdata.models.wan.lora_keys import diffusers_name, diffusers_parameter

    made = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> Any:
        return (torch.randn(shape, generator=made) * 0.1).bfloat16()

    wide = WAN["dim"]
    pairs = {
        f"{kind}.{n}.{layer}": (wide, wide)
        for kind in ("blocks", "vace_blocks")
        for n in range(2)
        for layer in ("self_attn.q", "cross_attn.k")
    }
    pairs |= {"blocks.0.ffn.0": (wide, 64), "time_projection.1": (wide, 6 * wide), "text_embedding.0": (32, wide)}
    pairs |= {"vace_blocks.0.before_proj": (wide, wide)}
    changed: dict[str, Any] = {f"{layer}.bias": drawn(out) for layer, (_, out) in pairs.items()}
    changed |= {f"blocks.{n}.modulation": drawn(1, 6, wide) for n in range(2)}
    changed |= {"head.modulation": drawn(1, 2, wide), "head.head.weight": drawn(64, wide)}
    changed |= {"blocks.1.cross_attn.norm_k.weight": drawn(wide), "blocks.0.norm3.bias": drawn(wide)}
    changed |= {"patch_embedding.weight": drawn(wide, 16, 1, 2, 2)}
    endings = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}
    state: dict[str, Any] = {}
    products = {}
    for layer, (into, out) in pairs.items():
        down, up = drawn(4, into), drawn(out, 4)
        products[f"{layer}.weight"] = up.float() @ down.float()
        if spelling == "peft":
            stem = f"base_model.model.{diffusers_name(layer)}"
            state |= {f"{stem}.lora_A.default.weight": down, f"{stem}.lora_B.default.weight": up}
            continue
        stem = f"lora_unet_{layer.replace('.', '_')}" if spelling == "musubi" else f"diffusion_model.{layer}"
        state |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        if spelling == "musubi":
            state[f"{stem}.lora_down.weight"] = down * 2
            state[f"{stem}.alpha"] = torch.tensor(2.0)
    for name, tensor in changed.items():
        layer, _, parameter = name.rpartition(".")
        if spelling == "peft" and layer in pairs:
            state[f"base_model.model.{diffusers_name(layer)}.lora_B.default.bias"] = tensor
        elif spelling == "peft":
            spelled = diffusers_parameter(name)
            ends = {".weight": ".diff", ".bias": ".diff_b"}
            end = next((end for end in ends if spelled.endswith(end)), "")
            state[f"transformer.{spelled.removesuffix(end)}{ends.get(end, '.diff')}"] = tensor
        elif spelling == "musubi":
            state[f"lora_unet_{layer.replace('.', '_')}.{endings[parameter]}"] = tensor
        else:
            state[f"diffusion_model.{layer}.{endings[parameter]}"] = tensor
    _save(state, path, dtype=None)
    return changed | products


def _random(make: Any) -> Any:
    import torch

    torch.manual_seed(SEED)
    return _fill(make())


def _fill(model: Any) -> Any:
    """Draw every weight so that activations keep their scale: untrained, some would be zero and hide what they do."""
    import torch

    made = torch.Generator().manual_seed(SEED)
    for name, value in sorted(model.named_parameters()):
        with torch.no_grad():
            if name.endswith("bias"):
                value.normal_(std=0.02, generator=made)
            elif "gamma" in name or value.ndim < 2:
                value.fill_(1.0)
            else:
                value.normal_(std=(value[0].numel() or 1) ** -0.5, generator=made)
    return model.eval()


def _state(model: Any) -> dict[str, Any]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("transforms")}


def _save(state: dict[str, Any], path: Path, dtype: str | None = "bfloat16") -> Path:
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = getattr(torch, dtype) if dtype else None
    save_file({name: value.detach().to(kind).contiguous().clone() for name, value in state.items()}, path)
    return path


def _know(paths: list[Path], name: str, model: str, options: dict[str, Any], converter: str = "") -> None:
    """Enter a file, or its shards, into diffsynth's table of known checkpoints, and keep the entry beside it."""
    from diffsynth.core import hash_model_file

    entry: dict[str, Any] = {
        "model_hash": hash_model_file(list(map(str, paths))),
        "model_name": name,
        "extra_kwargs": options,
    }
    entry["model_class"] = model if model in STANDS_FOR else f"{MODELS}.{model}"
    if converter:
        entry["state_dict_converter"] = f"{CONVERTERS}.{converter}"
    paths[0].with_name(f"{name}{KNOWN}").write_text(json.dumps(entry))
    _enter(entry)


def know(folder: Path) -> None:
    """Enter the files of a checkpoint that another process wrote."""
    for path in sorted(folder.glob(f"*{KNOWN}")):
        _enter(json.loads(path.read_text()))


def _enter(entry: dict[str, Any]) -> None:
    from diffsynth.configs import MODEL_CONFIGS, VRAM_MANAGEMENT_MODULE_MAPS

    model = entry["model_class"]
    if model in STANDS_FOR:  # it is managed like the real one
        VRAM_MANAGEMENT_MODULE_MAPS[model] = VRAM_MANAGEMENT_MODULE_MAPS[f"{MODELS}.{STANDS_FOR[model]}"]
    if json.dumps(entry, sort_keys=True) not in {json.dumps(known, sort_keys=True) for known in MODEL_CONFIGS}:
        MODEL_CONFIGS.append(entry)


class TinyVace(Vace):
    """`Vace` in a process whose diffsynth has to be told of the checkpoint first."""

    name = "tiny_vace"

    def __init__(self, spec: ModelSpec) -> None:
        know(Path(spec.model))
        super().__init__(spec)

    @classmethod
    def training_plan(cls, spec: ModelSpec, parts: Sequence[str] = PARTS, *, device: str = "") -> LoadPlan:
        know(Path(spec.model))
        return super().training_plan(spec, parts, device=device)


class TinyAnimator(WanAnimator):
    """`WanAnimator`, likewise."""

    name = "tiny_wan_i2v"

    def __init__(self, spec: ModelSpec) -> None:
        know(Path(spec.model))
        super().__init__(spec)

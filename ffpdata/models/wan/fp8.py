"""Linear layers in 8-bit floats (e4m3) with one scale per row, as a quantization backend of diffsynth.

diffsynth's own 8-bit layer keeps weights without a scale (core/vram/layers.py, `fp8_linear`): Wan's, around 0.02, would
lie where e4m3 has one to three significant bits.

Importing this module imports torch and diffsynth.
"""

from __future__ import annotations

from typing import Any

import torch
from diffsynth.core.quant import (
    QUANT_METHODS,
    BackendConfig,
    QuantBackend,
    QuantizeConfig,
    register_quant_backend,
    register_quant_method,
)
from torch.nn.functional import linear

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
BACKEND = "ffpdata_fp8"

LAYERS = ("q", "k", "v", "o", "k_img", "v_img", "ffn.0", "ffn.2", "before_proj", "after_proj")
"""Ends of the names of the layers in a block. Embeddings, modulation and head are small and stay as they are."""


class Fp8Linear(torch.nn.Linear):
    """A linear layer whose weight, (out, in), is e4m3 times a float32 scale per output.

    Both lie in buffers of bytes, which `Module.to(dtype)` leaves alone.

    Args:
        layer: the layer that it stands for.
        multiply: quantise the input, too, by a scale per token, and multiply in 8 bits; else in the input's type.
    """

    packed: torch.Tensor
    scale_bytes: torch.Tensor

    def __init__(self, layer: torch.nn.Linear, *, multiply: bool) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features, self.multiply = layer.in_features, layer.out_features, multiply
        quantised, scale = by_rows(layer.weight.detach())
        self.register_buffer("packed", quantised.view(torch.uint8))
        self.register_buffer("scale_bytes", scale.view(torch.uint8))
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (..., in) times the weight, (..., out), in x's type."""
        weight, scale = self.packed.view(FP8), self.scale_bytes.view(torch.float32)
        if not self.multiply:
            return linear(x, (weight.float() * scale).to(x.dtype), self.bias)
        rows, steps = by_rows(x.reshape(-1, self.in_features))
        product = torch._scaled_mm(rows, weight.T, scale_a=steps, scale_b=scale.T, bias=self.bias, out_dtype=x.dtype)
        return product.view(*x.shape[:-1], self.out_features)


def by_rows(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise (n, m): e4m3 (n, m), and the float32 (n, 1) that its rows are to be multiplied by."""
    scale = values.abs().amax(1, keepdim=True).float().clamp(min=1e-12) / LARGEST
    return (values.float() / scale).to(FP8), scale


class Fp8Config(BackendConfig):
    """Settings of `Fp8Backend`."""

    def __init__(self, *, multiply: bool) -> None:
        self.multiply = multiply


@register_quant_backend(BACKEND)
class Fp8Backend(QuantBackend):  # type: ignore[misc]
    """Makes layers of 8 bits while a checkpoint is loaded, one by one."""

    def create_quantized_linear(
        self, linear: torch.nn.Linear, compute_device: Any = None, model_device: Any = None
    ) -> Fp8Linear:
        """Return the layer in 8 bits, made on one device and kept on another."""
        made = Fp8Linear(linear.to(device=compute_device), multiply=self.config.multiply)
        return made if model_device is None else made.to(device=model_device)

    def quantized_linear_classes(self) -> tuple[type, ...]:
        """Return the class of these layers."""
        return (Fp8Linear,)


for _name, _multiply in (("fp8", True), ("fp8_weights", False)):
    if f"ffpdata_{_name}" not in QUANT_METHODS:
        register_quant_method(f"ffpdata_{_name}", BACKEND, lambda _, multiply=_multiply: Fp8Config(multiply=multiply))


def config(quantization: str) -> QuantizeConfig:
    """Return what diffsynth's loader is given for a setting."""
    return QuantizeConfig(method=f"ffpdata_{quantization}", target_modules=list(LAYERS))

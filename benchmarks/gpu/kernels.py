"""What the card reaches: a matrix product, and attention of the video transformer by each kernel PyTorch has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.meter import Meter
from benchmarks.gpu.report import median
from benchmarks.gpu.shapes import Clip

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
HEAD = 128


@torch.no_grad()
def ceilings(clip: Clip, device: str, *, tiny: bool) -> dict[str, Any]:
    """Time one bf16 matrix product and one self-attention over a clip's tokens, 12 heads (1.3B), per backend."""
    meter = Meter(device)
    side = 256 if tiny else 8192
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(11):
        with meter.phase("matrix"):
            left @ right
    heads = 2 if tiny else 12
    query, key, value = (
        torch.randn(1, heads, clip.tokens(), HEAD, device=device, dtype=torch.bfloat16) for _ in range(3)
    )
    measured: dict[str, Any] = {"matrix_tflops": 2e-12 * side**3 / median(meter.seconds["matrix"])}
    for name, backend in {"default": None, **BACKENDS}.items():
        try:
            for _ in range(4):
                with meter.phase(name):
                    if backend is None:
                        torch.nn.functional.scaled_dot_product_attention(query, key, value)
                    else:
                        with sdpa_kernel(backend):
                            torch.nn.functional.scaled_dot_product_attention(query, key, value)
        except RuntimeError as error:
            measured[f"attention_{name}"] = str(error).splitlines()[0][:120]
            continue
        work = 4e-12 * heads * HEAD * clip.tokens() ** 2
        measured[f"attention_{name}_s"] = median(meter.seconds[name])
        measured[f"attention_{name}_tflops"] = work / median(meter.seconds[name])
    settings = {"clip": asdict(clip), "tokens": clip.tokens(), "heads": heads, "head": HEAD, "matrix": side}
    return {"settings": settings, "measured": measured}

"""The attention kernel of the Wan back ends: what the role's settings name, never what happens to be installed.

diffsynth takes the first of FlashAttention 3, FlashAttention 2 and SageAttention that can be imported
(models/wan_video_dit.py, `flash_attention`), diffusers what an environment variable names
(models/attention_dispatch.py). Kernels round differently, and SageAttention quantises: one key would stand for bytes
that differ from machine to machine.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.requirements import Note

if TYPE_CHECKING:
    import torch

Attention = Literal["auto", "sdpa", "fa2", "fa3", "sage"]

DEFAULT = "sdpa"
"""What `auto` is on every machine, so that one key stands for one kernel."""

RANKED = "fa2"
"""What sequence parallel computes self-attention by (diffsynth, utils/xfuser: AttnType.FA)."""


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        about: for people.
        diffusers: its name among diffusers' attention backends.
        package: module that must be installed; empty where torch has it.
        function: of that package; takes query, key and value.
        flag: diffsynth's switch for it.
        remedy: how to install it.
    """

    about: str
    diffusers: str
    package: str = ""
    function: str = ""
    flag: str = ""
    remedy: str = ""


KERNELS = {
    "sdpa": Kernel("PyTorch's own exact kernels", "native"),
    "fa2": Kernel(
        "FlashAttention 2, exact",
        "flash",
        "flash_attn",
        "flash_attn_func",
        "FLASH_ATTN_2_AVAILABLE",
        "pip install flash-attn --no-build-isolation",
    ),
    "fa3": Kernel(
        "FlashAttention 3, exact",
        "_flash_3",
        "flash_attn_interface",
        "flash_attn_func",
        "FLASH_ATTN_3_AVAILABLE",
        "build it for this GPU from the folder hopper of github.com/Dao-AILab/flash-attention",
    ),
    "sage": Kernel(
        "SageAttention, which quantises to 8 bits",
        "sage",
        "sageattention",
        "sageattn",
        "SAGE_ATTN_AVAILABLE",
        "pip install sageattention",
    ),
}


def resolve(attention: str, ranks: int = 1) -> str:
    """Return the kernel of a setting: a name of `KERNELS`.

    Args:
        attention: the setting.
        ranks: GPUs per clip (`sequence_parallel`).
    """
    if attention != "auto":
        return attention
    return RANKED if ranks > 1 else DEFAULT


def check(attention: str, *, device: str = "", dtype: str = "bfloat16", ranks: int = 1) -> str:
    """Return the kernel of a setting, once it is known that this machine has it.

    Args:
        attention: the setting.
        device: `cuda`, `cuda:1` or `cpu`; empty where it is not known yet.
        dtype: of the weights.
        ranks: GPUs per clip.

    Raises:
        ConfigError: the kernel does not run on this device, in this type, or on several GPUs.
        FatalError: its package is not installed.
    """
    name = resolve(attention, ranks)
    kernel = KERNELS[name]
    if ranks > 1 and name != RANKED:
        raise ConfigError(
            f"settings attention is {attention!r}, but sequence_parallel computes attention by {RANKED} alone: "
            f"set auto or {RANKED}, or runtime sequence_parallel to 1"
        )
    if not kernel.package:
        return name
    if device == "cpu":
        raise ConfigError(f"settings attention {name!r} runs on NVIDIA GPUs: on the CPU set auto or sdpa")
    if dtype == "float32":
        raise ConfigError(f"settings attention {name!r} computes in half precision: set dtype bfloat16, or sdpa")
    if importlib.util.find_spec(kernel.package) is None:
        raise FatalError(
            f"settings attention is {attention!r} and {kernel.package} is not installed: {kernel.remedy}, or set sdpa"
        )
    return name


def probe(name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Run a kernel once, before the weights are loaded: one that is built for other cards fails here.

    Raises:
        FatalError: it does not run on this device.
    """
    kernel = KERNELS[name]
    if not kernel.package:
        return
    import torch

    try:
        tokens = torch.zeros(1, 128, 128, 128, device=device, dtype=dtype)
        getattr(importlib.import_module(kernel.package), kernel.function)(tokens, tokens, tokens)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except Exception as err:
        why = (str(err).splitlines() or [type(err).__name__])[0]
        raise FatalError(
            f"settings attention {name!r}: {kernel.package} does not run on {device} ({why}): "
            f"{kernel.remedy}, or set sdpa"
        ) from err


def note(attention: str, *, device: str = "", dtype: str = "bfloat16", ranks: int = 1) -> Note:
    """Say which kernel a role would use here; arguments as for `check`."""
    try:
        name = check(attention, device=device, dtype=dtype, ranks=ranks)
    except (ConfigError, FatalError) as err:
        return Note("error", "attention", str(err))
    kernel = KERNELS[name]
    version = ""
    if kernel.package:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = f" {importlib.metadata.version(kernel.package)}"
    return Note("ok", "attention", f"{name}{version}{' (auto)' if attention == 'auto' else ''}: {kernel.about}")


_switch = threading.RLock()


def select(name: str) -> None:
    """Have diffsynth use a kernel from now on, in this process."""
    from diffsynth.models import wan_video_dit

    for other, kernel in KERNELS.items():
        if kernel.flag:
            setattr(wan_video_dit, kernel.flag, other == name)


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Have diffsynth use a kernel inside a with block; its switch is the process's, so other threads wait."""
    from diffsynth.models import wan_video_dit

    with _switch:
        before = {kernel.flag: getattr(wan_video_dit, kernel.flag) for kernel in KERNELS.values() if kernel.flag}
        select(name)
        try:
            yield
        finally:
            for flag, value in before.items():
                setattr(wan_video_dit, flag, value)

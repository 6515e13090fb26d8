"""Convert a published pickle of weights to safetensors.

    python -m ffpdata.models.convert_to_safetensors video_depth_anything_vits.pth models/video_depth_small

The pickle is opened by torch's restricted loader, which builds tensors and plain containers and runs nothing else.
Open only files that you trust nevertheless. The folder then serves as `model` of a profile's role.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WRAPPERS = ("model", "state_dict")
"""Keys under which published files keep their weights, e.g. `model` in SAM 2's."""


def convert(pickle: Path, folder: Path) -> Path:
    """Write `folder/model.safetensors` with the names and values of a pickle's tensors.

    Args:
        pickle: a file of `torch.save`: a dict of tensors, bare or under one of `WRAPPERS`.
        folder: created if missing.

    Raises:
        ValueError: the file holds anything but a dict of tensors.
    """
    import torch
    from safetensors.torch import save_file

    found: Any = torch.load(pickle, map_location="cpu", weights_only=True)
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise ValueError(f"{pickle}: holds no dict of tensors, bare or under {' or '.join(map(repr, WRAPPERS))}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "model.safetensors"
    # Copy each tensor: safetensors refuses memory that two names share.
    save_file({str(name): value.clone(memory_format=torch.contiguous_format) for name, value in found.items()}, target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pickle", type=Path, help="file of torch.save")
    parser.add_argument("folder", type=Path, help="folder for model.safetensors")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{convert(options.pickle, options.folder)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

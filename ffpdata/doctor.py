"""`ffpdata doctor`: does this machine have what a profile needs, and may one use its models?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ffpdata.core.config import Library, load_pipeline
from ffpdata.core.errors import FfpdataError
from ffpdata.core.stage import ModelSpec

PACKAGES = ("numpy", "opencv-python-headless", "av", "onnxruntime", "pyarrow", "duckdb", "ray", "webdataset")
MIN_DISK_GB = 5.0
NON_COMMERCIAL = ("NC", "non-commercial", "research")
"""Words in a licence that forbid or restrict commercial use."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `level` is `ok`, `warning` or `error`."""

    level: Literal["ok", "warning", "error"]
    subject: str
    detail: str


def examine(profile: str) -> list[Finding]:
    """Check the machine and every model of a profile. A profile that does not exist raises UsageError."""
    pipelines = [load_pipeline(p.stem, profile) for p in sorted((Library.find().root / "pipelines").glob("*.yaml"))]
    models = {role: spec for pipeline in pipelines for role, spec in pipeline.models.items()}
    return [*_machine(), *(f for role, spec in sorted(models.items()) for f in _model(role, spec))]


def _machine() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("ok" if sys.version_info >= (3, 11) else "error", "python", f"{version} at {sys.executable}")
    for package in PACKAGES:
        try:
            yield Finding("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("error", package, f"not installed: pip install {package}")
    yield _ffmpeg()
    yield Finding("ok", "cpu cores", str(os.cpu_count()))
    memory = _memory_gb()
    if memory is not None:
        low = memory < 3
        yield Finding(
            "warning" if low else "ok", "memory", f"{memory:.1f} GB" + (", a worker needs 1.5" if low else "")
        )
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    low = free < MIN_DISK_GB
    yield Finding(
        "warning" if low else "ok", "free disk here", f"{free:.1f} GB; a 720p pair takes about 15 MB with its parts"
    )


def _ffmpeg() -> Finding:
    import imageio_ffmpeg

    try:
        path = imageio_ffmpeg.get_ffmpeg_exe()
        done = subprocess.run(
            [path, "-hide_banner", "-version"], capture_output=True, text=True, timeout=20, check=True
        )
        listed = subprocess.run(
            [path, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=20, check=True
        )
    except (RuntimeError, OSError, subprocess.SubprocessError) as err:
        return Finding("error", "ffmpeg", f"imageio-ffmpeg has no working binary for this machine: {err}")
    first = done.stdout.splitlines()[0].split("Copyright")[0].strip()
    if "libx264" not in listed.stdout:
        return Finding("error", "ffmpeg", f"{first} has no libx264: unset IMAGEIO_FFMPEG_EXE to use the bundled one")
    return Finding("ok", "ffmpeg", f"{first} at {path}")


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return None


def _model(role: str, spec: ModelSpec) -> Iterator[Finding]:
    try:
        backend = spec.load_class()
    except FfpdataError as err:
        yield Finding("error", role, str(err))
        return
    try:
        if spec.model == "embedded":  # small enough to try
            backend(spec).close()
    except Exception as err:  # noqa: BLE001 - whatever a back end raises is the finding
        yield Finding("error", role, f"{spec.backend} does not start: {type(err).__name__}: {err}")
        return
    restricted = any(word in spec.licence for word in NON_COMMERCIAL)
    note = " (forbids commercial use)" if restricted else ""
    yield Finding(
        "warning" if restricted else "ok", role, f"{spec.label}, licence {spec.licence or 'not stated'}{note}"
    )

"""`ffpdata doctor`: checks that this machine has what a profile needs, and the licences of its models."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffpdata.core.config import load_pipeline, pipeline_names
from ffpdata.core.errors import FfpdataError
from ffpdata.core.held import SERVED
from ffpdata.core.pipeline import Pipeline
from ffpdata.core.stage import ModelSpec
from ffpdata.core.wording import counted
from ffpdata.models.packaged.catalogue import MODELS
from ffpdata.models.packaged.location import installed, missing, remedy
from ffpdata.models.packaged.used import networks_of
from ffpdata.models.requirements import Level, Requirements, find_checkpoint
from ffpdata.models.settings import check
from ffpdata.serve.profile import serving, workers_gib

PACKAGES = ("numpy", "opencv-python-headless", "av", "onnxruntime", "pyarrow", "duckdb", "ray", "webdataset")
MIN_DISK_GB = 5.0
NON_COMMERCIAL = ("NC", "non-commercial", "research")
"""Words in a licence that forbid or restrict commercial use."""
EXTRAS = {"openai": "vlm"}
"""Module to the extra of ffpdata that installs it, where that is not `models`."""


WITHOUT = "; it cannot run without: "
"""In the detail of a role whose own entry is sound, before what it lacks."""

Lacks = dict[str, list[str]]
"""Role to the packages, parts and devices that it cannot run without."""


@dataclass(frozen=True)
class Finding:
    """One line of the result; `level` is `ok`, `warning` or `error`."""

    level: Level
    subject: str
    detail: str


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it; memory in 10^9 bytes."""

    name: str
    memory_gb: float
    driver: str


def examine(profile: str = "") -> list[Finding]:
    """Check the machine and every model of a profile; raises UsageError where there is no such profile.

    Args:
        profile: by default the one that a run on this machine takes.

    Returns:
        What was found, in the order in which it is to be mended: the machine, packages, cards, weights, services, and
        at the end each model role with all that it lacks.
    """
    profile = profile or load_pipeline("local_editing").profile
    broken: dict[str, str] = {}
    pipelines = [load_pipeline(name, profile, broken=broken) for name in pipeline_names()]
    models = {role: spec for pipeline in pipelines for role, spec in sorted(pipeline.models.items())}
    cards = gpus()
    needs: dict[str, Requirements] = {}
    roles = [_model(role, spec, needs, broken.get(role, "")) for role, spec in models.items()]
    lacks: Lacks = {role: [] for role in models}
    found = [*_machine(), *(Finding("ok", f"gpu {n}", _card(gpu)) for n, gpu in enumerate(cards))]
    found += _packages(needs, cards, lacks)
    found += _networks(pipelines, lacks, broken)
    found += _resources(models, needs, cards)
    found += _weights(needs, lacks)
    found += _inspections(needs, lacks)
    found += _server(pipelines) if SERVED in needs else ()
    found += _services(needs)
    for one in found:
        role, _, part = one.subject.partition(": ")
        if one.level == "error" and part and part not in lacks[role]:
            lacks[role].append(part)
    return found + [_with(one, lacks[one.subject]) for one in roles]


def first_step(found: Sequence[Finding]) -> str:
    """Say in one line what to do first, or that nothing has to be done."""
    errors = [one for one in found if one.level == "error" and WITHOUT not in one.detail]
    if errors:
        more = f" ({len(errors) - 1} more after it)" if len(errors) > 1 else ""
        return f"First: {errors[0].subject}: {errors[0].detail}{more}"
    warned = sum(one.level == "warning" for one in found)
    return "Nothing has to be done" + (f"; {counted(warned, 'warning')} above." if warned else ".")


def _with(role: Finding, lacks: Sequence[str]) -> Finding:
    """A role's finding, which is an error where the role lacks something."""
    if not lacks or role.level == "error":
        return role
    return Finding("error", role.subject, f"{role.detail}{WITHOUT}{', '.join(lacks)}")


# --- the machine ---


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
    memory = memory_gb()
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
        first = _output(path, "-hide_banner", "-version").splitlines()[0].split("Copyright")[0].strip()
        encoders = _output(path, "-hide_banner", "-encoders")
    except (RuntimeError, OSError, subprocess.SubprocessError) as err:
        return Finding("error", "ffmpeg", f"imageio-ffmpeg has no working binary for this machine: {err}")
    if "libx264" not in encoders:
        return Finding("error", "ffmpeg", f"{first} has no libx264: unset IMAGEIO_FFMPEG_EXE to use the bundled one")
    return Finding("ok", "ffmpeg", f"{first} at {path}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def memory_gb() -> float | None:
    """Return the main memory of this machine, 10^9 bytes; None where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return None


def gpus() -> list[Gpu]:
    """List the NVIDIA GPUs of this machine; empty where there is no working driver."""
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        lines = _output("nvidia-smi", query, "--format=csv,noheader,nounits").splitlines()
        fields = [[field.strip() for field in line.split(",")] for line in lines]
        return [Gpu(name, float(mib) * 2**20 / 1e9, driver) for name, mib, driver in fields]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def _card(gpu: Gpu) -> str:
    return f"{gpu.name}, {gpu.memory_gb:.0f} GB, driver {gpu.driver}"


# --- the models ---


def _model(role: str, spec: ModelSpec, needs: dict[str, Requirements], broken: str) -> Finding:
    """Say what fills a role; what it needs goes into `needs`."""
    if broken:
        return Finding("error", role, broken)
    try:
        backend = spec.load_class()
        check(spec)
        if spec.model == "embedded":  # small enough to start
            backend(spec).close()
        elif hasattr(backend, "needs"):
            needs[role] = backend.needs(spec)
        restricted = any(word in spec.licence for word in NON_COMMERCIAL)
        note = " (forbids commercial use)" if restricted else ""
        label = f"{spec.label}, licence {spec.licence or 'not stated'}{note}"
        return Finding("warning" if restricted else "ok", role, label)
    except FfpdataError as err:
        needs.pop(role, None)
        return Finding("error", role, str(err))
    except (Exception, SystemExit) as err:  # noqa: BLE001 - any error of a back end is a finding
        needs.pop(role, None)
        return Finding("error", role, f"{spec.backend} does not start: {type(err).__name__}: {err}")


def _packages(needs: Mapping[str, Requirements], cards: list[Gpu], lacks: Lacks) -> Iterator[Finding]:
    for package in sorted({package for need in needs.values() for package in need.packages}):
        level: Level = "ok"
        if not importlib.util.find_spec(package):
            level, told = "error", f"not installed: pip install 'ffpdata[{EXTRAS.get(package, 'models')}]'"
        elif package == "torch" and cards and any(need.gpu for need in needs.values()):
            level, told = _torch(cards)
        else:
            told = importlib.metadata.version(package)
        yield Finding(level, package, told)
        if level == "error":
            for role in (role for role, need in needs.items() if package in need.packages):
                lacks[role].append(package)


def _torch(cards: list[Gpu]) -> tuple[Level, str]:
    import torch

    if torch.cuda.is_available():
        return "ok", torch.__version__
    driver = f"driver {cards[0].driver} is too old for CUDA {torch.version.cuda}, or torch is a CPU build"
    return "error", f"{torch.__version__} sees no GPU: {driver}"


def _weights(needs: Mapping[str, Requirements], lacks: Lacks) -> Iterator[Finding]:
    """Check where each checkpoint is, once for all roles that load it, and the free disk for missing ones."""
    parts = {checkpoint: role for role, need in needs.items() for checkpoint in need.checkpoints}
    if parts and not importlib.util.find_spec("huggingface_hub"):
        return  # `_packages` reports it
    missing = 0.0
    for checkpoint, role in parts.items():
        found = find_checkpoint(checkpoint)
        missing += found.missing_gb
        if found.level == "error":
            for one in (one for one, need in needs.items() if checkpoint in need.checkpoints):
                lacks[one].append(checkpoint.part)
        yield Finding(found.level, f"{role}: {checkpoint.part}", found.detail)
    if missing:
        from huggingface_hub.constants import HF_HUB_CACHE

        folder = next(path for path in (Path(HF_HUB_CACHE), *Path(HF_HUB_CACHE).parents) if path.exists())
        free = shutil.disk_usage(folder).free / 1e9
        level: Level = "ok" if missing < free else "error"
        yield Finding(level, "room for weights", f"{missing:.1f} GB to fetch, {free:.1f} GB free at {HF_HUB_CACHE}")


def _networks(pipelines: Sequence[Pipeline], lacks: Lacks, broken: Mapping[str, str]) -> Iterator[Finding]:
    """List the packaged networks with their licences; one that the profile needs and that is not here is an error."""
    needed = {name for pipeline in pipelines for name in pipeline.needs}
    users: dict[str, list[str]] = {}
    for pipeline in pipelines:
        whole = not broken.keys() & pipeline.models.keys()
        users |= networks_of(pipeline.build()) if whole else {}
    for model in MODELS:
        label = f"{model.about}; licence {model.licence}; {model.package}"
        if installed(model.name):
            yield Finding("ok", f"network {model.name}", f"installed: {label}")
        elif model.name in needed or model.name in users:
            for role in users.get(model.name, ()):
                lacks.setdefault(role, []).append(f"network {model.name}")
            yield Finding("error", f"network {model.name}", missing([model.name]))
        else:
            yield Finding("ok", f"network {model.name}", f"not needed, not here: {label}; {remedy([model.name])}")


def _inspections(needs: Mapping[str, Requirements], lacks: Lacks) -> Iterator[Finding]:
    """Report what the back ends find out about their own set-up."""
    for role, need in needs.items():
        for level, subject, detail in need.inspect() if need.inspect else ():
            if level == "error":
                lacks[role].append(subject)
            yield Finding(level, f"{role}: {subject}", detail)


def _resources(
    models: Mapping[str, ModelSpec], needs: Mapping[str, Requirements], cards: list[Gpu]
) -> Iterator[Finding]:
    """Check whether each model fits the GPUs and the memory of this machine."""
    memory = memory_gb()
    for role, need in needs.items():
        required = models[role].resources
        if need.gpu and not cards:
            yield Finding("error", f"{role}: gpu", "it runs on a GPU, and nvidia-smi finds none here")
        largest = max((card.memory_gb for card in cards), default=0.0)
        if need.gpu and cards and required and (required.gpu_memory_gb or 0) > largest:
            text = f"it takes {required.gpu_memory_gb:g} GB, the largest card has {largest:.0f}"
            yield Finding("error", f"{role}: gpu", text)
        if required and required.memory_gb and memory and required.memory_gb > memory:
            yield Finding(
                "error", f"{role}: memory", f"a worker takes {required.memory_gb:g} GB, here are {memory:.0f}"
            )


def _server(pipelines: Sequence[Pipeline]) -> Iterator[Finding]:
    """Sum up the GPU memory of the served model and of the workers, on the cards that the profile is written for."""
    one = serving(pipelines)
    if one is None or one.server is None:
        return
    memory = one.memory()
    if memory is None:
        yield Finding("warning", f"{SERVED}: server", f"the sizes of {one.spec.model!r} are not known: not summed")
    else:
        more = "" if memory.fits else f". To change: {memory.remedy()}"
        yield Finding("ok" if memory.fits else "error", f"{SERVED}: server", f"{memory}{more}")
    if problem := one.resizing():
        yield Finding("warning", f"{SERVED}: frames", problem)
    if not one.server.shared:
        models = {role: spec for pipeline in pipelines for role, spec in pipeline.models.items()}
        worker, card = workers_gib(models), one.server.card_gib
        told = f"the largest worker takes {worker:.1f} of {card:g} GiB, CUDA's own included"
        yield Finding("ok" if worker <= card else "error", "workers", told)


def _services(needs: Mapping[str, Requirements]) -> Iterator[Finding]:
    for role, need in needs.items():
        if need.reach:
            try:
                yield Finding("ok", f"{role}: service", need.reach())
            except (FfpdataError, ImportError) as err:
                yield Finding("error", f"{role}: service", str(err))

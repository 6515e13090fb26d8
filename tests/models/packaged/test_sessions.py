"""The installed networks load and answer; skipped where they are not installed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ffpdata.models.packaged.litert_session import interpreter, without_notes
from ffpdata.models.packaged.location import MissingModelError, label_names, model_file
from ffpdata.models.packaged.onnx_session import session


@pytest.mark.parametrize(
    ("name", "size", "outputs"),
    [
        ("u2netp", (320, 320), [(1, 1, 320, 320)] * 7),
        ("ppocr_det", (96, 128), [(1, 1, 96, 128)]),
        ("centerface", (96, 128), [(1, 1, 24, 32), (1, 2, 24, 32), (1, 2, 24, 32), (1, 10, 24, 32)]),
    ],
)
def test_networks_answer_the_same_whatever_the_threads(packaged_models: Path, name: str, size, outputs) -> None:
    picture = np.random.default_rng(0).random((1, 3, *size), np.float32)
    one, two = (session(name, threads) for threads in (1, 2))
    [slot] = one.get_inputs()
    first, second = (opened.run(None, {slot.name: picture}) for opened in (one, two))
    assert [found.shape for found in first] == outputs
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_the_detector_has_a_class_for_each_column(packaged_models: Path) -> None:
    network = interpreter("objectron_ssd")
    shapes = {tuple(int(n) for n in out["shape"]) for out in network.get_output_details()}
    assert shapes == {(1, 1917, 4), (1, 1917, 24)}
    labels = label_names("objectron_ssd")
    assert (len(labels), labels[4], labels[20]) == (24, "Person", "Dog")


def test_the_detector_opens_without_a_word(packaged_models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    interpreter("objectron_ssd")
    assert capfd.readouterr() == ("", "")


def test_what_is_no_note_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrong"), without_notes():
        os.write(2, b"INFO: Created a delegate.\nERROR: no such operator\n")
        raise ValueError("wrong")
    assert capfd.readouterr() == ("", "ERROR: no such operator\n")


def test_without_the_fixture_no_network_is_installed() -> None:
    with pytest.raises(MissingModelError):
        model_file("u2netp")

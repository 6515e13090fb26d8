"""Error of the gates on labelled pictures and clips, smaller than those of `python -m benchmarks.gates`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gates, labelled
from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.media.geometry import Geometry
from ffpdata.models.packaged.location import MissingModelError
from ffpdata.models.pretrained.nsfw_gate import NsfwGate
from ffpdata.models.pretrained.text_finder import TextFinder
from ffpdata.models.pretrained.text_gate import TextGate, covered, ring_change
from tests.models.pretrained.networks import needs_network

SIZE = (640, 352)


@needs_network("ppocr_det")
def test_words_laid_over_a_clip_are_found_and_nothing_else_is_taken_for_them() -> None:
    tally = gates.text(SIZE, 3, count=8)
    assert tally.recall >= 0.75, tally.wrong
    assert tally.precision >= 0.95, tally.wrong
    assert tally.caught + tally.missed == tally.kept_out + tally.passed == 8


@needs_network("centerface")
def test_faces_are_found_and_animals_and_coins_are_none() -> None:
    tally = gates.faces(SIZE)
    assert (tally.recall, tally.precision) >= (0.85, 0.9), tally.wrong


@needs_network("objectron_ssd")
def test_failed_edits_are_told_from_good_ones() -> None:
    tally = gates.redetection(Geometry(width=640, height=352, fps=16, frames=5), worlds=2)
    assert tally.recall >= 0.75, tally.wrong
    assert tally.precision >= 0.95, tally.wrong


def test_copies_by_hash() -> None:
    [by_hash, *_] = gates.copies((320, 192))
    assert by_hash.precision == 1
    assert by_hash.recall >= 0.6
    assert {name.split(",")[0] for name in by_hash.wrong} <= {"cropped to 80 %", "cropped to 60 %", "a title over it"}


@needs_network("sscd_distilled")
def test_copies_by_vector() -> None:
    [_, by_vector] = gates.copies(SIZE)
    assert (by_vector.recall, by_vector.precision) == (1, 1), by_vector.wrong


@needs_network("opennsfw")
def test_photographs_are_safe_for_work_and_a_stricter_limit_rejects_with_the_number() -> None:
    pictures = np.stack(labelled.different_pictures((320, 192)))
    found = gates.opened(NsfwGate, frames=len(pictures)).inspect(pictures)
    assert 0 <= found["nsfw"] < 0.8
    with pytest.raises(Reject, match="at most 0") as caught:
        gates.opened(NsfwGate, max_probability=0.0).inspect(pictures)
    assert caught.value.reason == "not_safe_for_work"


@needs_network("ppocr_det")
def test_a_sign_in_the_middle_of_a_scene_that_moves_is_no_watermark() -> None:
    gate = gates.opened(TextGate)
    still = labelled.framed("coffee", (960, 352))
    signed = labelled.write_on(still[None], "SAMPLE", "middle", font=labelled.FONTS[1], opacity=1.0)[0]
    passing = np.stack([signed[:, x : x + 640] for x in (0, 60, 120)])
    found = gate.inspect(passing)
    assert found["text_share"] > 0.005, "it is seen"
    assert found["overlay_share"] == 0, "it moves with the scene"
    laid_over = labelled.scene_clip("coffee", SIZE, 3, moves=True)
    laid_over = labelled.write_on(laid_over, "SAMPLE", "middle", font=labelled.FONTS[1], opacity=1.0)
    with pytest.raises(Reject, match="stays there throughout") as caught:
        gate.inspect(laid_over)
    assert caught.value.reason == "overlaid_text"
    assert gate.inspect(laid_over[:1])["overlay_share"] == 0, "of one picture nothing is known"


@needs_network("ppocr_det")
def test_a_page_is_too_much_text() -> None:
    lines = labelled.framed("retina", SIZE)[None]
    for number, word in enumerate(("first", "second", "third", "fourth")):
        labelled.PLACES[word] = (0.05, 0.2 + 0.2 * number)
        lines = labelled.write_on(lines, "all of this is to be read", word, font=0, opacity=1.0, height=0.07)
        del labelled.PLACES[word]
    with pytest.raises(Reject) as caught:
        gates.opened(TextGate).inspect(lines)
    assert caught.value.reason == "too_much_text"
    found = gates.opened(TextFinder).detect(lines[0])
    assert len([one for one in found if one.label == "text" and one.score > 0.6]) >= 4


def test_a_network_that_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("FFPDATA_MODELS", str(tmp_path_factory.mktemp("none")))
    with pytest.raises(MissingModelError, match=r"ppocr_det .*rapidocr-onnxruntime==.*ffpdata models install"):
        TextGate(ModelSpec.of(TextGate))


def test_the_covered_part_counts_overlaps_once() -> None:
    assert covered([(0, 0, 10, 10), (5, 0, 15, 10)], (20, 30)) == pytest.approx(150 / 600)


def test_the_ring_around_a_line_leaves_the_line_out() -> None:
    one = np.zeros((60, 80, 3), np.uint8)
    other = one.copy()
    other[20:30, 20:60] = 200
    assert ring_change([one, other], (20, 20, 60, 30)) == 0
    other[30:34, 20:60] = 100
    assert ring_change([one, other], (20, 20, 60, 30)) > 5

import base64
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import read_video, video_info
from ffpdata.report import statistics
from ffpdata.report.gallery_media import preview
from ffpdata.report.page import number, seconds, write_report
from tests.fixture_run import GOOD, HOSTILE, STYLED_IMAGE, RunMaker, mask, pipelines, source


class Page(HTMLParser):
    """What a browser would find in the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(reported: RunFolder) -> RunFolder:
    return reported


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Page:
    return Page((Path(run.store.root) / "report/index.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "poster", "data-src", "href", "action", "srcset"):
            value = attrs.get(name, "data:")
            assert value.startswith(("data:", "#")), f"{tag} {name}={value[:80]}"
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy
    text = "".join(page.texts)
    assert not re.search(r"url\((?!['\"]?data:)", text)
    assert "@import" not in text


def test_hostile_words_stay_words(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert any(HOSTILE in text for text in page.texts)


def test_every_accepted_pair_is_a_card_with_a_video(page: Page, tmp_path: Path) -> None:
    cards = page.all("article")
    assert sum(card["data-status"] == "accepted" for card in cards) == 10
    assert {card["data-task"] for card in cards} == {"removal", "modification", "stylization"}
    assert {card["data-status"] for card in cards} == {"accepted", "set aside", "rejected"}
    videos = [v for v in page.all("video") if "data-src" in v]
    assert len(videos) == len(cards)
    content = base64.b64decode(videos[0]["data-src"].partition(",")[2])
    file = tmp_path / "one.mp4"
    file.write_bytes(content)
    assert video_info(file) == (17, 480, 96, 16.0)


def test_reasons_are_in_the_funnel_and_among_the_examples(page: Page) -> None:
    text = " ".join(page.texts)
    for reason in ("empty_file", "too_short", "mask_too_small", "RuntimeError", "flicker_too_high", "near_duplicate"):
        assert text.count(reason) >= 2, reason
    assert "the longest shot has 0.40 s" in text
    pictures = [image for image in page.all("img") if image["src"].startswith("data:image/jpeg")]
    assert len(pictures) >= 6


def test_the_numbers(run: RunFolder) -> None:
    with run.connect() as connection:
        numbers = statistics.collect(run, connection)
    assert numbers.status == {"ok": 10, "rejected": 10, "failed": 1}
    assert numbers.tasks == {"stylization": 4, "modification": 3, "removal": 3}
    assert (numbers.inputs, numbers.sources) == (11, 4)
    stages = {stage.name: stage for stage in numbers.funnel["local"]}
    assert (stages["source"].entered, stages["source"].passed, stages["source"].rejected) == (9, 8, 1)
    assert stages["source"].reasons == [("rejected", "empty_file", 1)]
    assert (stages["propose"].entered, stages["propose"].passed) == (7, 15)
    assert stages["curate"].reasons == [("rejected", "not_best_variant", 4), ("rejected", "near_duplicate", 2)]
    found = {h.name: h for h in numbers.histograms}
    assert {"score", "psnr_outside", "motion"} <= set(found)
    assert (sum(found["score"].accepted), sum(found["score"].others)) == (10, 6)
    assert {t.stage for t in numbers.timings} >= {"ingest", "stylize"}
    timing = next(t for t in numbers.timings if t.stage == "propose")
    assert (timing.items, timing.cpu_total) == (7, 7.0)  # the children of a fan-out share one time


def test_a_gallery_that_cannot_show_all_takes_every_task_alike(run: RunFolder) -> None:
    with run.connect() as connection:
        rows = statistics.pairs_to_show(connection, 6, 2)
    good = [row["task"] for row in rows if row["status"] == "ok"]
    assert sorted(good) == ["modification"] * 2 + ["removal"] * 2 + ["stylization"] * 2
    assert len({row["reason"] for row in rows if row["status"] != "ok"}) == 2


def test_histogram_bins() -> None:
    found = statistics.histogram("x", [0.0, 1.0, 1.0, 5.0], [10.0])
    assert sum(found.accepted) == 4
    assert sum(found.others) == 1
    assert found.median == 1.0
    same = statistics.histogram("x", [2.0, 2.0], [])
    assert (same.low, same.high, sum(same.accepted)) == (1.5, 2.5, 2)
    assert statistics.histogram("x", [], [1.0]).median is None


def test_a_preview_shows_source_region_and_target_frame_by_frame(run: RunFolder, tmp_path: Path) -> None:
    with run.connect() as connection:
        items = connection.view("items").filter(f"item_id = '{GOOD[1]}/00/swap/mask'").to_arrow_table().to_pylist()
    made = preview(run.store, items[0])
    assert (made.width, made.height, made.panels, made.middle) == (480, 96, 3, "mask")
    file = tmp_path / "preview.mp4"
    file.write_bytes(made.video)
    frames = read_video(file).astype(int)
    left, middle, right = frames[:, :, :160], frames[:, :, 160:320], frames[:, :, 320:]
    original, region = source(2).astype(int), mask(2)
    edited = read_video(run.store.fetch(items[0]["target_video"])).astype(int)
    assert np.abs(left - original).mean() < 6
    assert np.abs(right - edited).mean() < 6
    assert np.abs(middle[region] - left[region]).mean() < 6
    assert middle[~region].mean() < 0.45 * original[~region].mean()
    parts = sorted((Path(run.store.root) / "report/previews").iterdir())
    preview(run.store, items[0])
    assert sorted((Path(run.store.root) / "report/previews").iterdir()) == parts


def test_a_stylization_shows_its_reference(run: RunFolder, tmp_path: Path) -> None:
    with run.connect() as connection:
        items = connection.view("items").filter(f"source_id = '{STYLED_IMAGE}'").to_arrow_table().to_pylist()
    made = preview(run.store, items[0])
    assert (made.panels, made.middle) == (3, "reference")
    file = tmp_path / "styled.mp4"
    file.write_bytes(made.video)
    assert video_info(file).frames == 17


def test_a_run_under_way_without_pairs_has_a_report_too(tmp_path: Path) -> None:
    make = RunMaker(tmp_path / "run")
    with pytest.raises(FatalError, match="no pipeline was started"):
        write_report(make.run)
    make.start(*pipelines())
    text = Path(write_report(make.commit())).read_text(encoding="utf-8")
    assert "No pair has been finished" in text
    assert "Nothing was rejected and nothing failed." in text


def test_pairs_whose_files_are_gone_or_damaged_are_left_out(reported: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(reported.store.root, tmp_path / "run"))
    with run.connect() as connection:
        accepted = connection.view("items").filter("status = 'ok'")
        gone = accepted.filter(f"source_id = '{GOOD[0]}'").project("target_video").fetchall()[0][0]
        damaged = accepted.filter(f"source_id = '{STYLED_IMAGE}'").project("source_video").fetchall()[0][0]
    run.store.remove(gone)
    run.store.local_path(damaged).write_bytes(b"damaged")
    page = Page(Path(write_report(run)).read_text(encoding="utf-8"))
    assert sum(card["data-status"] == "accepted" for card in page.all("article")) == 10 - 1 - 2


def test_numbers_as_people_read_them() -> None:
    assert [number(v) for v in (0, 7, 9999, 12345, 0.12345, 1234.5, 0.00001, "text")] == [
        *("0", "7", "9999", "12\u202f345", "0.123", "1234", "1.0e-05", "text")
    ]
    assert [seconds(v) for v in (0.123, 9.99, 42, 600, 7200, 36000)] == [
        "0.12 s",
        "10 s",
        "42 s",
        "10 min",
        "2.0 h",
        "10.0 h",
    ]

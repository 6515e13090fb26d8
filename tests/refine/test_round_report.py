"""The report page of a round, as a file and in a real browser."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from ffpdata.curate.verdicts import Decision
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import read_video, video_info, write_video
from ffpdata.refine.compare import CompareSettings, compare
from ffpdata.refine.removal_results import RemovalResult
from ffpdata.refine.round_charts import interval_bar, outcome_counts
from ffpdata.refine.round_pairs import choose_removals
from ffpdata.refine.round_report import RoundFacts, RoundState, verdict, write_round_report
from tests import chromium
from tests.chromium import needs_chromium, wait_until
from tests.fixture_run import FPS, HOSTILE, copy_run, source
from tests.refine.rounds_made_up import ACCEPTED, REJECTED, both, outcome, scores
from tests.s3_server import s3_proxy

QUICK = CompareSettings(resamples=199, pairs=0)
PAGE = "refine/round-1/report.html"
NUMBERS = ("psnr_outside", "flicker", "colour_drift", "structure", "motion")


def smeared(frames: np.ndarray) -> np.ndarray:
    """What a poor model makes of a clip."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 6) for frame in frames])


def outcomes(run: RunFolder) -> tuple[list[RemovalResult], list[RemovalResult]]:
    """Every removal of the fixture under a poor model and under that of the run; the poor one's are written."""
    with run.connect() as connection:
        rows = pa.table(connection.view("items").filter("task = 'removal'").order("item_id").to_arrow_table())
    before, after = [], []
    for n, row in enumerate(rows.to_pylist()):
        if not row["target_video"]:
            continue
        poor = f"artifacts/target_video/zz/before-{n}.mp4"
        run.store.local_path(poor).parent.mkdir(parents=True, exist_ok=True)
        write_video(run.store.local_path(poor), smeared(read_video(run.store.fetch(row["source_video"]))), FPS)
        files = {name: row[name] for name in ("source_video", "target_video", "mask_video")}
        measures = {name: row[name] for name in NUMBERS if row[name] is not None}
        now = outcome(row["item_id"], source_id=row["source_id"], files=files, measures=measures, screen_score=8.0)
        before.append(replace(now, screen_score=5.5, files=files | {"target_video": poor}, decision=REJECTED))
        after.append(replace(now, decision=ACCEPTED))
    # One is worse under the new model, by its gates; one is as it was.
    hostile = Decision(0, 2, ("artifacts", HOSTILE))
    after[0] = replace(after[0], status="rejected", stage="screen", reason=HOSTILE, screen_score=3.0, decision=hostile)
    before[0] = replace(before[0], decision=ACCEPTED)
    before[1] = replace(after[1], files=before[1].files)
    return before, after


def facts_of(run: RunFolder, **changed: Any) -> RoundFacts:
    before, after = outcomes(run)
    sheet = cv2.imencode(".jpg", source(1)[0])[1].tobytes()
    steps = [(n, 0.3 * 0.98**n + 0.01 * (n % 5), None if n % 20 else 0.35 * 0.985**n) for n in range(1, 101)]
    facts = RoundFacts(
        number=3,
        state=RoundState.PROMOTED,
        when=datetime(2026, 3, 4, 15, 30, tzinfo=UTC),
        model_before="vace@base",
        model_after=f"vace@{HOSTILE}",
        trained_on=41,
        held_out=7,
        comparison=compare(before, after, QUICK.model_copy(update={"pairs": 7})),
        losses=steps,
        sheet=sheet,
        before=before,
        after=after,
        cost=[("fine-tuning", "3.2 GPU hours"), (HOSTILE, "0.7 hours of reviewers")],
    )
    return replace(facts, **changed)


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return copy_run(tmp_path_factory.mktemp("round") / "run")


@pytest.fixture(scope="module")
def facts(run: RunFolder) -> RoundFacts:
    return facts_of(run)


@pytest.fixture(scope="module")
def file(run: RunFolder, facts: RoundFacts) -> Path:
    where = write_round_report(run, PAGE, facts)
    assert where == str(Path(run.store.root) / PAGE)
    return Path(where)


@pytest.fixture(scope="module")
def page(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


# --- the file ---


def test_the_page_needs_nothing_but_itself(page: Page, run: RunFolder) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "poster", "data-src", "href", "action", "srcset"):
            assert attrs.get(name, "data:").startswith(("data:", "#")), f"{tag} {name}"
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"url\((?!['\"]?data:)|@import", page.text)
    assert str(run.store.root) not in page.text


def test_hostile_words_stay_words(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    # Twice the model, a cost, a reason in the funnel, twice on its card, a reviewer's reason, and two captions.
    assert page.text.count(HOSTILE) >= 9


def test_head_says_what_became_of_the_round(page: Page, facts: RoundFacts) -> None:
    assert "Round 3: promoted" in page.text
    assert facts.comparison
    assert facts.comparison.why in page.text
    assert "4 March 2026, 15:30 UTC" in page.text
    for text in ("pairs trained on", "41", "pairs held out", "fine-tuning", "3.2 GPU hours"):
        assert text in page.text


def test_every_change_has_a_row_and_a_bar(page: Page, facts: RoundFacts) -> None:
    assert facts.comparison
    changes = len(facts.comparison.changes)
    assert changes >= 7
    pictures = [attrs["aria-label"] for attrs in page.all("svg")]
    assert len(pictures) == changes + 1  # and the loss
    assert any(label.startswith("Training loss from 0.298 to 0.0585 over steps 1 to 100") for label in pictures)
    assert len(page.all("title")) == 1 + 5  # held-out losses, each with what it is


def test_cards_show_source_before_and_after_of_the_same_item(
    page: Page, facts: RoundFacts, run: RunFolder, tmp_path: Path
) -> None:
    cards = page.all("article")
    assert [card["data-group"] for card in cards] == ["improved"] * 6 + ["became worse"] + ["by chance"] * 2
    videos = [video for video in page.all("video") if "data-src" in video]
    after = {one.item_id: one for one in facts.after}
    before = {one.item_id: one for one in facts.before}
    for n in (0, 6):
        item = videos[n]["aria-label"].partition(" of ")[2]
        one = tmp_path / f"{n}.mp4"
        one.write_bytes(base64.b64decode(videos[n]["data-src"].partition(",")[2]))
        assert video_info(one) == (17, 480, 96, 16.0)
        frames = read_video(one).astype(int)
        for part, path in enumerate(
            (after[item].files["source_video"], before[item].files["target_video"], after[item].files["target_video"])
        ):
            shown = frames[:, :, 160 * part : 160 * part + 160]
            assert np.abs(shown - read_video(run.store.fetch(path)).astype(int)).mean() < 6
    image = next(attrs for attrs in page.all("img") if attrs["alt"].startswith("Validation sheet"))
    assert base64.b64decode(image["src"].partition(",")[2]) == facts.sheet


def test_what_cannot_be_shown_is_counted(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    facts = facts_of(run)
    run.store.remove(facts.before[2].files["target_video"])
    run.store.local_path(facts.before[3].files["target_video"]).write_bytes(b"damaged")
    page = Page(Path(write_round_report(run, PAGE, facts)).read_text(encoding="utf-8"))
    assert len(page.all("article")) == 7
    assert "2 more could not be shown" in page.text


def test_a_round_that_has_only_begun(run: RunFolder, tmp_path: Path) -> None:
    bare = RoundFacts(1, RoundState.WAITING, datetime(2026, 1, 1, tzinfo=UTC), "old", "new")
    text = Page(Path(write_round_report(run, "refine/bare.html", bare)).read_text(encoding="utf-8")).text
    for told in ("Nothing was compared yet.", "No removal was made yet.", "No loss was recorded.", "No removal has a"):
        assert told in text
    fresh = RunFolder(tmp_path / "fresh")
    assert Path(write_round_report(fresh, "page.html", bare)).is_file()
    with pytest.raises(ValueError, match="not a path inside"):
        write_round_report(run, "../page.html", bare)


def test_a_round_that_waits_for_reviews(run: RunFolder) -> None:
    before, after = scores([5.0] * 9), scores([6.0] * 9)
    before = [replace(one, decision=REJECTED, files=one.files | {"source_video": "gone.mp4"}) for one in before]
    told = compare(before, after, QUICK.model_copy(update={"pairs": 8}))
    facts = facts_of(run, state=RoundState.WAITING, comparison=told, before=before, after=after)
    text = Page(Path(write_round_report(run, "refine/waits.html", facts)).read_text(encoding="utf-8")).text
    assert "vace@base stays until the reviewers have decided: 8 pairs of vace@" in text
    assert f"So far: {told.why}" in text
    assert "which decides" not in text
    assert "The files of all 9 pairs that were to be shown are gone or damaged." in text


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RoundState.PROMOTED, "new takes the place of old."),
        (RoundState.NOT_PROMOTED, "old stays."),
        (RoundState.ROLLED_BACK, "new was taken back: old makes the removals again."),
        (RoundState.WAITING, "old stays until the reviewers have decided."),
    ],
)
def test_verdicts(state: RoundState, said: str) -> None:
    facts = RoundFacts(1, state, datetime(2026, 1, 1, tzinfo=UTC), "old", "new")
    assert verdict(facts) == said


def test_a_run_on_an_object_store(facts: RoundFacts, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    few = slice(2, 4)
    with s3_proxy(monkeypatch):
        remote = RunFolder("s3://bucket/run")
        for one in [*facts.before[few], *facts.after[few]]:
            for path in one.files.values():
                remote.store.write(path, run.store.read(path))
        some = replace(facts, before=facts.before[few], after=facts.after[few])
        assert write_round_report(remote, PAGE, some) == f"s3://bucket/run/{PAGE}"
        assert len(Page(remote.store.read(PAGE).decode()).all("article")) == 2


# --- what is shown, and as what ---


def test_pairs_are_chosen_by_verdict_gates_and_score_from_all_sources() -> None:
    before, after = both(1, 10, 4, 0.5)
    after[5] = replace(after[5], decision=ACCEPTED, screen_score=0.0)
    before[5] = replace(before[5], decision=REJECTED)
    after[9] = replace(after[9], status="rejected", screen_score=9.9)
    after[20] = replace(after[20], files={})
    shown = choose_removals(before, after, 5)
    assert [one.group for one in shown] == ["improved"] * 5 + ["became worse"] * 5 + ["by chance"] * 5
    assert shown[0].after is after[5]
    assert shown[5].after is after[9]
    for group in (shown[:5], shown[5:10]):
        assert len({one.before.source_id for one in group}) == 5
    assert len({one.before.item_id for one in shown}) == 15
    assert all(one.before.item_id == one.after.item_id for one in shown)
    assert choose_removals(list(reversed(before)), after, 5) == shown
    assert all(one.after.screen_score > one.before.screen_score for one in shown[1:5])
    assert choose_removals(before, [], 5) == []


def test_bars_point_to_the_right_where_it_became_better() -> None:
    before = scores([5.0] * 8)
    after = [replace(one, measures=one.measures | {"flicker": 0.5 - 0.01 * n}) for n, one in enumerate(before)]
    changes = {change.name: change for change in compare(before, after, QUICK).changes}
    shape = interval_bar(changes["flicker"])
    assert 50 < shape.low < shape.middle < shape.high < 100
    assert shape.limit is not None
    assert shape.limit < 50
    level = interval_bar(changes["screen_score"])
    assert (level.low, level.middle, level.high, level.limit) == (50, 50, 50, None)


def test_fates_count_both_models() -> None:
    before = [outcome("a/0"), outcome("b/0", status="rejected", stage="screen", reason="screened_out")]
    after = [outcome("a/0"), outcome("b/0"), outcome("c/0", status="failed", stage="synthesize", reason="timeout")]
    assert [(f.stage, f.reason, f.before, f.after) for f in outcome_counts(before, after)] == [
        ("", "passed all gates", 1, 2),
        ("screen", "screened_out", 1, 0),
        ("synthesize", "timeout", 0, 1),
    ]


# --- in a browser ---


@pytest.fixture
def opened(browser, file: Path) -> Iterator:
    with chromium.opened(browser, file.as_uri()) as page:
        yield page


@needs_chromium
def test_videos_play_and_groups_filter(opened) -> None:
    opened.evaluate("document.querySelector('#gallery').scrollIntoView()")
    wait_until(opened, "[...document.querySelectorAll('.card video')].filter(v => v.currentTime > 0.15).length >= 2")
    first = opened.locator(".card video").first
    assert first.evaluate("v => [v.videoWidth, v.videoHeight, v.muted, v.loop]") == [480, 96, True, True]
    opened.locator("input[name=group][value='became worse']").check(force=True)
    assert opened.locator("#count").text_content() == "1 pair"
    assert opened.locator(".card:visible").count() == 1
    assert HOSTILE in (opened.locator(".card:visible .sides").text_content() or "")
    opened.locator("input[name=words]").fill("nothing like this")
    assert opened.locator("#none").is_visible()
    opened.locator("#reset").click()
    assert opened.locator("#count").text_content() == "9 pairs"


@needs_chromium
def test_a_wipe_lays_before_and_after_over_each_other(opened) -> None:
    opened.locator(".open").first.click()
    wait_until(opened, "document.querySelector('#closer video').currentTime > 0.05")
    opened.locator("#toggle").click()
    opened.locator("input[name=view][value=wipe]").check(force=True)
    # The wipe at one end shows the third panel, at the other the second.
    differ = """border => {
      const video = document.querySelector('#closer video'), wipe = document.querySelector('#wipe');
      document.querySelector('#border').value = border;
      document.querySelector('#border').dispatchEvent(new Event('input'));
      const read = (image, x, width) => {
        const canvas = new OffscreenCanvas(160, 96), context = canvas.getContext('2d');
        context.drawImage(image, x, 0, width, image.videoHeight || image.height, 0, 0, 160, 96);
        return context.getImageData(20, 10, 120, 60).data;
      };
      const shown = read(wipe, 0, wipe.width);
      return [0, 1, 2].map(panel => {
        const other = read(video, 160 * panel, 160);
        return shown.reduce((sum, value, n) => sum + Math.abs(value - other[n]), 0) / shown.length;
      });
    }"""
    for border, panel in ((0, 2), (100, 1)):
        distances = opened.evaluate(differ, border)
        assert distances[panel] < 4
        assert min(d for n, d in enumerate(distances) if n != panel) > 2 * distances[panel]


@needs_chromium
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_no_width_needs_sideways_scrolling(browser, file: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()

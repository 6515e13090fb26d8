"""The report in a real browser: videos play, filters filter, nothing leaves the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.manifests.run_folder import RunFolder
from tests.chromium import needs_chromium, opened, wait_until

pytestmark = needs_chromium

PLAYING = "[...document.querySelectorAll('.card:not([hidden]) video')].filter(v => v.currentTime > 0.15).length"


@pytest.fixture(scope="module")
def url(reported: RunFolder) -> str:
    return (Path(reported.store.root) / "report/index.html").as_uri()


@pytest.fixture
def page(browser, url: str) -> Iterator:
    with opened(browser, url) as page:
        yield page


def shown(page) -> list[str]:
    return page.eval_on_selector_all(".card", "cards => cards.filter(c => !c.hidden).map(c => c.dataset.task)")


def test_the_videos_on_the_screen_play_and_loop(page) -> None:
    wait_until(page, f"{PLAYING} >= 2")
    first = page.locator(".card:not([hidden]) video").first
    assert first.evaluate("v => [v.videoWidth, v.videoHeight, v.muted, v.loop]") == [480, 96, True, True]
    # 17 frames take about a second: after going round it has begun again.
    seen = first.evaluate(
        "v => new Promise(done => { let last = v.currentTime; const t = setInterval(() => {"
        " if (v.currentTime < last) { clearInterval(t); done(true); } last = v.currentTime; }, 20);"
        " setTimeout(() => done(false), 15000); })"
    )
    assert seen


def test_pause_holds_all_of_them(page) -> None:
    wait_until(page, f"{PLAYING} >= 1")
    page.locator("#play").click()
    assert page.locator("#play").text_content() == "Play"
    assert page.eval_on_selector_all("video", "videos => videos.every(v => v.paused)")


def test_filters_by_task_status_and_words(page) -> None:
    assert len(shown(page)) == 10
    assert page.locator("#count").text_content() == "10 pairs"
    page.locator("input[name=task][value=removal]").check(force=True)
    assert shown(page) == ["removal"] * 3
    assert page.locator("label:has(input[value=stylization]) b").text_content() == "4"
    page.locator("input[name=status][value='set aside']").check(force=True)
    assert shown(page) == ["removal"] * 5
    page.locator("input[name=status][value='']").check(force=True)
    page.locator("input[name=task][value='']").check(force=True)
    assert len(shown(page)) == 17
    page.locator("input[name=words]").fill("blue green (2)")
    assert shown(page) == ["modification"]
    page.locator("input[name=words]").fill("nothing like this")
    assert shown(page) == []
    assert page.locator("#none").is_visible()
    page.locator("#reset").click()
    assert len(shown(page)) == 17


def test_a_closer_look_by_keyboard_with_wipe_and_neighbours(page) -> None:
    page.locator(".open").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#closer").is_visible()
    title = page.locator("#closer-title").text_content()
    wait_until(page, "document.querySelector('#closer video').currentTime > 0.1")
    assert "score" in page.locator("#closer-text").text_content()
    page.locator("input[name=view][value=wipe]").check(force=True)
    assert page.locator("#wipe").is_visible()
    page.wait_for_timeout(200)
    pixel = "c => [...c.getContext('2d').getImageData(c.width / 4, c.height / 2, 1, 1).data]"
    assert page.locator("#wipe").evaluate(pixel)[3] == 255
    page.locator("#next").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#closer-title").text_content() != title
    page.keyboard.press("Escape")
    assert not page.locator("#closer").is_visible()


def test_a_calm_page_does_not_play_by_itself(browser, url: str) -> None:
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(500)
    assert page.locator("#play").text_content() == "Play"
    assert page.eval_on_selector_all("video", "videos => videos.every(v => v.paused)")
    context.close()


@pytest.mark.parametrize("width", [390, 820, 1400])
def test_no_width_needs_sideways_scrolling(browser, url: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(url)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()

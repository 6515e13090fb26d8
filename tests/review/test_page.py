"""The page in a real browser: what is seen is in step, keys decide, and nothing is waited for."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ffpdata.curate import verdicts
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_masks, write_video
from tests.chromium import needs_chromium, wait_until
from tests.fixture_run import FPS, FRAMES, HEIGHT, WIDTH
from tests.review.conftest import TOKEN, Server, serving
from tests.review.many_pairs import make_pairs

pytestmark = needs_chromium

PAIRS, DECISIONS = 200, 40
BRIGHTEST = 230
STEP = 10
"""Grey levels between two frames: the source gets brighter, the target darker, so that their sum tells steps apart."""

LEVELS = """() => ["source", "target"].map((name) => {
  const canvas = document.querySelector(`[data-panel=${name}] canvas`);
  return canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[1];
})"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("page")
    levels = (30 + STEP * np.arange(FRAMES, dtype=np.uint8))[:, None, None, None]
    shape = (FRAMES, HEIGHT, WIDTH, 3)
    files = {name: folder / f"{name}.mp4" for name in ("source", "target", "mask")}
    write_video(files["source"], np.ascontiguousarray(np.broadcast_to(levels, shape)), FPS)
    write_video(files["target"], np.ascontiguousarray(np.broadcast_to(BRIGHTEST - levels, shape)), FPS)
    masks = np.zeros(shape[:3], bool)
    masks[:, 60:90, 20:60] = True
    write_masks(files["mask"], masks, FPS)
    return make_pairs(folder / "run", PAIRS, files)


@pytest.fixture(scope="module")
def server(run: RunFolder) -> Iterator[Server]:
    with serving(Path(run.store.root), "--overlap", "0.1") as running:
        yield running


def shown(page) -> str:
    wait_until(page, "document.body.dataset.shown")
    return page.evaluate("document.body.dataset.shown")


def reviewing(browser, server: Server, reviewer: str, width: int = 1200, height: int = 800):
    """Open the page as a reviewer does; what goes wrong there is collected in `page.problems`."""
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(server.url)
    page.locator("#login input").fill(reviewer)
    page.keyboard.press("Enter")
    shown(page)
    assert TOKEN not in page.url
    return page


@pytest.fixture
def page(browser, server: Server, request: pytest.FixtureRequest) -> Iterator:
    page = reviewing(browser, server, request.node.name[:60])
    yield page
    assert page.problems == []
    assert page.evaluate("window.hacked") is None
    page.context.close()
    server.client(request.node.name[:60]).post("/api/release", {"pairs": []})


def decide(page, key: str) -> str:
    """Press a key, and wait until the next pair shows its video."""
    before = shown(page)
    page.keyboard.press(key)
    wait_until(page, f"![undefined, {before!r}].includes(document.body.dataset.shown)")
    return before


def saved(page) -> None:
    wait_until(page, "!Number(document.body.dataset.unsent)")


def held(run: RunFolder, reviewer: str) -> dict[str, verdicts.Verdict]:
    with run.connect() as connection:
        found = verdicts.read(connection)
    return {key: given[reviewer] for key, given in found.items() if reviewer in given}


def test_a_thousand_decisions_an_hour(page, run: RunFolder, request: pytest.FixtureRequest) -> None:
    begun = time.monotonic()
    judged = [decide(page, "a" if number % 3 else "2") for number in range(DECISIONS)]
    seconds = time.monotonic() - begun
    print(f"{DECISIONS / seconds * 3600:.0f} decisions an hour")
    saved(page)
    kept = held(run, request.node.name)
    expected = {key: "accept" if number % 3 else "reject" for number, key in enumerate(judged)}
    assert {key: given.verdict for key, given in kept.items()} == expected
    assert kept[judged[0]].reasons == ("object_remains",)
    assert all(v.seconds is not None and 0 < v.seconds <= seconds for v in kept.values())
    assert DECISIONS / seconds * 3600 > 2000


def test_two_reviewers_at_once_meet_in_the_overlap_alone(browser, server: Server) -> None:
    from ffpdata.review.assignments import OVERLAP

    pages = [reviewing(browser, server, name) for name in ("Carl", "Dora")]
    seen: list[list[str]] = [[], []]
    for number in range(24):
        seen[number % 2].append(decide(pages[number % 2], "a"))
    for page in pages:
        saved(page)
        assert page.problems == []
        page.context.close()
    both = set(seen[0]) & set(seen[1])
    assert all(int(key[:8], 16) < OVERLAP * 16**8 for key in both)
    assert len(seen[0]) == len(set(seen[0]))


def test_source_and_target_are_of_one_frame(page) -> None:
    page.keyboard.press("ArrowUp")  # twice as fast
    for _ in range(40):
        source, target = page.evaluate(LEVELS)
        assert abs(source + target - BRIGHTEST) <= STEP // 2
        page.wait_for_timeout(15)
    page.keyboard.press("ArrowRight")
    wait_until(page, "document.querySelector('#play').textContent === '\u25b6'")
    for frame in (0, 16, 7, 8):
        page.locator("#frame").evaluate(f"s => {{ s.value = {frame}; s.dispatchEvent(new Event('input')); }}")
        wait_until(page, f"document.querySelector('#number').textContent === '{frame + 1} / {FRAMES}'")
        assert page.evaluate(LEVELS)[0] == pytest.approx(30 + STEP * frame, abs=3)
    page.keyboard.press("ArrowLeft")
    wait_until(page, f"document.querySelector('#number').textContent === '8 / {FRAMES}'")
    for _ in range(8):  # keys that come faster than frames are not lost
        page.keyboard.press("ArrowRight")
    wait_until(page, f"document.querySelector('#number').textContent === '16 / {FRAMES}'")
    wait_until(page, f"Math.abs(({LEVELS})()[0] - {30 + STEP * 15}) <= 3")


def test_views(page) -> None:
    page.keyboard.press("ArrowRight")
    wait_until(page, "document.querySelector('#play').textContent === '\u25b6'")
    page.keyboard.press("d")
    assert not page.locator("[data-panel=source]").is_visible()
    page.keyboard.press("w")
    assert page.locator("#border").is_visible()
    page.keyboard.press("w")
    before = page.locator("[data-panel=target] canvas").screenshot()
    page.keyboard.press("m")
    assert page.locator("[data-panel=target] canvas").screenshot() != before
    page.keyboard.press("m")
    page.keyboard.press("z")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("a")  # a dialog takes no decisions
    page.keyboard.press("Escape")
    assert "onerror" in page.locator("#caption").text_content()


def test_undo_later_skip_and_flag(page, run: RunFolder, request: pytest.FixtureRequest) -> None:
    first = decide(page, "a")
    second = decide(page, "4")
    page.keyboard.press("u")
    wait_until(page, f"document.body.dataset.shown === {second!r}")
    page.keyboard.press("u")
    wait_until(page, f"document.body.dataset.shown === {first!r}")
    decide(page, "n")
    assert decide(page, "s") == second
    third = decide(page, "f")
    saved(page)
    kept = held(run, request.node.name)
    assert {key: given.verdict for key, given in kept.items()} == {second: "skip", third: "flag"}


def test_a_filter_that_nothing_fits_and_back(page) -> None:
    page.locator("#open-filters").click()
    page.locator("[name=order]").select_option("random")
    first = shown(page)
    page.locator("[name=seed]").fill("5")
    page.keyboard.press("Enter")
    wait_until(page, f"![undefined, {first!r}].includes(document.body.dataset.shown)")
    page.locator("[name=flagged]").check()
    page.wait_for_timeout(300)
    page.locator("#open-progress").click()
    assert page.locator("#reviewers tr").count() >= 1


def test_verdicts_wait_for_a_server_that_is_away(page, run: RunFolder, request: pytest.FixtureRequest) -> None:
    loaded = "performance.getEntriesByType('resource').filter(e => e.name.endsWith('/video') && e.responseEnd).length"
    wait_until(page, f"{loaded} >= 3")
    page.context.set_offline(True)
    judged = [decide(page, "a"), decide(page, "a")]
    wait_until(page, "document.querySelector('#message').textContent.includes('trying again')")
    assert page.locator("#saving").is_visible()
    page.context.set_offline(False)
    saved(page)
    assert set(held(run, request.node.name)) == set(judged)
    page.problems.clear()  # that it was offline


@pytest.mark.parametrize("width", [390, 820, 1600])
def test_no_width_needs_sideways_scrolling(browser, server: Server, width: int) -> None:
    page = reviewing(browser, server, f"wide {width}", width)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.context.close()


OVER_THE_PICTURES = """() => [...document.querySelectorAll("#screen canvas")].flatMap((canvas) => {
  const { x, y, width, height } = canvas.getBoundingClientRect();
  const at = (u, v) => [x + u * width, y + v * height];
  const places = [0.02, 0.25, 0.5, 0.75, 0.98].flatMap((v) => [0.05, 0.5, 0.95].map((u) => at(u, v)));
  const inside = places.filter(([a, b]) => width && a >= 0 && b >= 0 && a < innerWidth && b < innerHeight);
  const found = inside.map((place) => document.elementFromPoint(...place));
  return found.filter((element) => element !== canvas).map((element) => element.outerHTML.slice(0, 80));
})"""


@pytest.mark.parametrize(("width", "height"), [(390, 844), (844, 390), (1440, 900)])
def test_no_button_lies_over_the_pictures(browser, server: Server, width: int, height: int) -> None:
    page = reviewing(browser, server, f"over {width}", width, height)
    places = "[...document.querySelectorAll('#screen, #verdict')].map((e) => e.getBoundingClientRect().toJSON())"
    for scrolled in (0, 80, 200, 400):
        page.evaluate(f"scrollTo(0, {scrolled})")
        assert page.evaluate(OVER_THE_PICTURES) == []
        screen, verdict = page.evaluate(places)
        assert screen["bottom"] <= verdict["top"]
    page.evaluate("scrollTo(0, 0)")
    if height > width:  # a phone that is held upright shows both pictures and the first verdicts at once
        screen, verdict = page.evaluate(places)
        assert verdict["top"] + 60 < height
    page.context.close()


class Held:
    """Requests that wait until they are released."""

    def __init__(self) -> None:
        self.routes: list = []
        self.open = False

    def take(self, route) -> None:
        if self.open:
            route.continue_()
        else:
            self.routes.append(route)

    def release(self) -> None:
        self.open = True
        for route in self.routes:
            route.continue_()


def test_what_is_loading_says_so_and_so_does_a_key_that_does_nothing(browser, server: Server) -> None:
    page = browser.new_context(viewport={"width": 1200, "height": 800}).new_page()
    pairs, media = Held(), Held()
    page.route("**/api/next", lambda route: pairs.take(route))  # noqa: PLW0108 - Playwright marks a handler
    page.route("**/media/**", lambda route: media.take(route))  # noqa: PLW0108
    message = "document.querySelector('#message').textContent"
    page.goto(server.url)
    page.locator("#login input").fill("waits")
    page.keyboard.press("Enter")
    wait_until(page, "!document.querySelector('#login').open")
    assert page.locator("#waiting").is_visible()
    assert not page.locator("#none").is_visible()
    page.keyboard.press("a")
    assert page.evaluate(message) == "Not counted: the pairs are still loading"
    pairs.release()
    page.locator("#loading").wait_for(state="visible")
    assert not page.locator("#waiting").is_visible()
    for key, told in {
        "a": "Not counted: the video is still loading",
        "1": "Not counted: the video is still loading",
        "w": "The video is still loading",
        "u": "Nothing to undo",
    }.items():
        page.keyboard.press(key)
        assert page.evaluate(message) == told
    assert not page.locator("#saving").is_visible()
    media.release()
    shown(page)
    assert not page.locator("#loading").is_visible()
    page.context.close()

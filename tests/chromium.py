"""Pages in a real browser: what their tests share."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def opened(browser: Any, url: str) -> Iterator[Any]:
    """Open a page that is one file: nothing is asked of the network, no error comes, and no text becomes a script."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("data:", "file:")) else page.problems.append(request.url),
    )
    page.goto(url)
    yield page
    assert page.problems == []
    assert page.evaluate("window.hacked") is None
    context.close()


def wait_until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids the way in which Playwright itself would."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        page.wait_for_timeout(5)

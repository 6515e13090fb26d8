"""Pages in a real browser: what their tests share."""

from __future__ import annotations

import shutil
import time
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def wait_until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids the way in which Playwright itself would."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        page.wait_for_timeout(5)

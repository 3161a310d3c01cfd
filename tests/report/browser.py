"""A browser for the tests of the site: only what is on this machine, and every complaint kept."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
READY = "document.documentElement.dataset.ready === 'yes'"


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """A headless browser; the test is skipped where there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, address: str, *, width: int = 1440, checked: bool = False) -> Iterator[Any]:
    """A page in a window of its own: requests that would leave the machine fail; `complaints` and `requests` are kept.

    Args:
        browser: From `launched`.
        address: A file's, with a query where the test wants one.
        width: Of the window in CSS pixels; its height is a common one.
        checked: Whether the test adds a script of its own, which the page's policy would refuse.
    """
    size = {"width": width, "height": 844 if width < 640 else 900}
    context = browser.new_context(viewport=size, bypass_csp=checked)
    tab = context.new_page()
    tab.complaints, tab.requests = [], []
    tab.on("console", lambda message: tab.complaints.append(message.text) if message.type != "log" else None)
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))

    def gate(route: Any) -> None:
        tab.requests.append(route.request.url)
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            tab.complaints.append(f"requests {route.request.url}")
            route.abort()

    tab.route("**/*", gate)
    tab.goto(address)
    until(tab, READY)
    yield tab
    context.close()


def until(tab: Any, condition: str, *, seconds: float = 20.0) -> None:
    """Wait until a condition in JavaScript holds; the page's policy refuses playwright's own wait."""
    end = time.monotonic() + seconds
    while not tab.evaluate(condition):
        assert time.monotonic() < end, f"{condition} did not come true within {seconds:g} s"
        tab.wait_for_timeout(20)

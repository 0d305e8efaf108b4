"""Chromium, and pages in it that must have no errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

# In milliseconds. A lost job reads so after ten seconds.
LONG = 20_000


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium; skip the test if there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with ExitStack() as stack:
        try:
            started = stack.enter_context(playwright.sync_playwright())
        except Exception as error:
            pytest.skip(f"Playwright does not run on this machine: {error}")
        path = started.chromium.executable_path
        path = path if Path(path).exists() else shutil.which("chromium")
        if path is None:
            pytest.skip("there is no Chromium: apt-get install chromium, or playwright install")
        browser = started.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, **options: Any) -> Iterator[Any]:
    """A page that must have no errors, and break no rule of its policy."""
    with browser.new_context(**options) as context:
        context.set_default_timeout(LONG)
        page = context.new_page()
        errors, refused = [], []
        page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108 - it is given an attribute
        page.on(
            "console",
            lambda line: refused.append(line.text) if "Content Security" in line.text else None,
        )
        yield page
    assert (errors, refused) == ([], [])

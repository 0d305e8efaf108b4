"""The pictures of docs/howto/board.md: the board with a busy hour, in Chromium.

Run it in the environment of ``make dev``: ``.venv/bin/python benchmarks/board_pictures.py``.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from board import served
from busy_hour import make_app
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLORS = 256  # The pages have few; the others are shades at the edges of letters.

PHONE = {"width": 390, "height": 844}
PICTURES: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1920, "height": 1080}, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light", "is_mobile": True, "has_touch": True},
}


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        os.environ["BUSY_HOUR_STORE"] = f"sqlite:///{folder}/jobs.db"
        browser = started.chromium.launch(executable_path=shutil.which("chromium"))
        for name, options in PICTURES.items():
            # Each has a board of its own: the streams of closed pages stay open for some seconds.
            with served(make_app()) as address:
                picture = take(browser, f"{address}/jobs/", options)
            small = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
            small.save(IMAGES / f"board-{name}.png", optimize=True)
        browser.close()


def take(browser: Browser, url: str, options: dict[str, Any]) -> Image.Image:
    """A picture of the page, once the page follows the jobs."""
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#connection.live")
        if "is_mobile" not in options:
            page.locator("#timeline a.bar.failed").last.hover()
            page.evaluate("scrollTo(0, 0)")
        picture = page.screenshot()
        page.goto("about:blank")  # ends the stream
    return Image.open(io.BytesIO(picture))


if __name__ == "__main__":
    main()

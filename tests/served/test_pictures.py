"""The pictures of docs/explanation/ are what docs/pictures.py draws, and their text can be read."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.browsing import chromium, opened
from tests.support import ROOT

DOCS = ROOT / "docs"
NAMES = ["cancellation", "context", "inside", "job-life", "loops", "lost-jobs"]

# Text that is not inside of the picture, or not of its box, and texts that lie on each other.
FAULTS = """() => {
  const svg = document.querySelector("svg");
  const faults = [];
  const inside = (small, large, margin) =>
    small.left >= large.left + margin && small.right <= large.right - margin &&
    small.top >= large.top && small.bottom <= large.bottom;
  const texts = [...svg.querySelectorAll("text")];
  for (const text of texts) {
    const place = text.getBoundingClientRect();
    const box = text.closest("g.box");
    const around = box ? box.querySelector("rect") : svg;
    if (!inside(place, around.getBoundingClientRect(), 4)) faults.push("cut: " + text.textContent);
    for (const other of texts) {
      if (other === text) break;
      const near = other.getBoundingClientRect();
      const apart = near.right <= place.left || near.left >= place.right ||
        near.bottom <= place.top + 4 || near.top >= place.bottom - 4;
      if (!apart) faults.push(other.textContent + " lies on " + text.textContent);
    }
    const size = parseFloat(getComputedStyle(text).fontSize);
    if (size * 720 / svg.viewBox.baseVal.width < 14) faults.push("small: " + text.textContent);
  }
  return faults;
}"""


def source(name: str) -> str:
    return (DOCS / "images" / f"{name}.svg").read_text("utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


def test_the_pictures_are_those_that_the_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    drawn = [draw() for draw in importlib.import_module("pictures").PICTURES]

    assert sorted(picture.name for picture in drawn) == NAMES
    for picture in drawn:
        assert source(picture.name) == picture.render(), "run docs/pictures.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_well_formed_and_has_a_title(name: str) -> None:
    root = ET.fromstring(source(name))

    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_on_a_page_with_a_text_for_those_who_do_not_see_it(name: str) -> None:
    pages = [page.read_text("utf-8") for page in (DOCS / "explanation").glob("*.md")]
    texts = re.findall(rf"!\[([^]]*)\]\(\.\./images/{name}\.svg\)", "\n".join(pages))

    assert len(texts) == 1
    assert len(texts[0]) > 40


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_a_picture_is_large_and_not_cut_off(browser: Any, name: str) -> None:
    with opened(browser, viewport={"width": 720, "height": 900}) as page:
        page.set_content(f"<style>svg {{width: 100%; height: auto}}</style>{source(name)}")

        assert page.evaluate(FAULTS) == []

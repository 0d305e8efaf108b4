"""Reading the pages of a board."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

from flask.testing import FlaskClient

TOKEN = re.compile(r'<meta name="csrf-token" content="([^"]*)">')


def token_of(client: FlaskClient, path: str = "/jobs/") -> str:
    """The token that the page has for scripts."""
    return unescape(TOKEN.search(client.get(path).text)[1])


def headers_of(client: FlaskClient) -> dict[str, str]:
    """The headers with which a script of the page acts."""
    return {"X-CSRF-Token": token_of(client), "Sec-Fetch-Site": "same-origin"}


class Page(HTMLParser):
    """The elements of a page, and the text of each that has an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of that kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def with_id(self, id_: str) -> dict[str, str | None]:
        """The attributes of the element with that id."""
        [found] = [each for _, each in self.elements if each.get("id") == id_]
        return found


def form_of(page: Page) -> dict[str, str]:
    """What the form of a page sends: its hidden fields."""
    return {each["name"]: each["value"] for each in page.all("input") if each["type"] == "hidden"}

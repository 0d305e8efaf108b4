"""The page in a browser: it follows the jobs without being loaded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.browsing import LONG, opened
from tests.served.servers import served

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect

SERVED = Path(__file__).parent
WITH_EVENTS = "flask --app served_board run --port 0"
WITHOUT_EVENTS = "gunicorn -w 2 -b 127.0.0.1:0 --no-control-socket served_board:app"

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser) -> Iterator[playwright.Page]:
    with opened(browser) as page:
        yield page


@pytest.fixture(autouse=True)
def _settings(monkeypatch, tmp_path, pipe: IO[str]) -> None:
    monkeypatch.setenv("PIPE", pipe.name)
    monkeypatch.setenv("FLASK_EXECUTOR_STORE", f"sqlite:///{tmp_path}/jobs.db")


def start(client: httpx.Client, key: str) -> str:
    return client.post(f"/draw/{key}").text


def draw(pipe: IO[str], pages: str) -> None:
    pipe.write(pages)
    pipe.flush()


@pytest.mark.parametrize("command", [WITH_EVENTS, WITHOUT_EVENTS])
def test_the_bar_of_a_running_job_moves_without_a_reload(page, pipe, command):
    with served(command, SERVED) as client:
        streams = []
        page.on(
            "response",
            lambda response: (
                streams.append(response.status) if response.url.endswith("/events") else None
            ),
        )
        page.goto(f"{client.base_url}/jobs/")
        page.evaluate("window.isTheSame = true")
        id_ = start(client, "report")
        bar = page.locator(f"#progress-{id_}")
        expect(bar).to_have_js_property("value", 0, timeout=LONG)
        draw(pipe, "xxx")
        expect(bar).to_have_js_property("value", 0.3, timeout=LONG)
        draw(pipe, ".")
        expect(page.locator(f"#job-{id_}")).to_contain_text("succeeded", timeout=LONG)
        expect(bar).to_have_count(0)
        assert page.evaluate("window.isTheSame")
        live = "live" if command == WITH_EVENTS else "polling"
        expect(page.locator("#connection")).to_have_text(live)
        assert set(streams) == {200 if command == WITH_EVENTS else 204}
        page.goto("about:blank")  # ends the stream


def test_what_the_user_does_survives_a_change(page, pipe):
    with served(WITHOUT_EVENTS, SERVED) as client:
        first = start(client, "first")
        page.goto(f"{client.base_url}/jobs/")
        page.get_by_label("Key begins with").fill("half a w")
        page.locator(f"#bar-{first}").focus()
        expect(page.locator("#timeline-details")).to_contain_text("draw, key first, running")
        second = start(client, "second")
        expect(page.locator(f"#bar-{second}")).to_have_count(1, timeout=LONG)
        expect(page.locator(f"#bar-{first}")).to_be_focused()
        expect(page.get_by_label("Key begins with")).to_have_value("half a w")
        draw(pipe, "..")


def test_a_job_is_cancelled_and_forgotten_after_a_question(page, pipe):
    with served(WITHOUT_EVENTS, SERVED) as client:
        id_ = start(client, "report")
        page.goto(f"{client.base_url}/jobs/")
        asked = []

        def answer(dialog) -> None:
            asked.append(dialog.message)
            if len(asked) == 1:
                dialog.dismiss()
            else:
                dialog.accept()

        page.on("dialog", answer)
        row = page.locator(f"#job-{id_}")
        row.get_by_role("link", name="Cancel").click()
        expect(row).to_contain_text("running")
        draw(pipe, ".")
        expect(row).to_contain_text("succeeded", timeout=LONG)
        row.get_by_role("link", name="Forget").click()
        expect(row).to_have_count(0, timeout=LONG)
        assert asked == ["Cancel this job?", "Delete the record of this job?"]
        assert client.get("/jobs/api/jobs").json()["jobs"] == []


def test_a_traceback_stays_open_and_the_page_of_a_job_is_live(page, pipe):
    with served(WITHOUT_EVENTS, SERVED) as client:
        id_ = start(client, "report")
        page.goto(f"{client.base_url}/jobs/job/{id_}")
        expect(page.locator("h1")).to_contain_text("running")
        draw(pipe, ".")
        expect(page.locator("h1")).to_contain_text("succeeded", timeout=LONG)
        expect(page.locator("#result")).to_contain_text("all drawn")


def test_a_change_leaves_open_what_the_user_has_opened(page, pipe):
    with served(WITHOUT_EVENTS, SERVED) as client:
        id_ = client.post("/fail/report").text
        page.goto(f"{client.base_url}/jobs/job/{id_}")
        traceback, since = page.locator("#traceback"), page.locator("#job time")
        traceback.locator("summary").click()
        page.evaluate("document.getElementById('traceback').isTheSame = true")
        before = since.text_content()
        expect(since).not_to_have_text(before, timeout=LONG)
        expect(traceback).to_have_js_property("open", value=True)
        expect(traceback).to_have_js_property("isTheSame", value=True)
        expect(traceback.locator("summary")).to_be_focused()


def test_a_change_leaves_the_row_that_the_user_is_in(page, pipe):
    with served(WITHOUT_EVENTS, SERVED) as client:
        first = start(client, "first")
        page.goto(f"{client.base_url}/jobs/")
        row = page.locator(f"#job-{first}")
        row.evaluate("row => { row.isTheSame = true; }")
        page.locator(f"#link-{first}").focus()
        second = start(client, "second")
        expect(page.locator(f"#job-{second}")).to_have_count(1, timeout=LONG)
        expect(row).to_have_js_property("isTheSame", value=True)
        expect(page.locator(f"#link-{first}")).to_be_focused()
        draw(pipe, "..")


def test_without_scripts_a_job_is_forgotten_by_a_form(browser, pipe):
    with (
        served(WITHOUT_EVENTS, SERVED) as client,
        opened(browser, java_script_enabled=False) as page,
    ):
        id_ = start(client, "report")
        draw(pipe, ".")
        page.goto(f"{client.base_url}/jobs/job/{id_}")
        while "running" in page.locator("h1").text_content():
            page.reload()
        page.get_by_role("link", name="Forget").click()
        page.get_by_role("button", name="Forget the job").click()
        expect(page.locator("#list")).to_contain_text("No job has a record yet")


def test_a_page_says_that_its_server_is_gone(page):
    with served(WITHOUT_EVENTS, SERVED) as client:
        page.goto(f"{client.base_url}/jobs/")
        expect(page.locator("#connection")).to_have_text("polling", timeout=LONG)
        shown = "getComputedStyle(document.getElementById('counts')).filter"
        assert page.evaluate(shown) == "none"
    expect(page.locator("#connection")).to_contain_text("The server does not answer", timeout=LONG)
    assert "grayscale" in page.evaluate(shown)

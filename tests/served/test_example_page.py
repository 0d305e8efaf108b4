"""The page of the example, and the recipes of the docs, in a browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

import pytest

from tests.browsing import LONG, chromium, opened
from tests.served.servers import ADDRESS, APPS, read_to_address, served, start
from tests.support import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect

FLASK = "flask --app served_example run --port 0"
GUNICORN = "gunicorn --workers 2 --threads 4 --no-control-socket served_example:app --bind"

# Servers, and whether the example has threads for streams there.
SERVERS = {
    FLASK: True,
    f"{GUNICORN} 127.0.0.1:0": True,
    "gunicorn --workers 2 --no-control-socket served_example:app --bind 127.0.0.1:0": False,
    "uvicorn --port 0 --reset-contextvars served_example:asgi_app": False,
}

LONG_JOBS = (ROOT / "docs" / "howto" / "long-jobs.md").read_text("utf-8")

ENDED_PROCESS = """
import threading
from docs import app, executor

def fail():
    raise ValueError("no such month")

started = threading.Event()

def hang():
    started.set()
    threading.Event().wait()

app.logger.disabled = True
executor.submit_stored("june", fail).exception()
executor.submit_stored("may", hang)
started.wait()
"""

# What is wider than the screen; code blocks have a bar of their own to scroll.
WIDE = """
[...document.querySelectorAll("body *")]
  .filter(element => !element.parentElement.closest("pre"))
  .filter(element => element.getBoundingClientRect().right > innerWidth)
  .map(element => element.outerHTML)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser) -> Iterator[playwright.Page]:
    """A page that must not have errors of its own."""
    with opened(browser, viewport={"width": 1280, "height": 900}) as page:
        yield page


@pytest.fixture(autouse=True)
def _settings(monkeypatch, tmp_path, pipe: IO[str]) -> None:
    monkeypatch.setenv("PIPE", pipe.name)
    for prefix in ("", "PROCESSES_", "REPORTS_"):
        monkeypatch.setenv(f"FLASK_{prefix}EXECUTOR_STORE", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.setenv("FLASK_LOG_FILE", str(tmp_path / "jobs.log"))


@contextmanager
def killed_at_the_end(address: str, server: str = GUNICORN) -> Iterator[str]:
    """Serve the example, and kill all processes of the server when the block ends."""
    with start(f"{server} {address}", APPS) as process, ThreadPoolExecutor(1) as reader:
        try:
            log = read_to_address(process.stderr)
            reader.submit(process.stderr.read)
            yield ADDRESS.search(log)[0]
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def card(page, path: str) -> playwright.Locator:
    """The button of a view, with what came of it and the code beside it."""
    return page.locator("article", has=page.locator(f'[data-path="{path}"]'))


def press(page, path: str) -> playwright.Locator:
    pressed = card(page, path)
    pressed.get_by_role("button").click()
    return pressed


@contextmanager
def requests_of(page) -> Iterator[list[str]]:
    """Collect the paths that the page asks for."""
    paths: list[str] = []
    note = lambda request: paths.append(re.sub(r"^\w+://[^/]+", "", request.url))  # noqa: E731
    page.on("request", note)
    yield paths
    page.remove_listener("request", note)


def start_report(page, month: str = "2026-01") -> None:
    page.get_by_label("Month", exact=True).fill(month)
    page.get_by_role("button", name="Start the report").click()


def row(page, month: str = "2026-01") -> playwright.Locator:
    return page.get_by_role("listitem").filter(has_text=month)


def expect_pages(page, pages: int) -> None:
    expect(row(page)).to_contain_text(f"{pages} of 10 pages drawn", timeout=LONG)
    expect(row(page).get_by_role("progressbar")).to_have_js_property("value", pages / 10)


# What the server could say of the twelve jobs of four workers, the last of which has failed.
FAN_OUT = [
    {
        "id": str(number),
        "name": "fib",
        "state": "failed" if number == 11 else "succeeded",
        "submitted": 1000,
        "started": 1000.1 + number // 4 * 0.1,
        "ended": 1000.2 + number // 4 * 0.1,
        "error": "ValueError" if number == 11 else None,
    }
    for number in range(12)
]


def test_the_first_screen_shows_jobs_and_counts_without_a_click(page):
    page.set_viewport_size({"width": 1280, "height": 800})
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))

        expect(card(page, "/gather")).to_contain_text(re.compile("12 jobs, . at a time: 12 succe"))
        expect(card(page, "/gather").locator(".bar.succeeded")).to_have_count(12)
        expect(card(page, "/gather").locator(".took")).to_have_text(re.compile(r"^\d+ ms$"))
        expect(card(page, "/gather").locator("output")).to_contain_text("200  [1,1,2,3,5,8,13")
        expect(page.locator("#counts .succeeded dd")).to_have_text("12")
        for shown in (card(page, "/gather").locator(".lanes"), page.locator("#counts")):
            expect(shown).to_be_in_viewport(ratio=1)


def test_the_lanes_are_as_many_as_jobs_ran_at_a_time(page):
    page.route("**/timeline", lambda route: route.fulfill(json=FAN_OUT))
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        shown = card(page, "/gather")
        expect(shown.locator(".lane")).to_have_count(4)
        lanes = [lane.locator(".bar").count() for lane in shown.locator(".lane").all()]
        left, width = (
            shown.locator(".bar").nth(1).evaluate("bar => [bar.style.left, bar.style.width]")
        )

        assert lanes == [3, 3, 3, 3]
        assert (float(left[:-1]), float(width[:-1])) == pytest.approx((50, 25), abs=0.01)
        assert (
            shown.locator(".bar.failed").get_attribute("title") == "fib: ValueError, 300 to 400 ms"
        )
        expect(shown.get_by_role("img")).to_have_accessible_name(
            "12 jobs, 4 at a time: 11 succeeded, 1 failed with ValueError after 400 ms"
        )


def test_each_button_shows_the_time_it_took_and_its_jobs(page):
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        paths = [
            button.get_attribute("data-path")
            for button in page.locator("[data-path]").all()
            if button.get_attribute("data-path") != "/newsletter"
        ]
        for path in paths:
            pressed = press(page, path)
            expect(pressed.locator(".took")).to_have_text(re.compile(r"^\d+ ms$"))
            expect(pressed.locator("output")).to_have_text(re.compile("^20[02]  "))
        with_jobs = {
            path for path in paths if card(page, path).locator("figcaption").text_content() != ""
        }
        expect(card(page, "/welcome")).to_contain_text("1 job: succeeded after")

    assert set(paths) - with_jobs == {"/log", "/outbox", "/stats", "/counts"}


def test_a_job_that_fails_shows_its_error_and_what_the_log_says(page):
    with killed_at_the_end("127.0.0.1:0") as address:
        page.goto(address)
        pressed = press(page, "/newsletter")

        expect(pressed.locator("output")).to_have_text("202  The newsletter is on its way.")
        expect(pressed).to_contain_text("1 job: failed with ConnectionError", timeout=LONG)
        expect(pressed.get_by_label("What the log says")).to_contain_text(
            "failed and nobody asked for its outcome", timeout=LONG
        )
        expect(pressed.get_by_label("What the log says")).to_contain_text(
            "ConnectionError: The mail server does not answer."
        )
        expect(page.locator("#counts .failed dd")).to_have_text("1")


@pytest.mark.timeout(120)
def test_the_switch_has_the_jobs_of_all_buttons_run_in_processes_where_they_can(page):
    server = GUNICORN.replace("--workers 2", "--workers 1")
    with killed_at_the_end("127.0.0.1:0", server) as address, requests_of(page) as asked:
        page.goto(address)
        expect(card(page, "/gather")).to_contain_text("12 succeeded")
        page.get_by_role("radio", name="processes").check()
        expect(card(page, "/gather")).to_contain_text("12 succeeded", timeout=3 * LONG)
        expect(press(page, "/primes")).to_contain_text("4 succeeded", timeout=LONG)
        expect(press(page, "/job")).to_contain_text("1 job: succeeded", timeout=LONG)
        expect(card(page, "/job")).to_contain_text("Always in threads")
        refused = press(page, "/welcome")
        expect(refused).to_contain_text("1 job: failed with RuntimeError", timeout=LONG)
        expect(refused.get_by_label("What the log says")).to_contain_text(
            "request, session, g and contextvars do not travel to another process"
        )

    paths = ["/gather", "/gather?on=processes", "/primes?on=processes", "/job"]
    assert [path for path in asked if path.split("?")[0] in {"/gather", "/primes", "/job"}] == paths


def test_a_press_that_comes_late_does_not_replace_a_newer_one(page):
    late = []
    page.route("**/gather", lambda route: late.append(route))  # noqa: PLW0108 - it is given an attribute
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        page.route("**/gather?on=processes", lambda route: route.fulfill(body="newer"))
        page.get_by_role("radio", name="processes").check()
        expect(card(page, "/gather").locator("output")).to_have_text("200  newer")
        with page.expect_response("**/gather"):
            late[0].fulfill(body="older")
        press(page, "/outbox")
        expect(card(page, "/outbox").locator("output")).to_contain_text("200")

        expect(card(page, "/gather").locator("output")).to_have_text("200  newer")


def test_a_press_says_when_the_server_is_gone(page):
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        expect(card(page, "/gather")).to_contain_text("12 succeeded")

    pressed = press(page, "/outbox")
    expect(pressed.locator("output")).to_contain_text("The server does not answer")


@pytest.mark.parametrize(("width", "is_beside"), [(1280, True), (390, False)])
def test_the_code_is_beside_its_button_or_on_a_phone_below_it(page, width, is_beside):
    page.set_viewport_size({"width": width, "height": 800})
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        for path, job in (("/gather", "fib"), ("/newsletter", "send_newsletter")):
            button = card(page, path).get_by_role("button").bounding_box()
            code = card(page, path).get_by_label(f"The code of {job}").bounding_box()

            assert (code["x"] > button["x"] + button["width"]) == is_beside
            assert is_beside or code["y"] > button["y"] + button["height"]


def test_the_page_asks_no_other_host_and_has_no_inline_handlers(page):
    with served(FLASK, APPS) as client:
        address = str(client.base_url)
        urls = []
        page.on("request", lambda request: urls.append(request.url))
        page.goto(address)
        expect(card(page, "/gather")).to_contain_text("12 succeeded")
        inline = page.evaluate(
            """[...document.querySelectorAll("*")].flatMap(element => element.getAttributeNames())
               .filter(name => name.startsWith("on"))"""
        )

    assert {url.startswith((address, "data:")) for url in urls} == {True}
    assert inline == []


def test_all_of_the_page_is_reached_by_keyboard(page):
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        expect(card(page, "/gather")).to_contain_text("12 succeeded")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="All jobs")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("radio", name="threads")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("radio", name="processes")).to_be_checked()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Tab")
        button = card(page, "/gather").get_by_role("button")
        with page.expect_response("**/gather"):
            page.keyboard.press("Enter")
        expect(card(page, "/gather")).to_contain_text("12 succeeded")
        expect(button).to_be_focused()


@pytest.mark.parametrize(("motion", "animation"), [("reduce", "none"), ("no-preference", "grow")])
def test_bars_grow_unless_motion_shall_be_reduced(page, motion, animation):
    page.emulate_media(reduced_motion=motion)
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        bar = card(page, "/gather").locator(".bar").first
        expect(bar).to_have_css("animation-name", animation)


def test_a_bar_moves_survives_a_reload_and_stops_when_the_report_is_cancelled(page, pipe):
    with served(f"{GUNICORN} 127.0.0.1:0", APPS) as client:
        page.goto(str(client.base_url))
        start_report(page)
        expect_pages(page, 0)
        pipe.write("...")
        pipe.flush()
        expect_pages(page, 3)

        page.reload()
        expect_pages(page, 3)
        expect(row(page)).to_contain_text("running")
        pipe.write(".")
        pipe.flush()
        expect_pages(page, 4)

        row(page).get_by_role("button", name="Cancel").click()
        expect(row(page)).to_contain_text("cancelled", timeout=LONG)
        expect_pages(page, 5)  # A page that was begun is drawn to its end.

        row(page).get_by_role("button", name="Forget").click()
        expect(row(page)).to_have_count(0)


def test_a_report_that_has_ended_shows_its_result_and_may_be_built_again(page, pipe):
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        start_report(page)
        start_report(page)
        expect(page.locator("#refused")).to_contain_text("is being built already")
        pipe.write(10 * ".")
        pipe.flush()
        expect(row(page)).to_contain_text("The report of 2026-01, 10 pages for Ada")

        start_report(page)
        expect(row(page)).to_have_count(2)
        expect(row(page).first).to_contain_text("running")
        expect(row(page).last).to_contain_text("succeeded")
        expect(page.locator("#refused")).to_be_empty()
        pipe.write(10 * ".")
        pipe.flush()
        expect(row(page).first).to_contain_text("succeeded")


def test_the_page_says_when_the_server_is_gone_and_goes_on_when_it_is_back(page, pipe):
    with killed_at_the_end("127.0.0.1:0") as address:
        page.goto(address)
        start_report(page)
        expect_pages(page, 0)
    expect(page.locator("#gone")).to_contain_text("does not answer", timeout=LONG)
    expect_pages(page, 0)

    with killed_at_the_end(address.removeprefix("http://")):
        expect(page.locator("#gone")).to_be_empty(timeout=LONG)
        expect(row(page)).to_contain_text("lost", timeout=LONG)
        start_report(page)
        expect(row(page).first).to_contain_text("running")


def test_the_page_polls_once_a_second_while_a_report_is_built_and_it_can_be_seen(page, pipe):
    asked = []

    def requests():
        page.evaluate("fetch('/outbox')")  # Requests before it are known when it has been answered.
        seen, asked[:] = asked[:], []
        return [path for path in seen if path != "/outbox"]

    def is_asked_again(response):
        return response.url.endswith("/reports") and any(path.endswith("/events") for path in asked)

    page.route("**/events", lambda route: route.fulfill(status=503))
    with served(FLASK, APPS) as client:
        address = str(client.base_url)
        page.on("request", lambda request: asked.append(request.url.removeprefix(address)))
        page.clock.install()
        with page.expect_response("**/reports"):
            page.goto(address)
        expect(card(page, "/gather")).to_contain_text("12 succeeded")
        page.clock.pause_at("2100-01-01")
        requests()
        page.clock.run_for(600_000)
        idle = requests()
        page.route("**/counts", lambda route: route.abort())  # They have a time of their own.
        with page.expect_response(is_asked_again):
            start_report(page)
        expect(row(page)).to_contain_text("running")
        requests()
        page.clock.run_for(900)
        early = requests()
        with page.expect_response("**/reports"):
            page.clock.run_for(100)
        due = requests()
        show_page(page, is_shown=False)
        requests()
        page.clock.run_for(600_000)
        hidden = requests()
        with page.expect_response("**/reports"):
            show_page(page, is_shown=True)
        seen = requests()
        row(page).get_by_role("button", name="Cancel").click()

    assert (idle, early, due, hidden) == ([], [], ["/reports"], [])
    assert sorted(seen) == ["/counts", "/reports"]


def test_an_answer_that_comes_late_does_not_hide_a_report(page, pipe):
    late = []

    def hold_the_first(route):
        if late:
            route.continue_()
        else:
            late.append(route)

    with served(FLASK, APPS) as client:
        page.route("**/reports", hold_the_first)
        page.goto(str(client.base_url))
        start_report(page)
        expect_pages(page, 0)
        with page.expect_response("**/reports"):
            late[0].fulfill(json=[])
        pipe.write(10 * ".")
        pipe.flush()
        expect(row(page)).to_contain_text("succeeded")


def show_page(page, *, is_shown: bool) -> None:
    """Have the page think that it comes into view, or leaves it."""
    is_hidden = str(not is_shown).lower()
    page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, writable: true }})"
    )
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_leaves_the_screen_of_a_phone(page, pipe, scheme):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        start_report(page)
        start_report(page, "2026-02")
        start_report(page, "2026-02")
        expect(page.locator("#refused")).to_contain_text("is being built already")
        expect_pages(page, 0)
        expect(row(page, "2026-02").get_by_role("button")).to_be_visible()
        expect(press(page, "/stats").locator("output")).to_contain_text("200")
        expect(press(page, "/map")).to_contain_text("12 succeeded")
        for folded in page.locator("summary").all():
            folded.click()

        assert page.evaluate(WIDE) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        row(page, "2026-02").get_by_role("button").click()
        row(page).get_by_role("button").click()
        expect(row(page)).to_contain_text("cancelled", timeout=LONG)


def test_a_bar_moves_by_a_stream_and_the_page_polls_once_more_at_its_end(page, pipe):
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        page.clock.install()
        page.clock.pause_at("2100-01-01")
        with page.expect_request("**/reports/2026-01/events"):
            start_report(page)
        expect_pages(page, 0)
        with requests_of(page) as asked:
            pipe.write("...")
            pipe.flush()
            expect_pages(page, 3)
            page.clock.run_for(4000)
            page.evaluate("fetch('/outbox')")
            moved = asked.copy()
            with page.expect_response("**/reports"):
                pipe.write(7 * ".")
                pipe.flush()
            expect(row(page)).to_contain_text("succeeded")

    assert "/reports" not in moved
    assert asked.count("/reports") == 1


def test_a_stream_is_closed_while_nobody_sees_the_page(page, pipe):
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        with page.expect_request("**/events"):
            start_report(page)
        expect_pages(page, 0)
        with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
            show_page(page, is_shown=False)
        with page.expect_response("**/events") as again:
            show_page(page, is_shown=True)
        status = again.value.status
        row(page).get_by_role("button", name="Cancel").click()
        expect(row(page)).to_contain_text("cancelled", timeout=LONG)

    assert status in {
        200,
        503,
    }  # 503 as long as the server has not noticed the end of the first one


def test_a_stream_that_is_cut_is_opened_again_after_a_second(page, pipe):
    event = {"id": "x", "month": "2026-02", "state": "running", "progress": None}
    body = f"data: {json.dumps(event)}\n\n"
    page.route(
        "**/events", lambda route: route.fulfill(body=body, content_type="text/event-stream")
    )
    with served(FLASK, APPS) as client:
        page.goto(str(client.base_url))
        page.clock.install()
        page.clock.pause_at("2100-01-01")
        with page.expect_response("**/events"):
            start_report(page)
        expect(row(page, "2026-02")).to_have_count(1)
        with requests_of(page) as asked:
            page.clock.run_for(900)
            page.evaluate("fetch('/outbox')")
            early = asked.copy()
            with page.expect_request("**/events"):
                page.clock.run_for(100)
        row(page, "2026-01").get_by_role("button", name="Cancel").click()

    assert not any(path.startswith("/reports") for path in early)


@pytest.mark.parametrize(
    ("server", "has_streams"), SERVERS.items(), ids=lambda value: str(value).split()[0]
)
def test_the_page_works_on_every_server_with_streams_or_without(page, pipe, server, has_streams):
    with served(server, APPS) as client:
        page.goto(str(client.base_url))
        expect(card(page, "/gather")).to_contain_text("12 succeeded")
        with page.expect_response("**/events") as stream:
            start_report(page)
        pipe.write("...")
        pipe.flush()
        expect_pages(page, 3)
        pipe.write(7 * ".")
        pipe.flush()
        expect(row(page)).to_contain_text("succeeded")

    assert stream.value.status == (200 if has_streams else 503)


def test_the_page_polls_and_follows_as_the_docs_say():
    recipe = re.compile(r"// Calls show.*?\n}\n", re.DOTALL)
    example = (ROOT / "examples" / "static" / "async_app.js").read_text("utf-8")

    assert recipe.findall(LONG_JOBS) == recipe.findall(example)


def test_the_recipes_of_the_docs_follow_a_job_to_its_end(page, tmp_path):
    (tmp_path / "docs.py").write_text("\n".join(code_of_docs("python")), "utf-8")
    [html] = code_of_docs("html")
    polling, events, both = code_of_docs("js")
    follow = "new Promise(resolve => follow('/reports/may/events', resolve))"
    bar, text = page.get_by_role("progressbar"), page.get_by_role("status")

    with served("flask --app docs run --port 0", tmp_path) as client:
        page.goto(f"{client.base_url}/reports/may")
        page.set_content(html)
        page.add_script_tag(content=polling)
        page.get_by_role("button").click()
        expect(text).to_have_text("240 words")
        expect(bar).to_have_js_property("value", 1)
        page.add_script_tag(content=events)
        job = page.evaluate(follow)
        unknown = page.evaluate(follow.replace("may", "june"))
        page.evaluate("poll('/reports/june', job => text.textContent = String(job))")
        expect(text).to_have_text("null")
        bar.evaluate("bar => bar.value = 0")
        page.add_script_tag(content=both)
        expect(bar).to_have_js_property("value", 1)
        with page.expect_response("**/reports/june"):
            page.evaluate(both.replace("may", "june"))
    gone = page.evaluate(follow)

    assert (job["state"], job["progress"]["fraction"]) == ("succeeded", 1)
    assert (unknown, gone) == (None, None)


def test_the_recipes_of_the_docs_say_that_a_job_is_lost_or_has_failed_and_start_it_again(
    page, tmp_path
):
    store = f'app.config["EXECUTOR_STORE"] = "sqlite:///{tmp_path}/recipe.db"\n'
    store += 'app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = 0\n'
    code = "\n".join(code_of_docs("python")).replace("executor =", f"{store}executor =", 1)
    (tmp_path / "docs.py").write_text(code, "utf-8")
    # It exits while one job runs; another job has failed there.
    subprocess.run([sys.executable, "-c", ENDED_PROCESS], cwd=tmp_path, check=True)
    [html] = code_of_docs("html")
    polling, _, _ = code_of_docs("js")
    text = page.get_by_role("status")

    with served("flask --app docs run --port 0", tmp_path) as client:
        page.goto(f"{client.base_url}/reports/may")
        page.set_content(html)
        page.add_script_tag(content=polling)
        page.evaluate("poll('/reports/june', show)")
        expect(text).to_have_text("no such month")
        page.evaluate("poll('/reports/may', show)")
        expect(text).to_have_text("The server was restarted. Start the report again.")
        page.evaluate("show({ state: 'cancelled' })")
        expect(text).to_have_text("cancelled")
        page.get_by_role("button").click()
        expect(text).to_have_text("240 words")
        client.post("/reports/june")
        state = client.get("/reports/june").json()["state"]

    assert state in {"pending", "running", "succeeded"}


def code_of_docs(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", LONG_JOBS, re.DOTALL)

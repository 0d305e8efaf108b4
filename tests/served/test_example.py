"""The example app: every view, every state of a report, and the page that shows them."""

from __future__ import annotations

import html
import importlib
import re
import sys
import threading

import pytest

from tests.support import ROOT

EXAMPLES = ROOT / "examples"

FIBONACCI = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987]


class Pause:
    """Stands for the pauses in the example's jobs, which end once it is over."""

    def __init__(self):
        self.has_begun = threading.Event()
        self.is_over = threading.Event()

    def __call__(self, seconds):
        self.has_begun.set()
        assert self.is_over.wait(10)


@pytest.fixture
def pause():
    return Pause()


@pytest.fixture
def example(monkeypatch, pause):
    """A new copy of the example."""
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("async_app")
    monkeypatch.setattr(example, "sleep", pause)
    yield example
    pause.is_over.set()
    example.executor.shutdown()
    example.reports.shutdown()
    del sys.modules["async_app"]


@pytest.fixture
def client(example):
    return example.app.test_client()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/result", 5),
        ("/await", 5),
        ("/await-job", 5),
        ("/map", FIBONACCI[:12]),
        ("/gather", FIBONACCI[:12]),
        ("/map-async", FIBONACCI),
    ],
)
def test_a_view_answers_with_what_its_jobs_gave(client, pause, path, answer):
    pause.is_over.set()

    response = client.get(path)

    assert (response.status_code, response.get_json(force=True)) == (200, answer)


def test_a_decorated_job_has_a_name_and_an_id(client, pause):
    pause.is_over.set()

    response = client.get("/job")

    assert re.fullmatch(r"Job [0-9a-f-]{36}, fib\(5\), gave 5", response.text)


def test_39_results_are_streamed_while_jobs_still_run(client, example, monkeypatch):
    passes = threading.Semaphore(1)

    def wait_for_a_pass(seconds):
        assert passes.acquire(timeout=10)

    monkeypatch.setattr(example, "sleep", wait_for_a_pass)

    response = client.get("/stream")  # has the first result
    passes.release(38 + 39)

    assert sorted(map(int, response.text.split())) == [example.fib(n) for n in range(1, 40)]


def test_a_mail_is_sent_after_the_response_with_the_request_and_g_of_the_view(
    client, pause, example
):
    response = client.post("/welcome?user=Grace", base_url="https://example.org")
    before = client.get("/outbox")
    pause.is_over.set()
    example.executor.drain()
    after = client.get("/outbox")

    assert response.status_code == 202
    assert before.json == []
    assert after.json == ["Welcome, Grace! Sign in at https://example.org/"]


def test_the_counts_are_those_of_both_executors(client, pause):
    pause.is_over.set()
    client.get("/map")

    counts = client.get("/stats").json

    assert counts["executor"]["submitted"] == 12
    assert counts["reports"] | {"workers": 1, "submitted": 0} == counts["reports"]


def test_a_report_is_running_and_then_succeeds(client, pause, example):
    started = client.post("/reports/2026-01?user=Grace")
    assert pause.has_begun.wait(10)
    running = client.get("/reports/2026-01")
    pause.is_over.set()
    example.reports.drain()
    ended = client.get("/reports/2026-01")

    assert started.status_code == 202
    assert running.json == {"state": "running"}
    assert ended.json == {
        "state": "succeeded",
        "result": "The report of 2026-01, 10 pages for Grace",
    }


def test_a_report_is_started_once(client, example):
    client.post("/reports/2026-01")

    response = client.post("/reports/2026-01")

    assert response.status_code == 409
    assert "already, that of the job 'build_report'" in response.json["error"]
    assert example.reports.stats().submitted == 1


def test_a_report_that_waits_is_cancelled(client, pause, example):
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)

    pending = client.post("/reports/2026-02")
    cancelled = client.post("/reports/2026-02/cancel")

    assert pending.json == {"state": "pending"}
    assert cancelled.json == {"state": "cancelled"}
    assert client.get("/reports/2026-01").json == {"state": "running"}


def test_a_report_that_runs_stops_at_the_next_page(client, pause, example):
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)

    asked = client.post("/reports/2026-01/cancel")
    pause.is_over.set()
    example.reports.drain()

    assert asked.json == {"state": "running"}
    assert client.get("/reports/2026-01").json == {
        "state": "failed",
        "error": "stopped before page 2",
    }


def test_a_report_that_is_forgotten_stops_and_may_be_started_again(client, pause, example):
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)

    forgotten = client.delete("/reports/2026-01")
    unknown = client.get("/reports/2026-01")
    again = client.post("/reports/2026-01")
    pause.is_over.set()
    example.reports.drain()

    assert (forgotten.status_code, unknown.status_code, again.status_code) == (204, 404, 202)
    assert client.get("/reports/2026-01").json["state"] == "succeeded"
    assert example.reports.stats().failed == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "", 404), ("POST", "/cancel", 404), ("DELETE", "", 204)],
)
def test_a_report_that_nobody_started_is_not_found(client, method, path, status):
    response = client.open("/reports/2026-01" + path, method=method)

    assert response.status_code == status


def test_the_page_shows_the_code_of_every_view(client, example):
    page = html.unescape(client.get("/").text)

    names = set(example.app.view_functions) - {"static", "index"}
    assert all(f"def {name}(" in page for name in names)
    assert '"""' not in page


def test_every_button_of_the_page_calls_a_view(client, pause):
    pause.is_over.set()
    buttons = re.findall(r'data-method="(\w+)" data-path="([^"]+)"', client.get("/").text)

    responses = [client.open(path, method=method) for method, path in buttons]

    assert len(buttons) == 11
    assert {response.status_code for response in responses} == {200, 202}

"""The example app: every view, every state of a report, and the page that shows them."""

from __future__ import annotations

import html
import importlib
import json
import logging
import multiprocessing
import re
import sys
import threading
from datetime import UTC, datetime

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
def example(monkeypatch, pause, tmp_path):
    """A new copy of the example, with a database of its own."""
    for prefix in ("", "PROCESSES_", "REPORTS_"):
        monkeypatch.setenv(f"FLASK_{prefix}EXECUTOR_STORE", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("FLASK_LOG_FILE", str(tmp_path / "jobs.log"))
    handlers = logging.getLogger("async_app").handlers.copy()
    example = importlib.import_module("async_app")
    monkeypatch.setattr(example, "sleep", pause)
    yield example
    pause.is_over.set()
    example.executor.shutdown()
    example.processes.shutdown()
    example.reports.shutdown()
    for handler in set(example.app.logger.handlers) - set(handlers):
        example.app.logger.removeHandler(handler)
        handler.close()
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


def test_the_counts_are_those_of_each_executor(client, pause):
    pause.is_over.set()
    client.get("/map")

    counts = client.get("/stats").json

    assert counts["executor"]["submitted"] == 12
    assert counts["processes"] | {"workers": 2, "submitted": 0} == counts["processes"]
    assert counts["reports"] | {"workers": 1, "submitted": 0} == counts["reports"]


def test_all_executors_are_counted_together_by_state(client, pause, example):
    client.post("/reports/2026-01")
    client.get("/primes")
    client.post("/newsletter")
    assert pause.has_begun.wait(10)
    before = client.get("/counts").json
    pause.is_over.set()
    example.executor.drain()
    example.reports.drain()
    after = client.get("/counts").json

    assert (before["succeeded"], before["pending"] + before["running"]) == (4, 2)
    assert (after["succeeded"], after["failed"], after["pending"] + after["running"]) == (5, 1, 0)


def bars(client, response):
    """What the page draws of the jobs that a request has submitted."""
    return client.post("/timeline", data={"job": response.headers["X-Jobs"].split()}).json


def test_a_response_names_its_jobs_and_the_timeline_says_which_ran_side_by_side(
    client, example, monkeypatch
):
    meet = threading.Barrier(4, timeout=10)
    monkeypatch.setattr(example, "sleep", lambda _: meet.wait())

    response = client.get("/gather")

    jobs = bars(client, response)
    assert len(jobs) == 12
    assert {(job["name"], job["state"], job["error"]) for job in jobs} == {
        ("fib", "succeeded", None)
    }
    assert all(job["submitted"] <= job["started"] <= job["ended"] for job in jobs)
    at_a_time = [
        sum(other["started"] <= job["started"] < other["ended"] for other in jobs) for job in jobs
    ]
    assert max(at_a_time) == 4


def test_the_timeline_shows_a_job_that_runs_and_one_that_waits(client, pause, example):
    mails = [client.post("/welcome") for _ in range(5)]
    assert pause.has_begun.wait(10)
    started, waiting = bars(client, mails[0]), bars(client, mails[4])
    asked_at = datetime.now(UTC).timestamp()
    pause.is_over.set()
    example.executor.drain()

    assert (started[0]["state"], waiting[0]["state"]) == ("running", "pending")
    assert started[0]["started"] <= started[0]["ended"] <= asked_at
    assert waiting[0]["started"] is None
    assert [job["state"] for mail in mails for job in bars(client, mail)] == ["succeeded"] * 5


def test_a_request_without_jobs_names_none_and_an_unknown_job_has_no_bar(client):
    response = client.get("/outbox")

    assert "X-Jobs" not in response.headers
    assert client.post("/timeline", data={"job": ["nobody"]}).json == []


def test_a_job_that_fails_is_answered_before_and_the_log_says_why(client, pause, has_logged):
    response = client.post("/newsletter")
    before = bars(client, response)
    pause.is_over.set()
    assert has_logged.wait(10)
    lines = client.get("/log").json

    assert (response.status_code, before[0]["error"]) == (202, None)
    [job] = bars(client, response)
    assert (job["state"], job["error"]) == ("failed", "ConnectionError")
    assert lines[0].startswith(f"Job send_newsletter ({job['id']}) failed")
    assert lines[-1] == "ConnectionError: The mail server does not answer.\n"


@pytest.fixture
def has_logged(example):
    """An event, set once the example has logged something."""
    has_logged = threading.Event()

    class Note(logging.Handler):
        def emit(self, record):
            has_logged.set()

    example.app.logger.addHandler(Note())  # called after the handler of the example
    return has_logged


@pytest.mark.slow
def test_the_switch_has_jobs_run_in_other_processes(client, example):
    answers = [
        client.get(f"{path}?on=processes").get_json(force=True)
        for path in ("/result", "/await", "/map", "/gather", "/map-async")
    ]
    primes = client.get("/primes?on=processes")
    results = client.get("/stream?on=processes").text.split()

    assert answers == [5, 5, FIBONACCI[:12], FIBONACCI[:12], FIBONACCI]
    assert primes.text == client.get("/primes").text == "7837 primes"
    assert {(job["name"], job["state"]) for job in bars(client, primes)} == {
        ("count_primes", "succeeded")
    }
    assert len(results) == 39
    assert example.executor.stats().submitted == 4  # the primes
    assert multiprocessing.active_children()


@pytest.mark.slow
def test_a_job_that_reads_the_request_says_that_it_cannot_in_another_process(client, has_logged):
    response = client.post("/welcome?on=processes")
    assert has_logged.wait(20)

    [job] = bars(client, response)
    assert (job["state"], job["error"]) == ("failed", "RuntimeError")
    entry = "".join(client.get("/log").json)
    assert "request, session, g and contextvars do not travel to another process" in entry


def test_a_report_is_running_and_then_succeeds(client, pause, example):
    started = client.post("/reports/2026-01?user=Grace")
    assert pause.has_begun.wait(10)
    running = client.get("/reports/2026-01")
    pause.is_over.set()
    example.reports.drain()
    ended = client.get("/reports/2026-01")

    assert started.status_code == 202
    assert running.json["state"] == "running"
    assert running.json["progress"]["fraction"] == 0
    assert ended.json["state"] == "succeeded"
    assert ended.json["progress"]["fraction"] == 1
    assert ended.json["result"] == "The report of 2026-01, 10 pages for Grace"


def test_a_report_is_started_once(client, example):
    client.post("/reports/2026-01")

    response = client.post("/reports/2026-01")

    assert response.status_code == 409
    assert response.json["error"] == "This report is being built already."
    assert example.reports.stats().submitted == 1


def test_a_report_that_waits_is_cancelled(client, pause, example):
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)

    pending = client.post("/reports/2026-02")
    cancelled = client.post("/reports/2026-02/cancel")

    assert pending.json["state"] == "pending"
    assert cancelled.json["state"] == "cancelled"
    assert client.get("/reports/2026-01").json["state"] == "running"


def test_a_report_that_runs_stops_at_the_next_page(client, pause, example):
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)

    asked = client.post("/reports/2026-01/cancel")
    pause.is_over.set()
    example.reports.drain()
    stopped = client.get("/reports/2026-01").json

    assert asked.json["state"] == "running"
    assert (stopped["state"], stopped["error"]) == ("cancelled", None)
    assert stopped["progress"]["done"] == 1


def test_a_report_is_forgotten_and_started_again_once_it_has_ended(client, pause, example):
    first = client.post("/reports/2026-01").json
    assert pause.has_begun.wait(10)

    refused = client.delete("/reports/2026-01")
    pause.is_over.set()
    example.reports.drain()
    again = client.post("/reports/2026-01").json
    example.reports.drain()
    listed = [report["id"] for report in client.get("/reports").json]
    forgotten = client.delete(f"/reports/{first['id']}")

    assert (refused.status_code, forgotten.status_code) == (409, 204)
    assert listed == [again["id"], first["id"]]
    assert [report["id"] for report in client.get("/reports").json] == [again["id"]]


# What a server with threads says of itself.
THREADS = {"wsgi.multithread": True, "SERVER_SOFTWARE": "server"}


def read_events(response):
    return [json.loads(line[6:]) for line in response.text.split("\n\n") if line]


def test_a_stream_follows_a_report_to_its_end(client, pause, example):
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)

    response = client.get("/reports/2026-01/events", environ_overrides=THREADS)  # has one event
    pause.is_over.set()
    states = [report["state"] for report in read_events(response)]

    assert (set(states[:-1]), states[-1]) == ({"running"}, "succeeded")
    assert read_events(response)[-1] == client.get("/reports/2026-01").json


def test_a_stream_ends_though_its_report_goes_on(client, pause, example, monkeypatch):
    monkeypatch.setattr(example, "wait", lambda futures, timeout: None)  # ten seconds go by
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)

    response = client.get("/reports/2026-01/events", environ_overrides=THREADS)

    assert [report["state"] for report in read_events(response)] == ["running"] * 20


def test_a_second_stream_is_refused_until_the_first_one_is_closed(client, pause):
    def stream():
        return client.get("/reports/2026-01/events", environ_overrides=THREADS)

    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)
    first, second = stream(), stream()
    first.close()
    third = stream()
    third.close()

    assert [one.status_code for one in (first, second, third)] == [200, 503, 200]


def test_a_stream_ends_when_its_report_is_forgotten(client, pause, example, monkeypatch):
    client.post("/reports/2026-01")
    assert pause.has_begun.wait(10)
    response = client.get("/reports/2026-01/events", environ_overrides=THREADS)
    pause.is_over.set()
    example.reports.drain()
    client.delete("/reports/2026-01")

    assert [report["state"] for report in read_events(response)] == ["running"]


@pytest.mark.parametrize(
    "environ",
    [THREADS | {"wsgi.multithread": False}, {"wsgi.multithread": True}],
    ids=["one thread", "WsgiToAsgi"],
)
def test_a_stream_is_refused_where_it_would_hold_up_all_requests(client, pause, environ):
    client.post("/reports/2026-01")

    response = client.get("/reports/2026-01/events", environ_overrides=environ)

    assert response.status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/events", 404), ("GET", "", 404), ("POST", "/cancel", 404), ("DELETE", "", 204)],
)
def test_a_report_that_nobody_started_is_not_found(client, method, path, status):
    response = client.open("/reports/2026-01" + path, method=method)

    assert response.status_code == status


def test_the_page_leads_to_the_board_of_all_jobs(client, pause, example):
    pause.is_over.set()
    client.post("/reports/2026-01")
    client.get("/result")
    example.executor.drain()
    [path] = re.findall(r'<a href="(/jobs/)"', client.get("/").text)
    board = client.get(path)

    assert board.status_code == 200
    assert "build_report" in board.text
    assert "fib" in board.text


def test_the_page_shows_the_code_of_every_view(client, example):
    page = html.unescape(client.get("/").text)

    names = {name for name in example.app.view_functions if not name.startswith("executor_board.")}
    names -= {"static", "index"}
    assert all(f"def {name}(" in page for name in names)
    assert '"""' not in page


def test_every_button_of_the_page_calls_a_view(client, pause):
    pause.is_over.set()
    buttons = re.findall(r'data-method="(\w+)" data-path="([^"]+)"', client.get("/").text)

    responses = [client.open(path, method=method) for method, path in buttons]

    assert len(buttons) == 15
    assert {response.status_code for response in responses} == {200, 202}

"""The package under real servers, each in a process of its own.

Jobs that must not end yet wait for a line in a named pipe, which the test writes when it is time.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.served.servers import APPS, check_that_jobs_know_their_own_request, served
from tests.support import ROOT

# Each takes a free port, and logs its address.
SERVERS = {
    "werkzeug": "flask --app served_app run --port 0",
    "gunicorn": "gunicorn -k gthread --threads 2 -b 127.0.0.1:0 --no-control-socket served_app:app",
    "uvicorn": "uvicorn --port 0 --reset-contextvars served_app:asgi_app",
    "a2wsgi": "uvicorn --port 0 --reset-contextvars served_app:a2wsgi_app",
}


@pytest.fixture(scope="module", params=SERVERS)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with served(SERVERS[request.param], APPS, keep_alive=True) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/result", 10),
        ("/map", list(range(0, 200, 2))),
        ("/await", 10),
        ("/await-job", 10),
        ("/gather", list(range(0, 200, 2))),
        ("/map-async", list(range(0, 200, 2))),
    ],
)
def test_a_view_answers_with_what_its_jobs_gave(client, path, answer):
    response = client.get(path)

    assert (response.status_code, response.json()) == (200, answer)


def test_jobs_of_requests_at_the_same_time_know_their_own_request(client):
    check_that_jobs_know_their_own_request(client, "/callers")


def test_results_are_streamed_while_a_job_still_runs(client, pipe):
    with client.stream("GET", "/stream", params={"pipe": pipe.name}) as response:
        lines = response.iter_lines()
        first = [next(lines) for _ in range(38)]
        pipe.write("1000\n")
        last = list(lines)

    assert sorted(map(int, first)) == list(range(0, 76, 2))
    assert last == ["1000"]


def test_a_response_does_not_wait_for_a_job_that_is_submitted_and_forgotten(client, pipe):
    response = client.post("/forget", params={"pipe": pipe.name, "user": "Ada"})
    pipe.write("sent\n")

    assert (response.status_code, response.text) == (202, "OK")
    assert client.get("/sent").json() == ["sent for Ada at /forget"]


def test_a_job_starts_after_the_bytes_of_its_response_have_arrived(client, pipe):
    with client.stream("POST", "/after", params={"pipe": pipe.name}) as response:
        lines = response.iter_lines()
        first = next(lines)
        pipe.write("last\n")
        last = list(lines)

    assert (first, last) == ("pending", ["last: pending"])
    assert client.get("/jobs/after/result").text == "nobody at /after"


def test_a_stored_job_is_found_by_later_requests(client, pipe):
    response = client.post("/jobs/report", params={"pipe": pipe.name})
    state = client.get("/jobs/report/state")
    pipe.write("finished\n")
    result = client.get("/jobs/report/result")

    assert (response.status_code, response.text) == (202, "OK")
    assert state.text in {"pending", "running"}
    assert result.text == "finished"
    assert client.get("/jobs/report/state").text == "succeeded"


def test_the_example_is_served_as_make_run_does(monkeypatch, tmp_path):
    for prefix in ("", "PROCESSES_", "REPORTS_"):
        monkeypatch.setenv(f"FLASK_{prefix}EXECUTOR_STORE", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.setenv("FLASK_LOG_FILE", str(tmp_path / "jobs.log"))
    with served("flask --app examples/async_app run --port 0", ROOT) as client:
        page = client.get("/")
        answer = client.get("/await-job")

    assert page.status_code == 200
    assert answer.text == "5"

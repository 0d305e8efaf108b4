"""The package under real servers, each in a process of its own.

Jobs that must not end yet wait for a line in a named pipe, which the test writes when it is time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

TESTS = Path(__file__).parent

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")

# Each takes a free port, and logs its address.
SERVERS = {
    "werkzeug": "flask --app served_app run --port 0",
    "gunicorn": "gunicorn -k gthread --threads 2 -b 127.0.0.1:0 --no-control-socket served_app:app",
    "uvicorn": "uvicorn --port 0 served_app:asgi_app",
}

# Where uvicorn keeps a connection alive, asgiref's WsgiToAsgi refuses a request now and
# then, whatever the app, since the executor of the one before may come along; see
# https://github.com/django/asgiref/issues/491
NOT_KEPT_ALIVE = httpx.Limits(max_keepalive_connections=0)


@pytest.fixture(scope="module", params=SERVERS)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with served(SERVERS[request.param], TESTS) as client:
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


def check_that_jobs_know_their_own_request(client: httpx.Client, path: str) -> None:
    users = [f"user-{n}" for n in range(24)]

    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda user: client.get(path, params={"user": user}), users)

    assert [answer.json() for answer in answers] == [[f"{user} at {path}"] * 20 for user in users]


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


def test_a_stored_job_is_found_by_later_requests(client, pipe):
    response = client.post("/jobs/report", params={"pipe": pipe.name})
    state = client.get("/jobs/report/state")
    pipe.write("finished\n")
    result = client.get("/jobs/report/result")

    assert (response.status_code, response.text) == (202, "OK")
    assert state.text in {"pending", "running"}
    assert result.text == "finished"
    assert client.get("/jobs/report/state").text == "succeeded"


def test_the_example_is_served_as_make_run_does():
    with served("flask --app examples/async_app run --port 0", TESTS.parent) as client:
        page = client.get("/")
        answer = client.get("/await-job")

    assert page.status_code == 200
    assert answer.text == "5"


# What a Dask worker logs whose heartbeat meets the end of its scheduler.
HEARTBEAT = re.compile(
    r"[^\n]*Failed to communicate with scheduler during heartbeat\.\n.*?CommClosedError: [^\n]*\n",
    re.DOTALL,
)


@contextmanager
def served(
    command: str, folder: Path, end: signal.Signals = signal.SIGTERM
) -> Iterator[httpx.Client]:
    """Run a server until the block ends, and check what it logged."""
    with start(command, folder) as process, ThreadPoolExecutor(1) as reader:
        try:
            log = read_to_address(process.stderr)
            # A server whose pipe is full would wait.
            rest_of_log = reader.submit(process.stderr.read)
            with httpx.Client(
                base_url=ADDRESS.search(log)[0], limits=NOT_KEPT_ALIVE, timeout=20, trust_env=False
            ) as client:
                yield client
        finally:
            stop(process, end)
        log += rest_of_log.result()
    assert "Traceback" not in HEARTBEAT.sub("", log), log
    assert process.returncode in {0, -signal.SIGTERM}, log


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_to_address(stderr: IO[str]) -> str:
    log = ""
    for line in stderr:
        log += line
        if ADDRESS.search(line):
            return log
    pytest.fail(f"the server did not start:\n{log}")


def stop(process: subprocess.Popen[str], end: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(end)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
        raise

"""The records of jobs, as several processes of a real server see them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from tests.served.servers import APPS, served
from tests.support import WAIT

# A job elsewhere is lost within ten seconds.
LOST = 3 * WAIT

GUNICORN = "gunicorn {options} -b 127.0.0.1:0 --no-control-socket served_records:app"
SERVERS = {
    "sync": "-w 4",
    "preload": "-w 4 --preload",
    "gthread": "-w 4 -k gthread --threads 4",
}

pytestmark = pytest.mark.slow


@contextmanager
def running(options: str) -> Iterator[httpx.Client]:
    with served(GUNICORN.format(options=options), APPS) as client:
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def environment(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    os.mkfifo(folder / "pipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOURNAL", str(folder / "journal"))
        patch.setenv("PIPE", str(folder / "pipe"))
        patch.setenv("FLASK_EXECUTOR_STORE", f"sqlite:///{folder / 'jobs.db'}")
        patch.setenv("FLASK_EXECUTOR_MAX_WORKERS", "4")
        yield patch


@pytest.fixture(scope="module")
def pipe(environment: pytest.MonkeyPatch, folder: Path) -> Iterator[IO[str]]:
    """Held jobs wait for a line of it."""
    # Opened for both reading and writing, it does not wait for a reader.
    path = folder / "pipe"
    with open(path, "w", buffering=1, opener=lambda path, _: os.open(path, os.O_RDWR)) as pipe:
        yield pipe


@pytest.fixture(scope="module", params=SERVERS)
def client(
    request: pytest.FixtureRequest, pipe: IO[str], environment: pytest.MonkeyPatch, folder: Path
) -> Iterator[httpx.Client]:
    for path in ("jobs.db", "journal"):
        (folder / path).unlink(missing_ok=True)
    with running(SERVERS[request.param]) as client:
        yield client


def until(ask: Callable[[], Any], is_met: Callable[[Any], object], wait: float = WAIT) -> Any:
    """Ask again and again, and return the first answer that is as expected."""
    end = time.monotonic() + wait
    while not is_met(answer := ask()):
        assert time.monotonic() < end, answer
        time.sleep(0.02)
    return answer


def post(client: httpx.Client, key: str, **params: object) -> dict[str, Any]:
    response = client.post(f"/jobs/{key}", params=params)
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    return answer


def get(client: httpx.Client, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(path).json()
    return answer


def elsewhere(ask: Callable[[], dict[str, Any]], pid: int) -> dict[str, Any]:
    """The first answer of another worker than that with the process id."""
    return until(ask, lambda answer: answer["pid"] != pid)


def in_state(client: httpx.Client, key: str, state: str, wait: float = WAIT) -> dict[str, Any]:
    return until(lambda: get(client, f"/jobs/{key}"), lambda answer: answer["state"] == state, wait)


def workers(client: httpx.Client, count: int = 4) -> set[int]:
    """The process ids of the workers."""
    pids: set[int] = set()

    def ask() -> set[int]:
        with ThreadPoolExecutor(8) as threads:
            pids.update(threads.map(lambda _: get(client, "/pid")["pid"], range(16)))
        return pids

    found: set[int] = until(ask, lambda pids: len(pids) >= count)
    return found


def test_a_thousand_polls_of_all_workers_find_the_job(client, pipe):
    started = post(client, "polled")
    # Its own worker knows first.
    until(
        lambda: get(client, "/jobs/polled"),
        lambda answer: (answer["state"], answer["pid"] != started["pid"]) == ("running", True),
    )

    def poll(_: int) -> tuple[int, str, float]:
        response = client.get("/jobs/polled")
        answer = response.json()
        return response.status_code, answer["state"], answer["pid"]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(poll, range(1000)))
    pipe.write("go on\n")

    assert {answer[:2] for answer in answers} == {(200, "running")}
    assert len({pid for *_, pid in answers}) == 4
    assert get(client, "/jobs/polled/result")["value"] == started["pid"]
    assert elsewhere(lambda: get(client, "/jobs/polled/wait"), started["pid"]) | {"pid": 0} == {
        "pid": 0,
        "state": "succeeded",
        "owner": started["pid"],
    }


def test_six_posts_of_one_key_start_one_job(client, pipe, folder):
    with ThreadPoolExecutor(6) as threads:
        responses = list(threads.map(lambda _: client.post("/jobs/posted"), range(6)))
    pipe.write("go on\n")
    in_state(client, "posted", "succeeded")

    assert sorted(response.status_code for response in responses) == [202, 409, 409, 409, 409, 409]
    journal = (folder / "journal").read_text("utf-8").splitlines()
    assert journal.count("posted started") == 1


def test_a_returned_future_of_another_worker_ends_when_the_job_does(client, pipe):
    started = post(client, "returned")
    in_state(client, "returned", "running")

    def post_again() -> dict[str, Any]:
        return post(client, "returned", on_duplicate="return", wait="")

    with ThreadPoolExecutor(8) as threads:
        others = [threads.submit(post_again) for _ in range(3)]
        pipe.write("go on\n")
        answers = [other.result(WAIT) for other in others]

    assert {answer["id"] for answer in answers} == {started["id"]}
    assert elsewhere(post_again, started["pid"])["id"] == started["id"]


@pytest.mark.parametrize(
    ("job", "delay", "state"),
    [
        ("hold", 3600, "pending"),
        ("until_cancelled", 0, "running"),
        ("sleep_async", 0, "running"),
    ],
)
def test_another_worker_cancels_a_job(client, job, delay, state):
    key = f"{job}-cancelled"
    started = post(client, key, job=job, **({"delay": delay} if delay else {}))
    in_state(client, key, state)
    answer = elsewhere(lambda: client.post(f"/jobs/{key}/cancel").json(), started["pid"])

    in_state(client, key, "cancelled")
    assert answer["cancelled"] in {True, False}  # False if an earlier request had the job's worker.


def test_progress_is_seen_from_another_worker(client, pipe):
    started = post(client, "progress")
    in_state(client, "progress", "running")
    answer = until(
        lambda: get(client, "/jobs/progress"),
        lambda answer: answer["pid"] != started["pid"] and answer["progress"] is not None,
    )
    pipe.write("go on\n")
    in_state(client, "progress", "succeeded")

    assert answer["progress"] == 1


@pytest.mark.parametrize(
    ("job", "why"), [("return_set", "not JSON: TypeError"), ("return_much", "too large: 1,048,5")]
)
def test_a_result_that_is_not_stored_is_read_in_its_own_process_only(client, job, why, environment):
    started = post(client, job, job=job)
    other = elsewhere(lambda: get(client, f"/jobs/{job}/result"), started["pid"])
    own = until(
        lambda: get(client, f"/jobs/{job}/result"), lambda answer: answer["pid"] == started["pid"]
    )

    assert why in other["missing"]
    assert own["value"][0][0] == "r"


def test_a_failure_is_a_stored_error_in_other_workers(client):
    started = post(client, "failure", job="fail")
    other = elsewhere(lambda: get(client, "/jobs/failure/result"), started["pid"])["stored"]
    own = until(
        lambda: get(client, "/jobs/failure/result"),
        lambda answer: answer["pid"] == started["pid"],
    )

    assert (other["type"], other["message"]) == ("ValueError", "no failure")
    assert "in fail" in other["traceback"]
    assert own["own"] == "ValueError('no failure')"


def test_a_key_that_another_worker_pops_is_free(client):
    started = post(client, "popped", job="return_set")
    in_state(client, "popped", "succeeded")
    elsewhere(
        lambda: client.post("/jobs/popped/pop", params={"not": started["pid"]}).json(),
        started["pid"],
    )
    again = post(client, "popped", job="return_set")
    in_state(client, "popped", "succeeded")

    assert again["id"] != started["id"]


@pytest.mark.parametrize("path", ["/jobs/{key}?job=fork&wait=", "/fork/{key}"])
def test_a_forked_child_answers_from_the_record(client, pipe, path):
    key = f"forked-{len(path)}"
    if path.startswith("/fork"):
        post(client, key)
        in_state(client, key, "running")
        answer = client.post(path.format(key=key)).json()
        pipe.write("go on\n")
    else:
        client.post(path.format(key=key))
        answer = get(client, f"/jobs/{key}/result")["value"]
    in_state(client, key, "succeeded")

    assert answer["answer"] == ["running", "running", False]
    of_child = get(client, f"/jobs/{key}-of-child")
    assert of_child["state"] == "succeeded"
    assert get(client, f"/jobs/{key}-of-child/wait")["owner"] == answer["child"]


def test_a_job_whose_worker_is_killed_is_lost_and_can_be_replaced(pipe, environment):
    with running("-w 2") as client:
        check_that_a_killed_job_is_lost(client, pipe)


def check_that_a_killed_job_is_lost(client: httpx.Client, pipe: IO[str]) -> None:
    started = post(client, "killed")
    in_state(client, "killed", "running")
    os.kill(started["pid"], signal.SIGKILL)
    in_state(client, "killed", "lost", LOST)
    refused = client.post("/jobs/killed")
    again = post(client, "killed", on_duplicate="replace")
    in_state(client, "killed", "running")
    pipe.write("go on\n")
    in_state(client, "killed", "succeeded")

    assert refused.status_code == 409
    assert get(client, f"/records/{started['id']}")["state"] == "lost"
    assert get(client, f"/records/{again['id']}")["state"] == "succeeded"


def test_the_late_outcome_of_a_worker_that_was_stopped_is_recorded(pipe, environment, folder):
    # A worker that does not answer for 30 seconds is killed by the server.
    with running("-w 3 -k gthread --timeout 120") as client:
        started = post(client, "stopped")
        in_state(client, "stopped", "running")
        os.kill(started["pid"], signal.SIGSTOP)
        try:
            lost = read_elsewhere(client, started["pid"], "/jobs/stopped", "lost")
            pipe.write("go on\n")
        finally:
            os.kill(started["pid"], signal.SIGCONT)
        ended = read_elsewhere(client, started["pid"], "/jobs/stopped", "succeeded")

    assert (lost["state"], ended["state"]) == ("lost", "succeeded")


def read_elsewhere(client: httpx.Client, pid: int, path: str, state: str) -> dict[str, Any]:
    """Ask the workers that answer until one says that the job is in *state*."""

    def ask() -> dict[str, Any]:
        # The kernel may hand the connection to the worker that is stopped.
        with suppress(httpx.TimeoutException):
            answer: dict[str, Any] = client.get(path, timeout=1).json()
            return answer
        return {"pid": pid, "state": None}

    return until(ask, lambda answer: answer["pid"] != pid and answer["state"] == state, LOST)


def test_records_outlive_workers_and_the_server(pipe, environment, folder):
    with running("-w 2 --max-requests 5") as client:
        first = workers(client, 2)
        ids = [post(client, f"kept-{number}", job="return_set")["id"] for number in range(10)]
        later = workers(client, 5)
    with running("-w 2") as client:
        states = [get(client, f"/jobs/kept-{number}")["state"] for number in range(10)]
        refused = client.post("/jobs/kept-3")
        found = get(client, f"/records/{ids[3]}")

    assert later - first  # which the server has started meanwhile
    assert states == ["succeeded"] * 10
    assert refused.status_code == 409
    assert (found["state"], found["key"]) == ("succeeded", "kept-3")


def test_a_job_of_the_process_that_loads_the_app_is_known_to_its_workers(pipe, environment, folder):
    environment.setenv("SUBMIT_EARLY", "1")
    try:
        with running("-w 2 --preload") as client:
            pids = workers(client, 2)
            running_state = in_state(client, "early", "running")
            pipe.write("go on\n")
            in_state(client, "early", "succeeded")
            ended = get(client, "/jobs/early/wait")
    finally:
        environment.delenv("SUBMIT_EARLY")

    assert running_state["pid"] in pids
    assert ended["owner"] not in pids


def test_only_the_type_of_a_stored_error_is_read_if_the_config_says_so(pipe, environment, folder):
    environment.setenv("FLASK_EXECUTOR_STORE_ERRORS", "type")
    try:
        with running("-w 2") as client:
            started = post(client, "secret", job="fail")
            other = elsewhere(lambda: get(client, "/jobs/secret/result"), started["pid"])
    finally:
        environment.delenv("FLASK_EXECUTOR_STORE_ERRORS")

    assert other["stored"] == {"type": "ValueError", "message": None, "traceback": None}

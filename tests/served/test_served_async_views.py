"""Async views under real servers, and at the end of their process."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from tests.served.servers import ADDRESS, APPS, read_to_address, served, start, stop
from tests.support import ROOT, WAIT, errors_of

SERVERS = {
    "gunicorn": "gunicorn -k gthread --threads 2 -b 127.0.0.1:0 --no-control-socket "
    "--graceful-timeout 1 served_async_views:app",
    "uvicorn": "uvicorn --port 0 --reset-contextvars --timeout-graceful-shutdown 1 "
    "served_async_views:asgi_app",
    "a2wsgi": "uvicorn --port 0 --reset-contextvars --timeout-graceful-shutdown 1 "
    "served_async_views:a2wsgi_app",
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_served_view_answers_before_the_coroutine_job_it_leaves_behind(server):
    with served(SERVERS[server], APPS, keep_alive=True) as client:
        response = client.post("/forget", params={"user": "Ada"})
        before = client.post("/open").json()
        after = client.get("/sent").json()

    assert (response.status_code, response.text) == (202, "OK")
    assert (before, after) == ([], ["sent for Ada"])


def stop_while_a_view_hangs(server: str) -> tuple[Future[httpx.Response], str]:
    """The answer that the client gets, and the log of the server, which ends."""
    with start(SERVERS[server], APPS) as process, ThreadPoolExecutor(2) as threads:
        try:
            url = ADDRESS.search(read_to_address(process.stderr))[0]
            answer = threads.submit(httpx.get, f"{url}/hang", timeout=WAIT, trust_env=False)
            for line in process.stderr:
                if "The view hangs." in line:
                    break
            rest_of_log = threads.submit(process.stderr.read)
        finally:
            stop(process)
        log = rest_of_log.result()
    assert process.returncode in {0, -signal.SIGTERM}, log
    return answer, log


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_a_server_that_is_stopped_while_a_view_hangs_ends_without_noise(server):
    answer, log = stop_while_a_view_hangs(server)

    assert isinstance(answer.exception(), httpx.RemoteProtocolError)
    noise = ("Traceback", "was never", "Task was destroyed", "loop is closed", "CancelledError")
    assert [each for each in noise if each in log] == [], log


def test_a_server_ends_although_a_view_hangs_in_a_thread_of_a2wsgi():
    answer, log = stop_while_a_view_hangs("a2wsgi")

    # Uvicorn cancels the request, and says so.
    assert answer.result().status_code == 500
    assert log.count("Traceback") == 1, log


def test_a_process_that_exits_while_a_view_hangs_cancels_it_and_ends():
    program = """
import asyncio, threading, flask, flask_executor
from concurrent.futures import ThreadPoolExecutor
app = flask.Flask("app")
app.config["EXECUTOR_ASYNC_VIEWS"] = True
flask_executor.Executor(app)
hangs = threading.Event()

@app.get("/")
async def hang():
    hangs.set()
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned up")

ThreadPoolExecutor(1).submit(app.test_client().get, "/")
hangs.wait()
"""

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )

    assert (done.stdout, errors_of(done)) == ("cleaned up\n", "")

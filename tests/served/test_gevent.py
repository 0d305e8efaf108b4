"""Under gevent: a server whose threads are greenlets, and what is refused where they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from textwrap import dedent
from typing import Any

import httpx
import pytest

from tests.served.servers import (
    ADDRESS,
    APPS,
    check_that_jobs_know_their_own_request,
    read_to_address,
    served,
    start,
    stop,
)
from tests.support import ROOT, WAIT, Door, errors_of

SERVER = "gunicorn -k gevent -b 127.0.0.1:0 --no-control-socket served_gevent:app"

# What each program begins with after gevent has patched.
PREPARATION = """
    import asyncio
    import json
    import threading

    from flask import Flask

    from flask_executor import Executor, InvalidSetting, NoRunningLoop, Retry

    app = Flask("app")
    executor = Executor(app)

    def tell(*values):
        print(*map(json.dumps, values), sep="\\n", flush=True)
"""

NO_LOOP = (
    "the executor's event loop cannot run here: gevent has patched threads, and asyncio runs only "
    "one event loop at a time in all its greenlets; coroutine jobs, delay, timeout, retry, "
    "iterate() and EXECUTOR_ASYNC_VIEWS need it. Submit plain functions without these options, or "
    "serve the app with threads, as 'gunicorn --threads 8' does"
)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served(SERVER, APPS) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/result", 10),
        ("/map", list(range(0, 200, 2))),
        ("/threads", ["nobody at /threads"] * 20),
        ("/await", 10),
        ("/await-job", 10),
        ("/gather", list(range(0, 200, 2))),
        ("/map-async", list(range(0, 200, 2))),
        ("/callers", ["nobody at /callers"] * 20),
        ("/await-stored", "of no job"),
    ],
)
def test_a_view_answers_with_what_its_jobs_gave(client, path, answer):
    response = client.get(path)
    given = response.text if isinstance(answer, str) else response.json()

    assert (response.status_code, given) == (200, answer)


def test_jobs_of_requests_at_the_same_time_know_their_own_request(client):
    check_that_jobs_know_their_own_request(client, "/threads")


def test_a_stored_job_is_found_by_later_requests_and_calls_back_in_its_context(client, door):
    response = client.post("/store/report", params=ada_at(door))
    door.await_arrival()
    state = client.get("/jobs/report/state")
    door.let_through()
    result = client.get("/jobs/report/result")
    ended = client.get("/ended")

    assert (response.status_code, response.text) == (202, "OK")
    assert state.text == "running"
    assert result.text == "Ada at /store/report"
    assert ended.json() == ["Ada at /store/report, told to Ada"]
    assert client.get("/jobs/report/state").text == "succeeded"


def test_a_job_starts_after_its_response(client):
    assert client.post("/after-response").text == "pending"
    assert client.get("/jobs/after/result").text == "nobody at /after-response"


def test_a_job_that_is_cancelled_while_it_waits_never_runs(client, door):
    with ThreadPoolExecutor(1) as thread:
        response = thread.submit(client.post, "/one-at-a-time", params=ada_at(door))
        door.await_arrival()
        door.let_through()

    assert response.result().json() == {
        "before": "pending",
        "after": "cancelled",
        "running": "Ada at /one-at-a-time",
    }
    assert "a cancelled job" not in client.get("/ended").json()


def test_an_async_view_that_waits_holds_up_nobody(client, door):
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(client.get, "/await-at-door", params=ada_at(door))
        door.await_arrival()
        answers = [client.get(path) for path in ("/result", "/map", "/threads")]
        door.let_through()

    assert [answer.status_code for answer in answers] == [200] * 3
    assert waiting.result().text == "Ada at /await-at-door"


def test_several_async_views_at_once_are_answered_and_do_no_harm(door):
    # Flask refuses the second: https://github.com/pallets/flask/issues/5881
    with running_server() as (client, _), ThreadPoolExecutor(1) as thread:
        first = thread.submit(client.get, "/await-at-door", params=ada_at(door))
        door.await_arrival()
        second = client.get("/await")
        door.let_through()
        first = first.result()
        third = client.get("/await")

    assert (first.status_code, first.text) == (200, "Ada at /await-at-door")
    assert second.status_code in {200, 500}
    assert (third.status_code, third.text) == (200, "10")


def test_jobs_in_flight_end_before_a_server_that_is_told_to_stop(door):
    with running_server() as (client, process):
        client.post("/log", params=ada_at(door))
        door.await_arrival()
        process.terminate()
        log = read_to("Worker exiting", process)
        door.let_through()
        log += process.stderr.read()

    assert "ended: Ada at /log" in log
    assert "Traceback" not in log
    assert process.returncode == 0


# What is refused


LATE = (
    "the executor cannot work here: gevent has patched threads after flask_executor was imported, "
    "so its locks would block the whole process. Run gevent.monkey.patch_all() before all other "
    "imports, or with gunicorn, leave out --preload"
)


def test_a_preloaded_app_answers_with_an_error_that_says_what_to_leave_out():
    with running_server(f"{SERVER} --preload") as (client, process):
        statuses = [client.get(path).status_code for path in ("/result", "/map", "/await")]
        process.terminate()
        log = process.stderr.read()

    assert statuses == [500] * 3
    assert log.count(f"RuntimeError: {LATE}\n") == 3


def test_an_app_that_is_preloaded_after_gevent_has_patched_works(tmp_path):
    config = tmp_path / "config.py"
    config.write_text("from gevent import monkey; monkey.patch_all()")

    with running_server(f"{SERVER} --preload -c {config}") as (client, _):
        answers = [client.get(path).json() for path in ("/result", "/map", "/threads")]

    assert answers == [10, list(range(0, 200, 2)), ["nobody at /threads"] * 20]


def test_a_program_that_patches_after_the_import_is_told_so_by_each_use():
    told = run(
        """
        async def coroutine_function():
            tell("it ran")

        async def submit_async():
            await executor.submit_async(pow, 2, 3)

        async def map_async():
            await anext(executor.map_async(pow, [2], [3]))

        for use in (
            lambda: executor.submit(pow, 2, 3),
            lambda: executor.submit(coroutine_function),
            lambda: executor.options(delay=1, key="key").submit(pow, 2, 3),
            lambda: executor.options(timeout=1).submit(pow, 2, 3),
            lambda: asyncio.run(submit_async()),
            lambda: executor.map(pow, [2], [3]),
            lambda: asyncio.run(map_async()),
        ):
            try:
                use()
            except RuntimeError as error:
                tell(str(error))
        executor.drain()
        executor.shutdown()
        """,
        patch="import flask_executor; from gevent import monkey; monkey.patch_all(ssl=False)",
    )

    assert told == [LATE] * 7


@pytest.mark.parametrize(
    "type_",
    [
        "process",
        "dask",
        pytest.param(
            "interpreter",
            marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="needs Python 3.14"),
        ),
    ],
)
def test_workers_that_do_not_share_our_memory_are_refused_by_init_app(type_):
    (error,) = run(f"""
        app.config["MAIL_EXECUTOR_TYPE"] = {type_!r}
        try:
            Executor(app, name="mail")
        except InvalidSetting as error:
            tell(str(error))
    """)

    assert error == (
        f"MAIL_EXECUTOR_TYPE is {type_!r}, which cannot be relied on where gevent has patched "
        "threads: its jobs may die or hang there; expected 'thread' or 'inline' here, or a server "
        "that uses threads, as 'gunicorn --threads 8' does"
    )


@pytest.mark.parametrize(
    "patch", ["import gevent.monkey", "import gevent.monkey; gevent.monkey.patch_all(thread=False)"]
)
def test_gevent_that_has_not_patched_threads_is_of_no_concern(patch):
    told = run(
        """
        Executor(app, name="one").init_app(Flask("other"))
        app.config["TWO_EXECUTOR_TYPE"] = "process"
        Executor(app, name="two")

        async def job():
            return "on the loop"

        tell(executor.options(delay=0).submit(job).result())
        tell([executor.submit(int, "7").result(5) for _ in range(3)])
        """,
        patch=patch,
    )

    assert told == ["on the loop", [7, 7, 7]]


def test_what_needs_the_executors_own_loop_is_refused_in_the_caller():
    told = run("""
        async def coroutine_function():
            tell("it ran")

        async def submit_async():
            await executor.submit_async(coroutine_function)

        async def generate():
            yield tell("it ran")

        def submit_to_group():
            with executor.group(timeout=5) as group:
                group.submit(pow, 2, 3)

        for submit in (
            lambda: executor.submit(coroutine_function),
            lambda: executor.submit_stored("key", coroutine_function),
            lambda: asyncio.run(submit_async()),
            lambda: executor.options(delay=0).submit(pow, 2, 3),
            lambda: executor.options(key="key", timeout=5).submit(pow, 2, 3),
            lambda: executor.job(timeout=5)(pow).submit(2, 3),
            lambda: executor.options(retry=Retry(2)).submit(pow, 2, 3),
            submit_to_group,
            lambda: list(executor.iterate(generate())),
        ):
            try:
                submit()
            except RuntimeError as error:
                tell(str(error))
        executor.drain()
        tell(executor.stats().submitted, executor.futures.state("key"))
        tell(executor.submit(pow, 2, 3).result())
    """)

    assert told == [*[NO_LOOP] * 9, 0, None, 8]


def test_async_views_are_not_run_on_the_executors_own_loop():
    told = run("""
        app.config["VIEWS_EXECUTOR_ASYNC_VIEWS"] = True
        Executor(app, name="views")

        @app.get("/")
        async def view():
            return "answered"

        app.testing = True
        try:
            app.test_client().get("/")
        except RuntimeError as error:
            tell(str(error))
    """)

    assert told == [NO_LOOP]


# Awaiting


@pytest.mark.parametrize("submit", ["submit", "submit_async"])
def test_a_job_wakes_a_loop_that_waits_for_nothing_else(submit):
    told = run(f"""
        import gevent

        async def main():
            gate = threading.Event()
            future = executor.{submit}(gate.wait)
            gevent.spawn(gate.set)  # runs when the loop sleeps
            return await future

        tell(asyncio.run(main()))
    """)

    assert told == [True]


def test_the_end_of_the_last_job_wakes_a_loop_that_waits_for_it():
    told = run("""
        import gevent

        async def main():
            gate = threading.Event()
            executor.submit(gate.wait)
            gevent.spawn(gate.set)  # runs when the loop sleeps
            await executor.drain_async()

        asyncio.run(main())
        tell(executor.stats().succeeded)
    """)

    assert told == [1]


def test_to_wait_in_a_job_blocks_no_loop_of_another_greenlet():
    # A warning would be seen on standard error.
    told = run("""
        import gevent

        def wait_for_another():
            gate = threading.Event()
            other = executor.submit(gate.wait)
            gevent.spawn(gate.set)  # runs when this one waits
            return other.result()

        async def main():
            return await executor.submit_async(wait_for_another)

        tell(asyncio.run(main()))
    """)

    assert told == [True]


def test_a_loop_is_not_taken_for_that_of_a_job_in_another_greenlet():
    (error,) = run("""
        def submit_async():
            try:
                executor.submit_async(pow, 2, 3)
            except NoRunningLoop as error:
                return str(error)

        async def main():
            return await executor.submit_async(submit_async)

        tell(asyncio.run(main()))
    """)

    assert error.startswith("no event loop is running in this thread; ")


def ada_at(door: Door) -> dict[str, Any]:
    return {"user": "Ada", "door": door.address[1]}


@contextmanager
def running_server(
    command: str = SERVER,
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    with start(command, APPS) as process:
        try:
            address = ADDRESS.search(read_to_address(process.stderr))[0]
            with httpx.Client(base_url=address, timeout=WAIT, trust_env=False) as client:
                yield client, process
        finally:
            stop(process)


def read_to(words: str, process: subprocess.Popen[str]) -> str:
    log = ""
    for line in process.stderr:
        log += line
        if words in line:
            return log
    pytest.fail(f"the server has not logged {words!r}:\n{log}")


def run(program: str, patch: str = "from gevent import monkey; monkey.patch_all()") -> list[Any]:
    """Run *program* where gevent has patched, and return what it tells."""
    process = subprocess.run(
        [sys.executable, "-c", f"{patch}\n{dedent(PREPARATION)}\n{dedent(program)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, errors_of(process)) == (0, "")
    return [json.loads(line) for line in process.stdout.splitlines()]

"""The calls that Flask-Executor 1.0 and its async twins promise, as a reader would type them."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import threading

import pytest
from flask import Flask, Response, current_app

from flask_executor import Executor


def fib(n):
    if n <= 2:
        return 1
    return fib(n - 1) + fib(n - 2)


@pytest.fixture
def app():
    return Flask(__name__)


@pytest.fixture
def executor(app):
    with Executor(app) as executor:
        yield executor


def test_an_executor_is_initialised_directly(app):
    with Executor(app) as executor:
        future = executor.submit(fib, 5)

        assert future.result() == 5


def test_an_executor_is_initialised_through_the_factory_method(app):
    with Executor() as executor:
        executor.init_app(app)

        assert executor.submit(fib, 5).result() == 5


@pytest.mark.parametrize("config", [{}, {"EXECUTOR_TYPE": "thread"}])
def test_the_type_thread_is_the_default_and_runs_jobs_in_threads(app, config):
    app.config.update(config)

    with Executor(app) as executor:
        pid = executor.submit(os.getpid).result()
        thread = executor.submit(threading.current_thread).result()

    assert app.config["EXECUTOR_TYPE"] == "thread"
    assert pid == os.getpid()
    assert thread is not threading.current_thread()


def test_the_type_process_runs_jobs_in_processes(app):
    app.config["EXECUTOR_TYPE"] = "process"
    app.config["EXECUTOR_APP"] = "tests.remote_app:app"  # a fixture is no global of a module
    app.config["EXECUTOR_MP_CONTEXT"] = "spawn"  # to fork a process that has threads is warned of

    with Executor(app) as executor:
        pid = executor.submit(os.getpid).result()
        value = executor.submit(fib, 5).result()

    assert pid != os.getpid()
    assert value == 5


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_max_workers_is_the_number_of_workers(app, kind):
    app.config["EXECUTOR_TYPE"] = kind
    app.config["EXECUTOR_MAX_WORKERS"] = 3

    with Executor(app) as executor:
        assert executor.stats().workers == 3


def test_as_many_jobs_run_at_a_time_as_there_are_workers(app):
    app.config["EXECUTOR_MAX_WORKERS"] = 2
    pair = threading.Barrier(2, timeout=10)
    lock = threading.Lock()
    running = most = 0

    def job():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait()
        with lock:
            running -= 1

    with Executor(app) as executor:
        for future in [executor.submit(job) for _ in range(20)]:
            future.result()

    assert most == 2


@pytest.mark.parametrize(
    ("kind", "pool"),
    [
        ("thread", concurrent.futures.ThreadPoolExecutor),
        ("process", concurrent.futures.ProcessPoolExecutor),
    ],
)
def test_the_stdlib_picks_the_number_of_workers_by_default(app, kind, pool):
    app.config["EXECUTOR_TYPE"] = kind

    with Executor(app) as executor, pool() as expected:
        assert app.config["EXECUTOR_MAX_WORKERS"] is None
        assert executor.stats().workers == expected._max_workers


def test_a_view_submits_and_forgets(app, executor):
    @app.route("/example1")
    def example1():
        executor.submit(fib, 5)
        return "OK"

    response = app.test_client().get("/example1")
    executor.drain()

    assert response.text == "OK"
    assert executor.stats().succeeded == 1


def test_submitting_returns_a_standard_future(executor):
    future = executor.submit(fib, 5)

    assert isinstance(future, concurrent.futures.Future)
    assert concurrent.futures.wait([future], timeout=10).done == {future}


def test_a_view_waits_for_a_result(app, executor):
    @app.route("/example2")
    def example2():
        future = executor.submit(fib, 5)
        return str(future.result())

    response = app.test_client().get("/example2")

    assert response.text == "5"


def test_a_view_streams_results_as_they_are_completed(app, executor):
    @functools.cache
    def fib(n):
        if n <= 2:
            return 1
        return fib(n - 1) + fib(n - 2)

    @app.route("/example3")
    def example3():
        futures = [executor.submit(fib, i) for i in range(1, 40)]

        def generate():
            for future in concurrent.futures.as_completed(futures):
                yield str(future.result()) + "\n"

        return Response(generate(), mimetype="text/text")

    response = app.test_client().get("/example3")

    assert response.mimetype == "text/text"
    assert sorted(map(int, response.text.split())) == [fib(i) for i in range(1, 40)]


def test_a_decorated_function_submits_itself(app, executor):
    @executor.job
    def fib(n):
        if n <= 2:
            return 1
        return fib(n - 1) + fib(n - 2)

    @app.route("/example4")
    def example4():
        fib.submit(5)
        return "OK"

    response = app.test_client().get("/example4")
    executor.drain()

    assert response.text == "OK"
    assert executor.stats().succeeded == 1
    assert fib.submit(5).result() == fib(5) == 5


def test_a_job_runs_inside_the_app_context(app, executor):
    def name():
        return current_app.name

    decorated = executor.job(name)

    @app.route("/")
    def index():
        return [executor.submit(name).result(), decorated.submit().result()]

    assert app.test_client().get("/").json == [app.name, app.name]


def test_an_async_view_awaits_a_function(app, executor):
    @app.route("/example5")
    async def example5():
        return str(await executor.submit_async(fib, 5))

    response = app.test_client().get("/example5")

    assert response.text == "5"


def test_an_async_view_awaits_a_decorated_function(app, executor):
    fib_job = executor.job(fib)

    @app.route("/example6")
    async def example6():
        return str(await fib_job.submit_async(5))

    response = app.test_client().get("/example6")

    assert response.text == "5"

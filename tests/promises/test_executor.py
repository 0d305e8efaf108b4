"""The executor's own ways: map, options, and how it shows itself."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from flask import Flask, current_app

from flask_executor import Executor, JobFuture, WaitTimeout

WAIT = 60.0


def test_map_returns_results_in_order(executor):
    assert list(executor.map(pow, range(10), range(10))) == [n**n for n in range(10)]


def test_map_ends_with_its_shortest_iterable(executor):
    assert list(executor.map(lambda a, b: a + b, range(100), [1, 2])) == [1, 3]


def test_map_without_buffersize_submits_all_at_the_call(app, executors):
    executor = executors(app)
    ran = []

    results = executor.map(ran.append, range(10))
    executor.drain(WAIT)

    assert sorted(ran) == list(range(10))
    assert list(results) == [None] * 10


def test_map_with_buffersize_takes_only_what_it_may_have_in_flight(executor):
    taken = []

    def source():
        for n in range(1000):
            taken.append(n)
            yield n

    results = executor.map(str, source(), buffersize=3)
    at_first = len(taken)
    first = [next(results) for _ in range(4)]

    assert at_first == 3
    assert first == ["0", "1", "2", "3"]
    assert len(taken) == 6
    assert list(results) == [str(n) for n in range(4, 1000)]


def test_map_raises_what_an_item_raises_and_cancels_the_rest(app, executors, gate):
    executor = executors(app, max_workers=1)
    ran = []

    def item(n: int) -> None:
        ran.append(n)
        if n == 1:
            raise LookupError(n)
        gate()

    results = executor.map(item, range(10))
    gate.open()
    next(results)

    with pytest.raises(LookupError):
        list(results)
    executor.drain(WAIT)
    assert len(ran) + executor.stats().cancelled == 10


def test_map_gives_up_when_its_time_is_over_and_cancels_the_rest(app, executors, gate):
    executor = executors(app, max_workers=1)

    results = executor.map(lambda _: gate(), range(10), timeout=0.01)

    with pytest.raises(WaitTimeout):
        next(results)
    assert executor.stats().cancelled == 9


def test_closing_a_map_cancels_what_has_not_started(app, executors, gate):
    executor = executors(app, max_workers=1)
    results = executor.map(lambda n: n if n == 0 else gate(n), range(10))

    first = next(results)
    results.close()

    assert first == 0
    assert executor.stats().cancelled >= 8


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_map_holds_no_future_of_what_it_yielded(executor, no_gc, chunksize):
    futures: list[weakref.ref[JobFuture[object]]] = []
    executor.add_default_done_callback(lambda future: futures.append(weakref.ref(future)))

    results = executor.map(lambda n: n, range(9), chunksize=chunksize)
    for _ in range(4):
        next(results)
    executor.drain(WAIT)

    assert len(futures) == 9 / chunksize
    assert [future() for future in futures].count(None) == -(-4 // chunksize)


def test_a_map_leaves_the_results_of_a_chunk_to_a_callback_that_keeps_them(executor):
    kept: list[object] = []
    executor.add_default_done_callback(lambda future: kept.append(future.result()))

    results = list(executor.map(lambda n: n, range(3), chunksize=3))

    assert results == [0, 1, 2]
    assert kept == [[0, 1, 2]]


def test_options_leave_the_functions_own_keywords_alone(executor):
    def job(*, key: str, timeout: int, fn: str, self: str) -> tuple[object, ...]:
        return key, timeout, fn, self

    values = {"key": "k", "timeout": 5, "fn": "f", "self": "s"}

    assert executor.submit(job, **values).result(WAIT) == tuple(values.values())
    stored = executor.options(key="stored").submit(job, **values)
    assert stored.result(WAIT) == tuple(values.values())
    assert executor.futures.get("stored") is stored


def test_a_stored_job_knows_its_key(executor):
    future = executor.submit_stored("report-7", int)

    assert future.key == "report-7"
    assert executor.futures.get("report-7") is future
    assert executor.futures.result("report-7", WAIT) == 0


def test_an_executor_shows_whom_it_serves():
    executor, mail = Executor(), Executor(name="mail")
    for name in ("two", "one"):
        mail.init_app(Flask(name))

    assert repr(executor) == "<Executor of no app yet>"
    assert repr(mail).startswith("<Executor 'mail' of ")


def test_an_app_that_is_dropped_is_collected_with_its_pool():
    app = Flask("app")
    executor = Executor()
    executor.init_app(app)
    executor.submit(int).result(WAIT)
    (worker,) = [thread for thread in threading.enumerate() if thread.name.endswith("-app_0")]
    ref = weakref.ref(app)

    del app
    gc.collect()
    worker.join(WAIT)

    assert ref() is None
    assert not worker.is_alive()
    assert repr(executor) == "<Executor of no app yet>"


def test_the_app_that_an_executor_is_made_with_lives_as_long_as_the_executor():
    executor = Executor(Flask("app"))
    gc.collect()

    assert executor.submit(lambda: current_app.name).result(WAIT) == "app"
    executor.shutdown()


def test_an_app_goes_with_its_last_reference(no_gc):
    app = Flask("short lived")
    executor = Executor()
    executor.init_app(app)
    with app.app_context():
        assert executor.submit(int, "7").result(WAIT) == 7
        executor.shutdown()
    gone = weakref.ref(app)

    del app

    assert gone() is None

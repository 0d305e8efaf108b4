"""The backends: threads, and processes of every start method."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context, has_request_context, request

from flask_executor import (
    Executor,
    JobFuture,
    job_cancelled,
    job_failed,
    job_started,
    job_submitted,
    job_succeeded,
)
from tests.conftest import WAIT, Gate, MakeExecutor

START_METHODS = [
    pytest.param(
        method,
        # The other threads of this process hold no lock that the child would need.
        marks=pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
    )
    for method in multiprocessing.get_all_start_methods()
]


# What workers import


def power(base: int, exponent: int = 2) -> int:
    return base**exponent


def pid(_: object = None) -> int:
    return os.getpid()


def pid_and_power(n: int) -> tuple[int, int]:
    return os.getpid(), power(n)


shared = Executor()


@shared.job
def decorated(n: int, /, **kwargs: int) -> tuple[int, int, dict[str, int]]:
    return os.getpid(), n, kwargs


def process_class() -> str:
    return type(multiprocessing.current_process()).__name__


def fail(*args: object) -> None:
    raise LookupError("on purpose", os.getpid())


def wait_at(door: tuple[str, int], result: object = None) -> object:
    with socket.create_connection(door, WAIT) as connection:
        connection.recv(1)
    return result


class Door:
    """Holds up jobs that run in other processes."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(WAIT)
        self._waiting: list[socket.socket] = []
        self.address = self._server.getsockname()

    def await_arrival(self) -> None:
        """Wait until one more job is at the door."""
        self._waiting.append(self._server.accept()[0])

    def open(self) -> None:
        """Let those who have arrived through, and turn all others away."""
        self._server.close()
        for connection in self._waiting:
            connection.close()


@pytest.fixture
def door(executors: MakeExecutor) -> Iterator[Door]:
    door = Door()
    yield door
    door.open()


@pytest.fixture
def processes(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, type="process", max_workers=1)


@pytest.mark.parametrize("type_", ["thread", "process", "inline"])
def test_an_executor_starts_nothing_until_there_is_a_job(app: Flask, type_: str) -> None:
    app.config["EXECUTOR_TYPE"] = type_
    before = threading.enumerate(), multiprocessing.active_children()

    executor = Executor(app)
    executor.job(pow)
    executor.stats()
    _ = executor.futures
    executor.drain(timeout=0)

    assert (threading.enumerate(), multiprocessing.active_children()) == before


@pytest.mark.parametrize(
    ("type_", "pool"), [("thread", ThreadPoolExecutor), ("process", ProcessPoolExecutor)]
)
def test_the_default_number_of_workers_is_the_pools_own(
    app: Flask, executors: MakeExecutor, type_: str, pool: Callable[[], Any]
) -> None:
    assert executors(app, type=type_).stats().workers == pool()._max_workers


# Threads


def test_as_many_jobs_run_at_a_time_as_there_are_workers(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=3)

    gate.occupy(executor, workers=3)
    executor.submit(pow, 2, 3)

    stats = executor.stats()
    assert (stats.workers, stats.running, stats.pending) == (3, 3, 1)


@pytest.mark.parametrize(("name", "prefix"), [("", "executor-app"), ("mail", "mail-app")])
def test_threads_are_named_after_executor_and_app(
    app: Flask, executors: MakeExecutor, name: str, prefix: str
) -> None:
    executor = executors(app, name=name)

    thread = executor.submit(lambda: threading.current_thread().name).result(WAIT)

    assert thread.startswith(prefix)


@pytest.mark.parametrize("waits", [True, False])
def test_shutting_threads_down_runs_what_is_queued(
    app: Flask, executors: MakeExecutor, gate: Gate, waits: bool
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    futures = [executor.submit(pow, 2, n) for n in range(3)]
    if waits:
        gate.open()

    executor.shutdown(wait=waits)

    assert all(future.done() for future in futures) is waits
    gate.open()
    assert [future.result(WAIT) for future in futures] == [1, 2, 4]


# Processes


@pytest.mark.parametrize("method", START_METHODS)
def test_jobs_run_in_processes_of_every_start_method(
    app: Flask, executors: MakeExecutor, method: str
) -> None:
    executor = executors(app, type="process", max_workers=1, mp_context=method)

    class_ = executor.submit(process_class).result(WAIT)
    worker, nine = executor.submit(pid_and_power, 3).result(WAIT)

    assert class_.lower() == f"{method}process"
    assert worker != os.getpid()
    assert nine == 9


def test_every_way_to_submit_reaches_another_process(processes: Executor) -> None:
    async def view() -> list[int]:
        awaited = await processes.submit_async(pid)
        also_awaited = await processes.submit(pid)
        return [awaited, also_awaited, *[each async for each in processes.map_async(pid, "ab")]]

    pids = {
        processes.submit(pid).result(WAIT),
        processes.submit_stored("key", pid).result(WAIT),
        processes.options(key="another").submit(pid).result(WAIT),
        *processes.map(pid, "ab"),
        *asyncio.run(view()),
    }

    assert len(pids) == 1
    assert os.getpid() not in pids
    assert processes.submit(power, 2, exponent=5).result(WAIT) == 32
    assert processes.futures.state("key") == "succeeded"


@pytest.mark.parametrize("method", START_METHODS)
def test_a_decorated_function_runs_in_another_process(app: Flask, method: str) -> None:
    app.config.update(EXECUTOR_TYPE="process", EXECUTOR_MAX_WORKERS=1, EXECUTOR_MP_CONTEXT=method)
    shared.init_app(app)

    with app.app_context():
        pid_of_job, *rest = decorated.submit(1, n=2).result(WAIT)
        pids = {each[0] for each in decorated.map(range(3), chunksize=2)}
        shared.shutdown()

    assert rest == [1, {"n": 2}]
    assert pids == {pid_of_job} != {os.getpid()}


@pytest.mark.parametrize(
    ("chunksize", "buffersize", "journeys"), [(1, None, 7), (3, None, 3), (3, 1, 3), (100, None, 1)]
)
def test_a_chunk_of_a_map_makes_one_journey(
    processes: Executor, chunksize: int, buffersize: int | None, journeys: int
) -> None:
    results = processes.map(power, range(7), [2] * 7, chunksize=chunksize, buffersize=buffersize)

    assert list(results) == [0, 1, 4, 9, 16, 25, 36]
    assert processes.stats().submitted == journeys


def test_threads_need_no_chunks(executor: Executor) -> None:
    assert list(executor.map(power, range(7), chunksize=3)) == [0, 1, 4, 9, 16, 25, 36]
    assert executor.stats().submitted == 7


@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_item_that_fails_ends_a_map(processes: Executor, chunksize: int) -> None:
    results = processes.map(power, [2, 3, 0, 1], [1, 2, -1, 1], chunksize=chunksize)

    assert [next(results), next(results)] == [2, 9]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_exception_comes_back_with_where_it_was_raised(processes: Executor) -> None:
    future = processes.submit(fail)

    with pytest.raises(LookupError, match="on purpose") as caught:
        future.result(WAIT)

    assert caught.value.args[1] != os.getpid()
    assert "in fail" in str(caught.value.__cause__)
    assert future.state == "failed"
    assert processes.submit(power, 3).result(WAIT) == 9


@pytest.mark.parametrize("fn", [power, fail])
def test_callbacks_and_signals_run_in_the_submitting_process_in_an_app_context(
    app: Flask, processes: Executor, fn: Callable[..., Any]
) -> None:
    seen: list[tuple[str, str | None, str | None]] = []
    end = job_failed if fn is fail else job_succeeded

    def see(what: str) -> None:
        in_app = has_app_context()
        seen.append((what, current_app.name if in_app else None, g.user if in_app else None))

    def submitted(_: Flask, **sent: Any) -> None:
        see("submitted")

    def started(_: Flask, **sent: Any) -> None:
        see("started")

    def ended(_: Flask, **sent: Any) -> None:
        see("ended")

    def called_back(future: JobFuture[Any]) -> None:
        assert future.done()
        see("called back")

    processes.add_default_done_callback(called_back)
    with (
        job_submitted.connected_to(submitted),
        job_started.connected_to(started),
        end.connected_to(ended),
    ):
        with app.app_context():
            g.user = "ada"
            futures = [processes.submit(fn, n) for n in range(3)]
        processes.drain(WAIT)

    assert [future.exception() is None for future in futures] == [fn is power] * 3
    names = ["submitted", "started", "ended", "called back"]
    assert sorted(seen, key=repr) == sorted([(name, "app", "ada") for name in names * 3], key=repr)


def test_a_process_job_is_cancelled_while_it_waits(processes: Executor, door: Door) -> None:
    cancelled: list[str] = []
    running = processes.submit(wait_at, door.address, "result")
    door.await_arrival()
    waiting = processes.submit(power, 3)

    def receive(_: Flask, **sent: Any) -> None:
        cancelled.append(sent["job"].id)

    with job_cancelled.connected_to(receive):
        assert waiting.cancel()
    assert not running.cancel()
    stats = processes.stats()
    door.open()

    assert running.result(WAIT) == "result"
    assert cancelled == [waiting.id]
    assert (stats.running, stats.pending, stats.cancelled) == (1, 0, 1)
    processes.drain(WAIT)
    assert processes.stats().succeeded == 1


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
def test_shutting_processes_down_runs_or_cancels_what_is_queued(
    processes: Executor, door: Door, waits: bool, cancels: bool
) -> None:
    running = processes.submit(wait_at, door.address, "result")
    futures = [processes.submit(power, n) for n in range(3)]
    door.await_arrival()
    if waits:
        door.open()

    processes.shutdown(wait=waits, cancel_futures=cancels)

    ended = [future.done() for future in [running, *futures]]
    door.open()
    assert running.result(WAIT) == "result"
    assert ended == [waits] + [waits or cancels] * 3
    processes.drain(WAIT)
    outcomes = [future.cancelled() or future.result(WAIT) for future in futures]
    assert outcomes in ([True] * 3, [0, 1, 4])
    assert cancels or not any(future.cancelled() for future in futures)


def test_the_workers_end_with_the_executor(processes: Executor) -> None:
    worker = processes.submit(pid).result(WAIT)
    alive = [child.pid for child in multiprocessing.active_children()]

    processes.shutdown()

    assert alive == [worker]
    assert multiprocessing.active_children() == []


def test_a_worker_is_replaced_after_so_many_tasks(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(
        app, type="process", max_workers=1, max_tasks_per_child=1, mp_context="spawn"
    )

    assert len({executor.submit(pid).result(WAIT) for _ in range(2)}) == 2


class Parcel:
    """Something that travels."""


def send_back(parcel: Parcel) -> Parcel:
    return parcel


def test_a_process_job_that_is_over_holds_nothing_that_only_it_needed(
    app: Flask, processes: Executor, door: Door
) -> None:
    running = processes.submit(wait_at, door.address)
    with app.test_request_context("/static/path"):
        parcel = g.value = Parcel()
        references = [weakref.ref(each) for each in (parcel, g._get_current_object())]
        references.append(weakref.ref(request._get_current_object()))
        future = processes.submit(send_back, parcel)
    references.append(weakref.ref(future._scope.context))
    del parcel
    door.await_arrival()
    door.open()
    processes.drain(WAIT)
    gc.collect()

    assert [reference() for reference in references] == [None] * 4
    assert isinstance(future.result(), Parcel)
    assert running.result() is None


def test_what_cannot_travel_fails_and_the_next_job_does_not(processes: Executor) -> None:
    try:
        error = processes.submit(lambda: None).exception(WAIT)
    except Exception as refused:
        error = refused

    assert isinstance(error, (pickle.PicklingError, AttributeError, TypeError))
    assert processes.submit(power, 3).result(WAIT) == 9


def die() -> None:
    os._exit(1)


def test_nobody_waits_for_ever_for_a_worker_that_died(processes: Executor) -> None:
    died, waiting = processes.submit(die), processes.submit(power, 3)

    assert isinstance(died.exception(WAIT), BrokenProcessPool)
    assert isinstance(waiting.exception(WAIT), BrokenProcessPool | None)
    processes.drain(WAIT)


@pytest.mark.skipif(sys.platform == "win32", reason="has one start method")
def test_a_process_pool_of_some_start_method_leaves_the_others_alone(
    app: Flask, executors: MakeExecutor
) -> None:
    before = multiprocessing.get_start_method()

    executors(app, type="process", max_workers=1, mp_context="spawn").submit(pid).result(WAIT)

    assert multiprocessing.get_start_method() == before


def what_of_flask_is_here() -> tuple[bool, bool]:
    return has_app_context(), has_request_context()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_worker_inherits_nothing_of_the_request_that_starts_it(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="process", mp_context="fork", max_workers=1)

    with app.test_request_context("/first"):
        seen = executor.submit(what_of_flask_is_here).result(WAIT)

    assert seen == (False, False)


def wait_for_file(path: Path) -> Path:
    while not path.exists():
        time.sleep(0.01)
    return path


def test_what_comes_back_after_the_deadline_still_reaches_its_future(
    app: Flask, executors: MakeExecutor, tmp_path: Path
) -> None:
    executor = executors(app, type="process", max_workers=1, shutdown_timeout=0.01)
    future = executor.submit(wait_for_file, tmp_path / "gate")

    executor.shutdown()
    (tmp_path / "gate").touch()

    assert future.result(WAIT) == tmp_path / "gate"


def test_a_callback_of_a_process_job_cannot_wait_for_itself(
    processes: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    future = processes.submit(power, 3)
    future.add_done_callback(lambda _: processes.drain())

    assert future.result(WAIT) == 9
    processes.drain(WAIT)
    assert processes.submit(power, 2).result(WAIT) == 4
    assert "cannot drain its own executor" in caplog.text


async def power_later(n: int) -> int:
    await asyncio.sleep(0)
    return n * n


def test_a_coroutine_function_runs_in_a_worker_process(processes: Executor) -> None:
    assert processes.submit(power_later, 3).result(WAIT) == 9
    assert list(processes.map(power_later, range(4), chunksize=3)) == [0, 1, 4, 9]

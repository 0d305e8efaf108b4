"""The rows of the table: what is compared with what, and what a round of either side does."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

import flask_executor_1
from asgiref.sync import async_to_sync
from burst import WORKERS, burst, make_app, noop

if TYPE_CHECKING:
    from flask import Flask

    from flask_executor import Executor

Round: TypeAlias = Callable[[], float]
Rounds: TypeAlias = AbstractContextManager[tuple[Round, Round]]
Submit: TypeAlias = Callable[[Callable[[], object]], Future[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A work, and another way to do it.

    :param open: takes the number of jobs and prepares a round of ours and a round of theirs; a
        round returns what each of its jobs took
    :param aim: what the ratio, ours by theirs, is meant to stay within
    :param show: writes what a round returned with its unit
    """

    work: str
    against: str
    open: Callable[[int], Rounds]
    aim: float
    show: Callable[[float], str]


@contextmanager
def bursts(jobs: int) -> Generator[tuple[Round, Round]]:
    """Submit all jobs, then take the results."""
    with both() as (app, executor, pool):
        yield (
            partial(burst, executor.submit, noop, jobs),
            partial(burst, pool.submit, in_context_of(app), jobs),
        )


@contextmanager
def bursts_of_versions(jobs: int) -> Generator[tuple[Round, Round]]:
    """Do the same with either version, in a process for each."""
    flask_executor_1.install()
    with (
        flask_executor_1.bursts_in(sys.executable, jobs) as ours,
        flask_executor_1.bursts_in(flask_executor_1.PYTHON, jobs) as theirs,
    ):
        yield ours, theirs


@contextmanager
def gathers(jobs: int) -> Generator[tuple[Round, Round]]:
    """Start all jobs in an event loop, then await them together."""
    with both() as (_, executor, pool), asyncio.Runner() as runner:
        run_in_pool = partial(runner.get_loop().run_in_executor, pool, noop)
        yield (
            lambda: runner.run(gathered(partial(executor.submit_async, noop), jobs)),
            lambda: runner.run(gathered(run_in_pool, jobs)),
        )


@contextmanager
def ones(jobs: int) -> Generator[tuple[Round, Round]]:
    """Submit each job when the one before has returned."""
    with both() as (_, executor, pool):
        yield (
            partial(one_by_one, executor.submit, jobs // 10),
            partial(one_by_one, pool.submit, jobs // 10),
        )


@contextmanager
def ones_awaited(jobs: int) -> Generator[tuple[Round, Round]]:
    """Start each job when the one before was awaited."""
    with both() as (_, executor, pool), asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(pool)
        yield (
            lambda: runner.run(awaited_one_by_one(executor.submit_async, jobs // 10)),
            lambda: runner.run(awaited_one_by_one(asyncio.to_thread, jobs // 10)),
        )


@contextmanager
def waiting(jobs: int) -> Generator[tuple[Round, Round]]:
    """Have jobs wait while all workers are busy."""
    with both() as (app, executor, pool):
        yield (
            partial(bytes_waiting, executor.submit, noop, jobs),
            partial(bytes_waiting, pool.submit, in_context_of(app), jobs),
        )


@contextmanager
def coroutines(jobs: int) -> Generator[tuple[Round, Round]]:
    """Run coroutine jobs, next to a loop for each."""
    with both() as (_, executor, _):
        yield (
            partial(burst, executor.submit, async_noop, jobs),
            partial(called, async_to_sync(async_noop), jobs // 20),
        )


@contextmanager
def coroutines_on_a_loop(jobs: int) -> Generator[tuple[Round, Round]]:
    """Run coroutine jobs, next to the coroutines alone on a loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(fn: Callable[[], Coroutine[Any, Any, object]]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(fn(), loop)

    with both() as (_, executor, _):
        yield (
            partial(burst, executor.submit, async_noop, jobs),
            partial(burst, run, async_noop, jobs),
        )
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def async_views(jobs: int) -> Generator[tuple[Round, Round]]:
    """Request an async view and a sync one: what the async one costs more."""
    app, executor = make_app(EXECUTOR_ASYNC_VIEWS=True)
    stock, unused = make_app()
    for one in (app, stock):
        one.add_url_rule("/sync", "sync", lambda: "")
        one.add_url_rule("/async", "async", async_view)
    with executor, unused:
        yield partial(more_for_async, app, jobs // 20), partial(more_for_async, stock, jobs // 20)


def microseconds(seconds: float) -> str:
    """Write a time."""
    return f"{seconds * 1e6:.1f} µs"


def whole_bytes(size: float) -> str:
    """Write a size."""
    return f"{size:.0f} B"


ROWS = {
    row.work: row
    for row in (
        Row("burst", "ThreadPoolExecutor, app_context()", bursts, 1.0, microseconds),
        Row("burst-1.0", "Flask-Executor 1.0", bursts_of_versions, 0.17, microseconds),
        Row("gather", "run_in_executor, no context", gathers, 0.7, microseconds),
        Row("one", "ThreadPoolExecutor, no context", ones, 1.0, microseconds),
        Row("one-awaited", "asyncio.to_thread, no app context", ones_awaited, 1.05, microseconds),
        Row("coroutine", "run_coroutine_threadsafe", coroutines_on_a_loop, 1.0, microseconds),
        Row("coroutine-2", "async_to_sync for each", coroutines, 0.1, microseconds),
        Row("async-view", "stock Flask; less its sync view", async_views, 0.25, microseconds),
        Row("memory", "ThreadPoolExecutor, app_context()", waiting, 1.1, whole_bytes),
    )
}


@contextmanager
def both() -> Generator[tuple[Flask, Executor, ThreadPoolExecutor]]:
    """Our executor and a pool that is as large, in a request."""
    app, executor = make_app()
    with app.test_request_context(), executor, ThreadPoolExecutor(WORKERS) as pool:
        yield app, executor, pool


def in_context_of(app: Flask) -> Callable[[], None]:
    """What a pool must be given for a job that has an app context."""

    def noop_in_context() -> None:
        with app.app_context():
            noop()

    return noop_in_context


async def gathered(start: Callable[[], Awaitable[object]], jobs: int) -> float:
    """Await so many jobs together; the seconds for each."""
    gc.collect()
    begin = perf_counter()
    await asyncio.gather(*[start() for _ in range(jobs)])
    return (perf_counter() - begin) / jobs


def one_by_one(submit: Submit, jobs: int) -> float:
    """Wait for so many jobs in turn; the seconds for each."""
    gc.collect()
    begin = perf_counter()
    for _ in range(jobs):
        submit(noop).result()
    return (perf_counter() - begin) / jobs


async def awaited_one_by_one(
    start: Callable[[Callable[[], object]], Awaitable[object]], jobs: int
) -> float:
    """Await so many jobs in turn; the seconds for each."""
    gc.collect()
    begin = perf_counter()
    for _ in range(jobs):
        await start(noop)
    return (perf_counter() - begin) / jobs


async def async_noop() -> None:
    """The coroutine job."""


async def async_view() -> str:
    """The async view."""
    return ""


def called(fn: Callable[[], object], times: int) -> float:
    """Call *fn* so many times; the seconds for each."""
    begin = perf_counter()
    for _ in range(times):
        fn()
    return (perf_counter() - begin) / times


def more_for_async(app: Flask, requests: int) -> float:
    """Request either view so many times; the seconds that the async one takes more."""
    client = app.test_client()
    return called(partial(client.get, "/async"), requests) - called(
        partial(client.get, "/sync"), requests
    )


def bytes_waiting(submit: Submit, fn: Callable[[], object], jobs: int) -> float:
    """Have *fn* wait so many times for workers that wait at a gate; the bytes for each."""
    gate = threading.Event()
    held = threading.Barrier(WORKERS + 1)

    def hold() -> None:
        held.wait()
        gate.wait()

    for _ in range(WORKERS):
        submit(hold)
    held.wait()
    gc.collect()
    tracemalloc.start()
    futures = [submit(fn) for _ in range(jobs)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gate.set()
    wait(futures)
    return size / jobs

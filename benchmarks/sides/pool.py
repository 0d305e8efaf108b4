"""The pools of the standard library, with an app context in a job where that is said."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask
from rounds import WORKERS, async_noop, burst, bytes_waiting, gather, mapped, noop, one_by_one
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from serving import Round


@contextmanager
def bursts(workers: int = WORKERS) -> Generator[Round]:
    """Submit all jobs, then take the results; each pushes an app context."""
    with in_request(workers) as (app, pool):
        yield partial(burst, pool.submit, in_context_of(app))


@contextmanager
def coroutines() -> Generator[Round]:
    """Hand coroutines to a loop in a thread, with no app context."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def submit(fn: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(fn(), loop)

    with in_request():
        yield partial(burst, submit, async_noop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def ones() -> Generator[Round]:
    """Submit each job when the one before has returned, with no app context."""
    with in_request() as (_, pool):
        yield partial(one_by_one, pool.submit)


@contextmanager
def gathers() -> Generator[Round]:
    """Await all jobs together, with no app context."""
    with in_request() as (_, pool), asyncio.Runner() as runner:
        yield partial(gather, runner, partial(runner.get_loop().run_in_executor, pool, noop))


@contextmanager
def maps() -> Generator[Round]:
    """Map over threads, with no app context; a pool of threads makes no chunks."""
    with in_request() as (_, pool):
        yield partial(mapped, partial(pool.map, chunksize=100))


@contextmanager
def process_maps(chunksize: int) -> Generator[Round]:
    """Map over processes, with no app context."""
    with ProcessPoolExecutor(WORKERS) as pool:
        yield partial(mapped, partial(pool.map, chunksize=chunksize))


@contextmanager
def waiting() -> Generator[Round]:
    """Have jobs wait while all workers are busy; each is to push an app context."""
    with in_request() as (app, pool):
        yield partial(bytes_waiting, pool.submit, in_context_of(app))


@contextmanager
def in_request(workers: int = WORKERS) -> Generator[tuple[Flask, ThreadPoolExecutor]]:
    """Open a request, and a pool."""
    app = Flask(__name__)
    with app.test_request_context(), ThreadPoolExecutor(workers) as pool:
        yield app, pool


def in_context_of(app: Flask) -> Callable[[], None]:
    """Make what a pool must be given for a job that has an app context."""

    def noop_in_context() -> None:
        with app.app_context():
            noop()

    return noop_in_context


if __name__ == "__main__":
    serve(
        {
            "burst": bursts,
            "gather": gathers,
            "one": ones,
            "coroutines": coroutines,
            "map": maps,
            "map-processes": partial(process_maps, 1_000),
            "map-processes-100": partial(process_maps, 100),
            "memory": waiting,
        }
    )

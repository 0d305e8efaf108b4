"""Flask-Executor, as it is in this repository."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from itertools import count
from statistics import median
from typing import TYPE_CHECKING

from flask import Flask
from rounds import (
    WORKERS,
    async_noop,
    awaited_one_by_one,
    burst,
    bytes_waiting,
    gather,
    mapped,
    noop,
    one_by_one,
    read_back,
)
from serving import serve
from views import add_views, more_for_async, request_in_test_client, served

from flask_executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    from serving import Round

# Seconds that the import takes where Flask and asyncio are imported already.
IMPORT = """
import asyncio, flask
from time import perf_counter
begin = perf_counter()
import flask_executor
print(perf_counter() - begin)
"""


@contextmanager
def bursts(workers: int = WORKERS) -> Generator[Round]:
    """Submit all jobs, then take the results."""
    with in_request(EXECUTOR_MAX_WORKERS=workers) as executor:
        yield partial(burst, executor.submit, noop)


@contextmanager
def stored_bursts(kept: int) -> Generator[Round]:
    """Store the jobs, where so many futures are kept, and are there from the beginning."""
    keys = count()

    def submit_stored(fn: Callable[[], None]) -> Future[None]:
        return executor.submit_stored(next(keys), fn)

    with in_request(EXECUTOR_FUTURES_MAX_LENGTH=kept) as executor:
        for _ in range(kept):
            submit_stored(noop)
        executor.drain()
        yield partial(burst, submit_stored, noop)


@contextmanager
def results_read_back() -> Generator[Round]:
    """Submit all jobs, then add their results up."""
    with in_request() as executor:

        def burst(jobs: int) -> int:
            return sum(future.result() for future in [executor.submit(one) for _ in range(jobs)])

        yield partial(read_back, burst)


@contextmanager
def coroutines() -> Generator[Round]:
    """Do the same with coroutine jobs."""
    with in_request() as executor:
        yield partial(burst, executor.submit, async_noop)


@contextmanager
def ones() -> Generator[Round]:
    """Submit each job when the one before has returned."""
    with in_request() as executor:
        yield partial(one_by_one, executor.submit)


@contextmanager
def gathers() -> Generator[Round]:
    """Await all jobs together."""
    with in_request() as executor, asyncio.Runner() as runner:
        yield partial(gather, runner, partial(executor.submit_async, noop))


@contextmanager
def ones_awaited() -> Generator[Round]:
    """Await each job before the next one is started."""
    with in_request() as executor, asyncio.Runner() as runner:
        yield partial(awaited_one_by_one, runner, partial(executor.submit_async, noop))


@contextmanager
def maps() -> Generator[Round]:
    """Map over threads."""
    with in_request() as executor:
        yield partial(mapped, partial(executor.map, chunksize=100))


@contextmanager
def process_maps(chunksize: int) -> Generator[Round]:
    """Map over processes."""
    config = {"EXECUTOR_TYPE": "process", "EXECUTOR_APP": "ours:make_app()"}
    with in_request(**config) as executor:
        yield partial(mapped, partial(executor.map, chunksize=chunksize))


@contextmanager
def waiting() -> Generator[Round]:
    """Have jobs wait while all workers are busy."""
    with in_request() as executor:
        yield partial(bytes_waiting, executor.submit, noop)


@contextmanager
def async_views() -> Generator[Round]:
    """Request views with no server in between."""
    yield partial(more_for_async, partial(request_in_test_client, make_app_with_views()))


@contextmanager
def served_async_views() -> Generator[Round]:
    """Request views of a server."""
    with served("ours:make_app_with_views()") as request_all:
        yield partial(more_for_async, request_all)


@contextmanager
def imports() -> Generator[Round]:
    """Import the package in so many new interpreters; the median of the seconds."""
    # -E, as a PYTHONDONTWRITEBYTECODE would have each of them compile it again.
    command = [sys.executable, "-E", "-c", IMPORT]
    yield lambda times: median(float(subprocess.check_output(command)) for _ in range(times))


def one() -> int:
    """Return what is added up."""
    return 1


@contextmanager
def in_request(**config: object) -> Generator[Executor]:
    """Open a request, and an executor of its app."""
    app = make_app(**config)
    executor = app.extensions["executor"]
    with app.test_request_context(), executor:
        yield executor


def make_app_with_views() -> Flask:
    """Make an app whose async views run on the executor's loop."""
    return add_views(make_app(EXECUTOR_ASYNC_VIEWS=True))


def make_app(**config: object) -> Flask:
    """Make an app that has an executor."""
    app = Flask(__name__)
    app.config.update({"EXECUTOR_MAX_WORKERS": WORKERS} | config)
    Executor(app)
    return app


if __name__ == "__main__":
    serve(
        {
            "burst": bursts,
            "stored": stored_bursts,
            "read-back": results_read_back,
            "gather": gathers,
            "one": ones,
            "one-awaited": ones_awaited,
            "coroutines": coroutines,
            "async-view": async_views,
            "async-view-served": served_async_views,
            "map": maps,
            "map-processes": partial(process_maps, 1_000),
            "map-processes-100": partial(process_maps, 100),
            "memory": waiting,
            "import": imports,
        }
    )

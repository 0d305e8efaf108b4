"""Bursts of jobs, as many as told, by as many workers or beside as many stored futures as told."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import Flask
from serving import serve

from flask_executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    from serving import Round

WORKERS = 4


@contextmanager
def ours() -> Generator[Round]:
    """Submit jobs to an executor of so many workers."""
    with executor_in_request(EXECUTOR_MAX_WORKERS=int(sys.argv[2])) as executor:
        yield partial(burst, partial(executor.submit, noop))


@contextmanager
def pool() -> Generator[Round]:
    """Submit jobs to the bare pool, each with an app context."""
    app = Flask(__name__)

    def noop_in_context() -> None:
        with app.app_context():
            noop()

    with app.test_request_context(), ThreadPoolExecutor(int(sys.argv[2])) as bare:
        yield partial(burst, partial(bare.submit, noop_in_context))


@contextmanager
def stored() -> Generator[Round]:
    """Submit stored jobs where so many futures are stored already."""
    with executor_in_request(EXECUTOR_FUTURES_MAX_LENGTH=None) as executor:
        for key in range(int(sys.argv[2])):
            executor.submit_stored(("before", key), noop)
        executor.drain()

        def take_round(jobs: int) -> float:
            keys = count()
            taken = burst(lambda: executor.submit_stored(next(keys), noop), jobs)
            for key in range(jobs):
                executor.futures.pop(key)
            return taken

        yield take_round


@contextmanager
def stored_in_default() -> Generator[Round]:
    """Submit stored jobs where only the default number of futures is kept."""
    keys = count()
    with executor_in_request() as executor:
        yield partial(burst, lambda: executor.submit_stored(next(keys), noop))


@contextmanager
def executor_in_request(**config: object) -> Generator[Executor]:
    """An executor and a request to submit from."""
    app = Flask(__name__)
    app.config.update({"EXECUTOR_MAX_WORKERS": WORKERS} | config)
    with Executor(app) as executor, app.test_request_context():
        yield executor


def burst(submit: Callable[[], Future[Any]], jobs: int) -> float:
    """Submit so many jobs, then take the results; the seconds for each."""
    gc.collect()
    begin = perf_counter()
    for future in [submit() for _ in range(jobs)]:
        future.result()
    return (perf_counter() - begin) / jobs


def noop() -> None:
    """Take no time, so that what is measured lies around it."""


if __name__ == "__main__":
    works = {"ours": ours, "pool": pool, "stored": stored, "stored-in-default": stored_in_default}
    serve(works)

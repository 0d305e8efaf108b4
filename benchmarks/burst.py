"""A burst of jobs, submitted in a request and waited for.

As a script it runs with the `flask_executor` that is installed, this one or 1.0: for each line of
its input, a number of jobs, it makes a burst and prints the seconds for each job.
"""

from __future__ import annotations

import gc
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import Flask

from flask_executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

WORKERS = 4


def main() -> None:
    """Make bursts until the input ends."""
    app, executor = make_app()
    with app.test_request_context():
        for jobs in sys.stdin:
            print(burst(executor.submit, noop, int(jobs)), flush=True)


def make_app(**config: object) -> tuple[Flask, Executor]:
    """An app and its executor."""
    app = Flask(__name__)
    app.config.update(config, EXECUTOR_MAX_WORKERS=WORKERS)
    return app, Executor(app)


def burst(
    submit: Callable[[Callable[[], Any]], Future[Any]], fn: Callable[[], Any], jobs: int
) -> float:
    """Submit *fn* so many times, then take the results; the seconds for each."""
    gc.collect()
    begin = perf_counter()
    for future in [submit(fn) for _ in range(jobs)]:
        future.result()
    return (perf_counter() - begin) / jobs


def noop() -> None:
    """Take no time, so that what is measured lies around it."""


if __name__ == "__main__":
    main()

"""Flask-Executor 1.0."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask
from rounds import WORKERS, burst, noop
from serving import serve

from flask_executor import Executor

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round


@contextmanager
def bursts() -> Generator[Round]:
    """Submit all jobs, then take the results."""
    app = Flask(__name__)
    app.config["EXECUTOR_MAX_WORKERS"] = WORKERS
    executor = Executor(app)
    with app.test_request_context():
        yield partial(burst, executor.submit, noop)


if __name__ == "__main__":
    serve({"burst": bursts})

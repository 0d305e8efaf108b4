"""What a job cannot do without: the parts of it that are Flask's and the standard library's."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

from flask import Flask
from rounds import noop
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from serving import Round, Work


def work_of(part: Callable[[], object]) -> Work:
    """Make a work of a part: in a request, so many times."""

    def repeat(times: int) -> float:
        for _ in range(times):
            part()
        return 0

    @contextmanager
    def in_request() -> Generator[Round]:
        with app.test_request_context():
            yield repeat

    return in_request


app = Flask(__name__)


def push_and_pop() -> None:
    """Enter a new app context and leave it."""
    context = app.app_context()
    context.push()
    context.pop(None)


def resolve_future() -> None:
    """Make a future, give it a result and take that."""
    future: Future[None] = Future()
    future.set_result(None)
    future.result()


def run_in_copy() -> None:
    """Call a function in a copy of the contextvars."""
    copy_context().run(noop)


if __name__ == "__main__":
    parts = {"app-context": push_and_pop, "future": resolve_future, "contextvars": run_in_copy}
    serve({name: work_of(part) for name, part in parts.items()})

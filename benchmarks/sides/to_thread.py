"""``asyncio.to_thread``, with no app context."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask
from rounds import WORKERS, awaited_one_by_one, gather, noop
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round


@contextmanager
def gathers() -> Generator[Round]:
    """Await all jobs together."""
    with loop_in_request() as runner:
        yield partial(gather, runner, partial(asyncio.to_thread, noop))


@contextmanager
def ones_awaited() -> Generator[Round]:
    """Await each job before the next one is started."""
    with loop_in_request() as runner:
        yield partial(awaited_one_by_one, runner, partial(asyncio.to_thread, noop))


@contextmanager
def loop_in_request() -> Generator[asyncio.Runner]:
    """Open a request, and a loop that has as many threads as the other sides."""
    with Flask(__name__).test_request_context(), asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(ThreadPoolExecutor(WORKERS))
        yield runner


if __name__ == "__main__":
    serve({"gather": gathers, "one-awaited": ones_awaited})

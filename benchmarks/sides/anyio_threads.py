"""``anyio.to_thread.run_sync``, with no app context."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from flask import Flask
from rounds import WORKERS, gather, noop
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round


@contextmanager
def gathers() -> Generator[Round]:
    """Await all jobs together."""
    start = partial(to_thread.run_sync, noop, limiter=CapacityLimiter(WORKERS))
    with Flask(__name__).test_request_context(), asyncio.Runner() as runner:
        yield partial(gather, runner, start)


if __name__ == "__main__":
    serve({"gather": gathers})

"""What asgiref makes of functions, ``sync_to_async`` and ``async_to_sync``, with no app context."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from asgiref.sync import async_to_sync, sync_to_async
from flask import Flask
from rounds import WORKERS, async_noop, gather, noop
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round


@contextmanager
def gathers() -> Generator[Round]:
    """Await all jobs together."""
    with (
        Flask(__name__).test_request_context(),
        ThreadPoolExecutor(WORKERS) as pool,
        asyncio.Runner() as runner,
    ):
        start = sync_to_async(noop, thread_sensitive=False, executor=pool)
        yield partial(gather, runner, start)


@contextmanager
def coroutines() -> Generator[Round]:
    """Run each coroutine when the one before has returned, on a loop of its own."""
    call = async_to_sync(async_noop)

    def one_by_one(jobs: int) -> float:
        gc.collect()
        begin = perf_counter()
        for _ in range(jobs):
            call()
        return (perf_counter() - begin) / jobs

    with Flask(__name__).test_request_context():
        yield one_by_one


if __name__ == "__main__":
    serve({"gather": gathers, "coroutines": coroutines})

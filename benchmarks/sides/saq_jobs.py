"""Bursts of jobs through SAQ, whose jobs are coroutines on one loop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from job_queue import PATIENCE, redis_url, worker
from rounds import read_back
from saq import Queue
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round

queue = Queue.from_url(redis_url(5))


async def noop(_context: object) -> int:
    """The job."""
    return 1


settings = {"queue": queue, "functions": [noop], "concurrency": 10}


async def burst(jobs: int) -> int:
    """Enqueue all, then take the results."""
    no_arguments: list[dict[str, Any]] = [{}] * jobs
    return sum(await queue.map("noop", no_arguments, timeout=PATIENCE, poll_interval=0.05))


@contextmanager
def bursts() -> Generator[Round]:
    """Have a worker run."""
    with asyncio.Runner() as runner:
        # A worker's sweep can take a job for stuck, and end it, that has only just been dequeued.
        runner.run(queue.sweep(lock=3600))  # the seconds until a worker may
        with worker("saq", "saq_jobs.settings", "--quiet"):
            yield partial(read_back, lambda jobs: runner.run(burst(jobs)))
        runner.run(queue.disconnect())


if __name__ == "__main__":
    serve({"read-back": bursts})

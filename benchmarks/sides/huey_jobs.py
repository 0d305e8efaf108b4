"""Bursts of jobs through Huey."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from huey import RedisHuey
from job_queue import PATIENCE, WORKERS, redis_url, worker
from rounds import read_back
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round

huey = RedisHuey(url=redis_url(4))


@huey.task()
def noop() -> int:
    """The job."""
    return 1


def burst(jobs: int) -> int:
    """Enqueue all, then take the results, each looked for until it is there."""
    results = noop.map([()] * jobs)
    return sum(results.get(blocking=True, timeout=PATIENCE, max_delay=0.01))


@contextmanager
def bursts() -> Generator[Round]:
    """Have a consumer run."""
    options = ["--worker-type", "thread", "--workers", str(WORKERS), "--quiet", "--no-periodic"]
    with worker("huey.bin.huey_consumer", "huey_jobs.huey", *options):
        yield partial(read_back, burst)


if __name__ == "__main__":
    # Huey knows a task by its module, which is to have the name that it has in the worker.
    import huey_jobs

    serve({"read-back": huey_jobs.bursts})

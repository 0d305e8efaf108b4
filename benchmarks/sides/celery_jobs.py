"""Bursts of jobs through Celery, on Redis as broker and result backend."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from celery import Celery
from job_queue import PATIENCE, WORKERS, redis_url, worker
from rounds import read_back
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round

URL = redis_url(2)

app = Celery("celery_jobs", broker=URL, backend=URL)
app.conf.worker_prefetch_multiplier = 128  # as Celery's guide to optimizing says for short tasks


@app.task(name="noop")
def noop() -> int:
    """The job."""
    return 1


def burst(jobs: int) -> int:
    """Send all, which takes less than to send a group, then take the results."""
    results = [noop.delay() for _ in range(jobs)]
    return sum(result.get(timeout=PATIENCE) for result in results)


@contextmanager
def bursts() -> Generator[Round]:
    """Have a worker run, without what it tells other workers and monitors."""
    options = ["--pool", "threads", "--concurrency", str(WORKERS), "--loglevel", "ERROR"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with worker("celery", "--quiet", "--app", "celery_jobs", "worker", *options):
        yield partial(read_back, burst)


if __name__ == "__main__":
    serve({"read-back": bursts})

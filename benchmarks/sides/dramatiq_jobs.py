"""Bursts of jobs through Dramatiq, on Redis as broker and result backend."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from job_queue import PATIENCE, WORKERS, redis_url, worker
from rounds import read_back
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round

URL = redis_url(3)

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop() -> int:
    """The job."""
    return 1


def burst(jobs: int) -> int:
    """Send all as a group, then take its results."""
    sent = dramatiq.group([noop.message() for _ in range(jobs)]).run()
    return sum(sent.get_results(block=True, timeout=PATIENCE * 1000))


@contextmanager
def bursts() -> Generator[Round]:
    """Have a worker run."""
    options = ["--processes", "1", "--threads", str(WORKERS), "--skip-logging"]
    with worker("dramatiq", "dramatiq_jobs", *options):
        yield partial(read_back, burst)


if __name__ == "__main__":
    serve({"read-back": bursts})

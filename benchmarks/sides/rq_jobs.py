"""Bursts of jobs through RQ.

Its worker runs one job at a time: RQ has no worker with threads. This one is the fastest it has,
the ``SimpleWorker``, which does not fork for each job.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from job_queue import PATIENCE, redis_url, worker
from redis import Redis
from rounds import read_back
from rq import Queue
from serving import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from serving import Round

URL = redis_url(1)

queue = Queue(connection=Redis.from_url(URL))


def noop() -> int:
    """The job."""
    return 1


def burst(jobs: int) -> int:
    """Enqueue all in one pipeline, then take the results."""
    job = Queue.prepare_data("rq_jobs.noop")
    results = [sent.latest_result(PATIENCE) for sent in queue.enqueue_many([job] * jobs)]
    return sum(result.return_value for result in results if result is not None)


@contextmanager
def bursts() -> Generator[Round]:
    """Have a worker run."""
    with worker("rq.cli", "worker", "-q", "--worker-class", "rq.SimpleWorker", "--url", URL):
        yield partial(read_back, burst)


if __name__ == "__main__":
    serve({"read-back": bursts})

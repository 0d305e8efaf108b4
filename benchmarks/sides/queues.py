"""Sides that send jobs through Redis to a worker process: ``queues.py SIDE read-back``.

Each side returns two functions: the first sends so many jobs and returns the sum of their results,
the second runs the worker, in the process of ``queues.py SIDE worker URL``.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from rounds import WORKERS, async_job, child, job, read_back, serve

Functions: TypeAlias = tuple[Callable[[int], int], Callable[[], object]]

PATIENCE = 60  # seconds for a result; without a result by then, the worker has died


def rq(url: str) -> Functions:
    """RQ, with its fastest worker: RQ has no threads, and this worker does not fork for a job."""
    from redis import Redis
    from rq import Queue, SimpleWorker

    queue = Queue(connection=Redis.from_url(url))
    data = Queue.prepare_data("rounds.job")

    def total(jobs: int) -> int:
        results = [sent.latest_result(PATIENCE) for sent in queue.enqueue_many([data] * jobs)]
        return sum(result.return_value for result in results if result is not None)

    return total, lambda: SimpleWorker([queue]).work(logging_level="ERROR")


def celery(url: str) -> Functions:
    """Celery, without the messages that its workers send each other and to monitors."""
    from celery import Celery

    app = Celery("queues", broker=url, backend=url)
    app.conf.worker_prefetch_multiplier = 128  # Celery's guide to optimizing, for short tasks
    task = app.task(name="job")(job)

    def total(jobs: int) -> int:
        return sum(sent.get(timeout=PATIENCE) for sent in [task.delay() for _ in range(jobs)])

    options = ["--pool", "threads", "--concurrency", str(WORKERS), "--loglevel", "ERROR"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return total, lambda: app.worker_main(["--quiet", "worker", *options])


def dramatiq(url: str) -> Functions:
    """Dramatiq, whose jobs are sent as a group."""
    from dramatiq import Worker, actor, group, set_broker
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker = RedisBroker(url=url)
    broker.add_middleware(Results(backend=RedisBackend(url=url)))
    set_broker(broker)
    task = actor(job, store_results=True)

    def total(jobs: int) -> int:
        sent = group([task.message() for _ in range(jobs)]).run()
        return sum(sent.get_results(block=True, timeout=PATIENCE * 1000))

    def work() -> None:
        Worker(broker, worker_threads=WORKERS).start()
        signal.pause()

    return total, work


def huey(url: str) -> Functions:
    """Huey, which looks for each result until the result is there."""
    from huey import RedisHuey

    queue = RedisHuey(url=url)
    task = queue.task()(job)

    def total(jobs: int) -> int:
        results = task.map([()] * jobs)
        return sum(results.get(blocking=True, timeout=PATIENCE, max_delay=0.01))

    return total, lambda: queue.create_consumer(workers=WORKERS, periodic=False).run()


def saq(url: str) -> Functions:
    """SAQ, whose jobs are coroutines on one event loop."""
    from saq import Queue, Worker

    queue, runner = Queue.from_url(url), asyncio.Runner()

    async def burst(jobs: int) -> int:
        no_arguments: list[dict[str, Any]] = [{}] * jobs
        return sum(await queue.map("async_job", no_arguments, timeout=PATIENCE, poll_interval=0.05))

    async def work() -> None:
        # Keeps the worker from a sweep, which can end a job that was dequeued a moment ago.
        await queue.sweep(lock=3600)
        await Worker(queue, functions=[async_job], concurrency=10).start()

    return lambda jobs: runner.run(burst(jobs)), lambda: runner.run(work())


def main(side: str) -> None:
    """Do the rounds, with a Redis and a worker for them."""
    # The end of this process, by Ctrl-C or SIGTERM, is to end its children, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    redis = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", ""]
    with child(*redis, stdout=subprocess.PIPE) as server:
        if not any("Ready to accept connections" in line for line in server.stdout or ()):
            raise RuntimeError("redis-server did not start")
        url = f"redis://127.0.0.1:{port}/0"
        # -W: Celery warns of a worker that root runs, as it may well do here.
        python = [sys.executable, "-E", "-W", "ignore", __file__]
        with child(*python, side, "worker", url, stdout=sys.stderr):
            serve(read_back(globals()[side](url)[0]))


if __name__ == "__main__":
    if sys.argv[2] == "worker":
        globals()[sys.argv[1]](sys.argv[3])[1]()
    else:
        main(sys.argv[1])

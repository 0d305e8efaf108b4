"""Rounds: what every side does with the functions of its library.

A round takes a number of jobs and returns the cost of one job, in seconds unless its docstring
says otherwise. This module imports the standard library only: each side has other packages.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

WORKERS = 4
TURNS = 10  # of the sync view and the async view, within a round

Round: TypeAlias = Callable[[int], float]
Submit: TypeAlias = Callable[[Callable[[], Any]], Future[Any]]


def job() -> int:
    """Do nothing: only the work around the job is measured. The result can be added up."""
    return 1


def item() -> int:
    """Do work of about 10 µs, as for a row of a file."""
    return sum(range(800))


async def async_job(*_context: object) -> int:
    """Do nothing, as a coroutine."""
    return 1


def serve(take_round: Round) -> None:
    """Do a round for each number of jobs on stdin; print the cost of a job."""
    for line in sys.stdin:
        print(take_round(int(line)), flush=True)


def timed(do: Callable[[int], object]) -> Round:
    """Make a round of a function that does so many jobs."""

    def take_round(jobs: int) -> float:
        do(1)  # Wakes the workers: some look for jobs less often after a while.
        gc.collect()
        begin = perf_counter()
        do(jobs)
        return (perf_counter() - begin) / jobs

    return take_round


def repeated(fn: Callable[[], object]) -> Round:
    """Call *fn* again and again."""
    return timed(lambda jobs: deque((fn() for _ in range(jobs)), maxlen=0))


def looped(submit: Callable[..., Future[Any]], loop: Callable[[int], object]) -> Round:
    """Submit one job, which loops over so many items."""
    return timed(lambda items: submit(loop, items).result())


def loop(items: int) -> None:
    """Loop over items, and report nothing."""
    for _ in range(items):
        item()


def burst(submit: Submit, fn: Callable[[], object] = job) -> Round:
    """Submit all jobs, then take the results."""
    return timed(lambda jobs: [future.result() for future in [submit(fn) for _ in range(jobs)]])


def mapped(map_items: Callable[..., Iterable[int]], chunksize: int) -> Round:
    """Map over so many items and take the results."""
    return timed(lambda items: deque(map_items(abs, range(items), chunksize=chunksize), maxlen=0))


def gathered(runner: asyncio.Runner, start: Callable[[], Awaitable[object]]) -> Round:
    """Start all jobs in an event loop and await them together."""

    async def gather(jobs: int) -> None:
        await asyncio.gather(*[start() for _ in range(jobs)])

    return timed(lambda jobs: runner.run(gather(jobs)))


def awaited(runner: asyncio.Runner, start: Callable[[], Awaitable[object]]) -> Round:
    """Await each job before the next one starts."""

    async def await_each(jobs: int) -> None:
        for _ in range(jobs):
            await start()

    return timed(lambda jobs: runner.run(await_each(jobs)))


def read_back(total: Callable[[int], int]) -> Round:
    """Have *total* run so many jobs and add up their results."""

    def checked(jobs: int) -> None:
        if (results := total(jobs)) != jobs:
            raise RuntimeError(f"{results} of {jobs} results came back")

    return timed(checked)


def memory(submit: Submit, fn: Callable[[], object] = job) -> Round:
    """Have jobs wait while all workers are busy; returns the bytes of one waiting job."""

    def take_round(jobs: int) -> float:
        gate = threading.Event()
        futures = [submit(gate.wait) for _ in range(WORKERS)]
        gc.collect()
        tracemalloc.start()
        futures += [submit(fn) for _ in range(jobs)]
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gate.set()
        wait(futures)
        return size / jobs

    return take_round


def views(request: Callable[[str, int], object]) -> Round:
    """Request a sync view and an async view; returns the seconds that the async view adds."""
    sync, asynchronous = (timed(partial(request, path)) for path in ("/sync", "/async"))

    def take_round(requests: int) -> float:
        number = max(WORKERS, requests // TURNS)
        return sum(-sync(number) + asynchronous(number) for _ in range(TURNS)) / TURNS

    return take_round


@contextmanager
def served(app: str) -> Generator[Round]:
    """Request the views of an app, ``module:factory()``, from Gunicorn with four clients."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(WORKERS) as clients:
        fd, port = listener.fileno(), listener.getsockname()[1]
        command = ["-m", "gunicorn", "--log-level", "error", "--worker-class", "gthread"]
        command += ["--threads", str(WORKERS), "--bind", f"fd://{fd}", app]

        def send(path: str, requests: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            for _ in range(requests):
                connection.request("GET", path)
                connection.getresponse().read()
            connection.close()

        def send_all(path: str, requests: int) -> None:
            deque(clients.map(send, [path] * WORKERS, [requests // WORKERS] * WORKERS), maxlen=0)

        with child(sys.executable, "-E", *command, cwd=Path(__file__).parent, pass_fds=[fd]):
            yield views(send_all)


@contextmanager
def child(*command: str, **options: Any) -> Generator[subprocess.Popen[str]]:
    """Run a child process, and end it afterwards."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **options) as process:
        try:
            yield process
        finally:
            process.terminate()

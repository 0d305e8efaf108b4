"""What the sides that send jobs through Redis have in common."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from serving import Round

WORKERS = 4
PATIENCE = 60  # seconds for a result; where it is not there by then, the worker has died

_GRACE = 10  # seconds for a worker to end


def redis_url(database: int) -> str:
    """Where a side has its jobs; each side has a database of its own."""
    return f"{os.environ['BENCHMARK_REDIS_URL']}/{database}"


@contextmanager
def worker(*command: str) -> Generator[None]:
    """Run a module of this Python, with its arguments, as the worker."""
    # As Ctrl-C does, ending this process is to end its worker, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-E", "-m", *command],
        cwd=Path(__file__).parent,  # from where it imports the side
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rounds_of(burst: Callable[[int], int]) -> Round:
    """Time *burst*, which submits so many jobs and returns the sum of their results, each a 1."""

    def take_round(jobs: int) -> float:
        burst(1)  # The worker is there, and awake: some look for jobs less often after a while.
        gc.collect()
        begin = perf_counter()
        results = burst(jobs)
        taken = perf_counter() - begin
        if results != jobs:
            raise RuntimeError(f"{jobs} jobs were submitted, and {results} came back")
        return taken / jobs

    return take_round

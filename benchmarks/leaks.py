"""Whether memory is where it was after a million jobs.

::

    python benchmarks/leaks.py
    python benchmarks/leaks.py --jobs 100000

Jobs of each kind are run in batches, first as many as a tenth of them to warm up. A line of the
table tells how much memory the process held resident then, how much after the rest, and what the
difference is for one job. What leaks, be it one small object for each job, shows as 50 bytes or
more. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask

from flask_executor import Executor, QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 1_000
LINE = "{:<34}  {:>9}  {:>9}  {:>9}  {:>13}"

app = Flask("app")
app.config.update(EXECUTOR_MAX_WORKERS=2, EXECUTOR_MAX_PENDING=2 * BATCH)
executor = Executor(app)


def main() -> None:
    """Run each kind of job, and print what memory it took."""
    parser = argparse.ArgumentParser(description="See whether jobs leave anything in memory.")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs of each kind (1000000)")
    jobs = parser.parse_args().jobs
    print(LINE.format("jobs", "number", "before", "after", "bytes per job"))
    for name, run_batch in KINDS.items():
        run(run_batch, jobs // 10)
        before = resident_bytes()
        run(run_batch, jobs)
        after = resident_bytes()
        print(
            LINE.format(
                name,
                jobs,
                f"{before / 1e6:.1f} MB",
                f"{after / 1e6:.1f} MB",
                f"{(after - before) / jobs:.1f}",
            ),
            flush=True,
        )


def run(run_batch: Callable[[], object], jobs: int) -> None:
    """Run that many jobs, a batch at a time."""
    for _ in range(jobs // BATCH):
        with app.test_request_context():
            run_batch()
        executor.drain()
    gc.collect()


def resident_bytes() -> int:
    """How much memory this process holds."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def submit() -> None:
    """Submit and forget."""
    for n in range(BATCH):
        executor.submit(int, n)


def ask() -> None:
    """Ask for each result."""
    for future in [executor.submit(int, n) for n in range(BATCH)]:
        future.result()


def store() -> None:
    """Store each future."""
    for n in range(BATCH):
        executor.submit_stored(object(), int, n)


def fail() -> None:
    """Raise, and be asked for that."""
    for future in [executor.submit(int, "x") for _ in range(BATCH)]:
        future.exception()


def cancel() -> None:
    """Cancel each at once."""
    for n in range(BATCH):
        executor.submit(int, n).cancel()


def cancel_await() -> None:
    """Give up awaiting each."""

    async def give_up() -> None:
        for waiter in [executor.submit_async(int, n) for n in range(BATCH)]:
            waiter.cancel()

    asyncio.run(give_up())


def gather() -> None:
    """Await all, with little room."""

    async def await_all() -> None:
        await asyncio.gather(*(executor.submit_async(int, n) for n in range(BATCH)))

    asyncio.run(await_all())


def run_coroutines() -> None:
    """Run coroutine functions."""

    async def job() -> None:
        pass

    for future in [executor.submit(job) for _ in range(BATCH)]:
        future.result()


def wait_in_jobs() -> None:
    """Wait for a job in a job."""

    def job() -> int:
        return executor.submit(int, "7").result()

    for future in [executor.submit(job) for _ in range(BATCH // 2)]:
        future.result()


def refuse() -> None:
    """Submit more than there is room for."""
    for n in range(4 * BATCH):
        with suppress(QueueFull, CancelledError):
            executor.submit(int, n)


KINDS = {
    "submitted and forgotten": submit,
    "asked for the result": ask,
    "stored": store,
    "failed": fail,
    "cancelled": cancel,
    "awaited, and given up": cancel_await,
    "awaited together": gather,
    "coroutine functions": run_coroutines,
    "waited for in jobs": wait_in_jobs,
    "refused for want of room": refuse,
}

if __name__ == "__main__":
    main()

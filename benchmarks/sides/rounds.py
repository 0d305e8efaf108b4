"""Rounds that several sides take: the same jobs, run by what each of them hands over.

Each returns what one job took, in seconds unless it says otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from concurrent.futures import Future, wait
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

WORKERS = 4

Fn: TypeAlias = "Callable[[], Any]"
Submit: TypeAlias = "Callable[[Fn], Future[Any]]"


def noop() -> None:
    """Take no time, so that what is measured lies around it."""


async def async_noop() -> None:
    """Take no time, as a coroutine."""


def same(item: int) -> int:
    """Return the item of a map."""
    return item


def burst(submit: Submit, fn: Fn, jobs: int) -> float:
    """Submit *fn* so many times, then take the results."""
    gc.collect()
    begin = perf_counter()
    for future in [submit(fn) for _ in range(jobs)]:
        future.result()
    return (perf_counter() - begin) / jobs


def read_back(burst: Callable[[int], int], jobs: int) -> float:
    """Have *burst* submit so many jobs and return the sum of their results, each a 1."""
    burst(1)  # The worker is there, and awake: some look for jobs less often after a while.
    gc.collect()
    begin = perf_counter()
    results = burst(jobs)
    taken = perf_counter() - begin
    if results != jobs:
        raise RuntimeError(f"{jobs} jobs were submitted, and {results} came back")
    return taken / jobs


def one_by_one(submit: Submit, jobs: int) -> float:
    """Submit each job when the one before has returned."""
    gc.collect()
    begin = perf_counter()
    for _ in range(jobs):
        submit(noop).result()
    return (perf_counter() - begin) / jobs


def gather(runner: asyncio.Runner, start: Callable[[], Awaitable[Any]], jobs: int) -> float:
    """Start all jobs in an event loop, then await them together."""

    async def start_and_await() -> None:
        await asyncio.gather(*[start() for _ in range(jobs)])

    gc.collect()
    begin = perf_counter()
    runner.run(start_and_await())
    return (perf_counter() - begin) / jobs


def awaited_one_by_one(
    runner: asyncio.Runner, start: Callable[[], Awaitable[Any]], jobs: int
) -> float:
    """Start each job when the one before was awaited."""

    async def start_and_await() -> None:
        for _ in range(jobs):
            await start()

    gc.collect()
    begin = perf_counter()
    runner.run(start_and_await())
    return (perf_counter() - begin) / jobs


def mapped(map_items: Callable[[Callable[[int], int], range], Iterable[int]], jobs: int) -> float:
    """Map so many items, and take the results."""
    gc.collect()
    begin = perf_counter()
    for _ in map_items(same, range(jobs)):
        pass
    return (perf_counter() - begin) / jobs


def bytes_waiting(submit: Submit, fn: Fn, jobs: int) -> float:
    """Have *fn* wait so many times for workers that are kept busy; the bytes for each."""
    gate = threading.Event()
    held = threading.Barrier(WORKERS + 1)

    def hold() -> None:
        held.wait()
        gate.wait()

    for _ in range(WORKERS):
        submit(hold)
    held.wait()
    gc.collect()
    tracemalloc.start()
    futures = [submit(fn) for _ in range(jobs)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gate.set()
    wait(futures)
    return size / jobs

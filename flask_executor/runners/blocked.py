"""Jobs that wait for jobs, and how these get to run although all workers wait."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..queue.workers import current_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..aio.waiter import AsyncioJobFuture
    from ..jobs.future import JobFuture
    from ..jobs.item import WorkItem
    from ..queue.workers import Worker


T = TypeVar("T")


def wait_in_worker(
    worker: Worker,
    future: JobFuture[Any],
    wait: Callable[[float | None], T],
    timeout: float | None,
) -> T:
    """Return ``wait(timeout)`` for the job that *worker* runs, and that waits for *future*.

    The worker is blocked meanwhile. If all workers are, an extra worker runs the job of *future*,
    or another one that is waited for.

    :param timeout: seconds; None for no limit
    :raises RuntimeError: if the job of *future* waits for the one that waits for it
    """
    item = worker.current
    try:
        if item is None:  # It has just ended, and this is code that it has left behind.
            return wait(timeout)
        with blocked_while(worker, future.job):
            if timeout is None:
                item.waits_for = future
                check_that_it_can_end(item, future)
            if not future.done():
                future.job.host.need(future.job)
            return wait(timeout)
    finally:
        if item is not None:
            item.waits_for = None
        # A traceback of what is raised must not keep the future alive.
        del future, wait, item


@contextmanager
def blocked_while(worker: Worker, item: WorkItem) -> Generator[None]:
    """While the block runs, the job of *worker* waits for *item*, or for room for it."""
    held_up = worker.held_up()
    for each in held_up:
        each.awaited.append(item)
    try:
        for each in held_up:
            _tell_blocked(each)
        yield
    finally:
        for each in held_up:
            if item in each.awaited:
                each.awaited.remove(item)


def count_awaits(waiter: AsyncioJobFuture[Any]) -> None:
    """Note that the running job, if any, waits on an event loop until *waiter* is done."""
    worker = current_worker()
    if worker is None:
        return
    for each in worker.held_up():
        count = partial(_count_await, each, each.current)
        count(1)
        waiter.add_done_callback(partial(_uncount, count))


def check_that_it_can_end(item: WorkItem, future: JobFuture[Any]) -> None:
    """Refuse to wait in a circle.

    :raises RuntimeError: if the job of *future* waits for *item*, or for one that does
    """
    # Each of two jobs that begin to wait for each other notes that first, so that one of them sees.
    seen, names = future, [item.name]
    while seen.job is not item:
        following = seen.job.waits_for
        if following is None or following.done():
            return
        names.append(seen.name)
        seen = following
    chain = ", which waits for ".join([*names, item.name])
    raise RuntimeError(f"this would never end: the job {chain}")


def _count_await(worker: Worker, item: WorkItem | None, by: int) -> None:
    if item is not None:
        item.host.count_await(worker, item, by)


def _uncount(count: Callable[[int], None], _: object) -> None:
    count(-1)


def _tell_blocked(worker: Worker) -> None:
    item = worker.current
    if item is not None:
        item.host.on_blocked()

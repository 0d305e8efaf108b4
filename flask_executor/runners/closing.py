"""The shutdown of an app's executor, and the wait until it has no jobs."""

from __future__ import annotations

import concurrent.futures
import time
from collections import Counter
from typing import TYPE_CHECKING

from ..aio.loop import GRACE
from ..aio.waiter import all_done
from ..exceptions import WaitTimeout
from ..jobs.info import running_job
from ..queue.queue import at_work, pending, stats_of
from ..threads.conditions import LightEvent, wait_for
from .retrying import end_all_waiting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from concurrent.futures import Future

    from ..jobs.item import WorkItem
    from .ports import Runtime


# Seconds; Ctrl-C is heard within this time.
_STEP = 1.0


class Deadline:
    """The common time limit for the end of several queues."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def left(self, seconds: float | None) -> float | None:
        """The part of *seconds* that is left; None for no limit."""
        return None if seconds is None else max(self._began + seconds - time.monotonic(), 0)


def shutdown(host: Runtime, *, wait: bool, cancel_futures: bool, deadline: Deadline) -> None:
    """Take no more jobs; pending jobs still run, unless *cancel_futures* is set.

    Jobs that wait for a response or a commit are cancelled in any case, and logged.

    The wait ends after ``EXECUTOR_SHUTDOWN_TIMEOUT``: jobs that are left are given up and logged.
    """
    close_queue(host)
    if cancel_futures:
        _cancel_pending(host)
    cancel_later(host)
    idle = host.queue.idle()
    if not wait:
        idle.add_done_callback(lambda _: host.close(wait=False))
        return
    try:
        wait_or_give_up(host, idle, deadline)
    except BaseException:  # Ctrl-C: do not wait for idle workers.
        left = [
            _summary(pending(host.queue), "pending ", "left"),
            _summary(at_work(host.queue), "running ", "left to run on"),
        ]
        _log(host, "Shutdown interrupted: %s", left)
        host.close(wait=False)
        raise
    host.close(wait=idle.done())


def close_queue(host: Runtime) -> None:
    """Take no more jobs, and begin no more attempts of jobs that have failed."""
    with host.queue.lock:
        host.queue.is_closed = True
    for admit in host.queue.admission.take_outsiders():
        admit()  # The submitters will find the queue closed.
    end_all_waiting(host)
    host.queue.tell_if_idle()


def cancel_later(host: Runtime) -> None:
    """Cancel the jobs that wait for a response or a commit, and log which; it may never come."""
    if cancelled := host.later.cancel_all():
        why = "cancelled, whose response or commit had not come"
        _log(host, "Shut down: %s", [_summary(cancelled, "pending ", why)])


def wait_or_give_up(host: Runtime, idle: Future[None], deadline: Deadline) -> None:
    """Wait until the queue is *idle*; after ``EXECUTOR_SHUTDOWN_TIMEOUT``, give up the jobs."""
    timeout = host.settings.shutdown_timeout
    if host.queue.is_given_up or _ends_in_time(idle, deadline, timeout):
        return
    left = give_up(host, f"Shut down after {timeout} s: %s")
    futures = [item.future for item in left]
    # Async teardown functions of coroutine jobs run on the loop, which is to be closed.
    over = host.queue.idle_apart()
    ends = [over, *(future for future in futures if future is not None)]
    concurrent.futures.wait(ends, GRACE)


def _ends_in_time(idle: Future[None], deadline: Deadline, timeout: float | None) -> bool:
    # A signal that comes just before a thread begins to wait for a lock wakes nobody. So the wait
    # is cut into steps: between two of them, Python calls the signal's handler.
    is_idle = LightEvent()
    idle.add_done_callback(lambda _: is_idle.set())
    while (left := deadline.left(timeout)) is None or left > 0:
        if is_idle.wait(_STEP if left is None else min(left, _STEP)):
            return True
    return idle.done()


def give_up(host: Runtime, message: str) -> Collection[WorkItem]:
    """Cancel all jobs, kill worker processes, and log what is lost; return jobs about to end.

    :param message: a format string for the names and numbers of the lost jobs
    """
    host.queue.is_given_up = True
    cancelled = _cancel_pending(host)
    started = set(at_work(host.queue))
    ended = {item for item in started if item.is_done()}
    on_loop = {item for item in started - ended if item.cancel()}  # asks others to stop
    running = started - ended - on_loop
    is_killed = host.pool.kill()
    lost = [
        _summary(cancelled, "pending ", "cancelled"),
        _summary(on_loop, "running coroutine ", "cancelled"),
        _summary(running, "running ", "killed" if is_killed else "left to run on"),
        _summary(ended, "ended ", "left to run on"),
    ]
    _log(host, message, lost)
    return [*on_loop, *running] if is_killed else on_loop


def summary_of_unfinished(host: Runtime) -> str:
    """Say "3 jobs to finish (2 report, 1 mail)", or "" if there are none."""
    return _summary([*at_work(host.queue), *pending(host.queue)], "", "to finish")


def drain(hosts: Iterable[Runtime], timeout: float | None) -> None:
    """Wait until no host has jobs, and all callbacks and teardown are over.

    :param timeout: seconds to wait; None for no limit
    :raises WaitTimeout: if jobs are left after that time
    """
    deadline = Deadline()
    waits = {host: host.queue.idle() for host in hosts}
    if not all(wait_for(future, deadline.left(timeout)) for future in waits.values()):
        raise _drain_timeout(waits, timeout)


async def drain_async(hosts: Iterable[Runtime], timeout: float | None) -> None:
    """Do as `drain` does without blocking the event loop."""
    waits = {host: host.queue.idle() for host in hosts}
    if not await all_done(waits.values(), timeout):
        raise _drain_timeout(waits, timeout)


def refuse_in_job(hosts: Iterable[Runtime], what: str) -> None:
    """Refuse to do *what* in a job of one of *hosts*.

    :raises RuntimeError: if the calling code is part of such a job
    """
    job = running_job.get(None)
    if job is not None and any(host.queue.runs(job) for host in hosts):
        raise RuntimeError(
            f"the job {job.name!r} cannot {what} its own executor: it would wait for itself"
        )


def refuse_on_loop(hosts: Iterable[Runtime], what: str, instead: str) -> None:
    """Refuse to wait for jobs in the thread of an event loop that runs them.

    :raises RuntimeError: if the calling thread runs the loop of one of *hosts*
    """
    if any(host.loop.is_current() for host in hosts):
        raise RuntimeError(
            f"{what} in the thread of the executor's event loop would wait for that loop; {instead}"
        )


def _cancel_pending(host: Runtime) -> list[WorkItem]:
    # From the end, so that the next job to start is cancelled last, unless it has started.
    return [item for item in reversed(pending(host.queue)) if item.cancel()]


def _drain_timeout(waits: dict[Runtime, Future[None]], timeout: float | None) -> WaitTimeout:
    stats = [stats_of(host.queue, 0) for host, future in waits.items() if not future.done()]
    for future in waits.values():
        future.cancel()
    waiting, running = sum(each.pending for each in stats), sum(each.running for each in stats)
    return WaitTimeout(
        f"not drained after {timeout} s: {waiting} jobs are pending, {running} running"
    )


def _log(host: Runtime, message: str, lost: Iterable[str]) -> None:
    app = host.find_app()
    if app is not None:
        app.logger.warning(message, ", ".join(filter(None, lost)) or "no job was left")


def _summary(items: Iterable[WorkItem], what: str, outcome: str) -> str:
    """Say "3 pending jobs cancelled (2 report, 1 mail)", or "" if there are no items."""
    counts = Counter(item.name for item in items)
    names = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    jobs = "job" if counts.total() == 1 else "jobs"
    return f"{counts.total()} {what}{jobs} {outcome} ({names})" if counts else ""

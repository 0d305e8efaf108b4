"""Jobs that wait for jobs, and how these get to run although all workers wait."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .drains import Drain, current_drain, set_current_drain
from .running import run_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from .aio import Waiter
    from .futures import JobFuture
    from .pending import JobQueue

__all__ = ["Waits"]

T = TypeVar("T")

# How many jobs that wait for one another a thread takes upon itself: each has its frames on the
# stack, whose number the interpreter limits.
_MAX_DEPTH = 30


class Waits:
    """What the workers of one queue do that wait for jobs, and which of its jobs others wait for.

    A worker that waits for a job of its own queue runs that job itself, if it has not started: it
    has nothing better to do. Where that cannot be, because the job is another queue's, waits for
    its time, or is awaited on an event loop, the worker is idle. When all workers are, one job that
    is waited for gets a thread of its own. Thus no more jobs are at work than there are workers.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        # Jobs that wait here and that other jobs wait for; guarded by the queue's lock.
        self.needed: set[JobFuture[Any]] = set()

    def wait(
        self,
        drain: Drain,
        future: JobFuture[Any],
        wait: Callable[[float | None], T],
        timeout: float | None,
    ) -> T:
        """What ``wait(timeout)`` gives, for a job of this queue, in the thread of *drain*.

        :param timeout: seconds; None for no limit, and only then is *future* run here
        :raises RuntimeError: if the job of *future* waits for the one that waits for it
        """
        drain.waits += 1
        try:
            if timeout is None:
                self._help(drain, future)
            if not future.done():
                future.job._queue.waits._need(future)
                self.relieve()
            return wait(timeout)
        finally:
            drain.waits -= 1
            cast("JobFuture[Any]", drain.current)._waits_for = None
            # A traceback of what is raised must not keep the future alive.
            del future, wait

    def note(self, waiter: Waiter[Any], future: JobFuture[Any]) -> None:
        """Note that *waiter* awaits *future*, a job of this queue, in a job."""
        drain = current_drain()
        if drain is not None:  # a worker, which runs an event loop of its own
            drain.waits += 1
            waiter.add_done_callback(partial(_stop_waiting, drain, drain.current))
            drain.queue.waits.relieve()
        self._need(future)

    def forget(self, future: JobFuture[Any]) -> None:
        """Note that *future* waits for a worker no more."""
        with self._queue.lock:
            self.needed.discard(future)

    def relieve(self) -> None:
        """If all who are at work here wait, start a thread for one job that somebody waits for."""
        if not self.needed:
            return
        with self._queue.lock:
            if not all(drain.waits for drain in self._queue.drains()):
                return
            helper = next(filter(None, map(self._queue.take_out, self.needed)), None)
            if helper is None:
                return
            self.needed.discard(cast("JobFuture[Any]", helper.current))
        self._queue.run_apart(self.run, helper)

    def run(self, helper: Drain) -> None:
        """Run the job that was taken out for *helper*."""
        self._queue.room.let_in()
        outer = set_current_drain(helper)
        try:
            run_here(self._queue, helper.counts, cast("JobFuture[Any]", helper.current))
        finally:
            set_current_drain(outer)
            self._queue.end_helper(helper)

    def _help(self, drain: Drain, future: JobFuture[Any]) -> None:
        job = cast("JobFuture[Any]", drain.current)
        job._waits_for = future
        _check_that_it_can_end(job, future)
        helper = self._queue.take_out(future) if future.job._queue is self._queue else None
        if helper is None:
            return
        if drain.depth == _MAX_DEPTH:
            self._queue.run_apart(self.run, helper)
        else:
            helper.depth = drain.depth + 1
            self.run(helper)

    def _need(self, future: JobFuture[Any]) -> None:
        if self._queue.inline or not self._queue.in_process or future._runs_on_loop:
            return  # It needs no thread of this queue's.
        with self._queue.lock:
            self.needed.add(future)
        self.relieve()
        if future.state != "pending":
            self.forget(future)


def _check_that_it_can_end(job: JobFuture[Any], future: JobFuture[Any]) -> None:
    # Each of two jobs that begin to wait for each other notes that first, so that one of them sees.
    seen, names = future, [job.name]
    while seen is not job:
        if seen._waits_for is None:
            return
        names.append(seen.name)
        seen = seen._waits_for
    chain = ", which waits for ".join([*names, job.name])
    raise RuntimeError(f"this would never end: the job {chain}")


def _stop_waiting(drain: Drain, job: JobFuture[Any] | None, _: object) -> None:
    if drain.current is job:
        drain.waits -= 1

"""Jobs that wait for jobs, and how these get to run although all workers wait."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..aio.loop import running_loop
from ..jobs.future import running_job
from ..runners.running import run_here

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..aio.streams import Waiter
    from ..jobs.future import JobFuture
    from ..queue.drains import Drain
    from ..queue.queue import JobQueue

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
        """What ``wait(timeout)`` gives, for a job of this queue that *drain* is at.

        :param timeout: seconds; None for no limit, and only then is *future* run here
        :raises RuntimeError: if the job of *future* waits for the one that waits for it
        """
        job = drain.current
        if job is not None and job.job is not running_job.get(None):
            job = None
        try:
            if job is None:  # It has just ended, and this is code that it has left behind.
                return wait(timeout)
            with self.idle(drain, future):
                if timeout is None:
                    job._waits_for = future
                    _check_that_it_can_end(job, future)
                    self._help(drain, future)
                if not future.done():
                    future.job._queue.waits.need(future)
                return wait(timeout)
        finally:
            if job is not None:
                job._waits_for = None
            # A traceback of what is raised must not keep the future alive.
            del future, wait, job

    @contextmanager
    def idle(self, drain: Drain, future: JobFuture[Any]) -> Generator[None]:
        """While the block runs, the job that *drain* is at waits for *future*."""
        held = [(each.queue, each.awaited) for each in drain.stack()]
        for _, awaited in held:
            awaited.append(future)
        try:
            for queue in {queue for queue, _ in held}:
                queue.waits.relieve()
            yield
        finally:
            for _, awaited in held:
                awaited.remove(future)
            del future  # as above

    def note(self, drain: Drain | None, waiter: Waiter[Any], future: JobFuture[Any]) -> None:
        """Note that a job awaits *future*, a job of this queue; *drain* is at it, if any is."""
        if drain is not None:  # A worker runs an event loop, or waits for one.
            for each in drain.stack():
                count = partial(each.queue.waits._count_awaits, each, each.current)
                count(1)
                waiter.add_done_callback(partial(_uncount, count))
        self.need(future)

    def need(self, future: JobFuture[Any]) -> None:
        """Note that a job waits for *future*, a job of this queue."""
        if self._queue.in_process and not self._queue.inline:
            with self._queue.lock:
                self.needed.add(future)
                # What starts it takes no lock before, and may have found nothing to forget.
                if future.state != "pending":
                    self.needed.discard(future)
            self.relieve()

    def forget(self, future: JobFuture[Any]) -> None:
        """Note that *future* waits no more."""
        with self._queue.lock:
            self.needed.discard(future)

    def relieve(self) -> None:
        """If all who are at work here wait, start a thread for one job that somebody waits for."""
        if not self.needed:
            return
        with self._queue.lock:
            if not all(drain.is_waiting() for drain in self._queue.drains()):
                return
            needed = tuple(self.needed)
            helper = next(filter(None, map(self._queue.take_out, needed)), None)
        if helper is not None:
            self._queue.run_apart(self.run, helper)
        else:
            # It may wait for room, to wait for its time: nobody is there to make room.
            for future in needed:
                if future._place == "delayed line":
                    self._queue.room.let_in_now(future)

    def run(self, helper: Drain) -> None:
        """Run the job that was taken out for *helper*."""
        self._queue.room.let_in()
        helper.enter_thread()
        try:
            run_here(self._queue, helper.counts, cast("JobFuture[Any]", helper.current))
        finally:
            self._queue.end_helper(helper)

    def _count_awaits(self, drain: Drain, job: JobFuture[Any] | None, by: int) -> None:
        with self._queue.lock:
            if drain.current is job:
                drain.awaits += by
        self.relieve()

    def _help(self, drain: Drain, future: JobFuture[Any]) -> None:
        if future.job._queue is not self._queue or not drain.is_here():
            return
        helper = self._queue.take_out(future)
        if helper is None:
            return
        if drain.depth == _MAX_DEPTH or running_loop() is not None:
            self._queue.run_apart(self.run, helper)
        else:
            helper.depth = drain.depth + 1
            self.run(helper)


def _uncount(count: Callable[[int], None], _: object) -> None:
    count(-1)


def _check_that_it_can_end(job: JobFuture[Any], future: JobFuture[Any]) -> None:
    # Each of two jobs that begin to wait for each other notes that first, so that one of them sees.
    seen, names = future, [job.name]
    while seen is not job:
        following = seen._waits_for
        if following is None or following.done():
            return
        names.append(seen.name)
        seen = following
    chain = ", which waits for ".join([*names, job.name])
    raise RuntimeError(f"this would never end: the job {chain}")

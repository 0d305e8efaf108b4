"""The queue of an app's jobs: it decides which job runs next, and counts them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs.info import running_job
from ..jobs.item import WorkItem
from ..stats import Counts, Tally
from ..threads.conditions import RLock
from .admission import Admission, Held
from .idle import IdleWaiters
from .ready import ReadyQueue
from .workers import Crew

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from ..jobs.info import JobInfo
    from ..stats import End, Stats
    from .workers import Worker


class JobQueue:
    """The jobs of one app, from their admission to their end; it decides, and starts nothing.

    The pool never sees a job. It is given at most as many calls as it has workers, and each of them
    takes job after job from here until none is left. That is cheaper than a pool call for each job,
    and the jobs that wait stay ours: to count, to bound, and to take out again.

    :param bound: how many jobs may wait; None for no limit
    :param is_inline: whether jobs run in the thread that submits them
    """

    def __init__(self, bound: int | None, *, is_inline: bool) -> None:
        # A worker takes from the ready queue without the lock. To put a job in, or to find that
        # there is none, takes the lock; it is reentrant, as a garbage collection anywhere may log a
        # failure and run log handlers.
        self.ready: ReadyQueue = ReadyQueue()
        self.lock: AbstractContextManager[object] = RLock()  # guards all below, but for a look
        self.admission: Admission = Admission(bound, self.lock, self._load)
        self.crew: Crew = Crew(is_inline=is_inline)
        self.is_closed = False
        self.is_given_up = False  # when the time to end is over
        self.awaited: set[WorkItem] = set()  # unstarted jobs that some job waits for
        # Delayed jobs until they are due, and coroutine jobs until they are over: a coroutine job
        # that is not in here any more has ended.
        self.apart: set[WorkItem] = set()
        self._leaving: list[WorkItem] = []  # coroutine jobs that leave `apart` just now
        self.tally: Tally = Tally()
        self._idle = IdleWaiters(self.lock, self._is_busy)
        self.idle: Callable[[], Future[None]] = self._idle.add
        self._idle_apart = IdleWaiters(self.lock, self._has_apart)
        self.idle_apart: Callable[[], Future[None]] = self._idle_apart.add

    def tell_if_idle(self) -> None:
        """End the waits for the end of all jobs, if there are none, and of those apart."""
        self._idle_apart.wake()
        self._idle.wake()

    def may_submit(self) -> bool:
        """Whether the calling code may submit jobs: once closed, only those of running jobs."""
        return not self.is_closed or (not self.is_given_up and self.runs(running_job.get(None)))

    def runs(self, job: JobInfo | None) -> bool:
        """Whether *job* has started here, and is not over with its callbacks and its teardown."""
        if not isinstance(job, WorkItem):
            return False
        worker = job.worker
        at_work = worker is not None and worker.current is job and worker in self.crew
        return at_work or job in self.apart

    def enter(self, item: WorkItem, *, is_delayed: bool) -> Worker | None:
        """Put *item* in; with the lock held.

        The statement that puts it in is the last one of its branch, as a signal handler may raise
        after each call.

        :returns: a new worker that is to be started for it, if one is free
        """
        worker = None
        if is_delayed:
            item.state = "delayed"
            self.tally.submitted += 1
            self.tally.delayed += 1
            self.apart.add(item)
        elif item.runs_on_loop:
            item.state = "on_loop"
            self.tally.submitted += 1
            self.apart.add(item)
        elif len(self.crew.workers) >= self.crew.size:
            item.state = "ready"
            self.tally.submitted += 1
            self.ready.entries.append(item)
        else:
            worker = self.crew.make(item)
            item.state = "assigned"
            self.tally.submitted += 1
            self.crew.workers.add(worker)
        if self.admission.reserved:
            self.admission.reserved.pop(item, None)
        return worker

    def enter_due(self, item: WorkItem) -> Worker | None:
        """Put *item* in, whose time has come; with the lock held."""
        item.note_due()
        worker = self.enter(item, is_delayed=False)
        self.tally.delayed -= 1
        self.tally.submitted -= 1
        if item.state != "on_loop":
            self.apart.discard(item)
        return worker

    def begin(self, worker: Worker) -> bool:
        """Note that a thread runs *worker*; False if one does already, or it was withdrawn."""
        with self.lock:
            if worker.has_begun or worker not in self.crew.workers:
                return False
            worker.has_begun = True
            return True

    def take(self, worker: Worker) -> WorkItem | None:
        """The next job for *worker*, now running; None if none is left, and *worker* is over."""
        while True:
            item = worker.first
            if item is not None:
                worker.current, worker.first = item, None
                if self._start(item, worker):
                    return item
                continue
            if not self.ready.entries and self._end(worker):
                return None
            try:
                # Noted at once: a process that is forked now has to find it.
                worker.current = item = self.ready.entries.popleft()
            except IndexError:  # Another worker was faster.
                continue
            if self._start(item, worker):
                return item
            with self.lock:
                self.ready.drop_stale()

    def claim_for_extra(self, item: WorkItem) -> Worker | None:
        """Have an extra worker run *item*; None if it does not wait for a worker."""
        with self.lock:
            state, held = item.state, self.admission.held.get(item)
            if held is not None and held.is_delayed:
                return None
            if state not in {"held", "ready", "assigned"} or not item.claim():
                return None
            self.awaited.discard(item)
            if state == "held":
                self.admission.held.pop(item, None)
                self.tally.submitted += 1
            elif state == "ready":
                self.ready.mark_stale()
                self.ready.compact()
            return self.crew.add_extra(item)

    def reject(self, item: WorkItem) -> Worker | None:
        """Have an extra worker end *item*, which waits for room; None if it does not any more."""
        with self.lock:
            held = self.admission.held.get(item)
            if held is None:
                return None
            # It ends now, so it need not wait for its time.
            self.admission.held[item] = Held(held.admit, is_delayed=False)
            worker = self.claim_for_extra(item)
            if worker is not None:
                item.state = "rejected"
            return worker

    def retire(self, worker: Worker) -> None:
        """Note that *worker* is over before its time, or that it is an extra worker and over."""
        worker.current = None  # without the lock: a future that goes may log its failure
        with self.lock:
            self.crew.retire(worker)

    def need(self, item: WorkItem) -> None:
        """Note that a job waits for *item*."""
        with self.lock:
            self.awaited.add(item)
            # Whoever starts it takes no lock before, and may have found nothing to discard.
            if not item.is_pending():
                self.awaited.discard(item)

    def count_await(self, worker: Worker, item: WorkItem, by: int) -> None:
        """Note that *item* awaits more futures, or fewer, if *worker* still runs it."""
        with self.lock:
            if worker.current is item:
                worker.awaits += by

    def extra_for_awaited(self) -> tuple[Worker | None, list[WorkItem]]:
        """An extra worker for a job that is waited for, if every worker is blocked.

        :returns: None if there is no such job, and the jobs that wait for room in its place
        """
        with self.lock:
            if not self.crew.is_blocked():
                return None, []
            awaited = tuple(self.awaited)
            worker = next(filter(None, map(self.claim_for_extra, awaited)), None)
            held = [] if worker is not None else [each for each in awaited if each.state == "held"]
            return worker, held

    def note_cancelled(self, item: WorkItem) -> bool:
        """Note that *item* was cancelled while it waited, and return whether to announce that.

        Not if it is known already, nor if the job is still being submitted: its submitter announces
        the submission first.
        """
        with self.lock:
            state, held = item.state, self.admission.held.get(item)
            is_first = state not in {"cancelled", "rejected"}
            if is_first:
                if held is not None and state == "new":
                    held.admit()  # Its submitter waits for room.
                self.admission.held.pop(item, None)
                self.awaited.discard(item)
                if state == "delayed":
                    self.apart.discard(item)
                # No call from here on: a signal handler that raises would leave half of it.
                self.tally.cancelled += 1
                self.tally.submitted += state in {"new", "held"}
                self.tally.delayed -= state == "delayed"
                self.ready.stale += state == "ready"
                item.state = "rejected" if state == "held" else "cancelled"
            self.ready.compact()
            return is_first and state != "new"

    def leave(self, item: WorkItem) -> None:
        """Note that a coroutine job is over."""
        self._leaving.append(item)
        with self.lock:
            self.apart.discard(item)
        self._leaving.pop()

    def count_start_on_loop(self, item: WorkItem) -> None:
        """Count a coroutine job that starts."""
        with self.lock:
            self.tally.on_loop.started += 1
            self.awaited.discard(item)

    def count_end(self, item: WorkItem, end: End) -> None:
        """Count how *item*, which was started, has ended; without the lock."""
        worker = item.worker
        if worker is not None:
            worker.counts.count_end(end)
        elif item.runs_on_loop:
            with self.lock:
                self.tally.on_loop.count_end(end)

    def _start(self, item: WorkItem, worker: Worker) -> bool:
        if not item.claim():
            return False
        worker.counts.started += 1
        worker.begin(item)
        if self.awaited:
            with self.lock:
                self.awaited.discard(item)
        return True

    def _end(self, worker: Worker) -> bool:
        # End *worker*, unless a job has come since it looked.
        worker.current = None  # without the lock: a future that goes may log its failure
        with self.lock:
            if self.ready.entries:
                return False
            self.crew.retire(worker)
        return True

    def _load(self) -> tuple[int, float]:
        return len(self.ready) + self.tally.delayed, self.crew.count_free()

    def _is_busy(self) -> bool:
        at_work = self.crew or self._has_apart()
        return bool(at_work or self.admission.held or self.admission.reserved)

    def _has_apart(self) -> bool:
        return bool(self.apart or self._leaving)


def stats_of(queue: JobQueue, workers: float) -> Stats:
    """The counts of *queue*, and *workers*, the number of its workers."""
    total = Counts()
    with queue.lock:
        total.add(queue.tally.on_loop)
        queue.crew.add_counts(total)
        return queue.tally.stats(workers, total)


def known(queue: JobQueue) -> list[WorkItem]:
    """All jobs that are in *queue*, read without its lock; some may have ended."""
    admission = queue.admission
    waiting = [*queue.ready.items(), *admission.held, *admission.reserved]
    return [*queue.crew.items(), *waiting, *queue.apart]


def pending(queue: JobQueue) -> list[WorkItem]:
    """The jobs that have not started, those first that would start first."""
    with queue.lock:
        waiting = [*queue.ready.items(), *queue.apart, *queue.admission.held]
        items = [*queue.crew.items(), *waiting]
    return [item for item in items if item.is_pending()]


def at_work(queue: JobQueue) -> list[WorkItem]:
    """The jobs that are on their way from start to end."""
    with queue.lock:
        items = [*queue.crew.items(), *queue.apart]
    return [item for item in items if not item.is_pending()]

"""Jobs that wait for an event outside the executor: a response, or a commit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..context.request import request_or_none
from ..events.response import pending_response, refuse_to_wait
from ..jobs.info import running_job
from ..jobs.item import WorkItem
from ..messages.log import log_line
from ..threads.conditions import RLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..events.waiting import Event, Waiting
    from .ports import Runtime


class Later:
    """A job that waits for its event, in the queue as a delayed job.

    :param begin: called without arguments when the event has come and the job is in the queue
    :param forget: called with this when the job does not wait any more
    """

    def __init__(
        self,
        host: Runtime,
        item: WorkItem,
        begin: Callable[[], None],
        forget: Callable[[Later], None],
    ) -> None:
        self.host = host
        self.item = item
        self._begin = begin
        self._forget = forget
        self._lock = RLock()
        self._is_over = False  # guarded by _lock, as all below
        self._has_come = False
        self._is_in_queue = False

    def start(self) -> None:
        """Start the job, or have it start once it is in the queue."""
        if self._end(has_come=True):
            self._begin()

    def cancel(self, why: str = "") -> None:
        """Cancel the job, wherever it is, and log *why*, if not ""."""
        self._end(has_come=False, why=why)

    def enter(self) -> None:
        """Note that the job is in the queue."""
        with self._lock:
            self._is_in_queue = True
            has_come = self._has_come
        if has_come:  # The job has waited for room, or another thread has committed meanwhile.
            self._begin()

    def _end(self, *, has_come: bool, why: str = "") -> bool:
        """Note whether the event has come, once; return whether the job is to begin now."""
        if self.host.is_inherited:  # The process that this one was forked from runs the job.
            return False
        with self._lock:
            if self._is_over:
                return False
            self._is_over, self._has_come = True, has_come
            is_in_queue = self._is_in_queue
        self._forget(self)
        if not has_come and self.item.cancel() and why:
            self._log(f"was cancelled: {why}")
        return has_come and is_in_queue

    def _log(self, what: str) -> None:
        app = self.host.find_app()
        if app is not None:
            log_line(app, logging.WARNING, "Job %s (%s) %s", self.item.name, self.item.id, what)


class LaterJobs:
    """The jobs of *host* that wait for an event."""

    def __init__(self, host: Runtime, begin: Callable[[WorkItem, float | None], None]) -> None:
        self._host = host
        self._begin = begin
        self._jobs: dict[Later, None] = {}  # Each change is one step, which needs no lock.

    def add(self, item: WorkItem, delay: float | None, event: Event) -> Later:
        """Have a job that is being submitted wait for *event*, which may come at once.

        :param delay: seconds that the job waits after the event
        """
        later = Later(self._host, item, lambda: self._begin(item, delay), self._forget)
        self._host.add_exit_hook()
        self._jobs[later] = None
        try:
            event.add(later)
        except BaseException:  # The session is closed for good, for example.
            self._forget(later)
            raise
        return later

    def cancel_all(self) -> list[WorkItem]:
        """Cancel all of them, and return those that waited."""
        waiting = [(later, later.item) for later in list(self._jobs) if later.item.is_pending()]
        for later, _ in waiting:
            later.cancel()
        return [item for _, item in waiting]

    def _forget(self, later: Later) -> None:
        self._jobs.pop(later, None)


def event_of(after: object) -> Event | None:
    """The event that the option *after* names, for the calling code; None if it names none.

    :raises RuntimeError: for "response", outside a request, after its response has been sent, or in
        a job; for a session that commits just now
    """
    if after is None:
        return None
    if after != "response":
        from ..events.commit import next_commit  # noqa: PLC0415 - few apps need it

        return next_commit(after)
    job = running_job.get(None)
    if isinstance(job, WorkItem) and not job.is_outside(request_or_none()):
        raise RuntimeError(
            f"after='response' is for views, and this is the job {job.name!r}, which may outlast "
            "the response; submit without 'after', or in the view"
        )
    return pending_response()


def refuse_before_response(hosts: Iterable[Runtime], what: str) -> None:
    """Refuse to wait for jobs that wait for the end of the calling code.

    :param what: the call that would wait
    :raises RuntimeError: if jobs of *hosts* wait for the response of the caller's request
    """

    def is_waited_for(each: Waiting) -> bool:
        return isinstance(each, Later) and each.host in hosts and each.item.is_pending()

    refuse_to_wait(what, is_waited_for)

"""The entry of one of this process's own jobs, from which its record is made."""

from __future__ import annotations

import concurrent.futures
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from ..jobs.chunks import Chunk
from ..jobs.future import result_if_done
from ..messages.traces import text_of, trace_of
from .record import ENDED, JobRecord, RecordedError, host_name, moment

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..jobs.future import JobFuture
    from ..jobs.item import WorkItem
    from ..jobs.outcome import Outcome
    from ..jobs.progress import Progress
    from ..jobs.reports import Reports
    from ..stats import End
    from .record import RecordState


_CHUNK = "the results of map's chunks are not recorded"
_FORGOTTEN = "its future is not stored any more"


class Entry:
    """The facts about one of this process's own jobs.

    The thread that moves the job on changes it; any thread may read it at any time. So the state is
    changed last.

    :param executor: the executor's name
    :param only_types: whether to keep only the type of an error
    """

    __slots__ = (
        "_future",
        "_only_types",
        "_reports",
        "attempt",
        "ended_at",
        "error",
        "executor",
        "id",
        "is_dirty",
        "is_final",
        "is_known",
        "item",
        "key",
        "name",
        "result",
        "result_missing",
        "started_at",
        "state",
        "submitted_at",
    )

    def __init__(self, item: WorkItem, executor: str, *, only_types: bool) -> None:
        self.id: str = item.id
        self.key: Hashable | None = item.key
        self.name: str = item.name
        self.executor = executor
        self.state: RecordState = "pending"
        self.attempt = 1
        self.submitted_at: float = item.submitted_ns / 1e9
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.result: Any = None
        """The result of the job, until it is written, or the job's future has it."""
        self.result_missing: str | None = _CHUNK if isinstance(item.fn, Chunk) else None
        self.error: RecordedError | None = None
        self.is_dirty = False
        """Whether a change of it waits to be written."""
        self.is_known = False
        """Whether the database may have a row of it."""
        self.is_final = False
        """Whether nothing of it is to be written any more, and so it has no result."""
        self.item: WorkItem | None = item  # None once the job has ended
        self._only_types = only_types
        self._reports: Reports | None = None  # of a job that has ended
        future: JobFuture[Any] | None = item.future
        self._future = None if future is None else weakref.ref(future)

    @property
    def is_ended(self) -> bool:
        """Whether the job has ended."""
        return self.state in ENDED

    @property
    def progress(self) -> Progress | None:
        """How far the job is, or was at its end."""
        item = self.item
        reports = self._reports if item is None else item.reports
        return None if reports is None else reports.read()

    def begin(self, attempt: int) -> None:
        """Note that an attempt begins."""
        self.attempt = attempt
        self.started_at = time.time()
        self.state = "running"

    def wait_again(self) -> None:
        """Note that the job waits for its next attempt."""
        self.state = "pending"

    def end(self, state: End, outcome: Outcome | None) -> None:
        """Note that the job has ended; *outcome* is None if it was cancelled while it waited."""
        item = self.item
        if item is not None:
            self._reports = item.reports
        if outcome is not None:
            if state == "succeeded" and self.result_missing is None:
                self.result = outcome.result
            if outcome.exception is not None and state == "failed":
                self.error = _recorded(outcome.exception, only_type=self._only_types)
        self.ended_at = time.time()
        self.state = state
        self.item = None

    def drop_result(self, why: str) -> None:
        """Let go of the result, which is not to be written."""
        self.result, self.result_missing = None, why

    def leave_result_to_future(self) -> None:
        """Let go of the result once the job's future has it, after the teardown of the job."""
        future = self._kept_future()
        if future is None:
            self.result = None
        elif self.result is not None:
            # The plain method: it needs no app context.
            concurrent.futures.Future.add_done_callback(future, self._on_future_done)

    def shorten(self, why: str) -> None:
        """Let go of the result and of the texts of an error, which are not to be written."""
        if self.result is not None:
            self.drop_result(why)
        if self.error is not None:
            self.error = RecordedError(self.error.type, None, None)

    def record(self) -> JobRecord:
        """The record as of now, with the result that the job's future has, if that is kept."""
        state = self.state  # read first, as it is written last
        result, missing = None, self.result_missing
        if state == "succeeded" and missing is None:
            result = self.result  # Read once: the future may get it at any time.
            if result is None:
                future = self._kept_future()
                result = None if future is None else result_if_done(future)
                missing = _FORGOTTEN if future is None else None
        return JobRecord(
            id=self.id,
            key=self.key,
            name=self.name,
            executor=self.executor,
            state=state,
            attempt=self.attempt,
            submitted_at=moment(self.submitted_at),
            started_at=None if self.started_at is None else moment(self.started_at),
            ended_at=None if self.ended_at is None else moment(self.ended_at),
            progress=self.progress,
            result=result,
            result_missing=missing if state == "succeeded" else None,
            error=self.error,
            host=host_name(),
            pid=os.getpid(),
        )

    def _kept_future(self) -> JobFuture[Any] | None:
        return None if self._future is None else self._future()

    def _on_future_done(self, _: object) -> None:
        self.result = None


def _recorded(error: BaseException, *, only_type: bool) -> RecordedError:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in {"builtins", "__main__"}:
        name = f"{kind.__module__}.{name}"
    if only_type:
        return RecordedError(name, None, None)
    return RecordedError(name, text_of(error), trace_of(error))

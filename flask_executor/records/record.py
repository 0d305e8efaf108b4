"""The record of one job, in whichever process it runs."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from flask import current_app

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..jobs.progress import Progress


RecordState = Literal["pending", "running", "succeeded", "failed", "cancelled", "lost"]
"""The state of a job; "lost" if its process is gone, or has given no sign of life for a while."""

STATES: tuple[RecordState, ...] = get_args(RecordState)
ENDED: frozenset[RecordState] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class RecordedError:
    """The exception of a job that failed, as texts.

    :param type: the name of its type, such as ``ValueError`` or ``sqlalchemy.exc.DataError``
    :param message: its text; None if ``EXECUTOR_STORE_ERRORS`` is ``"type"``, or it was cut away
    :param traceback: the text of its traceback, from the job's own code; None as for *message*
    """

    type: str
    message: str | None
    traceback: str | None

    def as_dict(self) -> dict[str, str | None]:
        """All of it, for JSON."""
        return {"type": self.type, "message": self.message, "traceback": self.traceback}


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The states, times and outcome of one job, in whichever process it runs.

    :param id: unique across machines; ids sort by the time of ``submit``
    :param key: the key that the job was submitted with; None for a job without a key
    :param name: the name of the job's function
    :param executor: the executor's name; empty for one without a name
    :param state: one of "pending", "running", "succeeded", "failed", "cancelled" and "lost"; a lost
        job is one whose process is gone
    :param attempt: the number of the current or the last attempt
    :param submitted_at: the time of ``submit``, aware, in UTC, by the clock of the job's machine
    :param started_at: when the last attempt started; None if none has
    :param ended_at: when the job ended; None if it has not
    :param progress: the last report of the job's progress; None if there is none
    :param result: what the job returned, as JSON gives it back; None also if there is no result
    :param result_missing: why a job that succeeded has no result here; None if it has
    :param error: the exception of a job that failed, as texts; None for other jobs
    :param host: the name of the machine
    :param pid: the process that submitted the job, on that machine
    """

    id: str
    key: Hashable | None
    name: str
    executor: str
    state: RecordState
    attempt: int
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: Progress | None
    result: Any
    result_missing: str | None
    error: RecordedError | None
    host: str
    pid: int

    @property
    def is_ended(self) -> bool:
        """Whether the job has ended; a lost job has not, as its process may only be slow."""
        return self.state in ENDED

    @property
    def waited(self) -> float | None:
        """Seconds from `submitted_at` to `started_at`; None if no attempt has started."""
        return _seconds_between(self.submitted_at, self.started_at)

    @property
    def ran(self) -> float | None:
        """Seconds from `started_at` to `ended_at`; None if one of them is not known."""
        return _seconds_between(self.started_at, self.ended_at)

    @property
    def key_text(self) -> str | None:
        """The key, or its `repr` if it is no str."""
        if self.key is None:
            return None
        if isinstance(self.key, str):
            return str.__str__(self.key)
        try:
            return repr(self.key)
        except Exception:
            return f"<{type(self.key).__qualname__}>"

    def without_result(self) -> JobRecord:
        """The same without what may be large: the result, and the traceback of an error."""
        missing = self.result_missing
        if self.state == "succeeded" and missing is None:
            missing = "it was not asked for"
        error = None if self.error is None else replace(self.error, traceback=None)
        return replace(self, result=None, result_missing=missing, error=error)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON; the times are texts in the format of ISO 8601.

        A key that is no str is given as its `repr`. A result that is not JSON by the JSON provider
        of the current app is None; ``result_missing`` says why then.
        """
        result, result_missing = self.result, self.result_missing
        try:
            result = _as_json(result)
        except Exception as error:  # of a provider, it may be any
            result, result_missing = None, f"it is not JSON: {type(error).__name__}"
        return {
            "id": self.id,
            "key": self.key_text,
            "name": self.name,
            "executor": self.executor,
            "state": self.state,
            "attempt": self.attempt,
            "submitted_at": self.submitted_at.isoformat(),
            "started_at": None if self.started_at is None else self.started_at.isoformat(),
            "ended_at": None if self.ended_at is None else self.ended_at.isoformat(),
            "waited": self.waited,
            "ran": self.ran,
            "progress": None if self.progress is None else self.progress.as_dict(),
            "result": result,
            "result_missing": result_missing,
            "error": None if self.error is None else self.error.as_dict(),
            "host": self.host,
            "pid": self.pid,
        }


def _seconds_between(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    return max(0.0, (end - begin).total_seconds())  # The clock may have been set back.


def _as_json(value: Any) -> Any:
    """The value that a reader of the JSON of *value* gets, of the plain types of JSON."""
    if value is None or isinstance(value, bool):
        return value
    text = current_app.json.dumps(value) if current_app else json.dumps(value)
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def time_running(record: JobRecord, now: datetime) -> float | None:
    """The seconds that the last attempt ran, or has run until now; None if that is not known."""
    if record.state == "running":
        return _seconds_between(record.started_at, now)
    return record.ran


def time_left(progress: Progress, now: datetime) -> float | None:
    """The seconds from now to the end of the job at its rate; None if that is unknown."""
    if progress.time_left is None:
        return None
    return max(0.0, progress.time_left - (now - progress.updated_at).total_seconds())


def moment(seconds: float) -> datetime:
    """The time *seconds* after the epoch, aware, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@cache
def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname()

"""The errors of this package. All have one base; each is also the builtin that a caller expects."""

from __future__ import annotations

import queue
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

from werkzeug.exceptions import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = [
    "AlreadyInitialised",
    "AppNotFound",
    "DuplicateKey",
    "ExecutorClosed",
    "FlaskExecutorError",
    "GroupTimeout",
    "InheritedJob",
    "InvalidSetting",
    "JobExited",
    "JobLost",
    "JobTimeout",
    "NoRunningLoop",
    "NotInitialised",
    "NotPicklable",
    "QueueFull",
    "RemoteError",
    "RequestEnded",
    "ResultNotStored",
    "StoreUnavailable",
    "StoredError",
    "WaitTimeout",
    "WorkerDied",
]


class FlaskExecutorError(Exception):
    """The base of all errors that this package defines."""


class NotInitialised(FlaskExecutorError, RuntimeError):
    """The executor was used before `init_app`, or cannot tell which app is meant."""


class AlreadyInitialised(FlaskExecutorError, RuntimeError):
    """`init_app` was called for an app that has an executor of that name."""


class InvalidSetting(FlaskExecutorError, ValueError):
    """A config key has a value that it cannot have."""


class ExecutorClosed(FlaskExecutorError, RuntimeError):
    """A job was submitted after `shutdown`, or while the interpreter ends."""


class QueueFull(FlaskExecutorError, queue.Full, ServiceUnavailable):
    """The waiting list is full; uncaught in a view, it answers 503 with ``Retry-After``."""

    retry_after = 1
    """The seconds after which a client may try again."""

    def __init__(self, description: str) -> None:
        super().__init__(description, retry_after=self.retry_after)


class InheritedJob(FlaskExecutorError, RuntimeError):
    """The job belongs to the process that this one was forked from, and runs there."""


class AppNotFound(FlaskExecutorError, LookupError):
    """A worker in another process cannot find the app, or failed to load it."""


class NotPicklable(FlaskExecutorError, TypeError):
    """A function, an argument or a result cannot be sent to or from another process."""


class RemoteError(FlaskExecutorError, RuntimeError):
    """Describes an exception of a job in another process that could not be sent back."""


class RequestEnded(FlaskExecutorError, RuntimeError):
    """A job read the body of a request that has ended; a view can read it and pass the data."""


class WorkerDied(FlaskExecutorError, BrokenExecutor):
    """The worker that ran the job died; without a `Retry`, the job is not run again."""


class JobTimeout(FlaskExecutorError, TimeoutError):
    """The job took longer than its own ``timeout``: it was ended, or at least asked to stop."""


class GroupTimeout(FlaskExecutorError, TimeoutError):
    """A group has not ended within its ``timeout``; its jobs were cancelled or asked to stop."""


class JobExited(FlaskExecutorError, RuntimeError):
    """The job called `sys.exit` or raised `KeyboardInterrupt`; that error is the ``__cause__``.

    The original error would end the thread, the loop or the process that asks for the result.
    """

    code: object
    """The argument of `sys.exit`; None for `KeyboardInterrupt`."""

    def __init__(self, description: str, code: object = None) -> None:
        super().__init__(description)
        self.code = code


class DuplicateKey(FlaskExecutorError, ValueError):
    """A future is stored under that key already; the new job was not started."""

    key: Hashable = None
    """The key. The message does not show it."""


class NoRunningLoop(FlaskExecutorError, RuntimeError):
    """The asyncio API was used in a thread that runs no event loop."""


class WaitTimeout(FlaskExecutorError, TimeoutError):
    """The wait timed out, not the job; this distinguishes it from a job's own `TimeoutError`."""


class StoredError(FlaskExecutorError, RuntimeError):
    """A job of another process failed; this error has the texts of its exception."""

    def __init__(
        self,
        description: str,
        *,
        type: str | None = None,  # noqa: A002 - as the record's field
        message: str | None = None,
        traceback: str | None = None,
    ) -> None:
        super().__init__(description)
        self.type = type
        """The name of the exception's type, such as ``ValueError``."""
        self.message = message
        """The text of the exception; None if that is not recorded."""
        self.traceback = traceback
        """The text of its traceback; None if that is not recorded."""


class JobLost(FlaskExecutorError, RuntimeError):
    """The process that had the job is gone; nobody knows how far the job came."""


class ResultNotStored(FlaskExecutorError, LookupError):
    """The result of a job of another process is not in its record; the message says why."""


class StoreUnavailable(FlaskExecutorError, ConnectionError):
    """The database of ``EXECUTOR_STORE`` fails, or does not answer in time."""

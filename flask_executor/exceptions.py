"""The errors this package raises: one base, each child also the builtin a caller would expect."""

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
    "InheritedJob",
    "InvalidSetting",
    "JobExited",
    "JobTimeout",
    "NoRunningLoop",
    "NotInitialised",
    "NotPicklable",
    "QueueFull",
    "RemoteError",
    "WaitTimeout",
    "WorkerDied",
]


class FlaskExecutorError(Exception):
    """The base of every error that this package raises on its own account."""


class NotInitialised(FlaskExecutorError, RuntimeError):
    """The executor was used before `init_app`, or cannot tell for which app."""


class AlreadyInitialised(FlaskExecutorError, RuntimeError):
    """`init_app` was called for an app that has an executor of that name."""


class InvalidSetting(FlaskExecutorError, ValueError):
    """A config key has a value that it cannot have."""


class ExecutorClosed(FlaskExecutorError, RuntimeError):
    """A job was submitted after `shutdown`, or while the interpreter ends."""


class QueueFull(FlaskExecutorError, queue.Full, ServiceUnavailable):
    """As many jobs wait as may; a view that lets it pass answers 503, with ``Retry-After``."""

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
    """Tells what a job in another process raised, where that itself could not be sent back."""


class WorkerDied(FlaskExecutorError, BrokenExecutor):
    """The worker that ran the job died; the job is not run again."""


class JobTimeout(FlaskExecutorError, TimeoutError):
    """The job took longer than its own ``timeout``: it was ended, or at least asked to stop."""


class JobExited(FlaskExecutorError, RuntimeError):
    """The job called `sys.exit` or raised `KeyboardInterrupt`; its ``__cause__`` is that.

    Raised as it is, it would end the thread, the loop or the process of whoever asks for the
    result.
    """

    code: object
    """What `sys.exit` was given; None for `KeyboardInterrupt`."""

    def __init__(self, description: str, code: object = None) -> None:
        super().__init__(description)
        self.code = code


class DuplicateKey(FlaskExecutorError, ValueError):
    """A future is stored under that key already; the new job was not started."""

    key: Hashable = None
    """The key. The message does not tell it."""


class NoRunningLoop(FlaskExecutorError, RuntimeError):
    """The asyncio side was used where no event loop is running."""


class WaitTimeout(FlaskExecutorError, TimeoutError):
    """The wait ended, not the job: tells a waiter's timeout from a job's own `TimeoutError`."""

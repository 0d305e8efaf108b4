"""The errors this package raises: one base, each child also the builtin a caller would expect."""

from __future__ import annotations

__all__ = [
    "AlreadyInitialised",
    "DuplicateKey",
    "ExecutorClosed",
    "FlaskExecutorError",
    "InvalidSetting",
    "NoRunningLoop",
    "NotInitialised",
    "WaitTimeout",
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


class DuplicateKey(FlaskExecutorError, ValueError):
    """A future is stored under that key already; the new job was not started."""


class NoRunningLoop(FlaskExecutorError, RuntimeError):
    """The asyncio side was used where no event loop is running."""


class WaitTimeout(FlaskExecutorError, TimeoutError):
    """The wait ended, not the job: tells a waiter's timeout from a job's own `TimeoutError`."""

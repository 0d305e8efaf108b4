"""The messages that a worker process sends to its parent.

A message is a tuple of a tag and a payload:

============  ====================  ==============================
tag           payload               sent
============  ====================  ==============================
``ready``     None                  once, before the first call
``progress``  a report of the call  at each report of the call
``done``      the call's result     once, at the end of each call
============  ====================  ==============================
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from ..messages.shown import kind_of, shown_setting

if TYPE_CHECKING:
    import threading
    from multiprocessing.connection import Connection


READY = "ready"
PROGRESS = "progress"
DONE = "done"


class BadMessage(Exception):
    """Tells how a message breaks this protocol."""


class CanReport(Protocol):
    """Sends the reports of one call to the process that has submitted the call."""

    def progress(self, payload: object) -> None:
        """Send a report; from any thread."""


class Reporter:
    """Sends the messages of one call; used in the worker, safe from any thread.

    :param sending: the lock held while a message is sent; shared by all calls of a connection
    """

    __slots__ = ("_connection", "_is_done", "_sending")

    def __init__(self, connection: Connection, sending: threading.Lock) -> None:
        self._connection = connection
        self._sending = sending
        self._is_done = False  # guarded by _sending

    def progress(self, payload: object) -> None:
        """Send a progress message; do nothing once the call is done.

        A thread that outlives its call must not report for the next call.
        """
        with self._sending:
            if not self._is_done:
                self._connection.send((PROGRESS, payload))

    def done(self, result: object) -> None:
        """Send the last message of the call."""
        with self._sending:
            self._is_done = True
            self._connection.send((DONE, result))


reporter: ContextVar[CanReport] = ContextVar("flask_executor.reporter")
"""The reporter of the running call, where the backend has a way for reports.

`worker.run` reads it. In the contextvars that `run` gives a job, it is not set.
"""


def read_message(message: object, expected: str) -> tuple[str, Any]:
    """Split *message* into its tag and its payload.

    :param expected: the tag that the reader waits for; `PROGRESS` messages may come before it
    :raises BadMessage: if *message* is no pair, or has another tag
    """
    if type(message) is not tuple or len(message) != 2:  # noqa: PLR2004 - a pair
        raise BadMessage(f"{kind_of(message)} instead of a pair of a tag and a payload")
    tag, payload = message
    if tag not in (expected, PROGRESS):
        raise BadMessage(
            f"a message with the tag {shown_setting(tag)}; expected {PROGRESS!r} or {expected!r}"
        )
    return tag, payload


def drop_report(_: object) -> None:
    """Take a report of a call whose reports nobody wants."""

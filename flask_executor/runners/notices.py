"""Lines of the log about the use of an executor, not about one job."""

from __future__ import annotations

import logging
from itertools import count
from typing import TYPE_CHECKING, Any

from ..jobs.future import JobFuture
from ..messages.log import log_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from flask import Flask

    from ..settings import Settings


class HeldLoopNotices:
    """Warns, once for each name, that a coroutine holds the event loop of an app.

    :param find_app: returns the app, which this must not keep alive; None if it is gone
    """

    def __init__(self, find_app: Callable[[], Flask | None]) -> None:
        self._find_app = find_app
        self._warned: set[str] = set()  # used by the watch's thread only

    def __call__(self, name: str, place: str) -> None:
        """Warn that the coroutine called *name* blocks in the line at *place*."""
        app = self._find_app()
        if app is None or name in self._warned:
            return
        self._warned.add(name)
        log_line(
            app,
            logging.WARNING,
            "The coroutine %r has held the executor's event loop for more than a second, at %s; "
            "all other coroutine jobs, and async views on this loop, had to wait. Await instead of "
            "blocking, or submit a plain function",
            name,
            place,
        )


class DroppedFutureNotices:
    """Logs each stored future of an app that is dropped, at level DEBUG; the first with advice.

    :param find_app: returns the app, which this must not keep alive; None if it is gone
    """

    def __init__(self, find_app: Callable[[], Flask | None], settings: Settings) -> None:
        self._find_app = find_app
        self._key = f"{settings.prefix}FUTURES_MAX_LENGTH"
        self._max_length = settings.futures_max_length
        self._number = count()  # Needs no lock: a thread gets the next one by one call of C code.

    def __call__(self, future: Future[Any]) -> None:
        """Log that *future* was dropped, by the name of its job: its key may be secret."""
        app = self._find_app()
        if app is None:
            return
        whose = f"of the job {future.name}" if isinstance(future, JobFuture) else "of no job"
        if next(self._number):
            log_line(app, logging.DEBUG, "A stored future %s was dropped", whose)
            return
        log_line(
            app,
            logging.DEBUG,
            "A stored future %s was dropped: %s is %s, and more are stored. Pop the futures that "
            "are not needed any more, or set a greater number, or None to keep all",
            whose,
            self._key,
            self._max_length,
        )

"""Lines of the log about the use of an executor, not about one job."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..messages.log import log_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask


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

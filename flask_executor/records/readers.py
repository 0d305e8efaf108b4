"""The threads that ask the database, so that a caller waits for a bounded time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import StoreUnavailable
from ..threads.conditions import LightFuture, wait_for
from ..threads.pool import Threads, run_apart, settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from .database import Database

T = TypeVar("T")

READ = 5.0
"""Seconds that a caller waits for an answer."""

_READERS = 8


class Readers:
    """A few threads that ask the database.

    :param setting: the config key of the database, for messages
    """

    def __init__(self, database: Database, setting: str) -> None:
        self._database = database
        self._setting = setting
        self._threads = Threads(_READERS, "flask_executor-readers", passes_on_daemon=True)

    def ask(self, ask: Callable[..., T], *args: Any, timeout: float = READ) -> T:
        """Call *ask* in another thread, and wait for a bounded time.

        :raises StoreUnavailable: if the database fails, or does not answer
        """
        answer: Future[T] = LightFuture()
        try:
            self._threads.run(settle, answer, ask, args)
        except (RuntimeError, MemoryError):  # after `close`, which ends the threads
            run_apart(settle, answer, self._ask_and_close, (ask, *args))
        error = answer.exception() if wait_for(answer, timeout) else TimeoutError()
        if error is None:
            return answer.result()
        kind = "does not answer" if isinstance(error, TimeoutError) else "fails"
        raise StoreUnavailable(
            f"the database of {self._setting} {kind} ({type(error).__name__}); records of other "
            "processes cannot be read now"
        ) from error

    def close(self) -> None:
        """End the threads; later calls of `ask` have threads of their own."""
        self._threads.shutdown(wait=False)

    def _ask_and_close(self, ask: Callable[..., T], *args: Any) -> T:
        # Nobody else closes the connections that are opened after `close`.
        try:
            return ask(*args)
        finally:
            self._database.close()

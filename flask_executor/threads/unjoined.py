"""A thread that the interpreter does not wait for when it ends."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


# The interpreters of `concurrent.interpreters` allow no daemon threads.
_MAY_BE_DAEMON: bool = getattr(_thread, "daemon_threads_allowed", lambda: True)()


class UnjoinedThread(threading.Thread):
    """A thread that the interpreter does not wait for when it ends, as a daemon thread.

    The executor itself waits for its jobs, and stops waiting at Ctrl-C. But a thread inherits
    `daemon` from the thread that makes it. The threads that a job starts should not be daemon
    threads: nobody else waits for them.

    :param passes_on_daemon: whether the threads that its calls make are daemon threads; None if
        the calling thread is one
    """

    def __init__(
        self,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        *,
        name: str | None = None,
        passes_on_daemon: bool | None = None,
    ) -> None:
        super().__init__(target=fn, args=args, name=name)
        if passes_on_daemon is None:
            passes_on_daemon = threading.current_thread().daemon
        self._passes_on_daemon = passes_on_daemon

    @property
    def daemon(self) -> bool:  # type: ignore[override]
        """True for `start`, which asks before the thread is alive; then what threads inherit."""
        return self._passes_on_daemon or (_MAY_BE_DAEMON and not self.is_alive())

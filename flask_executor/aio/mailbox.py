"""The way into an event loop from other threads."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING

from ..messages.shown import name_of
from ..threads.conditions import RLock
from .running import check_running_loop

if TYPE_CHECKING:
    from collections.abc import Callable


class Mailbox:
    """The calls that other threads ask an event loop to make.

    One wake-up of the loop serves all calls posted so far. `asyncio.wrap_future` and
    `asyncio.run_coroutine_threadsafe` are slow in a burst: they wake the loop for each call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        # Reentrant: a garbage collection at any line may log a failure and run log handlers.
        self._lock = RLock()
        self._posted: deque[Callable[[], object]] = deque()  # guarded by _lock
        self._is_waking = False  # guarded by _lock
        self._is_closed = False  # guarded by _lock
        # Otherwise all calls would run in the contextvars of the thread that posts the first one.
        self._context = Context()

    @classmethod
    def of_running_loop(cls) -> Mailbox:
        """The mailbox of the loop that runs in the calling thread.

        :raises NoRunningLoop: if there is none
        """
        loop = check_running_loop()
        mailbox: Mailbox | None = getattr(_thread, "mailbox", None)
        if mailbox is None or mailbox._loop() is not loop:  # noqa: SLF001 - of this class
            mailbox = _thread.mailbox = cls(loop)
        return mailbox

    def close(self) -> None:
        """Make the posted calls and take no more; called in the loop's thread."""
        with self._lock:
            self._is_closed = True
        self._deliver()

    def post(self, call: Callable[[], object]) -> bool:
        """Have the loop make *call*; return False, without a call, if the loop is closed."""
        try:
            with self._lock:
                if self._is_closed:
                    return False
                self._posted.append(call)
                if self._is_waking:
                    return True
                self._is_waking = True
            return self._wake()
        except BaseException:
            # A signal handler raised, but other threads rely on this wake-up.
            self._wake()
            raise

    def _wake(self) -> bool:
        loop = self._loop()
        if loop is None:
            self._take()
            return False
        try:
            loop.call_soon_threadsafe(self._deliver, context=self._context)
        except RuntimeError:
            # A check before the call would be a race: a loop may be closed at any time.
            self._take()
            if not loop.is_closed():
                raise
            return False
        return True

    def _deliver(self) -> None:
        posted = self._take()
        try:
            while posted:
                call = posted.popleft()
                try:
                    call()
                except Exception as error:
                    message = {"message": f"{name_of(call)} raised", "exception": error}
                    asyncio.get_running_loop().call_exception_handler(message)
        finally:
            if posted:  # A signal handler raised; the other calls are still to be made.
                with self._lock:
                    self._posted.extendleft(reversed(posted))
                self._wake()

    def _take(self) -> deque[Callable[[], object]]:
        with self._lock:
            posted, self._posted = self._posted, deque()
            self._is_waking = False
        return posted


# The mailbox that each thread used last. A thread runs one loop at a time.
_thread = threading.local()

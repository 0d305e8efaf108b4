"""The event loop that runs in the calling thread, or greenlet."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ..exceptions import NoRunningLoop
from ..messages.warn import warn_caller
from ..threads.pool import call_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_PATCHED_TOO_LATE = (
    "the executor cannot work here: gevent has patched threads after flask_executor was imported, "
    "so its locks would block the whole process. Run gevent.monkey.patch_all() before all other "
    "imports, or with gunicorn, leave out --preload"
)


def threads_are_greenlets() -> bool:
    """Whether gevent has patched `threading`, so that new threads share one real thread."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


# A later patch does not change locks made at import, nor classes derived from a lock.
_WERE_GREENLETS = threads_are_greenlets()


def check_patched_in_time() -> None:
    """Refuse to use locks of real threads where threads are greenlets.

    :raises RuntimeError: if gevent has patched `threading` since this package was imported
    """
    if threads_are_greenlets() and not _WERE_GREENLETS:
        raise RuntimeError(_PATCHED_TOO_LATE)


def _eventlet_has_patched() -> bool:
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in the calling thread, or in the calling greenlet; or None.

    asyncio looks at the real thread, and so shows the loop of one greenlet to all its greenlets.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001 - documented for event loops
    if loop is None or not (threads_are_greenlets() or _eventlet_has_patched()):
        return loop
    # asyncio's own loops note `threading.get_ident()`, which gevent and eventlet patch.
    greenlet = getattr(loop, "_thread_id", None)
    return loop if greenlet in {None, threading.get_ident()} else None


def check_running_loop() -> asyncio.AbstractEventLoop:
    """The loop that runs in the calling thread.

    :raises NoRunningLoop: if there is none
    """
    loop = running_loop()
    if loop is None:
        raise NoRunningLoop(
            "no event loop is running in this thread; use this in an async def function that "
            "asyncio runs, or submit() and result() in a plain one"
        )
    return loop


def warn_if_blocking(what: str, until: str) -> None:
    """Warn the caller of this package if *what* is about to block this thread's event loop."""
    if running_loop() is None:
        return
    warn_caller(f"{what} blocks the event loop of this thread until {until}", RuntimeWarning)


def run_on_new_loop(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run the coroutine of *call* on a loop in another thread, and wait for its result.

    It sees a copy of the caller's contextvars. For a thread that runs a loop, which waits.
    """

    def run() -> Any:
        return asyncio.run(call())

    return call_apart(copy_context().run, run).result()

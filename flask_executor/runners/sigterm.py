"""SIGTERM as a normal end of the process: ``EXECUTOR_EXIT_ON_SIGTERM``."""

from __future__ import annotations

import atexit
import gc
import io
import os
import queue
import signal
import sys
import threading
import time
from _thread import start_new_thread
from contextlib import suppress
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Any

from ..messages.warn import warn_caller
from ..remote.here import in_worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], Any]


# As shells show the end by SIGTERM.
_STATUS = 128 + signal.SIGTERM

# Code that an exception would leave half done: a lock that is never released, or a thread that is
# never woken, for which the server waits at its end. None of it waits for anything.
_UNDIVIDED = frozenset(
    fn.__code__
    for fn in (
        threading.Condition.notify,
        threading.Condition.notify_all,
        threading.Condition.__exit__,
        queue.Queue.put,
    )
)
_MOMENT = 0.001  # seconds


def exit_on_sigterm(key: str) -> None:
    """Have SIGTERM end this process as Ctrl-C does, unless somebody else handles the signal.

    :param key: the name of the config key that asks for this
    """
    present = signal.getsignal(signal.SIGTERM)
    is_uvicorns = _is_uvicorns(present)
    if in_worker() or not (is_uvicorns or present is signal.SIG_DFL):
        return
    if threading.current_thread() is not threading.main_thread():
        warn_caller(
            f"{key} has no effect: Python sets signal handlers in the main thread only; call "
            "init_app there"
        )
        return
    end: Handler = _end_as_by_ctrl_c(present) if is_uvicorns else _raise_exit
    handler = _FirstSigterm(end)
    signal.signal(signal.SIGTERM, handler)
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=handler.leave)


class _FirstSigterm:
    """The handler of the first SIGTERM; the second SIGTERM ends the process at once."""

    def __init__(self, end: Handler) -> None:
        self._end = end

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code in _UNDIVIDED:
            start_new_thread(_send_later, (number,))  # A `Thread` would take locks of this thread.
            return
        # As process number 1, of a container say, Linux ends no process by a signal's default.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if os.getpid() != 1 else _end_at_once)
        # Once the interpreter ends, an exception would skip the hook that waits for the jobs.
        if not getattr(threading, "_SHUTTING_DOWN", False):
            atexit.register(_exit_with_status)
            self._end(number, frame)

    def leave(self) -> None:
        """Have SIGTERM end a forked process at once: pools end their processes by it."""
        if signal.getsignal(signal.SIGTERM) is self:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _send_later(number: int) -> None:
    time.sleep(_MOMENT)
    os.kill(os.getpid(), number)


def _end_at_once(_: int, __: FrameType | None) -> None:
    os._exit(_STATUS)


def _raise_exit(_: int, __: FrameType | None) -> None:
    raise SystemExit(_STATUS)


def _is_uvicorns(handler: object) -> bool:
    module = sys.modules.get("uvicorn.server")
    return module is not None and isinstance(getattr(handler, "__self__", None), module.Server)


def _end_as_by_ctrl_c(handler: Any) -> Handler:
    # After its end, uvicorn raises the signals that it got once more. SIGTERM would then kill the
    # process; after SIGINT, it ends normally. https://github.com/encode/uvicorn/pull/1600
    return lambda _, frame: handler(signal.SIGINT, frame)


def _exit_with_status() -> None:
    """End the process with our status; called by the interpreter, before all other exit functions.

    Servers such as waitress swallow `SystemExit`, so that the status would be 0. The only way to
    change it now is `os._exit`, which leaves out the rest of the interpreter's end: the other exit
    functions, such as logging's, and the flush of open files.
    """
    atexit.unregister(_exit_with_status)
    run_others = atexit._run_exitfuncs  # noqa: SLF001 - as multiprocessing does
    steps: list[Callable[[], object]] = [run_others, flush_open_files, partial(os._exit, _STATUS)]
    list(map(call, steps))  # One statement: the first step also ends the measuring of coverage.


def flush_open_files() -> None:
    """Write what the buffers of open files hold, as the end of the interpreter does."""
    for each in gc.get_objects():
        # Not isinstance, which asks the object of a LocalProxy for its class.
        if issubclass(type(each), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with suppress(OSError, ValueError):  # It is closed, or cannot be written to.
                each.flush()

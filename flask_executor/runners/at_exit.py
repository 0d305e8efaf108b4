"""The end of the process: it waits for the jobs that are left, and says so."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from functools import cache
from typing import TYPE_CHECKING

from ..exceptions import ExecutorClosed
from ..threads.conditions import wait_for
from .closing import (
    Deadline,
    cancel_later,
    close_queue,
    give_up,
    summary_of_unfinished,
    wait_or_give_up,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..settings import Settings
    from .ports import Runtime


# Seconds that the process waits in silence.
_SILENCE = 1.0


def finish_before_exit(host: Runtime) -> None:
    """Have *host* shut down before the interpreter ends.

    :raises ExecutorClosed: if the interpreter ends already
    """
    # As in the stdlib, pending jobs run first. The hook registered last runs first, so this one
    # runs before the stdlib ends its pools, and before threads are joined. There is no public hook:
    # concurrent.futures uses the same private one. A forked process inherits the hook.
    ref, pid = weakref.ref(host), os.getpid()

    def finish() -> None:
        host = ref()
        if host is not None and os.getpid() == pid:
            _finish(host, _end_of_process())

    try:
        threading._register_atexit(finish)  # type: ignore[attr-defined] # noqa: SLF001
    except RuntimeError as error:
        raise ExecutorClosed("the interpreter ends; the executor takes no more jobs") from error


def prepare_exit(settings: Settings) -> None:
    """Have SIGTERM end the process normally, if ``EXECUTOR_EXIT_ON_SIGTERM`` is set."""
    if settings.exit_on_sigterm:
        from .sigterm import exit_on_sigterm  # noqa: PLC0415 - few apps need it

        exit_on_sigterm(f"{settings.prefix}EXIT_ON_SIGTERM")


class _End:
    """The end of this process, which is common to its executors."""

    def __init__(self) -> None:
        self.deadline = Deadline()
        self.is_interrupted = False


@cache
def _end_of_process() -> _End:
    return _End()


def _finish(host: Runtime, end: _End) -> None:
    idle = host.queue.idle()
    try:
        close_queue(host)
        cancel_later(host)
        if not end.is_interrupted:
            _announce_wait(host, idle, end.deadline)
            wait_or_give_up(host, idle, end.deadline)
            host.close(wait=idle.done())
            return
    except (KeyboardInterrupt, SystemExit):
        # Python would print a traceback, and skip the hooks of other executors.
        end.is_interrupted = True
    if not (idle.done() or host.queue.is_given_up):
        give_up(host, "Shutdown interrupted: %s")
    host.close(wait=False)


def _announce_wait(host: Runtime, idle: Future[None], deadline: Deadline) -> None:
    """Wait a little; if jobs are left then, say that the process waits for them."""
    if host.queue.is_given_up:
        return
    left = deadline.left(host.settings.shutdown_timeout)
    if left is not None and left <= _SILENCE:
        return
    if not wait_for(idle, _SILENCE):
        jobs = summary_of_unfinished(host) or "the last job to finish"  # It may just have ended.
        _say(host, f"Waiting for {jobs}; press Ctrl-C to stop waiting")


def _say(host: Runtime, text: str) -> None:
    """Log *text*, and print it if standard error is a terminal that does not show the log."""
    app = host.find_app()
    if app is not None:
        app.logger.warning("%s", text)
    if _is_terminal(sys.stderr) and (app is None or not _is_on_terminal(app.logger)):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - for the person at the terminal


def _is_on_terminal(logger: logging.Logger) -> bool:
    """Whether the warnings of *logger* are shown on a terminal."""
    found: logging.Logger | None = logger if logger.isEnabledFor(logging.WARNING) else None
    while found is not None:
        for handler in found.handlers:
            if handler.level <= logging.WARNING and _is_terminal(getattr(handler, "stream", None)):
                return True
        found = found.parent if found.propagate else None
    return False


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # It is None, or has been closed.
        return False

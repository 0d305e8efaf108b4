"""The end of a queue: what still runs, what is cancelled, and what the log says of it."""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from concurrent.futures import wait as wait_for
from functools import cache
from typing import TYPE_CHECKING, Any

from ..aio.loop import GRACE
from ..exceptions import ExecutorClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..jobs.future import JobFuture
    from ..queue.queue import JobQueue

__all__ = ["Grant", "finish_before_exit", "shutdown"]


class Grant:
    """The time that queues have to end, all of them together."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def left(self, seconds: float | None) -> float | None:
        """What is left of so many seconds; None for no limit."""
        return None if seconds is None else max(self._began + seconds - time.monotonic(), 0)


def shutdown(
    queue: JobQueue, *, wait: bool, cancel_futures: bool, grant: Callable[[], Grant] = Grant
) -> None:
    """Take no more jobs; what waits still runs, unless it is to be cancelled.

    With ``EXECUTOR_SHUTDOWN_TIMEOUT`` the wait ends then: what is left is given up, and logged.
    """
    with queue.lock:
        queue.is_closed = True
    queue.room.dismiss()
    if cancel_futures:
        _cancel_pending(queue)
    idle = queue.idle()
    if not wait:
        idle.add_done_callback(lambda _: queue.close(wait=False))
        return
    try:
        if not queue.is_given_up:
            idle.result(grant().left(queue.settings.shutdown_timeout))
    except TimeoutError:
        queue.is_given_up = True
        _give_up(queue)
    except BaseException:  # Ctrl-C: idle workers are not to be waited for
        left = [
            _told(queue.pending(), "pending ", "left"),
            _told(queue.at_work(), "running ", "left to run on"),
        ]
        _log(queue, "Shutdown interrupted: %s", left)
        queue.close(wait=False)
        raise
    queue.close(wait=idle.done())


def finish_before_exit(queue: JobQueue) -> None:
    """Have *queue* shut down before the interpreter ends.

    :raises ExecutorClosed: if it ends already
    """
    # As in the stdlib, what waits runs first. Hooks run last registered first, so this one runs
    # before that which ends the stdlib's pools, and before threads are joined. It is the private
    # hook that concurrent.futures uses, for want of another. A forked process has it, too.
    ref = weakref.ref(queue)

    def finish() -> None:
        queue = ref()
        if queue is not None:
            shutdown(queue, wait=True, cancel_futures=False, grant=_grant_at_exit)

    try:
        threading._register_atexit(finish)  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise ExecutorClosed("the interpreter ends; the executor takes no more jobs") from error


@cache
def _grant_at_exit() -> Grant:
    return Grant()


def _cancel_pending(queue: JobQueue) -> list[JobFuture[Any]]:
    # From the end: the next one to start is the last to be cancelled, if it has not.
    return [future for future in reversed(queue.pending()) if future.cancel()]


def _give_up(queue: JobQueue) -> None:
    cancelled = _cancel_pending(queue)
    at_work = set(queue.at_work())
    ended = {future for future in at_work if future.done()}
    on_loop = {future for future in at_work - ended if future.cancel()}  # asks others to stop
    running = at_work - ended - on_loop
    is_killed = queue.workers.kill()
    lost = [
        _told(cancelled, "pending ", "cancelled"),
        _told(on_loop, "running coroutine ", "cancelled"),
        _told(running, "running ", "killed" if is_killed else "left to run on"),
        _told(ended, "ended ", "left to run on"),
    ]
    _log(queue, f"Shut down after {queue.settings.shutdown_timeout} s: %s", lost)
    wait_for([*on_loop, *running] if is_killed else on_loop, GRACE)


def _log(queue: JobQueue, message: str, lost: Iterable[str]) -> None:
    queue.app.logger.warning(message, ", ".join(filter(None, lost)) or "no job was left")


def _told(futures: Iterable[JobFuture[Any]], what: str, fate: str) -> str:
    """Say "3 pending jobs cancelled (2 report, 1 mail)", or nothing of none."""
    counts = Counter(future.name for future in futures)
    names = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    jobs = "job" if counts.total() == 1 else "jobs"
    return f"{counts.total()} {what}{jobs} {fate} ({names})" if counts else ""

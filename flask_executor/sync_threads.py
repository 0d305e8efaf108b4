"""The threads in which asgiref's `sync_to_async` calls plain functions.

Functions that use an object of one thread, such as an SQLite connection, have to share a thread.
`sync_to_async` takes the thread that waits for the coroutine, or else the thread of the context, or
else the one thread of the process. asgiref has no public way to say which threads these are: this
module uses its private names, and no other module does.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures._base import FINISHED
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import AsyncToSync, SyncToAsync, _restore_context

from .conditions import LightCondition

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = [
    "CONTEXT_THREAD",
    "IN_PROCESS_THREAD",
    "WAITING_THREAD",
    "OwnThread",
    "WaitingThread",
    "context_threads",
    "leave_threads_of_submitter",
    "own_thread",
]

T = TypeVar("T")


def _find_variable() -> tuple[ContextVar[Any], Any]:
    # An asgiref Local keeps all in one variable, which takes much less time to read than it.
    AsyncToSync.executors.current = None
    [(variable, value)] = copy_context().items()
    return variable, value


WAITING_THREAD, _NO_THREAD = Context().run(_find_variable)
"""The thread that waits for the running coroutine, in the form of an asgiref Local."""
CONTEXT_THREAD: ContextVar[Any] = SyncToAsync.thread_sensitive_context
"""The key of the context's thread in asgiref's table of such threads."""
IN_PROCESS_THREAD: ContextVar[bool] = SyncToAsync.deadlock_context
"""Whether the thread of the process waits for the running code."""

_LocalValue = type(_NO_THREAD)
_thread_local = SyncToAsync.threadlocal
_table = SyncToAsync.context_to_thread_executor

# It is inside the WeakKeyDictionary, and much cheaper to ask whether it is empty.
context_threads: dict[Any, Any] = _table.data  # type: ignore[attr-defined]
"""The threads that contexts have, by weak references to their keys."""


def leave_threads_of_submitter() -> None:
    """Forget the threads of a job's submitter; in the job's contextvars, which are a copy."""
    WAITING_THREAD.set(_NO_THREAD)
    IN_PROCESS_THREAD.set(False)
    if CONTEXT_THREAD.get(None) is not None:
        CONTEXT_THREAD.set(OwnThread())


@contextmanager
def own_thread() -> Generator[None]:
    """Give a coroutine job that runs in the block a thread of its own."""
    thread = OwnThread()
    CONTEXT_THREAD.set(thread)
    try:
        yield
    finally:
        thread.end()


class OwnThread:
    """The key of a thread that calls the plain functions of one job, and starts with the first.

    It costs less than a `ThreadSensitiveContext`, and each coroutine job has one.
    """

    __slots__ = ("__weakref__",)

    _exited = False
    """As asgiref asks of its own keys."""

    def end(self) -> None:
        """End the thread, if there is one, once it has made the calls that it was given.

        A task of the job that goes on gets another thread when it needs one, which ends with it.
        """
        thread = _table.pop(self, None)  # type: ignore[call-overload]
        if thread is not None:
            thread.shutdown(wait=False)  # To wait would block the loop.


class WaitingThread(CurrentThreadExecutor):
    """Has the calling thread call plain functions for a coroutine while it waits for its outcome.

    A task that goes on after the coroutine gets a thread that waits further out, or else a new one,
    which ends with the task.

    :param outcome: the coroutine's
    """

    def __init__(self, outcome: Future[Any]) -> None:
        # All that asgiref's `__init__` does, but for its condition, which takes long to make.
        self._work_thread = threading.current_thread()
        self._work_items = deque()
        self._broken = False
        self._old_executor = None
        if WAITING_THREAD.get(None) is not None:
            self._old_executor = getattr(AsyncToSync.executors, "current", None)
        # The thread waits for the outcome and for functions: both notify the same condition.
        self._work_ready = outcome._condition = LightCondition()
        self._new_thread: ThreadPoolExecutor | None = None  # guarded by _work_ready
        # asgiref's notes on the function that this thread calls for another coroutine, if it does.
        self._notes = vars(_thread_local).copy()

    async def run(
        self, call: Callable[[], Coroutine[Any, Any, T]], handled: BaseException | None
    ) -> T:
        """Await the coroutine of *call*; on the loop, in a copy of the thread's contextvars.

        :param handled: the exception that the thread handles, which the coroutine sees as well
        """
        if _LocalValue in map(type, copy_context().values()):
            _restore_context(copy_context())  # asgiref notes the thread that each belongs to.
        WAITING_THREAD.set(_local_value(self))
        task = self._note_task() if self._notes else None
        try:
            return await (call() if handled is None else _call_while_handling(handled, call))
        finally:
            if task is not None:
                self._notes["task_context"].remove(task)
            with self._work_ready:
                self._broken = True
            del handled  # It may be what is raised, with this frame in its traceback.

    def wait(self, context: Context, outcome: Future[T]) -> T:
        """Call functions until there is the outcome, and take over what was set in *context*."""
        token = WAITING_THREAD.set(_NO_THREAD)
        try:
            while (item := self._next_item(outcome)) is not None:
                item.run()
                del item
            _restore_context(context)
            return outcome.result()
        finally:
            WAITING_THREAD.reset(token)
            del outcome  # What it raises holds this frame.

    def hand_over(self) -> None:
        """Have another thread call the functions from now on, as this one waits no more."""
        with self._work_ready:
            self._broken = True
            left, self._work_items = self._work_items, deque()
        for item in left:
            self._submit_to_new_thread(item.run)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have *fn* called in the thread that waits, or in one that has taken its place.

        :raises RuntimeError: in the thread that waits
        """
        try:
            return super().submit(_call_with_notes, fn, *args, **kwargs)
        except RuntimeError:
            if not self._broken:
                raise
        return self._submit_to_new_thread(fn, *args, **kwargs)

    def _next_item(self, outcome: Future[Any]) -> Any:
        with self._work_ready:
            while not self._work_items:
                if outcome._state == FINISHED:
                    return None
                self._work_ready.wait()
            return self._work_items.popleft()

    def _note_task(self) -> asyncio.Task[Any] | None:
        # When the other coroutine is cancelled, asgiref cancels the tasks in this list, and awaits
        # them on the loop of that coroutine.
        if self._notes.get("main_event_loop") is not asyncio.get_running_loop():
            return None
        task = asyncio.current_task()
        self._notes["task_context"].append(task)
        return task

    def _submit_to_new_thread(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        with self._work_ready:
            if self._new_thread is None:
                self._new_thread = ThreadPoolExecutor(max_workers=1)
        return self._new_thread.submit(fn, *args, **kwargs)


def _call_with_notes(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    # asgiref notes for later code of this thread which loop the function was called for, and lets
    # the note stand. Its own loop ends with the coroutine, but the executor's goes on.
    notes = vars(_thread_local)
    before = notes.copy()
    try:
        return fn(*args, **kwargs)
    finally:
        notes.clear()
        notes.update(before)


def _local_value(current: CurrentThreadExecutor) -> Any:
    """The value of an asgiref Local that has this attribute, in the calling thread."""
    values = {"current": current}
    return values if _LocalValue is dict else _LocalValue(threading.get_ident(), values)


async def _call_while_handling(
    handled: BaseException, call: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    trace = handled.__traceback__
    try:
        raise handled  # noqa: TRY301 - so that sys.exc_info() has it
    except BaseException:
        # Without this frame, which it would hold. A frozen dataclass would refuse the assignment.
        BaseException.with_traceback(handled, trace)
        return await call()
    finally:
        del handled, trace

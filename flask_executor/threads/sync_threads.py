"""The threads in which asgiref's `sync_to_async` calls plain functions, and the way back.

Functions that use an object of one thread, such as an SQLite connection, have to share a thread.
`sync_to_async` takes the thread that waits for the coroutine, or else the thread of the context, or
else the one thread of the process. asgiref has no public API to choose these threads. So this
module uses asgiref's private names; no other module does.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import AsyncToSync, SyncToAsync, _restore_context

from .conditions import LightCondition

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


T = TypeVar("T")


def _find_variable() -> tuple[ContextVar[Any], Any]:
    # An asgiref Local keeps its values in one variable, which is much faster to read.
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
_UNSET: Any = object()
_thread_local = SyncToAsync.threadlocal
_table = SyncToAsync.context_to_thread_executor

# The dict inside the WeakKeyDictionary: a check whether it is empty is much cheaper.
context_threads: dict[Any, Any] = _table.data  # type: ignore[attr-defined]
"""The threads of contexts, by weak references to their keys."""


def leave_threads_of_submitter() -> None:
    """Forget the submitter's threads; called in the job's copy of the contextvars."""
    WAITING_THREAD.set(_NO_THREAD)
    IN_PROCESS_THREAD.set(False)
    if CONTEXT_THREAD.get(None) is not None:
        CONTEXT_THREAD.set(OwnThread())


@contextmanager
def own_thread() -> Generator[None]:
    """Give the coroutine job that runs in the block its own thread."""
    thread = OwnThread()
    CONTEXT_THREAD.set(thread)
    try:
        yield
    finally:
        end_thread(thread)


@contextmanager
def async_code_on(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Have `async_to_sync`, called in the block, run coroutines on *loop*, in another thread.

    After the end of *loop*, `async_to_sync` makes a new loop, as elsewhere.
    """
    with _notes_put_back() as notes:
        # The same notes that `sync_to_async` makes in a thread where it calls a function.
        notes.update(main_event_loop=loop, main_event_loop_pid=os.getpid(), task_context=[])
        yield


def take_over(context: Context) -> None:
    """Set the contextvars to their values in *context*, except for the waiting thread."""
    # The same way as asgiref.
    for variable, value in context.items():
        if variable is not WAITING_THREAD and variable.get(_UNSET) is not value:
            variable.set(_of_this_thread(value) if type(value) is _LocalValue else value)


def _of_this_thread(local_value: Any) -> Any:
    # asgiref notes the thread that the value of a Local belongs to.
    if _LocalValue is dict:
        return local_value
    return _LocalValue(threading.get_ident(), local_value.data)


class OwnThread:
    """The key of a thread that calls the plain functions of one job; the first call starts it.

    It costs less than a `ThreadSensitiveContext`. A coroutine job is such a key itself.
    """

    __slots__ = ("__weakref__",)

    _exited = False
    """Read by asgiref, as on its own keys."""


def end_thread(key: object) -> None:
    """End the thread of *key*, if there is one, once it has made the calls that it was given.

    A task that outlives its job gets a new thread when it needs one; that thread ends with it.
    """
    thread = _table.pop(key, None)  # type: ignore[call-overload]
    if thread is not None:
        thread.shutdown(wait=False)  # Waiting would block the loop.


class WaitingThread(CurrentThreadExecutor):
    """Has the thread that waits for a coroutine call the coroutine's plain functions.

    A task that outlives the coroutine gets an outer waiting thread, or else a new thread, which
    ends with the task.
    """

    _work_ready: threading.Condition
    _result: Any = None
    _exception: BaseException | None = None
    _is_done = False
    _new_thread: ThreadPoolExecutor | None = None  # guarded by _work_ready

    def __init__(self) -> None:
        # The same as asgiref's `__init__`, except for the condition, which is slow to make.
        self._work_thread = threading.current_thread()
        self._work_items = deque()
        self._work_ready = LightCondition()
        self._broken = False
        self._old_executor = None
        if WAITING_THREAD.get(None) is not None:
            self._old_executor = getattr(AsyncToSync.executors, "current", None)
        # asgiref's notes on the function that this thread calls for another coroutine, if any.
        self._notes = vars(_thread_local)

    def done(self) -> bool:
        """Whether the coroutine has ended."""
        return self._is_done

    def set_result(self, result: Any) -> None:
        """Wake the waiting thread, whose `result` call returns *result*."""
        self._result = result
        self._end()

    def set_exception(self, exception: BaseException) -> None:
        """Wake the waiting thread, whose `result` call raises *exception*."""
        self._exception = exception
        self._end()

    def _end(self) -> None:
        with self._work_ready:
            self._is_done = self._broken = True
            self._work_ready.notify_all()

    def result(self) -> Any:
        """Call functions until there is an outcome; called in the waiting thread."""
        while (item := self._next_item()) is not None:
            item.run()
            del item
        # A task that outlives the coroutine may hold this object.
        result, self._result = self._result, None
        exception, self._exception = self._exception, None
        try:
            if exception is not None:
                raise exception
            return result
        finally:
            del exception  # The exception holds this frame.

    def begin(
        self, call: Callable[[], Coroutine[Any, Any, T]], handled: BaseException | None
    ) -> Coroutine[Any, Any, T]:
        """Make the coroutine of *call*; called on the loop, in a copy of the thread's contextvars.

        :param handled: the exception that the thread handles; the coroutine sees it as well
        """
        for value in copy_context().values():
            if type(value) is _LocalValue:
                _restore_context(copy_context())  # Makes each value belong to this thread.
                break
        WAITING_THREAD.set(_local_value(self))
        if handled is not None:
            call = partial(_call_while_handling, handled, call)
        outer: asyncio.AbstractEventLoop | None = self._notes.get("main_event_loop")
        if outer is not None and not outer.is_closed():
            return _call_as_noted_task(outer, self._notes["task_context"], call)
        return call()

    def hand_over(self) -> None:
        """Have another thread call the functions from now on: this thread no longer waits."""
        with self._work_ready:
            self._broken = True
            left, self._work_items = self._work_items, deque()
        for item in left:
            self._submit_to_new_thread(item.run)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have *fn* called in the waiting thread, or in one that has replaced it.

        :raises RuntimeError: if called in the waiting thread
        """
        try:
            return super().submit(_call_with_notes, fn, *args, **kwargs)
        except RuntimeError:
            if not self._broken:
                raise
        return self._submit_to_new_thread(fn, *args, **kwargs)

    def _next_item(self) -> Any:
        with self._work_ready:
            while not self._work_items:
                if self._broken:
                    return None
                self._work_ready.wait()
            return self._work_items.popleft()

    def _submit_to_new_thread(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        with self._work_ready:
            if self._new_thread is None:
                self._new_thread = ThreadPoolExecutor(max_workers=1)
        return self._new_thread.submit(fn, *args, **kwargs)


def _call_with_notes(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    # asgiref notes in this thread which loop the function was called for, and never removes the
    # note. asgiref's own loop ends with the coroutine, but the executor's loop goes on.
    with _notes_put_back():
        return fn(*args, **kwargs)


@contextmanager
def _notes_put_back() -> Generator[dict[str, Any]]:
    notes = vars(_thread_local)
    before = notes.copy()
    try:
        yield notes
    finally:
        notes.clear()
        notes.update(before)


async def _call_as_noted_task(
    outer: asyncio.AbstractEventLoop,
    noted: list[Any],
    call: Callable[[], Coroutine[Any, Any, T]],
) -> T:
    # When the other coroutine is cancelled, asgiref cancels the tasks in this list, and awaits them
    # on the loop of that coroutine, *outer*.
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    elsewhere = None if loop is outer else _TaskElsewhere(task, loop)
    note = elsewhere or task
    noted.append(note)
    try:
        return await call()
    finally:
        noted.remove(note)
        if elsewhere is not None:
            elsewhere.end()


class _TaskElsewhere:
    """A task on our loop, to be cancelled and awaited on another loop."""

    def __init__(self, task: asyncio.Task[Any] | None, loop: asyncio.AbstractEventLoop) -> None:
        self._task = cast("asyncio.Task[Any]", task)
        self._loop = loop
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # not cancelled with its awaiter

    def cancel(self) -> None:
        with suppress(RuntimeError):  # The loop is closed; the task has ended.
            self._loop.call_soon_threadsafe(self._task.cancel)

    def end(self) -> None:
        """Wake the code that awaits the task."""
        self._ended.set_result(None)

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.wrap_future(self._ended).__await__()


def _local_value(current: CurrentThreadExecutor) -> Any:
    """The value of an asgiref Local with the attribute ``current``, in the calling thread."""
    values = {"current": current}
    return values if _LocalValue is dict else _LocalValue(threading.get_ident(), values)


async def _call_while_handling(
    handled: BaseException, call: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    trace = handled.__traceback__
    try:
        raise handled  # noqa: TRY301 - so that sys.exc_info() has it
    except BaseException:
        # Drops this frame from the traceback. A frozen dataclass would refuse an assignment.
        BaseException.with_traceback(handled, trace)
        return await call()
    finally:
        del handled, trace

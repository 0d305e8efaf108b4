"""Plain iteration over an async iterable that runs on the executor's loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import finalize

from ..messages.shown import kind_of
from ..threads.conditions import LightFuture
from ..threads.sync_threads import own_thread
from .running import running_loop

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextvars import Context

    from .loop import LoopThread


T = TypeVar("T")

_END: Any = object()


def check_async_iterable(iterable: object) -> None:
    """Refuse a value that ``async for`` cannot iterate.

    :raises TypeError: if *iterable* is none
    """
    if not isinstance(iterable, AsyncIterable):
        raise TypeError(
            f"{kind_of(iterable)} cannot be iterated; expected an async iterable, such as a call "
            "of an async generator function: iterate(rows())"
        )


def iterate(
    loop: LoopThread, iterable: AsyncIterable[T], context: Context
) -> Generator[T, None, None]:
    """Yield the items of *iterable*; a task on the loop gets each one when it is asked for.

    Closing this generator ends the task, which closes an async generator. If it is dropped, nobody
    waits for that: a garbage collection may run where a lock is held that the loop needs.

    :param context: the contextvars of the task
    """
    source: _Source[T] = _Source(loop, iterable)
    items = _items(source, context)
    # Python calls it before it closes a generator that is dropped. Meanwhile it keeps the task,
    # which asyncio does not, so that none of it is garbage before it is closed.
    finalize(items, source.on_dropped).atexit = False
    return items


def _items(source: _Source[T], context: Context) -> Generator[T, None, None]:
    source.start(context)
    try:
        while items := source.next_items():
            yield items.pop()  # Keep no reference to the item.
    finally:
        source.close()


class _Source(Generic[T]):
    """An async iterable on the loop, and the thread that asks for its items one by one.

    One task makes all steps: an async generator may be inside a timeout or a task group when it
    yields, and these belong to a task.
    """

    def __init__(self, loop: LoopThread, iterable: AsyncIterable[T]) -> None:
        self._loop = loop
        self._iterable = iterable
        self._process = os.getpid()
        self._end: LightFuture[None] = LightFuture()
        self._is_dropped = False
        # All below are used in the loop's thread only.
        self._task: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()
        self._answer: LightFuture[list[T]] | None = None
        self._is_closed = False
        self._is_left = False  # Nobody waits for the end.

    def start(self, context: Context) -> None:
        """Make the task; its first step waits to be asked."""
        self._loop.call(partial(self._start, context))

    def next_items(self) -> list[T]:
        """Ask for the next item, and wait for it: a list of one item, or of none at the end."""
        if self._process != os.getpid():
            raise RuntimeError("this process was forked from the one that iterates")
        if self._loop.is_current():
            raise RuntimeError(
                "iterate() in the thread of the executor's event loop would wait for that loop; "
                "use 'async for' there"
            )
        answer: LightFuture[list[T]] = LightFuture()
        self._loop.call(partial(self._ask, answer))
        try:
            return answer.result()
        finally:
            del answer  # The traceback of what is raised must not keep it alive.

    def on_dropped(self) -> None:
        """Note that the generator was dropped: the thread that closes this must not wait."""
        self._is_dropped = True

    def close(self) -> None:
        """End the task, and wait until it has closed the iterable.

        If the thread cannot wait, for example as it runs a loop, an exception is logged.

        :raises Exception: if the iterable raises it while it is closed
        """
        if self._process != os.getpid():
            return
        is_left = self._is_dropped or running_loop() is not None
        self._loop.call_if_running(partial(self._close, is_left=is_left))
        if not is_left:
            self._end.result()

    def _start(self, context: Context) -> None:
        work = self._run()
        try:
            loop = asyncio.get_running_loop()
            name = type(self._iterable).__name__
            self._task = loop.create_task(work, name=name, context=context)
        except BaseException as error:  # of a task factory
            work.close()
            self._finish(error)
        else:
            self._task.add_done_callback(self._on_done)

    def _ask(self, answer: LightFuture[list[T]]) -> None:
        self._answer = answer
        if self._end.done():  # The loop was stopped.
            self._finish(_stopped())
        self._wakeup.set()

    def _close(self, *, is_left: bool) -> None:
        self._is_closed, self._is_left = True, is_left
        self._wakeup.set()
        if self._answer is not None and self._task is not None:
            self._task.cancel()  # The thread that asked was interrupted, as by Ctrl-C.

    async def _run(self) -> None:
        iterator = aiter(self._iterable)
        with own_thread():
            try:
                await self._wakeup.wait()
                while not self._is_closed:
                    self._wakeup.clear()
                    item = await anext(iterator, _END)
                    if item is _END:
                        return
                    self._give([item])
                    del item
                    await self._wakeup.wait()
            finally:
                close = getattr(iterator, "aclose", None)
                if close is not None:
                    await close()

    def _give(self, items: list[T]) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.set_result(items)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._finish(_stopped() if task.cancelled() else task.exception())

    def _finish(self, error: BaseException | None) -> None:
        """Give the end, or the error that ends it, to the thread that waits; once."""
        answer, self._answer = self._answer, None
        self._task = None
        if answer is None:
            pass
        elif error is None:
            answer.set_result([])
        else:
            answer.set_exception(error)
            error = None
        if self._end.done():
            return
        # The loop was stopped. `next_items` raises at its next call; `close` has no more effect.
        if error is None or isinstance(error, CancelledError):
            self._end.set_result(None)
            return
        if self._is_left:
            message = "An async iterable raised as it was closed"
            asyncio.get_running_loop().call_exception_handler(
                {"message": message, "exception": error}
            )
        self._end.set_exception(error)


def _stopped() -> BaseException:
    return CancelledError(
        "the iteration was cancelled: by the async iterable, or as the executor's loop was stopped"
    )

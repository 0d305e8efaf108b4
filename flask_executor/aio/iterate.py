"""Plain iteration over an async iterable that runs on the executor's loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

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

    Closing this generator ends the task, which closes an async generator.

    :param context: the contextvars of the task
    """
    source: _Source[T] = _Source(loop, iterable)
    source.start(context)
    try:
        while items := source.next_items():
            yield items.pop()  # Kept nowhere here.
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
        # All below are used in the loop's thread only.
        self._task: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()
        self._answer: LightFuture[list[T]] | None = None
        self._is_closed = False

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

    def close(self) -> None:
        """End the task, and wait until it has closed the iterable; in a loop's thread do not wait.

        :raises Exception: if the iterable raises it while it is closed
        """
        if self._process != os.getpid():
            return
        self._loop.call_if_running(self._close)
        if running_loop() is None:
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

    def _close(self) -> None:
        self._is_closed = True
        self._wakeup.set()
        if self._answer is not None and self._task is not None:
            self._task.cancel()  # Whoever asked was interrupted.

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
        if error is None or (self._is_closed and isinstance(error, CancelledError)):
            self._end.set_result(None)
        else:
            self._end.set_exception(error)


def _stopped() -> BaseException:
    return CancelledError("the iteration was cancelled, as the executor's event loop was stopped")

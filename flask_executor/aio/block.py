"""An ``async with`` block that other threads may cancel, as `asyncio.TaskGroup` cancels its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .mailbox import Mailbox

if TYPE_CHECKING:
    from .waiter import AsyncioJobFuture


class AsyncBlock:
    """The code of an ``async with`` block, seen from the threads of its jobs."""

    def __init__(self) -> None:
        self.mailbox = Mailbox.of_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("'async with' of a group needs a task to run in")
        self._task = task
        # All below are used in the loop's thread only.
        self._is_over = False
        self._is_cancelled_here = False
        # The last one: anyio cancels a task in each turn of the loop, until it leaves the scope.
        self._cancelled: asyncio.CancelledError | None = None

    def cancel(self) -> None:
        """Cancel the code of the block; from any thread."""
        self.mailbox.post(self._cancel)

    def note_end(self, error: BaseException | None) -> None:
        """Note that the code of the block has ended."""
        self._is_over = True
        if isinstance(error, asyncio.CancelledError):
            self._cancelled = error

    async def wait_is_cancelled(self, waiter: AsyncioJobFuture[Any]) -> bool:
        """Wait for the end of a job, and return whether this was cancelled before it."""
        try:
            await asyncio.wait([waiter])  # Does not ask for the outcome.
        except asyncio.CancelledError as error:
            self._cancelled = error
        return not waiter.done()

    def settle_waiters(self, waiters: list[AsyncioJobFuture[Any]]) -> None:
        """Settle those of this loop whose jobs have ended.

        Their loop may not have run the calls that do so.
        """
        for waiter in waiters:
            if waiter.get_loop() is self._task.get_loop():
                waiter.settle_if_ended()

    async def settle(self, *, was_aborted: bool) -> asyncio.CancelledError | None:
        """Take back the cancellation that the group has asked for.

        :param was_aborted: whether the group was aborted before its block ended. Then a
            cancellation may come from a job that the group has cancelled, and the block has awaited
        :returns: a cancellation that somebody else has asked for, or None
        """
        if self._is_cancelled_here:
            if self._cancelled is None:  # The next await is to raise the cancellation.
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            self._task.uncancel()
        if was_aborted and self._task.cancelling() == 0:
            self._cancelled = None
        return self._cancelled

    def stay_cancelled(self) -> None:
        """If somebody else has cancelled the task, have its next await raise the cancellation.

        The block itself raises the failures of its jobs, as `asyncio.TaskGroup` does.
        """
        if self._task.cancelling():
            self._task.uncancel()
            self._task.cancel()

    def _cancel(self) -> None:
        if not self._is_over:
            self._is_cancelled_here = True
            self._task.cancel()

"""The coroutine jobs of one app, on its event-loop thread."""

from __future__ import annotations

import asyncio
from contextvars import Context
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.limits import within
from ..signals import is_end_heard
from ..threads.sync_threads import async_code_on, own_thread
from .ending import end_job
from .retrying import goes_on
from .running import outcome_of, run_on_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..context.scope import Scope
    from ..jobs.item import WorkItem
    from ..jobs.outcome import Outcome
    from .ports import Runtime


T = TypeVar("T")


class CoroutineRunner:
    """Runs coroutine jobs as tasks of an event loop, each in its own contextvars.

    Teardown functions and callbacks may block the loop: they run in a thread. Those that are async
    run on the loop.

    :param call: has a function called in the loop's thread
    """

    def __init__(self, host: Runtime, call: Callable[[Callable[[], object]], object]) -> None:
        self._host = host
        self._queue = host.queue
        self._call = call

    def put(self, item: WorkItem) -> None:
        """Start the job as soon as the loop gets to it; from any thread."""
        self._call(partial(self.start, item))

    def put_inline(self, item: WorkItem) -> None:
        """Start the job in the running loop, but not on the stack of the running task."""
        asyncio.get_running_loop().call_soon(self.start, item, context=Context())

    def cancel(self, item: WorkItem) -> None:
        """Cancel the job's task; from any thread."""
        self._call(partial(_cancel, item))

    def start(self, item: WorkItem) -> None:
        """Start the job; in the thread of a running loop."""
        scope, is_refused = item.scope, item not in self._queue.apart
        if scope is None or is_refused or not item.claim():
            if item.state != "running":  # It is, where a signal handler had it put here twice.
                self._host.leave(item)
            return
        self._queue.count_start_on_loop(item)
        item.unbegun = work = run_on_loop(self._host, item, self._on_end)
        try:
            loop = asyncio.get_running_loop()
            task = loop.create_task(work, name=item.name, context=scope.context)
        except BaseException as error:
            self.skip(item, error)
            return
        if item.unbegun is work:  # An eager task has begun already.
            task.add_done_callback(item.on_skipped, context=scope.context)
        if item.scope is not None:
            item.task = task

    def skip(self, item: WorkItem, error: BaseException) -> None:
        """End a job whose task has not run its first step, and will not: it raises *error*."""
        work, item.unbegun = item.unbegun, None
        if work is None or item not in self._queue.apart:
            return
        work.close()  # Else Python warns that the coroutine was never awaited.
        self._on_end(item, [outcome_of(item, error)])

    def _on_end(self, item: WorkItem, ended: list[Outcome]) -> None:
        # The list is emptied on the way: the loop's handle would keep the outcome alive.
        scope = item.scope
        if scope is None or item not in self._queue.apart:
            return
        if self._may_block(item, scope):
            # Once this step is over, another thread can enter the contextvars.
            enter = scope.context.run
            loop = asyncio.get_running_loop()
            loop.call_soon(self._host.run_end, self._end_beside, loop, item, ended, enter)
        else:
            self._end(item, ended, call)

    def _may_block(self, item: WorkItem, scope: Scope) -> bool:
        if self._host.inline:  # There, whoever runs the loop wants it so.
            return False
        if item.has_callbacks or scope.has_teardown():
            return True
        app = self._host.find_app()
        return app is not None and is_end_heard(app)

    def _end_beside(
        self,
        loop: asyncio.AbstractEventLoop,
        item: WorkItem,
        ended: list[Outcome],
        enter: Callable[..., object],
    ) -> None:
        # An async teardown function closes what the job has opened on its loop.
        with async_code_on(loop):
            self._end(item, ended, enter)

    def _end(self, item: WorkItem, ended: list[Outcome], enter: Callable[..., object]) -> None:
        if item not in self._queue.apart:
            return
        outcome = ended.pop()
        if item.retry is not None and goes_on(self._host, item, outcome, enter):
            return
        end_job(self._host, item, outcome, enter)
        self._host.leave(item)


def _cancel(item: WorkItem) -> None:
    if item.task is not None:
        item.task.cancel()


def call_coroutine_function(
    name: str,
    timeout: float | None,
    fn: Callable[..., Coroutine[Any, Any, T]],
    /,
    *args: Any,
    **kwargs: Any,
) -> T:
    """Call *fn* and run its coroutine to the end, or until its time is up, in a loop of its own."""
    with own_thread():
        return asyncio.run(within(fn(*args, **kwargs), timeout, name))

"""Submitting any function: the API that `Executor` and `Options` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ..aio.mailbox import Mailbox
from .awaited import submit_awaited
from .mapping import Mapper

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from ..jobs.future import JobFuture

P = ParamSpec("P")
T = TypeVar("T")


class Submitter(Mapper):
    """Submits any function, with the options in `_options`."""

    __slots__ = ()

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobFuture[Any]:
        """Run ``fn(*args, **kwargs)`` in a worker, in its own app context.

        The job sees copies of the caller's contextvars and ``g``, and the caller's request, as they
        are now. In another process it sees none of them.

        :raises TypeError: if *fn* cannot be called, is a generator function, or has no parameter
            for a keyword that is the name of an option
        :raises NotInitialised: if there is no app to work for
        :raises ExecutorClosed: after `shutdown`, or while the interpreter ends
        :raises QueueFull: if ``EXECUTOR_MAX_PENDING`` jobs wait already
        :raises DuplicateKey: if a future is stored under the key of the options; with
            ``on_duplicate="return"``, that future is returned instead
        :raises RuntimeError: if no thread can be started, and there is no worker; with
            ``after="response"``, outside a request and in a job; with ``after=session``, as the
            session commits
        """
        return self._here().submit(fn, args, kwargs, self._options)

    @overload
    def submit_async(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]: ...

    @overload
    def submit_async(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]: ...

    def submit_async(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """Do as `submit` does, and return a future of the running event loop.

        The job starts at this call, awaited or not. Cancelling the future cancels a job that waits
        for a worker, and asks a running job to stop. If ``EXECUTOR_MAX_PENDING`` jobs wait already,
        the job waits for admission; this does not block the loop.

        :raises NoRunningLoop: if the calling thread runs no event loop
        """
        mailbox = Mailbox.of_running_loop()  # Without a loop, it raises before the job starts.
        waiter = submit_awaited(self._here(), fn, args, kwargs, self._options, mailbox=mailbox)
        if self._options.group is not None:
            self._options.group.add_waiter(waiter)
        return waiter

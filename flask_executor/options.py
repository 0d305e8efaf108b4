"""An executor's ways to submit, with options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .aio.mailbox import Mailbox
from .jobs.future import waiter_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from .app_executor import AppExecutor
    from .jobs.future import JobFuture

__all__ = ["Options"]

P = ParamSpec("P")
T = TypeVar("T")


class Options:
    """An executor's ways to submit, with options; made by `Executor.options`."""

    __slots__ = ("_here", "_options", "_queue_timeout")

    def __init__(
        self, here: Callable[[], AppExecutor], queue_timeout: float | None, **options: Any
    ) -> None:
        self._here = here
        self._queue_timeout = queue_timeout
        self._options = options

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobFuture[Any]:
        """Do as `Executor.submit` does, with these options.

        :raises DuplicateKey: if a future is stored under the key; the job does not start
        """
        queue_timeout = self._queue_timeout or 0
        return self._here().submit(fn, args, kwargs, queue_timeout=queue_timeout, **self._options)

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
        """Do as `Executor.submit_async` does, with these options.

        :raises DuplicateKey: if a future is stored under the key; the job does not start
        """
        mailbox = Mailbox.of_running_loop()
        future = self._here().submit(
            fn, args, kwargs, may_hold=True, hold_timeout=self._queue_timeout, **self._options
        )
        return waiter_of(future, mailbox)

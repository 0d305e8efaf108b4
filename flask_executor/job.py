"""Functions decorated as jobs, and the job that runs."""

from __future__ import annotations

from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from asgiref.sync import markcoroutinefunction
from werkzeug.local import LocalProxy

from .jobs.function import JobFunction
from .jobs.info import JobInfo, running_job
from .messages.shown import name_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Callable,
        Coroutine,
        Hashable,
        Iterable,
        Iterator,
    )

    from typing_extensions import TypeVar as DefaultTypeVar

    from .executor import Executor
    from .jobs.future import JobFuture

__all__ = ["Job", "JobDecorator", "current_job"]

P = ParamSpec("P")
T = TypeVar("T")
if TYPE_CHECKING:
    R = DefaultTypeVar("R", default=T)
else:
    R = TypeVar("R")

current_job: JobInfo = cast(
    "JobInfo",
    LocalProxy(running_job, unbound_message="current_job can only be used inside a job"),
)
"""The job that the calling code is part of: its ``id``, ``name``, ``key`` and ``cancel_requested``.

Outside a job, it is false and any attribute raises `RuntimeError`.
"""


class JobDecorator(Protocol):
    """The decorator that ``executor.job()`` returns."""

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Job[P, T, Coroutine[Any, Any, T]]: ...

    @overload
    def __call__(self, fn: Callable[P, T], /) -> Job[P, T]: ...


class Job(JobFunction, Generic[P, T, R]):
    """A function that can submit itself to its executor; a call runs the plain function.

    Made by `Executor.job`, even before the executor has an app. *T* is the type of the job's
    result. *R* is the type that a call returns: *T*, or for a coroutine function, the coroutine.

    :param timeout: seconds that the function may run as a job; None for no limit
    """

    def __init__(
        self, executor: Executor, fn: Callable[P, R], *, timeout: float | None = None
    ) -> None:
        update_wrapper(self, fn)
        super().__init__(fn, timeout=timeout)
        self.fn: Callable[P, R] = fn
        if self.is_coroutine_function:
            markcoroutinefunction(self)
        self._executor = executor

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.fn(*args, **kwargs)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]:
        """Submit the function as a job; see `Executor.submit`."""
        return self._executor.submit(self._as_function, *args, **kwargs)

    def submit_async(self, /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Submit the function as a job to await; see `Executor.submit_async`."""
        return self._executor.submit_async(self._as_function, *args, **kwargs)

    @overload
    def submit_stored(
        self, key: Hashable, /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(self, /, *, future_key: Hashable, **kwargs: Any) -> JobFuture[T]: ...

    def submit_stored(self, /, *args: Any, **kwargs: Any) -> JobFuture[T]:
        """Submit the function as a job and store its future; see `Executor.submit_stored`."""
        if not args:
            if "future_key" not in kwargs:
                raise TypeError("submit_stored() is missing the argument 'future_key'")
            args = (kwargs.pop("future_key"),)
        key, *args_of_job = args
        fn: Callable[..., T] = self._as_function
        return self._executor.submit_stored(key, fn, *args_of_job, **kwargs)

    def map(
        self,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Run the function for every item; see `Executor.map`."""
        return self._executor.map(
            self._as_function,
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
        )

    def map_async(
        self,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[T, None]:
        """Run the function for every item, for ``async for``; see `Executor.map_async`."""
        return self._executor.map_async(
            self._as_function,
            *iterables,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
        )

    @property
    def _as_function(self) -> Callable[P, T]:
        # A submitted coroutine function gives the result of its coroutine.
        return cast("Callable[P, T]", self)

    def __reduce__(self) -> str:
        """Pickle by name: another process imports the same job."""
        return self.fn.__qualname__

    def __repr__(self) -> str:
        return f"<Job {name_of(self.fn)}>"

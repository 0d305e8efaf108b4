"""Submitting any function: the API that `Executor` and `Options` share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, overload

from ..aio.mailbox import Mailbox
from ..jobs.future import waiter_of
from ..settings import check_count, check_seconds

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
    from typing import Unpack

    from ..app_executor import AppExecutor
    from ..jobs.future import JobFuture
    from ..jobs.options import OptionValues

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class MapOptions(TypedDict, total=False):
    """The keywords of `Submitter.map`, for its overloads."""

    timeout: float | None
    chunksize: int
    buffersize: int | None


class MapAsyncOptions(TypedDict, total=False):
    """The keywords of `Submitter.map_async`, for its overloads."""

    chunksize: int
    buffersize: int | None
    ordered: bool


class Submitter(ABC):
    """Submits any function, with the options in `_options`."""

    __slots__ = ()

    _options: OptionValues

    @abstractmethod
    def _here(self) -> AppExecutor:
        """The executor's part for the current app."""

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
        :raises DuplicateKey: if a future is stored under the key of the options
        :raises RuntimeError: if no thread can be started, and there is no worker
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
        future = self._here().submit(fn, args, kwargs, self._options, may_hold=True)
        return waiter_of(future, mailbox)

    @overload
    def map(
        self,
        fn: Callable[[A], Coroutine[Any, Any, T]],
        i1: Iterable[A],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self, fn: Callable[[A], T], i1: Iterable[A], /, **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B], Coroutine[Any, Any, T]],
        i1: Iterable[A],
        i2: Iterable[B],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B], T],
        i1: Iterable[A],
        i2: Iterable[B],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B, C], Coroutine[Any, Any, T]],
        i1: Iterable[A],
        i2: Iterable[B],
        i3: Iterable[C],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B, C], T],
        i1: Iterable[A],
        i2: Iterable[B],
        i3: Iterable[C],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B, C, D], Coroutine[Any, Any, T]],
        i1: Iterable[A],
        i2: Iterable[B],
        i3: Iterable[C],
        i4: Iterable[D],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B, C, D], T],
        i1: Iterable[A],
        i2: Iterable[B],
        i3: Iterable[C],
        i4: Iterable[D],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        i1: Iterable[Any],
        i2: Iterable[Any],
        i3: Iterable[Any],
        i4: Iterable[Any],
        i5: Iterable[Any],
        /,
        *more: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        i1: Iterable[Any],
        i2: Iterable[Any],
        i3: Iterable[Any],
        i4: Iterable[Any],
        i5: Iterable[Any],
        /,
        *more: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Run *fn* for every item and return the results in the order of the items.

        Each item is a job with its own copy of the caller's contexts. This call submits as many
        items as *buffersize* and ``EXECUTOR_MAX_PENDING`` allow; more follow as results are taken.

        :param timeout: seconds from this call until the last result; None for no limit
        :param chunksize: how many items make one job, which costs less; each item still has its own
            context, except in another process
        :param buffersize: how many items may be submitted and not yet yielded; None for all at once
        :raises TypeError: as `submit`; if there are no iterables, or the options have a key
        :raises WaitTimeout: from the iterator, if a result is not there in time
        :raises QueueFull: if not a single item is admitted in time
        """
        check_seconds("timeout", timeout)
        _check_sizes(iterables, chunksize, buffersize)
        return self._here().map(fn, iterables, self._options, timeout, chunksize, buffersize)

    @overload
    def map_async(
        self,
        fn: Callable[[A], Coroutine[Any, Any, T]],
        i1: Iterable[A] | AsyncIterable[A],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A], T],
        i1: Iterable[A] | AsyncIterable[A],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B], Coroutine[Any, Any, T]],
        i1: Iterable[A] | AsyncIterable[A],
        i2: Iterable[B] | AsyncIterable[B],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B], T],
        i1: Iterable[A] | AsyncIterable[A],
        i2: Iterable[B] | AsyncIterable[B],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C], Coroutine[Any, Any, T]],
        i1: Iterable[A] | AsyncIterable[A],
        i2: Iterable[B] | AsyncIterable[B],
        i3: Iterable[C] | AsyncIterable[C],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C], T],
        i1: Iterable[A] | AsyncIterable[A],
        i2: Iterable[B] | AsyncIterable[B],
        i3: Iterable[C] | AsyncIterable[C],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C, D], Coroutine[Any, Any, T]],
        i1: Iterable[A] | AsyncIterable[A],
        i2: Iterable[B] | AsyncIterable[B],
        i3: Iterable[C] | AsyncIterable[C],
        i4: Iterable[D] | AsyncIterable[D],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C, D], T],
        i1: Iterable[A] | AsyncIterable[A],
        i2: Iterable[B] | AsyncIterable[B],
        i3: Iterable[C] | AsyncIterable[C],
        i4: Iterable[D] | AsyncIterable[D],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        i1: Iterable[Any] | AsyncIterable[Any],
        i2: Iterable[Any] | AsyncIterable[Any],
        i3: Iterable[Any] | AsyncIterable[Any],
        i4: Iterable[Any] | AsyncIterable[Any],
        i5: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[..., T],
        i1: Iterable[Any] | AsyncIterable[Any],
        i2: Iterable[Any] | AsyncIterable[Any],
        i3: Iterable[Any] | AsyncIterable[Any],
        i4: Iterable[Any] | AsyncIterable[Any],
        i5: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    def map_async(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[Any, None]:
        """Run *fn* for every item of sync or async iterables, and yield results to ``async for``.

        Each item is a job with its own copy of the caller's contexts. The first jobs start with the
        iteration. Ending the iteration early, by `aclose` or at the end of `contextlib.aclosing`,
        cancels the jobs in flight, as `JobFuture.cancel` does.

        :param chunksize: as for `map`
        :param buffersize: how many items may be submitted and not yet yielded; None for twice the
            workers, times *chunksize*. Iterables may be endless
        :param ordered: whether results come in the order of the items, or as they are completed
        :raises TypeError: as `map`
        """
        _check_sizes(iterables, chunksize, buffersize)
        for iterable in iterables:
            if not isinstance(iterable, AsyncIterable):
                iter(iterable)  # raises here, not in the middle of the iteration
        options = self._options
        return self._here().map_async(
            fn, iterables, options, chunksize, buffersize, ordered=ordered
        )


def _check_sizes(iterables: tuple[object, ...], chunksize: int, buffersize: int | None) -> None:
    check_count("chunksize", chunksize)
    if buffersize is not None:
        check_count("buffersize", buffersize)
    if not iterables:
        raise TypeError("there are no items to map; expected map(fn, *iterables)")

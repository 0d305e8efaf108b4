"""Submitting a function for many items: the part of `Submitter` that has `map`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from ..settings import check_count, check_seconds
from .each_item import map_items, stream_items

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
    from typing import Unpack

    from ..jobs.options import OptionValues
    from .app_executor import AppExecutor

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")

if TYPE_CHECKING:
    Coro = Coroutine[Any, Any, T]
    Items = Iterable[A] | AsyncIterable[A]

    class MapOptions(TypedDict, total=False):
        """The keywords of `Mapper.map`, for its overloads."""

        timeout: float | None
        chunksize: int
        buffersize: int | None

    class MapAsyncOptions(TypedDict, total=False):
        """The keywords of `Mapper.map_async`, for its overloads."""

        chunksize: int
        buffersize: int | None
        ordered: bool


class Mapper(ABC):
    """Maps any function over items, with the options in `_options`."""

    __slots__ = ()

    _options: OptionValues

    @abstractmethod
    def _here(self) -> AppExecutor:
        """The executor's part for the current app."""

    @overload
    def map(
        self, fn: Callable[[A], Coro[T]], i1: Iterable[A], /, **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...

    @overload
    def map(
        self, fn: Callable[[A], T], i1: Iterable[A], /, **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B], Coro[T]],
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
        fn: Callable[[A, B, C], Coro[T]],
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
        fn: Callable[[A, B, C, D], Coro[T]],
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
        fn: Callable[..., Any],
        i1: Iterable[Any],
        i2: Iterable[Any],
        i3: Iterable[Any],
        i4: Iterable[Any],
        i5: Iterable[Any],
        /,
        *more: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> Iterator[Any]: ...

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
        Closing the iterator early cancels the jobs that are left, as `JobFuture.cancel` does.

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
        return map_items(
            self._here(),
            fn,
            iterables,
            self._options,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
        )

    @overload
    def map_async(
        self, fn: Callable[[A], Coro[T]], i1: Items[A], /, **options: Unpack[MapAsyncOptions]
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self, fn: Callable[[A], T], i1: Items[A], /, **options: Unpack[MapAsyncOptions]
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B], Coro[T]],
        i1: Items[A],
        i2: Items[B],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B], T],
        i1: Items[A],
        i2: Items[B],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C], Coro[T]],
        i1: Items[A],
        i2: Items[B],
        i3: Items[C],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C], T],
        i1: Items[A],
        i2: Items[B],
        i3: Items[C],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C, D], Coro[T]],
        i1: Items[A],
        i2: Items[B],
        i3: Items[C],
        i4: Items[D],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[[A, B, C, D], T],
        i1: Items[A],
        i2: Items[B],
        i3: Items[C],
        i4: Items[D],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[..., Any],
        i1: Items[Any],
        i2: Items[Any],
        i3: Items[Any],
        i4: Items[Any],
        i5: Items[Any],
        /,
        *more: Items[Any],
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[Any, None]: ...

    def map_async(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Items[Any],
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
        return stream_items(
            self._here(),
            fn,
            iterables,
            self._options,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
        )


def _check_sizes(iterables: tuple[object, ...], chunksize: int, buffersize: int | None) -> None:
    check_count("chunksize", chunksize)
    if buffersize is not None:
        check_count("buffersize", buffersize)
    if not iterables:
        raise TypeError("there are no items to map; expected map(fn, *iterables)")

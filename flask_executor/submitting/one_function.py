"""Submitting one function: the API that `Job` and `JobOptions` share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

if TYPE_CHECKING:
    import asyncio
    from collections.abc import (
        AsyncGenerator,
        Callable,
        Iterable,
        Iterator,
    )
    from typing import Unpack

    from ..jobs.future import JobFuture
    from .any_function import Submitter
    from .mapping import Items, MapAsyncOptions, MapOptions

P = ParamSpec("P")
T = TypeVar("T")
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
D_contra = TypeVar("D_contra", contravariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class FunctionSubmitter(ABC, Generic[P, T]):
    """Submits one function; *T* is the type of the job's result."""

    @abstractmethod
    def _submitter(self) -> tuple[Submitter, Callable[P, T]]:
        """The object that submits, and the function; a coroutine function stands for its result."""

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]:
        """Submit the function as a job; see `Executor.submit`."""
        submitter, fn = self._submitter()
        return submitter.submit(fn, *args, **kwargs)

    def submit_async(self, /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Submit the function as a job to await; see `Executor.submit_async`."""
        submitter, fn = self._submitter()
        return submitter.submit_async(fn, *args, **kwargs)

    @overload
    def map(
        self: Takes1[A, T], i1: Iterable[A], /, **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...

    @overload
    def map(
        self: Takes2[A, B, T], i1: Iterable[A], i2: Iterable[B], /, **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...

    @overload
    def map(
        self: Takes3[A, B, C, T],
        i1: Iterable[A],
        i2: Iterable[B],
        i3: Iterable[C],
        /,
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...

    @overload
    def map(
        self: Takes4[A, B, C, D, T],
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
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Run the function for every item; see `Executor.map`."""
        submitter, fn = self._submitter()
        return submitter.map(
            cast("Any", fn),
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
        )

    @overload
    def map_async(
        self: Takes1[A, T], i1: Items[A], /, **options: Unpack[MapAsyncOptions]
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self: Takes2[A, B, T], i1: Items[A], i2: Items[B], /, **options: Unpack[MapAsyncOptions]
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self: Takes3[A, B, C, T],
        i1: Items[A],
        i2: Items[B],
        i3: Items[C],
        /,
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self: Takes4[A, B, C, D, T],
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
        i1: Items[Any],
        i2: Items[Any],
        i3: Items[Any],
        i4: Items[Any],
        i5: Items[Any],
        /,
        *more: Items[Any],
        **options: Unpack[MapAsyncOptions],
    ) -> AsyncGenerator[T, None]: ...

    def map_async(
        self,
        /,
        *iterables: Items[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[Any, None]:
        """Run the function for every item, for ``async for``; see `Executor.map_async`."""
        submitter, fn = self._submitter()
        return submitter.map_async(
            cast("Any", fn),
            *iterables,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
        )


if TYPE_CHECKING:

    class Takes1(Protocol[A_contra, T]):
        """A job of 1 positional argument."""

        def submit(self, _1: A_contra, /) -> JobFuture[T]:
            """Submit it."""
            ...

    class Takes2(Protocol[A_contra, B_contra, T]):
        """A job of 2 positional arguments."""

        def submit(self, _1: A_contra, _2: B_contra, /) -> JobFuture[T]:
            """Submit it."""
            ...

    class Takes3(Protocol[A_contra, B_contra, C_contra, T]):
        """A job of 3 positional arguments."""

        def submit(self, _1: A_contra, _2: B_contra, _3: C_contra, /) -> JobFuture[T]:
            """Submit it."""
            ...

    class Takes4(Protocol[A_contra, B_contra, C_contra, D_contra, T]):
        """A job of 4 positional arguments."""

        def submit(self, _1: A_contra, _2: B_contra, _3: C_contra, _4: D_contra, /) -> JobFuture[T]:
            """Submit it."""
            ...

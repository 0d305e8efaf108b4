"""The results of the jobs of a `map`, in the order of their items."""

from __future__ import annotations

import time
import warnings
from collections import deque
from itertools import chain, repeat, starmap
from typing import TYPE_CHECKING, Any, Protocol

from ..exceptions import QueueFull, WaitTimeout
from ..jobs.future import take_results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..jobs.future import JobFuture


class Submit(Protocol):
    """Submits the call of an item, or of a chunk of items."""

    def __call__(self, args: tuple[Any, ...], wait: float | None = 0) -> JobFuture[Any]:
        """Submit a job for *args*, and wait at most *wait* seconds for its admission."""
        ...


class Results:
    """Submits calls; `each` yields their results.

    The constructor submits the first jobs, before anybody iterates: as many as *buffersize* and the
    queue allow. More follow as results are taken.

    :param buffersize: how many jobs may be submitted and not yet yielded; None for any number
    :param timeout: seconds from now to the last result; None for no limit
    :param read: returns the results of a job, or raises the job's exception, within some seconds
    :param name: the name of the function
    """

    def __init__(  # noqa: PLR0917 - called in one place
        self,
        submit: Submit,
        calls: Iterator[tuple[Any, ...]],
        buffersize: int | None,
        timeout: float | None,
        read: Callable[[JobFuture[Any], float | None], Iterable[Any]],
        name: str,
    ) -> None:
        self._submit = submit
        self._calls = calls
        self._buffersize = buffersize
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._name = name
        self._read = read
        self._futures: deque[JobFuture[Any]] = deque()
        self._has_more = True
        self._is_iterated = True  # `__del__` warns only once the constructor is over.
        try:
            self._fill()
        except BaseException:
            self._cancel()
            raise
        self._is_iterated = False

    def each(self) -> Iterator[Any]:
        """Yield the results; closing the iterator cancels the jobs that are left."""
        self._is_iterated = True
        try:
            while self._futures:
                yield from self._read(self._futures.popleft(), self._left())
                self._fill()
        except _TimeIsUp:
            raise WaitTimeout(
                f"the results of map({self._name}, ...) were not there within its {self._timeout} s"
            ) from None
        finally:
            self._cancel()

    def __del__(self) -> None:
        if not self._is_iterated and self._has_more:
            warnings.warn(
                f"nobody has iterated the results of map({self._name}, ...), and some items were "
                "not submitted: more follow as results are taken; iterate it, or submit each item",
                RuntimeWarning,
                stacklevel=2,
            )

    def _fill(self) -> None:
        while self._buffersize is None or len(self._futures) < self._buffersize:
            try:
                args = next(self._calls)
            except StopIteration:
                self._has_more = False
                self._calls = iter(())  # A zip keeps arguments alive; one may be a result, too.
                return
            try:
                # Waits for admission only if there is no other job to wait for.
                wait = 0 if self._futures else self._left()
                self._futures.append(self._submit(args, wait))
            except QueueFull:
                if not self._futures:
                    raise
                self._calls = chain([args], self._calls)
                return

    def _left(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()

    def _cancel(self) -> None:
        for future in self._futures:
            future.cancel()


class _TimeIsUp(Exception):
    """A result was not there in time."""


def result_of(future: JobFuture[Any], timeout: float | None) -> Iterable[Any]:
    """The result of a job, as the only item."""
    try:
        return _popped([future.result(timeout)])
    except WaitTimeout:
        if future.done():  # It is the job's own.
            raise
        raise _TimeIsUp from None
    finally:
        future.cancel()
        del future  # The traceback of the job's exception must not keep it alive.


def results_of_chunk(future: JobFuture[list[Any]], timeout: float | None) -> Iterable[Any]:
    """The results of a chunk of items, up to the item that failed."""
    try:
        error = future.exception(timeout)
        results = take_results(future)
    except WaitTimeout:
        raise _TimeIsUp from None
    finally:
        future.cancel()
        del future  # The traceback must not keep it alive.
    yield from _popped(results)
    try:
        if error is not None:
            raise error
    finally:
        del error  # The traceback holds this frame.


def _popped(results: list[Any]) -> Iterator[Any]:
    """Each result, from the last to the first; a yielded result is not kept here."""
    # Calls results.pop() once per result, with no Python code between two items.
    return starmap(results.pop, repeat((), len(results)))

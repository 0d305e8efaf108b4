"""The results of the jobs of a `map`, in the order of their items."""

from __future__ import annotations

import time
from collections import deque
from itertools import chain, repeat, starmap
from typing import TYPE_CHECKING, Any, Protocol

from ..exceptions import QueueFull
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
    """

    def __init__(
        self,
        submit: Submit,
        calls: Iterator[tuple[Any, ...]],
        buffersize: int | None,
        timeout: float | None,
        read: Callable[[JobFuture[Any], float | None], Iterable[Any]],
    ) -> None:
        self._submit = submit
        self._calls = calls
        self._buffersize = buffersize
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._read = read
        self._futures: deque[JobFuture[Any]] = deque()
        try:
            self._fill()
        except BaseException:
            self._cancel()
            raise

    def each(self) -> Iterator[Any]:
        """Yield the results; closing the iterator cancels the jobs that have not started."""
        try:
            while self._futures:
                yield from self._read(self._futures.popleft(), self._left())
                self._fill()
        finally:
            self._cancel()

    def _fill(self) -> None:
        while self._buffersize is None or len(self._futures) < self._buffersize:
            try:
                args = next(self._calls)
            except StopIteration:
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


def result_of(future: JobFuture[Any], timeout: float | None) -> Iterable[Any]:
    """The result of a job, as the only item."""
    try:
        return _popped([future.result(timeout)])
    finally:
        future.cancel()
        del future  # The traceback of the job's exception must not keep it alive.


def results_of_chunk(future: JobFuture[list[Any]], timeout: float | None) -> Iterable[Any]:
    """The results of a chunk of items, up to the item that failed."""
    try:
        error = future.exception(timeout)
        results = take_results(future)
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

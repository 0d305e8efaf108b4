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

__all__ = ["Results", "Submit", "result_of", "results_of_chunk"]


class Submit(Protocol):
    """Submits the call of an item, or of a chunk of them."""

    def __call__(self, args: tuple[Any, ...], queue_timeout: float | None = 0) -> JobFuture[Any]:
        """A job for *args*; *queue_timeout* is how many seconds to wait for room."""
        ...


class Results:
    """Submits calls; `each` yields their results.

    The first jobs are submitted when this is made, before anybody iterates: as many as *buffersize*
    and the room in the queue allow. More follow as results are taken.

    :param buffersize: how many jobs may be submitted and not yet yielded; None for any number
    :param timeout: seconds from now to the last result; None for no limit
    :param read: what comes of a job, or raises what the job raised, within some seconds
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
        """The results; what has not started is cancelled when this is closed."""
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
                self._calls = iter(())  # A zip keeps arguments, and a result may be one of them.
                return
            try:
                # With no other job to wait for it waits for room.
                queue_timeout = 0 if self._futures else self._left()
                self._futures.append(self._submit(args, queue_timeout))
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
    """The result of a job, alone."""
    try:
        return _popped([future.result(timeout)])
    finally:
        future.cancel()
        del future  # The traceback of its exception must not keep it alive.


def results_of_chunk(future: JobFuture[list[Any]], timeout: float | None) -> Iterable[Any]:
    """The results of a chunk of items, up to one that failed."""
    try:
        error = future.exception(timeout)
        results = take_results(future)
    finally:
        future.cancel()
        del future  # as above
    yield from _popped(results)
    try:
        if error is not None:
            raise error
    finally:
        del error  # Its traceback holds this frame.


def _popped(results: list[Any]) -> Iterator[Any]:
    """Each result, from the last to the first; one that was yielded is not held here."""
    # Calls results.pop() that often, with no code of ours between two items.
    return starmap(results.pop, repeat((), len(results)))

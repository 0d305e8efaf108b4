"""Futures by key."""

from __future__ import annotations

import concurrent.futures
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..exceptions import DuplicateKey
from ..messages.shown import kind_of
from ..threads.conditions import RLock
from .options import check_key
from .state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from .future import JobFuture
    from .item import WorkItem
    from .options import OnDuplicate
    from .progress import Progress
    from .state import State


class Elsewhere(Protocol):
    """The records of jobs by key, also of jobs of other processes."""

    def attach(self, futures: FutureCollection) -> None:
        """Note the collection that has the futures of this process by key."""

    def future(
        self, key: Hashable, own: concurrent.futures.Future[Any] | None
    ) -> concurrent.futures.Future[Any] | None:
        """A future of the job that has the key; *own* if that is the job of this process."""
        ...

    def pop(
        self, key: Hashable, own: concurrent.futures.Future[Any] | None
    ) -> concurrent.futures.Future[Any] | None:
        """Do as `future` does, and free the key; of several callers, one gets the future."""
        ...

    def release(self, id: str) -> None:  # noqa: A002 - as the attribute
        """Free the key of the job with this id."""


class FutureCollection:
    """Futures by key; safe from any thread.

    With ``EXECUTOR_STORE``, the methods answer for keys of other processes, too: from the record of
    the job, which they read from the database. Length, iteration and ``in`` are about this process.

    For an unknown key, the methods return None. Iteration gives the keys, as `keys` does.

    :param max_length: how many futures to keep; None for no limit. Adding one more drops done
        futures, oldest first. A future that is not done is never dropped
    :param on_drop: called with each future that is dropped, in the thread that adds one more
    :param elsewhere: knows the jobs of other processes, if there are any to know
    """

    def __init__(
        self,
        max_length: int | None = 50,
        *,
        on_drop: Callable[[concurrent.futures.Future[Any]], object] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.max_length = max_length
        self._on_drop = on_drop
        self._elsewhere = elsewhere
        self._lock = RLock()  # reentrant: a garbage collection may run log handlers
        # Flask-Shell2HTTP reads it. Guarded by _lock.
        self._futures: dict[Hashable, concurrent.futures.Future[Any]] = {}
        # The keys of done futures; guarded by _lock. They are removed at the front, which a plain
        # dict finds slowly: it searches past all removed keys.
        self._done: OrderedDict[Hashable, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._futures)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.keys())

    def __contains__(self, key_or_future: object) -> bool:
        with self._lock:
            if isinstance(key_or_future, concurrent.futures.Future):
                return any(future is key_or_future for future in self._futures.values())
            return key_or_future in self._futures

    def add(self, key: Hashable, future: concurrent.futures.Future[Any]) -> None:
        """Keep *future* under *key*.

        :raises DuplicateKey: if a future is stored under *key*
        :raises TypeError: if *future* is no future, or *key* cannot be a key
        """
        if not isinstance(future, concurrent.futures.Future):
            raise TypeError(
                f"{kind_of(future)} cannot be stored; expected a concurrent.futures.Future"
            )
        check_key(key)
        self._claim(key, future)

    def _claim(
        self,
        key: Hashable,
        future: concurrent.futures.Future[Any],
        on_duplicate: OnDuplicate = "raise",
    ) -> JobFuture[Any] | None:
        with self._lock:
            stored = self._futures.get(key)
            if stored is not None:
                if on_duplicate == "return":
                    return cast("JobFuture[Any]", stored)
                if on_duplicate == "raise" or not stored.done():
                    name = getattr(stored, "name", None)
                    whose = "" if name is None else f"that of the job {name!r}"
                    raise duplicate(key, whose, on_duplicate)
                # Put in anew: the order is that of the submissions.
                del self._futures[key]
                self._done.pop(key, None)
            self._futures[key] = future
            dropped = self._take_excess()
        # The stdlib's method: an executor's own book-keeping needs no app context.
        concurrent.futures.Future.add_done_callback(future, partial(self._on_done, key))
        # Told of and freed outside the lock: a future that is freed may log its failure.
        if self._on_drop is not None:
            for each in dropped:
                self._on_drop(each)
        return None

    def keys(self) -> list[Hashable]:
        """The keys of all stored futures, those of the oldest first; later changes do not show."""
        with self._lock:
            return list(self._futures)

    def get(self, key: Hashable) -> JobFuture[Any] | None:
        """The future under *key*, which stays stored; the same object that `add` was given."""
        future = self._futures.get(key)
        # Once a job has ended, other processes may pop its key, or replace the job.
        if self._elsewhere is not None and (future is None or future.done()):
            future = self._elsewhere.future(key, future)
        return cast("JobFuture[Any] | None", future)

    def pop(self, key: Hashable) -> JobFuture[Any] | None:
        """Remove the future under *key* and return it, as `get` does."""
        with self._lock:
            self._done.pop(key, None)
            future = self._futures.pop(key, None)
        if self._elsewhere is not None:
            future = self._popped_here(key, self._elsewhere.pop(key, future))
        return cast("JobFuture[Any] | None", future)

    def _popped_here(
        self, key: Hashable, popped: concurrent.futures.Future[Any] | None
    ) -> concurrent.futures.Future[Any] | None:
        # Another thread may have replaced the job meanwhile: then its job has lost the key.
        with self._lock:
            id_ = getattr(popped, "id", None)
            if id_ is None or not has_key(self, key, id_):
                return popped
            self._done.pop(key, None)
            return self._futures.pop(key)

    def state(self, key: Hashable) -> State | None:
        """The job's state: pending, running, succeeded, failed or cancelled; or lost elsewhere."""
        future = self.get(key)
        return None if future is None else getattr(future, "state", None) or state_of(future)

    def progress(self, key: Hashable) -> Progress | None:
        """How far the job is, as its future's `progress`; None for a future without one."""
        future: object = self.get(key)
        return getattr(future, "progress", None)

    def _state(self, key: Hashable) -> str | None:
        # Flask-Executor 1.0 documents this method. It returns the stdlib's own state.
        future = self.get(key)
        return None if future is None else future._state

    def done(self, key: Hashable) -> bool | None:
        """Whether the job has ended or was cancelled."""
        future = self.get(key)
        return None if future is None else future.done()

    def running(self, key: Hashable) -> bool | None:
        """Whether the job runs now."""
        future = self.get(key)
        return None if future is None else future.running()

    def cancelled(self, key: Hashable) -> bool | None:
        """Whether the job was cancelled."""
        future = self.get(key)
        return None if future is None else future.cancelled()

    def cancel(self, key: Hashable) -> bool | None:
        """Cancel the job, as its future's `cancel` does."""
        future = self.get(key)
        return None if future is None else future.cancel()

    def result(self, key: Hashable, timeout: float | None = None) -> Any:
        """Wait for the job and return its result, as its future's `result` does.

        :param timeout: seconds to wait; None for no limit
        """
        future = self.get(key)
        try:
            return None if future is None else future.result(timeout)
        finally:
            del future  # The traceback of its exception must not keep it alive.

    def exception(self, key: Hashable, timeout: float | None = None) -> BaseException | None:
        """Wait for the job and return its exception, as its future's `exception` does.

        :param timeout: seconds to wait; None for no limit
        """
        future = self.get(key)
        return None if future is None else future.exception(timeout)

    def add_done_callback(
        self, key: Hashable, fn: Callable[[concurrent.futures.Future[Any]], object]
    ) -> None:
        """Call *fn* when the job ends, as its future's `add_done_callback` does."""
        future = self.get(key)
        if future is not None:
            future.add_done_callback(fn)

    def _on_done(self, key: Hashable, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            if self._futures.get(key) is future:
                self._done[key] = None

    def _take_excess(self) -> list[concurrent.futures.Future[Any]]:
        if self.max_length is None:
            return []
        excess = min(len(self._futures) - self.max_length, len(self._done))
        dropped = []
        for _ in range(excess):
            key = next(iter(self._done))
            dropped.append(self._futures[key])
            del self._futures[key], self._done[key]
        return dropped


def duplicate(key: Hashable, whose: str, on_duplicate: OnDuplicate) -> DuplicateKey:
    """The error for a key that another job has.

    :param whose: says which job it is; or an empty text
    """
    advice = "pop it first, or use another key"
    if on_duplicate == "replace":
        advice = "it can be replaced once it has ended"
    whose = whose and f", {whose}"
    error = DuplicateKey(f"a future is stored under this key already{whose}; {advice}")
    error.key = key
    return error


def claim(
    futures: FutureCollection,
    key: Hashable,
    future: JobFuture[Any],
    on_duplicate: OnDuplicate,
    *,
    may_be_refused: bool,
) -> JobFuture[Any] | None:
    """Keep *future* under *key*; or return the future that has the key, to be used instead.

    Of threads that claim a key at the same time, one gets it.

    :param on_duplicate: see `Executor.options`
    :param may_be_refused: whether to free the key if the job does not come into the queue
    :raises DuplicateKey: if a future is stored under *key*; for "replace", if it is not done
    """
    stored = futures._claim(key, future, on_duplicate)
    if stored is None and may_be_refused:
        # The plain method: it needs no app context.
        forget = partial(_forget_if_never_in, futures, key, future.job)
        concurrent.futures.Future.add_done_callback(future, forget)
    return stored


def take_done(futures: FutureCollection, key: Hashable) -> concurrent.futures.Future[Any] | None:
    """Remove the future of *key* if it is done, and return it."""
    with futures._lock:
        if key not in futures._done:
            return None
        del futures._done[key]
        return futures._futures.pop(key)


def put_back(
    futures: FutureCollection, key: Hashable, future: concurrent.futures.Future[Any]
) -> None:
    """Keep a done future again, unless another one has its key by now."""
    with futures._lock:
        if futures._futures.setdefault(key, future) is future:
            futures._done[key] = None


def set_elsewhere(futures: FutureCollection, elsewhere: Elsewhere) -> None:
    """Have *elsewhere* be told of keys that are freed, and asked for keys that are unknown."""
    futures._elsewhere = elsewhere
    elsewhere.attach(futures)


def forget(futures: FutureCollection, key: Hashable, id_: str) -> bool:
    """Forget the future of the job *id_* if it is stored under *key*; return whether it was."""
    with futures._lock:
        is_stored = has_key(futures, key, id_)
        if is_stored:
            del futures._futures[key]
            futures._done.pop(key, None)
        return is_stored


def has_key(futures: FutureCollection, key: Hashable, id_: str) -> bool:
    """Whether the future of the job *id_* is stored under *key*; takes no lock."""
    future = futures._futures.get(key)
    return future is not None and getattr(future, "id", None) == id_


def stored_in(futures: FutureCollection) -> list[concurrent.futures.Future[Any]]:
    """All futures that are stored, read without the lock."""
    return list(futures._futures.values())


def after_fork(futures: FutureCollection, elsewhere: Elsewhere | None) -> None:
    """Have *futures* note which are done; in a forked process, where they fail without callbacks.

    :param elsewhere: knows the jobs of other processes, also those of the parent
    """
    futures._lock = RLock()
    futures._elsewhere = elsewhere
    if elsewhere is not None:  # It knows how far the jobs of the parent are.
        futures._futures.clear()
    for future in futures._futures.values():
        future._condition = threading.Condition()  # A thread may have held the old lock.
    done = [key for key, future in futures._futures.items() if future.done()]
    futures._done = OrderedDict.fromkeys(done)


def _forget_if_never_in(
    futures: FutureCollection,
    key: Hashable,
    item: WorkItem,
    future: concurrent.futures.Future[Any],
) -> None:
    if item.state == "rejected" and futures._futures.get(key) is future:
        futures.pop(key)

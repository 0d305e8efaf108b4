"""The pool of one app, and the way of a call to workers in other processes."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

from ..aio.running import check_patched_in_time
from ..exceptions import WorkerDied
from ..threads.conditions import RLock
from ..threads.shared_attempt import SharedAttempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from flask import Flask

    from ..remote.calls import RemoteCalls
    from ..settings import Settings
    from .find import Backend, Pool


class LazyPool:
    """A pool that is opened at its first use, and again after it has broken.

    :param find_app: returns the app, which the pool must not keep alive
    :param name: the prefix of the names of its threads
    :param on_first_open: called before the pool is opened for the first time
    :param on_open: called with the number of workers after each opening
    """

    def __init__(
        self,
        find_app: Callable[[], Flask],
        settings: Settings,
        backend: Backend,
        name: str,
        *,
        on_first_open: Callable[[], object],
        on_open: Callable[[float], object],
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._name = name
        self._on_first_open = on_first_open
        self._on_open = on_open
        self.pool: Pool | None = None
        """The pool, if it is open."""
        self._opening: SharedAttempt[Pool] = SharedAttempt(f"the pool of {name!r}")
        # Reentrant: a garbage collection at any line may log a failure and run log handlers.
        self._replacing = RLock()
        self._has_opened = False
        self._is_closed = False
        if not backend.in_process:
            from ..remote.calls import RemoteCalls  # noqa: PLC0415 - few apps need it

            knows_main = backend.knows_main
            self.remote: RemoteCalls = RemoteCalls(find_app, settings, knows_main=knows_main)
            """Packs the calls that leave this process."""

    def open(self) -> Pool:
        """The pool, which is opened if needed; never called with a lock held.

        :raises ExecutorClosed: if the interpreter ends
        :raises RuntimeError: if gevent has patched threads too late
        :raises OSError: if the pool is on other machines that cannot be reached
        """
        pool = self.pool  # the fast path: each job comes here
        if pool is not None:
            return pool
        check_patched_in_time()
        return self._opening.join(self._open)

    def is_open(self) -> bool:
        """Whether the pool is open."""
        return self.pool is not None

    def is_at_hand(self) -> bool:
        """Whether `open` returns at once."""
        return self.pool is not None or self._backend.opens_lightly

    def count(self) -> float:
        """How many jobs can run at a time; 0 if that is unknown before the first job."""
        if self.is_at_hand():
            return self.open().max_workers
        return self._settings.max_workers or 0

    def send(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_report: Callable[[Any], object],
    ) -> tuple[Pool, Future[Any]]:
        """Hand a call to the pool; a broken pool is replaced first.

        :param on_report: called with each report of the running call, if the pool has a way for
            reports; the last one comes with the reply
        """
        pool = self.open()
        try:
            return pool, _call(pool, fn, args, kwargs, on_report)
        except BrokenExecutor as error:
            if isinstance(error, WorkerDied):
                raise
            self.replace(pool)
        pool = self.open()
        return pool, _call(pool, fn, args, kwargs, on_report)

    def replace(self, broken: Pool) -> None:
        """Shut the *broken* pool down, and have the next job open another."""
        with self._replacing:
            if self.pool is broken:
                self.pool = None
        broken.shutdown(wait=False)

    def kill(self) -> bool:
        """End the running calls; return False if the pool cannot do that."""
        if self.pool is None or self.pool.kill_all is None:
            return False
        self.pool.kill_all()
        return True

    def close(self, *, wait: bool) -> None:
        """Shut the pool down; a pool that is being opened, once it is open."""
        self._is_closed = True
        if self.pool is not None:
            self.pool.shutdown(wait=wait)

    def _open(self) -> Pool:
        if self.pool is None:
            if not self._has_opened:
                self._on_first_open()
                self._has_opened = True
            pool = self._backend.open(self._settings, self._name, self._prepare)
            self._on_open(pool.max_workers)
            self.pool = pool
            if self._is_closed:
                pool.shutdown(wait=False)
        return self.pool

    def _prepare(self) -> Callable[[], object]:
        return self.remote.prepare()


def _call(
    pool: Pool,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    on_report: Callable[[Any], object],
) -> Future[Any]:
    if pool.call is None:
        future: Future[Any] = pool.submit(fn, *args, **kwargs)
        return future
    return pool.call(fn, args, kwargs, on_report)

"""The extension itself."""

from __future__ import annotations

import concurrent.futures
import math
import weakref
from collections.abc import AsyncIterable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from flask import Flask

from .aio.mailbox import Mailbox
from .aio.running import warn_if_blocking
from .aio.views import as_sync
from .app_executor import AppExecutor, check_callable
from .backends.find import INLINE, find_backend
from .context import current_app_or_none, only_app, unwrap
from .exceptions import AlreadyInitialised, NotInitialised
from .job import Job, JobDecorator
from .jobs.around import check_around
from .jobs.collection import FutureCollection, check_key
from .jobs.future import waiter_of
from .messages.shown import kind_of
from .options import Options
from .remote.here import in_worker
from .runners.closing import Deadline, drain, drain_async, refuse_in_job, shutdown
from .runners.host import AppHost
from .settings import (
    Settings,
    check_count,
    check_name,
    check_seconds,
    check_timeout,
    check_wait,
    extension_key,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from .jobs.future import JobFuture
    from .jobs.info import JobInfo
    from .stats import Stats

__all__ = ["Executor"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A", bound="Callable[[JobInfo], AbstractContextManager[Any]]")


class Executor(concurrent.futures.Executor):
    """Runs jobs off the request, in the context of the Flask app.

    One executor may serve several apps, each with its own settings, pool and stored futures. It
    works for the app of the caller's app context, or without an app context, for its only app.

    :param app: the app to initialise; the executor keeps it alive. `init_app` initialises an app
        later and does not keep it alive
    :param name: for a second executor in an app: ``mail`` reads ``MAIL_EXECUTOR_TYPE`` and so on
    :raises TypeError: if *app* is no Flask app, or *name* no str
    :raises ValueError: if *name* has other characters than letters, digits and underscores
    """

    def __init__(self, app: Flask | None = None, name: str = "") -> None:
        check_name(name)
        self.name = name
        self._default_done_callbacks: list[Callable[[JobFuture[Any]], object]] = []
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._around: list[Callable[[JobInfo], AbstractContextManager[Any]]] = []
        self._extension_key = extension_key(name)
        if app is not None:
            self.init_app(app)
            self._app = unwrap(app)  # keeps the app of Executor(Flask(__name__)) alive

    def init_app(self, app: Flask) -> None:
        """Read the config of *app* and make this executor available to it. Starts no thread.

        :raises TypeError: if *app* is no Flask app
        :raises InvalidSetting: if a config key has a value that it cannot have
        :raises AlreadyInitialised: if the app has an executor of this name
        """
        if not isinstance(app, Flask):
            raise TypeError(f"{kind_of(app)} cannot have an executor; expected a Flask app")
        app = unwrap(app)
        if self._extension_key in app.extensions:
            raise AlreadyInitialised(
                f"the app {app.name!r} has an executor named {self.name!r} already; use that one, "
                "or give another one a name of its own: Executor(app, name='mail')"
            )
        settings = Settings.from_app(app, self.name)
        served = self._serve(app, settings)
        app.extensions[f"{self.name}executor"] = self  # where Flask-Executor 1.0 has it
        if settings.async_views:
            # Flask documents this hook for it.
            app.async_to_sync = partial(as_sync, served.loop)  # type: ignore[method-assign]
        self._apps.add(app)

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

        :raises TypeError: if *fn* cannot be called
        :raises NotInitialised: if there is no app to work for
        :raises ExecutorClosed: after `shutdown`, or while the interpreter ends
        :raises QueueFull: if ``EXECUTOR_MAX_PENDING`` jobs wait already
        :raises RuntimeError: if no thread can be started, and there is no worker
        """
        return self._here().submit(fn, args, kwargs)

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
        return waiter_of(self._here().submit(fn, args, kwargs, may_hold=True), mailbox)

    @overload
    def submit_stored(
        self,
        key: Hashable,
        fn: Callable[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(
        self, key: Hashable, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(
        self, /, future_key: Hashable, *, fn: Callable[..., Coroutine[Any, Any, T]], **kwargs: Any
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(
        self, /, future_key: Hashable, *, fn: Callable[..., T], **kwargs: Any
    ) -> JobFuture[T]: ...

    def submit_stored(self, /, *args: Any, **kwargs: Any) -> JobFuture[Any]:
        """Do as `submit` does, and keep the future in `futures` under a key.

        Called as ``submit_stored(key, fn, *args, **kwargs)``. As in Flask-Executor 1.0, key and
        function may also be keywords, ``future_key`` and ``fn``. If both are positional, keywords
        of these names go to the job.

        :raises DuplicateKey: if a future is stored under the key; the job does not start
        """
        given = list(args[:2])
        for name in ("future_key", "fn")[len(given) :]:
            if name not in kwargs:
                raise TypeError(f"submit_stored() is missing the argument {name!r}")
            given.append(kwargs.pop(name))
        key, fn = given
        check_key(key)
        return self._here().submit(fn, args[2:], kwargs, key=key)

    def options(
        self,
        *,
        key: Hashable | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        queue_timeout: float | None = None,
    ) -> Options:
        """Return an object that submits with these options; *fn* keeps all its keywords.

        A job that takes longer than its *timeout* fails with `JobTimeout`. A job in a worker
        process is ended then, and a coroutine is cancelled. Any other job is asked to stop, and
        keeps its worker until it stops.

        :param key: keep the future in `futures` under this key
        :param timeout: seconds that the job may run, not counting its wait for a worker; None for
            the job's own, or no limit
        :param delay: seconds to wait before the job may start; the type ``inline`` does not wait
        :param queue_timeout: seconds to wait for admission if ``EXECUTOR_MAX_PENDING`` jobs wait
            already, before `QueueFull`; None for 0 with `submit`, no limit with `submit_async`
        :raises TypeError: if one of the three times is not a number
        :raises ValueError: if *timeout* is not above 0, or one of the others is below 0
        """
        check_timeout(timeout)
        check_wait("delay", delay)
        check_wait("queue_timeout", queue_timeout)
        return Options(self._here, queue_timeout, key=key, timeout=timeout, delay=delay)

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
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
        :raises WaitTimeout: from the iterator, if a result is not there in time
        :raises QueueFull: if not a single item is admitted in time
        """
        check_seconds("timeout", timeout)
        check_count("chunksize", chunksize)
        if buffersize is not None:
            check_count("buffersize", buffersize)
        return self._here().map(fn, iterables, timeout, chunksize, buffersize)

    @overload
    def map_async(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def map_async(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[T, None]: ...

    def map_async(
        self,
        fn: Callable[..., Any],
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
        """
        check_count("chunksize", chunksize)
        if buffersize is not None:
            check_count("buffersize", buffersize)
        for iterable in iterables:
            if not isinstance(iterable, AsyncIterable):
                iter(iterable)  # raises here, not in the middle of the iteration
        return self._here().map_async(fn, iterables, buffersize, chunksize, ordered=ordered)

    @overload
    def job(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Job[P, T, Coroutine[Any, Any, T]]: ...

    @overload
    def job(self, fn: Callable[P, T], /) -> Job[P, T]: ...

    @overload
    def job(self, fn: None = None, /, *, timeout: float | None = None) -> JobDecorator: ...

    def job(self, fn: Callable[..., Any] | None = None, /, *, timeout: float | None = None) -> Any:
        """Decorate a function so that it can submit itself: ``fib.submit(5)``.

        The executor needs no app yet.

        :param timeout: seconds that the function may run as a job; see `options`
        :raises TypeError: if *fn* cannot be called
        """
        check_timeout(timeout)
        if fn is None:
            return partial(self.job, timeout=timeout)
        check_callable(fn)
        return Job(self, fn, timeout=timeout)

    @property
    def futures(self) -> FutureCollection:
        """The stored futures of the current app."""
        return self._here().futures

    @property
    def _max_workers(self) -> int:
        # Dask's local scheduler reads this attribute, which the stdlib's pools have.
        # Jobs of the type inline run one at a time in each thread.
        workers = self._here().host.pool.open().max_workers
        return int(workers) if workers < math.inf else 1

    def add_default_done_callback(self, fn: Callable[[JobFuture[Any]], object]) -> None:
        """Attach *fn* to the future of every job from now on, before the job can start."""
        check_callable(fn)
        self._default_done_callbacks.append(fn)

    def around_job(self, fn: A) -> A:
        """Have every job run inside a context manager that *fn* returns for it; a decorator.

        *fn* gets the `JobInfo`. The context manager is entered in the job's contextvars and app
        context, just before the job's code, and sees an exception of that code. If it suppresses
        the exception, the job succeeds with None. The function registered first has the outermost
        context manager. The job's ``timeout`` includes the time of all of them.

        In a coroutine job it is entered on the event loop, and must not block the loop. Each item
        of a `map` has its own; in other processes, each chunk of items. A worker process uses the
        functions registered while it loads the app; without an app context it uses none.

        :raises TypeError: if *fn* cannot be called, or is a coroutine function
        """
        check_callable(fn)
        check_around(fn)
        self._around.append(fn)
        return fn

    def stats(self) -> Stats:
        """The counts of the current app's jobs; they always add up."""
        return self._here().stats()

    def drain(self, timeout: float | None = None) -> None:
        """Wait until no job is pending or running, and all callbacks and teardown are over.

        In an app context it waits for that app's jobs, otherwise for the jobs of all apps.

        :param timeout: seconds to wait; None for no limit
        :raises WaitTimeout: if jobs are left after that time
        :raises RuntimeError: inside a job that it would wait for
        """
        check_seconds("timeout", timeout)
        warn_if_blocking("drain()", "every job has ended; await drain_async() instead")
        drain(self._hosts(refused_in_job="drain"), timeout)

    async def drain_async(self, timeout: float | None = None) -> None:
        """Do as `drain` does without blocking the event loop."""
        check_seconds("timeout", timeout)
        await drain_async(self._hosts(refused_in_job="drain"), timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs. In an app context this affects that app, otherwise all apps.

        :param wait: whether to wait for the jobs that are left, for at most
            ``EXECUTOR_SHUTDOWN_TIMEOUT``; jobs left after that time are cancelled and logged
        :param cancel_futures: whether to cancel the jobs that have not started; else they run
        :raises RuntimeError: inside a job that it would wait for
        """
        deadline = Deadline()
        for host in self._hosts(refused_in_job="shut down" if wait else None):
            if wait and host.loop.is_current():
                raise RuntimeError(
                    "shutdown() in the thread of the executor's event loop would wait for that "
                    "loop; use shutdown(wait=False), or another thread"
                )
            shutdown(host, wait=wait, cancel_futures=cancel_futures, deadline=deadline)

    def __repr__(self) -> str:
        apps = ", ".join(sorted(app.name for app in self._apps)) or "no app yet"
        return f"<Executor {self.name!r} of {apps}>" if self.name else f"<Executor of {apps}>"

    def _serve(self, app: Flask, settings: Settings) -> AppExecutor:
        backend = find_backend(settings)
        if not backend.in_process and in_worker():
            backend = INLINE
        around, name = self._around, f"{self.name or 'executor'}-{app.name}"
        host = AppHost(self, app, around=around, name=name, settings=settings, backend=backend)
        futures = FutureCollection(settings.futures_max_length)
        callbacks = self._default_done_callbacks
        served = app.extensions[self._extension_key] = AppExecutor(self, callbacks, host, futures)
        return served

    def _here(self) -> AppExecutor:
        app = current_app_or_none()
        return self._of(only_app(self._apps) if app is None else app)

    def _of(self, app: Flask) -> AppExecutor:
        found: AppExecutor | None = app.extensions.get(self._extension_key)
        if found is None or found.executor is not self:
            raise NotInitialised(
                f"{self!r} is not initialised for the app {app.name!r}; call executor.init_app(app)"
            )
        if found.host.in_process or not in_worker():
            return found
        return self._serve(app, found.host.settings)  # A worker runs its own jobs inline.

    def _hosts(self, *, refused_in_job: str | None = None) -> list[AppHost]:
        """The host of the current app, or outside an app context, the hosts of all apps."""
        if current_app_or_none() is not None:
            hosts = [self._here().host]
        else:
            hosts = [self._of(app).host for app in self._apps]
        if refused_in_job:
            refuse_in_job(hosts, refused_in_job)
        return hosts

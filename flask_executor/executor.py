"""The extension itself."""

from __future__ import annotations

import concurrent.futures
import math
import weakref
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from flask import Flask, has_request_context

from .aio.running import warn_if_blocking
from .aio.views import as_sync
from .backends.find import INLINE, find_backend
from .context.body import end_bodies_with_requests
from .context.scope import current_app_or_none, only_app, unwrap
from .exceptions import AlreadyInitialised, NotInitialised
from .group import JobGroup
from .job import Job, JobDecorator
from .jobs.around import check_around
from .jobs.mistakes import (
    DECORATE,
    check_callable,
    check_callback,
    check_function,
)
from .jobs.options import NO_OPTIONS, options_of
from .messages.shown import kind_of
from .messages.warn import warn_caller
from .options import WithOptions
from .remote.here import in_worker
from .runners.at_exit import prepare_exit
from .runners.closing import (
    Deadline,
    drain,
    drain_async,
    refuse_in_job,
    refuse_on_loop,
    shutdown,
)
from .runners.host import AppHost
from .runners.later import refuse_before_response
from .settings import Settings, check_name, check_seconds, extension_key
from .submitting.app_executor import AppExecutor
from .submitting.stored import StoredSubmitter
from .threads.sync_threads import leave_threads_of_submitter

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Generator, Hashable
    from contextlib import AbstractContextManager
    from typing import Self

    from .jobs.collection import FutureCollection
    from .jobs.future import JobFuture
    from .jobs.info import JobInfo
    from .jobs.options import OnDuplicate, OptionValues
    from .jobs.retry import Retry
    from .records.face import Records
    from .stats import Stats

__all__ = ["Executor"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A", bound="Callable[[JobInfo], AbstractContextManager[Any]]")


class Executor(WithOptions, StoredSubmitter, concurrent.futures.Executor):  # type: ignore[misc]
    """Runs jobs off the request, in the context of the Flask app.

    One executor may serve several apps, each with its own settings, pool and stored futures. It
    works for the app of the caller's app context, or without an app context, for its only app.

    :param app: the app to initialise; the executor keeps it alive. `init_app` initialises an app
        later and does not keep it alive
    :param name: for a second executor in an app: ``mail`` reads ``MAIL_EXECUTOR_TYPE`` and so on
    :raises TypeError: if *app* is no Flask app, or *name* no str
    :raises ValueError: if *name* has other characters than letters, digits and underscores
    """

    _options = NO_OPTIONS

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
        :raises ImportError: if a package that the config needs is not installed
        :raises AlreadyInitialised: if the app has an executor of this name
        """
        if has_request_context():
            warn_caller(
                "an executor is made in a view; make it once, where the app is made", RuntimeWarning
            )
        if not isinstance(app, Flask):
            raise TypeError(f"{kind_of(app)} cannot have an executor; expected a Flask app")
        app = unwrap(app)
        if self._extension_key in app.extensions:
            which = f"named {self.name!r}" if self.name else "without a name"
            raise AlreadyInitialised(
                f"the app {app.name!r} has an executor {which} already; use that one, "
                "or give another one a name of its own: Executor(app, name='mail')"
            )
        settings = Settings.from_app(app, self.name)
        if settings.store is not None:
            from .records.urls import check_url  # noqa: PLC0415 - needs SQLAlchemy

            check_url(settings.store, f"{settings.prefix}STORE")
        served = self._serve(app, settings)
        app.extensions[f"{self.name}executor"] = self  # where Flask-Executor 1.0 has it
        if settings.push_request_context:
            end_bodies_with_requests(app)
        if settings.async_views:
            # Flask documents this hook for it.
            app.async_to_sync = partial(as_sync, served.loop)  # type: ignore[method-assign]
        self._apps.add(app)
        prepare_exit(settings)

    def group(self, *, timeout: float | None = None) -> JobGroup:
        """Return a block for jobs that belong together; it ends when all of them have ended.

        It works for jobs as `asyncio.TaskGroup` works for tasks, in ``with`` and ``async with``::

            with executor.group(timeout=10) as group:
                prices = [group.submit(price_of, item) for item in items]
            total = sum(price.result() for price in prices)

        See `JobGroup` for failures. It is for the app of the caller's app context.

        :param timeout: seconds that the block and its jobs may take; None for no limit
        :raises TypeError: if *timeout* is not a number
        :raises ValueError: if it is not above 0
        """
        return JobGroup(self._here, timeout)

    @overload
    def job(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Job[P, T, Coroutine[Any, Any, T]]: ...

    @overload
    def job(self, fn: Callable[P, T], /) -> Job[P, T]: ...

    @overload
    def job(
        self,
        fn: None = None,
        /,
        *,
        key: Hashable | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        queue_timeout: float | None = None,
        on_duplicate: OnDuplicate | None = None,
        retry: Retry | None = None,
        after: object = None,
    ) -> JobDecorator: ...

    def job(
        self,
        fn: Any = None,
        /,
        *,
        key: Hashable | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        queue_timeout: float | None = None,
        on_duplicate: OnDuplicate | None = None,
        retry: Retry | None = None,
        after: object = None,
    ) -> Any:
        """Decorate a function so that it can submit itself: ``fib.submit(5)``.

        The executor needs no app yet. The keywords are those of `options`. They apply to each
        submission that does not give its own.

        In a class, it decorates methods, and with ``@executor.job`` as the first line, class
        methods and static methods. The instance of a method is sent along to another process.

        :raises TypeError: if *fn* cannot be called, or is a generator function
        :raises TypeError: if an option is not what `options` expects; or `ValueError`
        """
        options = options_of(
            key=key,
            timeout=timeout,
            delay=delay,
            queue_timeout=queue_timeout,
            on_duplicate=on_duplicate,
            retry=retry,
            after=after,
        )
        if fn is None:
            return partial(self._decorate, options)
        return self._decorate(options, fn)

    def iterate(self, iterable: AsyncIterable[T]) -> Generator[T, None, None]:
        """Iterate an async iterable on the executor's loop; each step waits for the next item.

        A plain view can stream an async generator with it: ``Response(stream_with_context(
        executor.iterate(tokens())))``. The async generator runs in a copy of the caller's
        contextvars, and so in the caller's app context and request. It makes a step when an item is
        asked for. Closing the plain generator closes the async generator, and waits for that. If
        the plain generator is dropped, the async generator is closed, and an error is logged.

        :raises TypeError: if *iterable* is no async iterable
        :raises RuntimeError: from the iteration, in the thread of the executor's event loop
        """
        from .aio.iterate import check_async_iterable, iterate  # noqa: PLC0415 - few apps need it

        check_async_iterable(iterable)
        warn_if_blocking("iterate()", "each item is there; use 'async for' instead")
        context = copy_context()
        context.run(leave_threads_of_submitter)
        return iterate(self._here().host.loop, iterable, context)

    @property
    def futures(self) -> FutureCollection:
        """The stored futures of the current app."""
        return self._here().futures

    @property
    def records(self) -> Records:
        """The records of the current app's jobs, with ``EXECUTOR_STORE`` those of all processes."""
        from .records.face import Records  # noqa: PLC0415 - few apps need it

        here = self._here()
        return Records(here.host.recorder.store, here.futures)

    @property
    def _max_workers(self) -> int:
        # Dask's local scheduler reads this attribute, which the stdlib's pools have.
        # Jobs of the type inline run one at a time in each thread.
        workers = self._here().host.pool.open().max_workers
        return int(workers) if workers < math.inf else 1

    def add_default_done_callback(
        self, fn: Callable[[JobFuture[Any]], T]
    ) -> Callable[[JobFuture[Any]], T]:
        """Attach *fn* to the future of every job from now on, before the job can start.

        It can be used as a decorator: it returns *fn*.

        :raises TypeError: if *fn* cannot be called, or is a coroutine function
        """
        check_callback(fn)
        self._default_done_callbacks.append(fn)
        return fn

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
        check_callable(fn, "@executor.around_job")
        check_around(fn)
        self._around.append(fn)
        return fn

    @property
    def apps(self) -> list[Flask]:
        """The apps that it was initialised for and that still exist, in no order."""
        return list(self._apps)

    def stats(self) -> Stats:
        """The counts of the current app's jobs; they always add up."""
        return self._here().stats()

    def drain(self, timeout: float | None = None) -> None:
        """Wait until no job is pending or running, and all callbacks and teardown are over.

        In an app context it waits for that app's jobs, otherwise for the jobs of all apps.

        :param timeout: seconds to wait; None for no limit
        :raises WaitTimeout: if jobs are left after that time
        :raises RuntimeError: inside a job that it would wait for, in a request for whose response a
            job waits, and in the thread of the executor's event loop
        """
        check_seconds("timeout", timeout)
        hosts = self._hosts(refused_in_job="drain")
        refuse_on_loop(hosts, "drain()", "await drain_async()")
        refuse_before_response(hosts, "drain()")
        warn_if_blocking("drain()", "every job has ended; await drain_async() instead")
        drain(hosts, timeout)

    async def drain_async(self, timeout: float | None = None) -> None:
        """Do as `drain` does without blocking the event loop."""
        check_seconds("timeout", timeout)
        hosts = self._hosts(refused_in_job="drain")
        refuse_before_response(hosts, "drain_async()")
        await drain_async(hosts, timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs. In an app context this affects that app, otherwise all apps.

        :param wait: whether to wait for the jobs that are left, for at most
            ``EXECUTOR_SHUTDOWN_TIMEOUT``; jobs left after that time are cancelled and logged
        :param cancel_futures: whether to cancel the jobs that have not started; else they run, but
            for those that wait for a response or a commit
        :raises RuntimeError: if it is to wait, inside a job that it would wait for, and in the
            thread of the executor's event loop
        """
        if has_request_context():
            warn_caller("shutdown() in a view ends the executor for all requests", RuntimeWarning)
        self._shutdown(wait=wait, cancel_futures=cancel_futures)

    def __enter__(self) -> Self:
        """Return the executor; at the end of the block, it is shut down. Warns in a request."""
        if has_request_context():
            warn_caller(
                "'with executor:' shuts the executor down for all requests when its block ends; "
                "submit without a 'with' block",
                RuntimeWarning,
            )
        return self

    def __exit__(self, *error: object) -> None:
        """Shut the executor down, and wait for its jobs."""
        self._shutdown(wait=True, cancel_futures=False)

    def __repr__(self) -> str:
        apps = ", ".join(sorted(app.name for app in self._apps)) or "no app yet"
        return f"<Executor {self.name!r} of {apps}>" if self.name else f"<Executor of {apps}>"

    def _shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        deadline = Deadline()
        hosts = self._hosts(refused_in_job="shut down" if wait else None)
        if wait:
            refuse_on_loop(hosts, "shutdown()", "use shutdown(wait=False), or another thread")
        for host in hosts:
            shutdown(host, wait=wait, cancel_futures=cancel_futures, deadline=deadline)

    def _decorate(self, options: OptionValues, fn: Any, /) -> Job[..., Any, Any]:
        check_function(getattr(fn, "__func__", fn), DECORATE)
        return Job(self, fn, options)

    def _serve(self, app: Flask, settings: Settings) -> AppExecutor:
        backend = find_backend(settings)
        if not backend.in_process and in_worker():
            backend = INLINE
        around, name = self._around, f"{self.name or 'executor'}-{app.name}"
        host = AppHost(self, app, around=around, name=name, settings=settings, backend=backend)
        callbacks = self._default_done_callbacks
        served = app.extensions[self._extension_key] = AppExecutor(self, callbacks, host)
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

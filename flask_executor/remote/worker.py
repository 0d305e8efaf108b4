"""The code that runs jobs in a worker of another process or interpreter.

A worker loads the app once. Each call runs in its own app context and its own contextvars.
Coroutines run on a loop that lives as long as the worker.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import sys
import threading
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import cache
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flask.cli import ScriptInfo

from ..aio.functions import is_coroutine_function, refuse_coroutine
from ..aio.limits import within
from ..aio.loop import run_to_its_end
from ..context.scope import Scope
from ..exceptions import AppNotFound
from ..jobs.around import await_around, call_around
from ..jobs.chunks import Chunk, ChunkFailed
from ..jobs.hints import HINTS_IN_WORKER, add_hints
from ..jobs.info import JobInfo, running_job
from ..messages.traces import TracebackText, kinds_of, trace_without_texts
from ..settings import extension_key
from ..threads.sync_threads import own_thread
from .call import Reply
from .here import become_worker
from .protocol import reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from flask import Flask

    from ..jobs.around import Around
    from ..jobs.reports import Reports
    from ..settings import Settings
    from .protocol import CanReport

    LoopFactory = Callable[[], asyncio.AbstractEventLoop]


_loading = threading.Lock()

# The running job's timeout in seconds, and the factory of the loop that the job runs on.
_timeout: ContextVar[float | None] = ContextVar("flask_executor.timeout")
_loop_factory: ContextVar[LoopFactory | None] = ContextVar("flask_executor.loop_factory")

# Identifies the interpreter that imported this module. A spawned interpreter has another value; a
# forked one has another process id.
_IMPORTED = os.urandom(8).hex()


class _RemoteJobInfo(JobInfo):
    """The information about a job in a worker; the job was submitted in another process."""

    __slots__ = ("_attempt", "_id", "_reporter")

    def __init__(
        self,
        id_: str,
        name: str,
        key: Hashable | None,
        attempt: int,
        reporter: CanReport | None,
    ) -> None:
        super().__init__(name, key)
        self._id = id_
        self._attempt = attempt
        self._reporter = reporter

    @property
    def id(self) -> str:
        """The job's id, which is the same in both processes."""
        return self._id

    @property
    def attempt(self) -> int:
        """The number of the attempt that this process runs."""
        return self._attempt

    def _publish(self, reports: Reports) -> None:
        """Send the last of *reports* to the process that has submitted the job."""
        self.reports = reports
        if self._reporter is not None:
            with suppress(OSError):  # That process has gone, and this one will end.
                self._reporter.progress(reports.latest)


class WorkerSetup(NamedTuple):
    """The information that a worker needs about the process that sends calls.

    :param origin: identifies that process, to tell it from a worker
    :param app: the import path of the app, such as ``"package.module:app"``; None for bare jobs
    :param prefix: the prefix of the config keys, for messages
    :param name: the executor's name
    """

    origin: tuple[str, int]
    app: str | None
    prefix: str
    name: str
    loop_factory: LoopFactory | None


def setup_for(app: Flask, settings: Settings, *, knows_main: bool) -> WorkerSetup:
    """The setup for the workers of *app*, which find the app as a global of its own module.

    :param knows_main: whether the workers have the ``__main__`` module of this process
    :raises AppNotFound: if the app is no global, and ``EXECUTOR_APP`` does not say where it is
    """
    path = None
    if settings.push_app_context:
        path = settings.app or _path_of(app, settings.prefix, knows_main=knows_main)
    return WorkerSetup(_origin(), path, settings.prefix, settings.name, settings.loop_factory)


def prepare(setup: WorkerSetup) -> None:
    """Make this process a worker and load the app; called in the worker.

    :raises AppNotFound: if the app cannot be loaded
    """
    if setup.origin == _origin():
        raise RuntimeError(
            "the pool runs its calls in the process that submits them, and was taken for one that "
            f"does not; give what {setup.prefix}TYPE names an attribute: in_process = True"
        )
    become_worker()
    if setup.app is not None:
        with _loading:
            _load_app(setup.app, setup.prefix)


def run(setup: WorkerSetup, call: bytes, attempt: int = 1) -> Reply:
    """Run a call in a worker; the reply holds its result or exception."""
    return Context().run(_run, setup, call, attempt, reporter.get(None))


def call_coroutine_item(fn: Callable[..., Any], *args: Any) -> Any:
    """Call *fn* for an item of a chunk and run its coroutine; called in a worker, inside a job."""
    return _call(fn, args, {})


def _origin() -> tuple[str, int]:
    return _IMPORTED, os.getpid()


def _path_of(app: Flask, prefix: str, *, knows_main: bool) -> str:
    module = sys.modules.get(app.import_name)
    names = [name for name, value in vars(module).items() if value is app] if module else []
    if not names:
        why = f"it is no global of the module {app.import_name!r}"
    elif app.import_name == "__main__" and not knows_main:
        why = "it belongs to the module __main__, which is another one in a worker"
    else:
        return f"{app.import_name}:{names[0]}"
    raise AppNotFound(
        f"workers cannot find the app {app.name!r}: {why}; set {prefix}APP to where it is, such as "
        "'package.module:app' or 'package.module:create_app()'"
    )


@cache
def _load_app(path: str, prefix: str) -> Flask:
    try:
        return ScriptInfo(path, set_debug_flag=False).load_app()
    except BaseException as error:
        failure = AppNotFound(
            f"a worker could not load the app {_without_arguments(path)!r}: {kinds_of(error)} (see "
            f"the setting {prefix}APP, and the traceback, which has no texts: they may be secret)"
        )
        failure.__cause__ = TracebackText(trace_without_texts(error))
    raise failure  # outside the except block, so that *error* does not become its context


def _without_arguments(path: str) -> str:
    factory, _, arguments = path.partition("(")
    return path if arguments.strip() in {"", ")"} else f"{factory}(...)"


def _run(setup: WorkerSetup, call: bytes, attempt: int, reporter: CanReport | None) -> Reply:
    reply = _run_job(setup, call, attempt, reporter)
    job = running_job.get(None)
    if job is None or job.reports is None:
        return reply
    return reply._replace(report=job.reports.latest)


def _run_job(setup: WorkerSetup, call: bytes, attempt: int, reporter: CanReport | None) -> Reply:
    try:
        prepare(setup)
        app = None if setup.app is None else _load_app(setup.app, setup.prefix)
        id_, name, key, timeout, fn, args, kwargs = pickle.loads(call)
        running_job.set(_RemoteJobInfo(id_, name, key, attempt, reporter))
        _timeout.set(timeout)
        _loop_factory.set(setup.loop_factory)
        around = _around_of(app, setup.name)
        return Reply.of_result(Scope(app, copy_context()).call(_call, fn, args, kwargs, around))
    except ChunkFailed as failed:
        return _reply_of_failed(failed.__cause__ or failed, failed.results)
    except BaseException as error:
        return _reply_of_failed(error)


def _reply_of_failed(error: BaseException, results: list[Any] | None = None) -> Reply:
    add_hints(error, HINTS_IN_WORKER)
    return Reply.of_error(error, results)


def _around_of(app: Flask | None, name: str) -> Around:
    # The functions that were registered with this process's executor while the app was loaded.
    served = None if app is None else app.extensions.get(extension_key(name))
    return () if served is None else cast("Around", served.host.around)


def _call(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], around: Around = ()
) -> Any:
    job = running_job.get()
    if is_coroutine_function(fn):
        work = await_around(around, job, fn, args, kwargs) if around else fn(*args, **kwargs)
        runner = _runner_of(threading.get_ident(), _loop_factory.get())
        with own_thread():
            work = within(work, _timeout.get(), job.name)
            result = run_to_its_end(runner.get_loop(), work, copy_context())
    elif not around:
        result = fn(*args, **kwargs)
    elif isinstance(fn, Chunk):
        result = fn.call_around(around, job, args)
    else:
        result = call_around(around, job, fn, args, kwargs)
    if type(result) is CoroutineType:
        refuse_coroutine(job.name, result)
    return result


@cache
def _runner_of(thread: int, loop_factory: LoopFactory | None) -> asyncio.Runner:  # noqa: ARG001
    # No threading.local: in a thread of an interpreter pool, each call has another one.
    runner = asyncio.Runner(loop_factory=loop_factory)
    atexit.register(runner.close)
    return runner

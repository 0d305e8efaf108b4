"""The backends: how each is opened, and whether its workers share our memory."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import math
import os
import sys
from concurrent.futures import Executor
from contextvars import Context
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Any

from werkzeug.utils import import_string

from ..aio.running import threads_are_greenlets
from ..exceptions import InvalidSetting
from ..messages.shown import kind_of, public_address, shown_setting
from ..messages.traces import text_of
from ..threads.pool import Threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ..settings import Settings

    Prepare = Callable[[], Callable[[], object]]
    OnReport = Callable[[Any], object]
    Call = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], OnReport], Future[Any]]


class Pool:
    """An open pool.

    :param submit: has a worker make a call; returns a future if the call leaves this process
    :param shutdown: ends the workers after their calls; ``wait`` says whether to wait for that
    :param max_workers: how many calls run at a time
    :param when_ready: calls a function once a given call can begin; None if calls begin at once
    :param kill: ends a running call; None if the pool cannot do that
    :param kill_all: ends all running calls; None if the pool cannot do that
    :param call: as *submit*, and passes the reports of the running call to a function; None if
        the pool has no way for reports
    :param calls_back_freely: whether a call's done callbacks may take long and use the pool; the
        stdlib's process pool may run them with a lock held
    """

    def __init__(
        self,
        submit: Callable[..., Any],
        shutdown: Callable[..., object],
        max_workers: float,
        *,
        when_ready: Callable[[Future[Any], Callable[[], object]], object] | None = None,
        kill: Callable[[Future[Any]], object] | None = None,
        kill_all: Callable[[], object] | None = None,
        call: Call | None = None,
        calls_back_freely: bool = False,
    ) -> None:
        self.submit = submit
        self.shutdown = shutdown
        self.max_workers = max_workers
        self.when_ready = when_ready
        self.kill = kill
        self.kill_all = kill_all
        self.call = call
        self.calls_back_freely: bool = calls_back_freely


class Backend:
    """A way to run jobs.

    :param open: makes the pool. It gets the settings, a prefix for thread names, and a callable
        that returns the function that a worker in another process calls first
    :param in_process: whether jobs run in this process, and get contexts and objects as they are
    :param inline: whether jobs run in the thread that submits them
    :param knows_main: whether workers have the ``__main__`` module of this process
    :param opens_lightly: whether opening the pool starts no worker and connects to nothing
    """

    def __init__(
        self,
        open: Callable[[Settings, str, Prepare], Pool],  # noqa: A002 - as its attribute
        *,
        in_process: bool,
        inline: bool = False,
        knows_main: bool = False,
        opens_lightly: bool = True,
    ) -> None:
        self.open = open
        self.in_process: bool = in_process
        self.inline: bool = inline
        self.knows_main: bool = knows_main
        self.opens_lightly: bool = opens_lightly


def find_backend(settings: Settings) -> Backend:
    """Look up the backend that ``EXECUTOR_TYPE`` names.

    :raises InvalidSetting: if no backend has that name, or the backend cannot work here
    :raises ImportError: if the backend needs a package that is not installed
    """
    if ":" in settings.type:
        return _custom_backend(settings)
    if settings.type not in _BACKENDS:
        expected = ", ".join(map(repr, _BACKENDS))
        raise InvalidSetting(
            f"{settings.prefix}TYPE is {shown_setting(settings.type)}; expected one of {expected}, "
            "or the import path of a factory, such as 'package.module:factory'"
        )
    backend = _BACKENDS[settings.type](settings)
    if not backend.in_process and threads_are_greenlets():
        raise InvalidSetting(
            f"{settings.prefix}TYPE is {settings.type!r}, which cannot be relied on where gevent "
            "has patched threads: its jobs may die or hang there; expected 'thread' or 'inline' "
            "here, or a server that uses threads, as 'gunicorn --threads 8' does"
        )
    return backend


def _thread_backend(_: Settings) -> Backend:
    return Backend(_open_threads, in_process=True)


def _process_backend(settings: Settings) -> Backend:
    import multiprocessing  # noqa: PLC0415 - slow to import, and few apps need it

    # Asking for the default method would fix it for the whole process.
    method = settings.mp_context or multiprocessing.get_start_method(allow_none=True)
    method = method or multiprocessing.get_all_start_methods()[0]
    return Backend(_open_processes, in_process=False, knows_main=method == "fork")


def _interpreter_backend(settings: Settings) -> Backend:
    if not hasattr(concurrent.futures, "InterpreterPoolExecutor"):
        version = ".".join(map(str, sys.version_info[:2]))
        raise InvalidSetting(
            f"{settings.prefix}TYPE is 'interpreter', which needs Python 3.14 or later; this is "
            f"Python {version}; expected 'process' here"
        )
    return Backend(_open_interpreters, in_process=False)


def _dask_backend(settings: Settings) -> Backend:
    if importlib.util.find_spec("distributed") is None:
        raise ImportError(
            f"{settings.prefix}TYPE is 'dask', which needs the package distributed; install "
            "'flask-executor[dask]'"
        )
    return Backend(_open_dask, in_process=False, opens_lightly=False)


def _inline_backend(_: Settings) -> Backend:
    return INLINE


def _custom_backend(settings: Settings) -> Backend:
    try:
        factory = import_string(settings.type)
    except ImportError as error:
        raise InvalidSetting(
            f"{settings.prefix}TYPE is {settings.type!r}, which cannot be imported: {error}; "
            "expected the import path of a factory, such as 'package.module:factory'"
        ) from error
    if getattr(factory, "__module__", "").startswith("concurrent.futures"):
        raise InvalidSetting(
            f"{settings.prefix}TYPE is {settings.type!r}, which does not take the settings; "
            "expected 'thread', 'process' or 'interpreter' for pools like those of the stdlib"
        )
    if not callable(factory):
        raise InvalidSetting(
            f"{settings.prefix}TYPE is {settings.type!r}, which is {kind_of(factory)}; expected "
            "what can be called with the settings and returns a concurrent.futures.Executor"
        )
    in_process = bool(getattr(factory, "in_process", False))
    open_ = partial(_open_custom, factory, in_process)
    return Backend(open_, in_process=in_process, opens_lightly=False)


def _open_threads(settings: Settings, thread_name_prefix: str, _: Prepare) -> Pool:
    max_workers = settings.max_workers or min(32, _count_processors() + 4)  # as the stdlib's
    has_timeout = settings.shutdown_timeout is not None
    threads = Threads(max_workers, thread_name_prefix, passes_on_daemon=has_timeout)
    return Pool(threads.run, threads.shutdown, max_workers)


def _open_processes(settings: Settings, thread_name_prefix: str, prepare: Prepare) -> Pool:
    from .processes import ProcessPool  # noqa: PLC0415 - multiprocessing is slow to import

    max_workers = settings.max_workers or _count_processors()
    pool = ProcessPool(
        max_workers,
        settings.mp_context,
        settings.max_tasks_per_child,
        prepare,
        thread_name_prefix,
    )
    return Pool(
        pool.submit,
        pool.shutdown,
        max_workers,
        when_ready=pool.when_ready,
        kill=pool.kill,
        kill_all=pool.kill_all,
        call=pool.call,
        calls_back_freely=True,
    )


def _open_interpreters(settings: Settings, thread_name_prefix: str, _: Prepare) -> Pool:
    from .interpreters import InterpreterPool  # noqa: PLC0415 - few apps need it

    pool = InterpreterPool(settings.max_workers, thread_name_prefix)
    return Pool(pool.submit, pool.shutdown, pool.max_workers, call=pool.call)


def _open_dask(settings: Settings, thread_name_prefix: str, _: Prepare) -> Pool:
    from .dask import DaskPool  # noqa: PLC0415 - an extra

    address = settings.dask_address
    try:
        pool = DaskPool(address, settings.max_workers, f"{thread_name_prefix}-dask")
    except Exception as error:
        if address is None:
            raise
        failure = _no_scheduler(f"{settings.prefix}DASK_ADDRESS", address, error)
    else:
        max_workers = settings.max_workers or max(pool.max_workers, 1)
        return Pool(pool.submit, pool.shutdown, max_workers, call=pool.call)
    raise failure  # outside the except block, so that *error* does not become its context


def _no_scheduler(key: str, address: str, error: Exception) -> Exception:
    shown = public_address(address)
    value = "an address that cannot be shown" if shown is None else repr(shown)
    # Dask's message contains the address in one form or another.
    reason = text_of(error) if shown == address else type(error).__name__
    failure: Exception
    if isinstance(error, OSError):
        failure = OSError(
            f"{key} is {value}, which cannot be reached: {reason}; expected the address of a "
            "scheduler that runs"
        )
    else:
        failure = InvalidSetting(
            f"{key} is {value}, which Dask refuses: {reason}; expected the address of a "
            "scheduler, such as 'tcp://127.0.0.1:8786'"
        )
    failure.__cause__ = error if shown == address else None
    return failure


def _open_custom(
    factory: Callable[[Settings], object],
    in_process: bool,
    settings: Settings,
    _: str,
    __: Prepare,
) -> Pool:
    pool = factory(settings)
    if not isinstance(pool, Executor):
        raise InvalidSetting(
            f"{settings.prefix}TYPE is {settings.type!r}, which returned {kind_of(pool)}; expected "
            "a concurrent.futures.Executor"
        )
    max_workers = getattr(pool, "_max_workers", None)
    max_workers = max_workers or settings.max_workers or _count_processors()
    # Threads that inherit their creator's contextvars inherit none from a job's submitter.
    submit = partial(_submit_from_nowhere, pool) if in_process else pool.submit
    return Pool(submit, pool.shutdown, max_workers)


def _submit_from_nowhere(pool: Executor, *call: Any) -> Future[Any]:
    submit: Callable[..., Future[Any]] = pool.submit
    return Context().run(submit, *call)


def _open_inline(_: Settings, __: str, ___: Prepare) -> Pool:
    return Pool(call, _no_shutdown, math.inf)


def _no_shutdown(*, wait: bool) -> None:
    pass


def _count_processors() -> int:
    # As the stdlib's process pool does.
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return min(count, 61) if sys.platform == "win32" else count


INLINE = Backend(_open_inline, in_process=True, inline=True)

_BACKENDS: dict[str, Callable[[Settings], Backend]] = {
    "thread": _thread_backend,
    "process": _process_backend,
    "interpreter": _interpreter_backend,
    "dask": _dask_backend,
    "inline": _inline_backend,
}

"""The calls of done callbacks, each in an app context of its job."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..messages.shown import name_of

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Collection


def call_back(fn: Callable[[Any], object], done: concurrent.futures.Future[Any]) -> None:
    """Call *fn* with *done*, a `JobFuture`, in an app context of its job; log what *fn* raises."""
    future: Any = done
    scope = future.job.scope
    logged: list[bool] = []
    try:
        if scope is not None and scope.is_current():
            _call_and_log(fn, future, logged)
        else:
            future.job.call_in_scope(_call_and_log, fn, future, logged)
    except BaseException as error:  # The thread that ends the job goes on.
        if not logged:  # Its app context could not be entered.
            _log_callback(fn, future, error)


def drop_callbacks(future: Any, fns: Collection[Callable[[Any], object]]) -> None:
    """Have the end of a job, whose future this is, call none of *fns*: it was never submitted."""
    kept = [each for each in future._done_callbacks if not _calls_one_of(each, fns)]
    future._done_callbacks = kept


def _calls_one_of(callback: object, fns: Collection[Callable[[Any], object]]) -> bool:
    return isinstance(callback, partial) and callback.func is call_back and callback.args[0] in fns


def _call_and_log(fn: Callable[[Any], object], future: Any, logged: list[bool]) -> None:
    # Logged in the app context, and raised, as teardown functions are told of it.
    try:
        fn(future)
    except BaseException as error:
        logged.append(True)
        _log_callback(fn, future, error)
        raise


def _log_callback(fn: Callable[[Any], object], future: Any, error: BaseException) -> None:
    what = f"ended, and its callback {name_of(fn)} raised"
    future.job.host.log_failure(future.job, error, what)

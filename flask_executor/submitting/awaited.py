"""Submitting a job that an event loop awaits, as `submit_async` does."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from ..jobs.foreign import PromisedFuture, waiter_of_stored
from ..jobs.function import JobFunction
from ..jobs.future import JobFuture
from ..jobs.info import running_job
from ..jobs.mistakes import check_function
from ..messages.shown import name_of
from ..messages.traces import keep_as_text
from ..runners.blocked import count_awaits
from ..runners.later import event_of
from ..threads.pool import run_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..aio.mailbox import Mailbox
    from ..aio.waiter import AsyncioJobFuture
    from ..jobs.options import OptionValues
    from .app_executor import AppExecutor


def submit_awaited(
    part: AppExecutor,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: OptionValues,
    *,
    mailbox: Mailbox,
) -> AsyncioJobFuture[Any]:
    """Do as `AppExecutor.submit` does, and return a future of the running event loop.

    If the key of the job is to be claimed in a database, another thread submits it.
    """
    key = options.key
    if key is None and isinstance(fn, JobFunction):
        key = fn.job_options.key
    if key is None or part.host.settings.store is None:
        future = part.submit(fn, args, kwargs, options, may_hold=True)
        return waiter_of_stored(future, mailbox)
    check_function(fn)
    if isinstance(fn, JobFunction):
        options = options.over(fn.job_options)
    part.host.recorder.store.check_key(key)
    event = event_of(options.after)
    promise = PromisedFuture(name_of(fn))
    waiter = promise.waiter(mailbox)
    count_awaits(waiter)
    if options.group is not None:
        options.group.add(promise.submission)
    submit = partial(
        part.submit,
        fn,
        args,
        kwargs,
        options,
        may_hold=True,
        scope=part.host.capture(),
        event=event,
        on_claimed=promise.offer,
    )
    run_apart(copy_context().run, _keep, promise, submit, part)
    return waiter


def _keep(promise: PromisedFuture, submit: Callable[[], JobFuture[Any]], part: AppExecutor) -> None:
    try:
        future = submit()
    except BaseException as error:
        keep_as_text(error)
        promise.fail(error)
        return
    promise.keep(future)
    if running_job.get(None) is not None and isinstance(future, JobFuture):
        part.host.need(future.job)

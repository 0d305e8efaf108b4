"""Async views on the executor's loop."""

from __future__ import annotations

import functools
import sys
import warnings
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from ..messages.shown import name_of
from ..threads.sync_threads import WaitingThread, take_over
from .functions import is_coroutine_function
from .running import run_on_new_loop, running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .loop import LoopThread


def as_sync(
    find_loop: Callable[[], LoopThread], func: Callable[..., Coroutine[Any, Any, Any]]
) -> Callable[..., Any]:
    """Return a plain function that runs *func* on the loop and waits for its end.

    This replaces `flask.Flask.async_to_sync`. The coroutine runs in a copy of the caller's
    contextvars, and the caller gets the values that it sets. `sync_to_async` runs functions in the
    caller's thread. If the caller is interrupted while it waits, the coroutine is cancelled.

    :param find_loop: returns the loop; a forked process has another loop
    """
    if not (callable(func) and is_coroutine_function(func)):
        # asgiref's text, so that existing warning filters match.
        warnings.warn("async_to_sync was passed a non-async-marked callable", stacklevel=2)

    # Copy no attributes of *func*: one of them may mark it as a coroutine function.
    @functools.wraps(func, updated=())
    def run(*args: Any, **kwargs: Any) -> Any:
        if running_loop() is not None:
            raise RuntimeError(
                f"{name_of(func)!r} was called as a plain function in a thread that runs an event "
                "loop, and would block it; await it instead"
            )
        loop = find_loop()
        call = partial(func, *args, **kwargs)
        if loop.is_current():  # The loop waits here, for an async teardown function of a job.
            return run_on_new_loop(call)
        return _run(loop, call)

    if hasattr(func, "__self__"):
        run.__self__ = func.__self__  # type: ignore[attr-defined]
    return run


def _run(loop: LoopThread, call: partial[Coroutine[Any, Any, Any]]) -> Any:
    context = copy_context()
    thread = WaitingThread()
    main = partial(thread.begin, call, sys.exc_info()[1])
    name = getattr(call.func, "__name__", None)
    try:
        return loop.run(main, name=name, context=context, outcome=thread)
    finally:
        take_over(context)
        if not thread.done():  # The thread was interrupted.
            thread.hand_over()
        del main  # Otherwise a raised exception would hold itself through this frame.

"""The calls of the receivers of signals."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..aio.functions import is_coroutine_function
from ..aio.running import run_on_new_loop, running_loop
from ..messages.log import log_failure
from ..messages.shown import name_of
from ..signals import job_cancelled, job_failed, job_retried, job_succeeded

if TYPE_CHECKING:
    from blinker import NamedSignal
    from flask import Flask


def notify(signal: NamedSignal, app: Flask, **values: Any) -> None:
    """Call each receiver of *signal* for *app*; if one raises, log the error and go on.

    Where an event loop runs, it waits for async receivers, as it does for plain ones.
    """
    for receiver in signal.receivers_for(app):
        try:
            if running_loop() is not None and is_coroutine_function(receiver):
                # The app's `async_to_sync` may use the very loop that waits here.
                run_on_new_loop(partial(receiver, app, **values))
            else:
                app.ensure_sync(receiver)(app, **values)
        except BaseException as error:  # A receiver must not change how the job ends.
            name = name_of(receiver)
            log_failure(app, error, "Receiver %s of the signal %r raised", name, signal.name)


def has_async_receiver(app: Flask) -> bool:
    """Whether *app* has an async receiver of a signal that is sent while a job ends."""
    return any(
        is_coroutine_function(receiver)
        for signal in (job_succeeded, job_failed, job_cancelled, job_retried)
        for receiver in signal.receivers_for(app)
    )

"""The signals that follow a job from its submission to its end.

The sender is the Flask app. Every receiver gets ``executor`` and ``job``, the `JobInfo` that
`current_job` stands for inside the job. If a receiver raises, its error is logged on
``app.logger``; the job and the other receivers go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blinker import Namespace

if TYPE_CHECKING:
    from blinker import NamedSignal
    from flask import Flask

__all__ = [
    "job_cancelled",
    "job_failed",
    "job_retried",
    "job_started",
    "job_submitted",
    "job_succeeded",
]

_signals = Namespace()

job_submitted: NamedSignal = _signals.signal(
    "job-submitted",
    doc="""Sent in the submitter's thread and context, before the job can start, with ``future``,
    ``fn``, ``args`` and ``kwargs`` as well. Receivers must not wait for the future: the job waits
    for them.""",
)
job_started: NamedSignal = _signals.signal(
    "job-started",
    doc="""Sent where the job runs, in its app context, before its code; for a job in another
    process, in this one, once it is sent there.""",
)
job_succeeded: NamedSignal = _signals.signal(
    "job-succeeded",
    doc="""Sent where the job ran, in its app context, with ``result``: after its code, and before
    anybody who waits for the future is woken.""",
)
job_failed: NamedSignal = _signals.signal(
    "job-failed",
    doc="""Sent as `job_succeeded` is, with ``exception`` in place of ``result``, for every failure;
    for a job that is retried, for that of its last attempt.""",
)
job_retried: NamedSignal = _signals.signal(
    "job-retried",
    doc="""Sent as `job_failed` is, for each attempt that is followed by another one, with
    ``exception``, ``attempt``, its number, and ``delay``, the seconds before the next one.""",
)
job_cancelled: NamedSignal = _signals.signal(
    "job-cancelled",
    doc="""Sent when a job is cancelled: for a waiting one by the thread that cancels it, in a copy
    of the job's context; for one that ran, as `job_succeeded` is.""",
)


def is_end_heard(app: Flask) -> bool:
    """Whether *app* has a receiver of a signal that is sent after a job has run."""
    if not (
        job_succeeded.receivers
        or job_failed.receivers
        or job_cancelled.receivers
        or job_retried.receivers
    ):
        return False  # the cheap check first
    return (
        job_succeeded.has_receivers_for(app)
        or job_failed.has_receivers_for(app)
        or job_cancelled.has_receivers_for(app)
        or job_retried.has_receivers_for(app)
    )

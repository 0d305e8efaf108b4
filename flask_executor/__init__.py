"""Run work off the request, in the app's context, from ``def`` and ``async def`` views alike."""

from __future__ import annotations

from .exceptions import (
    AlreadyInitialised,
    DuplicateKey,
    ExecutorClosed,
    FlaskExecutorError,
    InvalidSetting,
    NoRunningLoop,
    NotInitialised,
    WaitTimeout,
)
from .executor import Executor, Options
from .futures import FutureCollection, JobFuture, JobInfo
from .job import Job, current_job
from .signals import job_cancelled, job_failed, job_started, job_submitted, job_succeeded
from .stats import Stats

__all__ = [
    "AlreadyInitialised",
    "DuplicateKey",
    "Executor",
    "ExecutorClosed",
    "FlaskExecutorError",
    "FutureCollection",
    "InvalidSetting",
    "Job",
    "JobFuture",
    "JobInfo",
    "NoRunningLoop",
    "NotInitialised",
    "Options",
    "Stats",
    "WaitTimeout",
    "current_job",
    "job_cancelled",
    "job_failed",
    "job_started",
    "job_submitted",
    "job_succeeded",
]

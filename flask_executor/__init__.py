"""Run work off the request, in the app's context, from ``def`` and ``async def`` views alike."""

from __future__ import annotations

from .exceptions import (
    AlreadyInitialised,
    AppNotFound,
    DuplicateKey,
    ExecutorClosed,
    FlaskExecutorError,
    GroupTimeout,
    InheritedJob,
    InvalidSetting,
    JobExited,
    JobLost,
    JobTimeout,
    NoRunningLoop,
    NotInitialised,
    NotPicklable,
    QueueFull,
    RemoteError,
    RequestEnded,
    ResultNotStored,
    StoredError,
    StoreUnavailable,
    WaitTimeout,
    WorkerDied,
)
from .executor import Executor
from .futures import FutureCollection, JobFuture, JobInfo
from .group import JobGroup
from .job import Job, current_job
from .jobs.progress import Progress
from .jobs.retry import Retry
from .options import JobOptions, Options
from .signals import (
    job_cancelled,
    job_failed,
    job_retried,
    job_started,
    job_submitted,
    job_succeeded,
)
from .stats import Stats

__all__ = [
    "AlreadyInitialised",
    "AppNotFound",
    "DuplicateKey",
    "Executor",
    "ExecutorClosed",
    "FlaskExecutorError",
    "FutureCollection",
    "GroupTimeout",
    "InheritedJob",
    "InvalidSetting",
    "Job",
    "JobExited",
    "JobFuture",
    "JobGroup",
    "JobInfo",
    "JobLost",
    "JobOptions",
    "JobTimeout",
    "NoRunningLoop",
    "NotInitialised",
    "NotPicklable",
    "Options",
    "Progress",
    "QueueFull",
    "RemoteError",
    "RequestEnded",
    "ResultNotStored",
    "Retry",
    "Stats",
    "StoreUnavailable",
    "StoredError",
    "WaitTimeout",
    "WorkerDied",
    "current_job",
    "job_cancelled",
    "job_failed",
    "job_retried",
    "job_started",
    "job_submitted",
    "job_succeeded",
]

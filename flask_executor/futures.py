"""The names that code for Flask-Executor 1.0 imports from here."""

from __future__ import annotations

from concurrent.futures import Future

from .jobs.collection import FutureCollection
from .jobs.future import JobFuture
from .jobs.info import JobInfo

__all__ = ["Future", "FutureCollection", "FutureProxy", "JobFuture", "JobInfo"]

FutureProxy = JobFuture

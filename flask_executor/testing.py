"""Helpers for the tests of an app that has an executor.

With ``EXECUTOR_TYPE = "inline"`` each job runs at once in the thread that submits it, with the same
futures and contexts as elsewhere. `recorded_jobs` shows which jobs an app submitted.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .signals import job_submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable

    from .executor import Executor
    from .jobs.future import JobFuture

__all__ = ["RecordedJob", "recorded_jobs"]


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """A job as it was submitted."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: JobFuture[Any]

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.future.name

    @property
    def key(self) -> Hashable | None:
        """The key that its future is stored under; None if it is not stored."""
        return self.future.key


@contextmanager
def recorded_jobs(executor: Executor) -> Generator[list[RecordedJob]]:
    """Collect the jobs submitted to *executor* while the block runs, from any thread or app.

    The jobs run as usual::

        with recorded_jobs(executor) as jobs:
            client.post("/reports", data={"month": "2026-11"})

        assert [job.name for job in jobs] == ["build_report"]
    """
    jobs: list[RecordedJob] = []

    def record(_: object, **sent: Any) -> None:
        if sent["executor"] is executor:
            jobs.append(RecordedJob(sent["fn"], sent["args"], sent["kwargs"], sent["future"]))

    with job_submitted.connected_to(record):
        yield jobs

"""Helpers for the tests of an app that has an executor.

With ``EXECUTOR_TYPE = "inline"`` each job runs at once in the thread that submits it, with the same
futures and contexts as elsewhere. `recorded_jobs` shows which jobs an app submitted, and
`failing_jobs_raise` has a test fail if one of its jobs does.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .aio.running import warn_if_blocking
from .executor import Executor
from .jobs.failures import counted_names, group_failures, note_failures
from .jobs.future import unasked_failure
from .messages.shown import kind_of
from .runners.closing import drain, refuse_in_job
from .settings import extension_key
from .signals import job_submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable

    from flask import Flask

    from .jobs.future import JobFuture
    from .runners.host import AppHost

__all__ = ["RecordedJob", "failing_jobs_raise", "recorded_jobs"]


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """A job as it was submitted.

    :param fn: the function
    :param args: its positional arguments
    :param kwargs: its keyword arguments
    :param future: the future of the job
    """

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
    _check_executor("recorded_jobs", executor)
    jobs: list[RecordedJob] = []

    def record(_: object, **sent: Any) -> None:
        if sent["executor"] is executor:
            jobs.append(RecordedJob(sent["fn"], sent["args"], sent["kwargs"], sent["future"]))

    with job_submitted.connected_to(record):
        yield jobs


@contextmanager
def failing_jobs_raise(executor: Executor) -> Generator[None]:
    """Wait for the jobs at the end of the block, and raise the failures that nobody asked for.

    These are the failures of jobs that the block has submitted to *executor*, from any thread or
    app, and whose outcome neither `result`, `exception` nor an ``await`` has given to anybody. A
    job that was asked to stop may fail. Failures count even if they have been logged::

        with failing_jobs_raise(executor):
            client.post("/orders")

    If the block itself raises, there is no wait: its exception gets a note that names the jobs that
    have failed by then. In an async test, await `drain_async` at the end of the block.

    :raises ExceptionGroup: if there are such failures, with all of them; if one of them is no
        `Exception`, as `asyncio.CancelledError`, the group is a `BaseExceptionGroup`
    """
    _check_executor("failing_jobs_raise", executor)
    futures: list[JobFuture[Any]] = []
    hosts: set[AppHost] = set()

    def record(app: Flask, **sent: Any) -> None:
        if sent["executor"] is executor:
            futures.append(sent["future"])
            hosts.add(app.extensions[extension_key(executor.name)].host)

    with job_submitted.connected_to(record):
        try:
            yield
        except BaseException as error:
            if failed := _unasked(futures):
                note_failures(error, _summary(failed))
            raise
        _wait_for_jobs(hosts)
    failed = _unasked(futures)
    if failed:
        raise group_failures(_summary(failed), failed)


def _check_executor(name: str, executor: object) -> None:
    if not isinstance(executor, Executor):
        raise TypeError(f"{name}() has {kind_of(executor)}; expected an Executor")


def _wait_for_jobs(hosts: set[AppHost]) -> None:
    # A job of one host may submit jobs to another one.
    while busy := [host for host in hosts.copy() if not host.queue.idle().done()]:
        refuse_in_job(busy, "drain")
        until = "every job has ended; await drain_async() in the block"
        warn_if_blocking("the end of failing_jobs_raise()", until)
        drain(busy, None)


def _unasked(futures: list[JobFuture[Any]]) -> list[JobFuture[Any]]:
    return [future for future in futures.copy() if unasked_failure(future) is not None]


def _summary(failed: list[JobFuture[Any]]) -> str:
    """Say "3 jobs failed and nobody asked for their outcome: charge, mail (2 times)"."""
    jobs, whose = ("1 job", "its") if len(failed) == 1 else (f"{len(failed)} jobs", "their")
    return f"{jobs} failed and nobody asked for {whose} outcome: {counted_names(failed)}"

"""The counts and times of jobs in one registry, kept by receivers of signals."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal, cast

from prometheus_client import CollectorRegistry, Counter, Histogram, values

from ..remote.here import in_worker
from ..signals import (
    job_cancelled,
    job_failed,
    job_retried,
    job_started,
    job_submitted,
    job_succeeded,
)
from .gauges import Gauges, StatsCollector, label_of

if TYPE_CHECKING:
    from datetime import datetime

    from flask import Flask

    from ..executor import Executor
    from ..jobs.future import JobFuture
    from ..jobs.info import JobInfo
    from ..stats import End

_OTHER = "other"  # the label of jobs whose own name would be one too many
_ENDS: tuple[End, ...] = ("succeeded", "failed", "cancelled")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The metrics in one registry, and the receivers of signals that keep them.

    A worker process of an executor counts nothing: its jobs are counted in its parent.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["executor", "name"]
        self._jobs = Counter(
            "flask_executor_jobs",
            "Jobs that have ended, by how they ended.",
            [*labels, "state"],
            registry=registry,
        )
        self._retries = Counter(
            "flask_executor_retries",
            "Attempts that failed and were followed by another.",
            labels,
            registry=registry,
        )
        self._wait = Histogram(
            "flask_executor_wait_seconds",
            "Seconds from the time when a job could start to its start, for each attempt.",
            labels,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._run = Histogram(
            "flask_executor_run_seconds",
            "Seconds from the start of a job to its end, for each attempt.",
            labels,
            buckets=_BUCKETS,
            registry=registry,
        )
        # prometheus-client has locks. A process that is forked while a thread holds one would wait
        # for that lock for ever, so a fork takes this lock first. It is reentrant, as a garbage
        # collection anywhere may log a failure, and a log handler may submit a job.
        self.lock = threading.RLock()
        self._executors: weakref.WeakKeyDictionary[Executor, _Names] = weakref.WeakKeyDictionary()
        self._names: dict[str, _Names] = {}
        self._started: weakref.WeakKeyDictionary[JobInfo, float] = weakref.WeakKeyDictionary()
        job_started.connect(self._on_started)
        job_succeeded.connect(self._on_succeeded)
        job_failed.connect(self._on_failed)
        job_cancelled.connect(self._on_cancelled)
        job_retried.connect(self._on_retried)
        self._gauges: Gauges | None = None
        if values.ValueClass is values.MutexValue:
            registry.register(StatsCollector(self._executors))
        else:
            self._gauges = Gauges(self._executors, registry)
            job_submitted.connect(self._on_submitted)

    def watch(self, executor: Executor, max_names: int) -> None:
        """Count the jobs of *executor*, too."""
        label = label_of(executor)
        with self.lock:
            names = self._names.setdefault(label, _Names(self, label, max_names))
            self._executors.setdefault(executor, names)
            if self._gauges is not None:
                self._gauges.add(label)

    def series(self, executor: str, name: str) -> Series:
        """Make the metrics of the jobs called *name*; those that nothing has counted yet are 0."""
        return Series(
            {end: self._jobs.labels(executor, name, end) for end in _ENDS},
            self._retries.labels(executor, name),
            self._wait.labels(executor, name),
            self._run.labels(executor, name),
        )

    def after_fork(self) -> None:
        """Forget the jobs, which run in the parent process."""
        self.lock = threading.RLock()
        self._started.clear()
        if self._gauges is not None:
            self._gauges.after_fork()

    def _names_of(self, executor: Executor) -> _Names | None:
        return None if in_worker() else self._executors.get(executor)

    def _on_submitted(
        self, _: Flask, executor: Executor, job: JobInfo, future: JobFuture[Any], **__: object
    ) -> None:
        if self._gauges is None or self._names_of(executor) is None:
            return
        with self.lock:
            # If somebody cancels it just now, `_end` is called before, or after.
            if not future.cancelled():
                self._gauges.begin_wait(executor, job)

    def _on_started(self, app: Flask, executor: Executor, job: JobInfo, **_: object) -> None:
        names = self._names_of(executor)
        if names is None:
            return
        due_at = cast("datetime", job.due_at).timestamp()
        with self.lock:
            names.of(job.name).wait.observe(max(time.time() - due_at, 0))
            self._started[job] = time.perf_counter()
            if self._gauges is not None:
                self._gauges.begin_run(executor, job)
        if self._gauges is not None:
            self._gauges.note_use(executor, app)

    def _on_succeeded(self, _: Flask, executor: Executor, job: JobInfo, **__: object) -> None:
        self._end(executor, job, "succeeded")

    def _on_failed(self, _: Flask, executor: Executor, job: JobInfo, **__: object) -> None:
        self._end(executor, job, "failed")

    def _on_cancelled(self, _: Flask, executor: Executor, job: JobInfo, **__: object) -> None:
        self._end(executor, job, "cancelled")

    def _on_retried(self, _: Flask, executor: Executor, job: JobInfo, **__: object) -> None:
        self._end(executor, job, "retried")

    def _end(self, executor: Executor, job: JobInfo, end: End | Literal["retried"]) -> None:
        names = self._names_of(executor)
        if names is None:
            return
        with self.lock:
            series = names.of(job.name)
            started = self._started.pop(job, None)
            if started is not None:
                series.run.observe(time.perf_counter() - started)
            if self._gauges is not None:
                self._gauges.leave(executor, job, has_run=started is not None)
            if end != "retried":
                series.ends[end].inc()
                return
            series.retries.inc()
            if self._gauges is not None:
                self._gauges.begin_wait(executor, job)


class Series:
    """The metrics of the jobs of one name.

    :param ends: how many have ended, by how they ended
    """

    __slots__ = ("ends", "retries", "run", "wait")

    def __init__(
        self, ends: dict[End, Counter], retries: Counter, wait: Histogram, run: Histogram
    ) -> None:
        self.ends = ends
        self.retries = retries
        self.wait = wait
        self.run = run


class _Names:
    """The metrics of the jobs of an executor, by their names, which are bounded in number.

    Needs the lock of its `Metrics`.
    """

    def __init__(self, metrics: Metrics, executor: str, bound: int) -> None:
        self._make = metrics.series
        self._executor = executor
        self._bound = bound
        self._series: dict[str, Series] = {}
        self._other: Series | None = None

    def of(self, name: str) -> Series:
        """The metrics of the jobs called *name*."""
        series = self._series.get(name)
        if series is not None:
            return series
        if len(self._series) < self._bound:
            series = self._series[name] = self._make(self._executor, name)
            return series
        self._other = self._other or self._make(self._executor, _OTHER)
        return self._other

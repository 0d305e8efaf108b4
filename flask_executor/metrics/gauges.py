"""How many jobs wait and run: read from the executors, or kept in files that processes share."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from flask import request_started
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily

from ..settings import extension_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask

    from ..executor import Executor
    from ..jobs.info import JobInfo
    from ..submitting.app_executor import AppExecutor

_PENDING = ("flask_executor_pending", "Jobs that wait for a worker, or for their time.")
_RUNNING = ("flask_executor_running", "Jobs that have a worker, or run on the loop.")
_WORKERS = ("flask_executor_workers", "Jobs that can run at a time, coroutine jobs aside.")


class StatsCollector:
    """Reads the counts of executors when it is asked for them."""

    def __init__(self, executors: Iterable[Executor]) -> None:
        self._executors = executors

    def describe(self) -> list[GaugeMetricFamily]:
        """The metrics without values, so that their names are taken."""
        return [
            GaugeMetricFamily(name, about, labels=["executor"])
            for name, about in (_PENDING, _RUNNING, _WORKERS)
        ]

    def collect(self) -> list[GaugeMetricFamily]:
        """The metrics with the values that they have now."""
        families = self.describe()
        for label, total in _totals_of(self._executors).items():
            for family, value in zip(families, total, strict=True):
                family.add_metric([label], value)
        return families


class Gauges:
    """This process's part of the gauges in multiprocess mode, changed whenever a job moves on.

    The process that answers a scrape cannot ask the others: it reads the files that they share.
    Methods that change them for a job need the lock of their `Metrics`.
    """

    def __init__(
        self,
        executors: Iterable[Executor],
        registry: CollectorRegistry,
    ) -> None:
        self._executors = executors
        self._pending, self._running, self._workers = (
            Gauge(name, about, ["executor"], registry=registry, multiprocess_mode="livesum")
            for name, about in (_PENDING, _RUNNING, _WORKERS)
        )
        self._waiting: weakref.WeakSet[JobInfo] = weakref.WeakSet()
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()  # with a request in this process
        self._used: weakref.WeakSet[AppExecutor] = weakref.WeakSet()  # with a job in this process
        self._counting = threading.Lock()  # Else an older count could be written over a newer one.
        request_started.connect(self._on_request)

    def add(self, label: str) -> None:
        """Show the gauges of an executor before anything has changed them."""
        for gauge in (self._pending, self._running, self._workers):
            gauge.labels(label)

    def begin_wait(self, executor: Executor, job: JobInfo) -> None:
        """Note that *job* waits."""
        self._waiting.add(job)
        self._pending.labels(label_of(executor)).inc()

    def begin_run(self, executor: Executor, job: JobInfo) -> None:
        """Note that *job* runs."""
        self.leave(executor, job, has_run=False)
        self._running.labels(label_of(executor)).inc()

    def leave(self, executor: Executor, job: JobInfo, *, has_run: bool) -> None:
        """Note that *job* does not run any more, or does not wait, if it did."""
        if has_run:
            self._running.labels(label_of(executor)).dec()
        elif job in self._waiting:
            self._waiting.remove(job)
            self._pending.labels(label_of(executor)).dec()

    def note_use(self, executor: Executor, app: Flask) -> None:
        """Note that a job has started; the size of some pools is known only once they are open."""
        used = _part_of(executor, app)
        if used not in self._used:
            self._used.add(used)
            self._count_workers()

    def after_fork(self) -> None:
        """Begin anew: the process has none of the jobs, and its gauges are 0."""
        self._counting = threading.Lock()
        self._waiting.clear()
        self._apps.clear()
        self._used.clear()

    def _on_request(self, app: Flask, **_: object) -> None:
        if app not in self._apps:
            self._apps.add(app)
            self._count_workers()

    def _count_workers(self) -> None:
        with self._counting:
            for label, (_, _, workers) in _totals_of(self._executors).items():
                self._workers.labels(label).set(workers)


def label_of(executor: Executor) -> str:
    """The label of an executor, also of one without a name."""
    return executor.name or "executor"


def _part_of(executor: Executor, app: Flask) -> AppExecutor:
    part: AppExecutor = app.extensions[extension_key(executor.name)]
    return part


def _totals_of(executors: Iterable[Executor]) -> dict[str, tuple[float, float, float]]:
    """Pending jobs, running jobs and workers of executors, for all apps, by their label."""
    totals: dict[str, tuple[float, float, float]] = {}
    for executor in list(executors):
        label = label_of(executor)
        for app in executor.apps:
            pending, running, workers = totals.get(label, (0, 0, 0))
            stats = _part_of(executor, app).stats()
            totals[label] = (
                pending + stats.pending,
                running + stats.running,
                workers + stats.workers,
            )
    return totals

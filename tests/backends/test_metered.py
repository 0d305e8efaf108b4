"""The metrics of jobs in other processes: all are kept in the process that submits the jobs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_executor import Executor, Retry, WorkerDied
from flask_executor.metrics import instrument
from tests import remote_app
from tests.backends.dask_cluster import Cluster
from tests.support import WAIT, Door, MakeExecutor

# The other threads of this process hold no lock that a forked child would need.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
    pytest.mark.slow,
]

TYPES = ["process", "dask", *(["interpreter"] if sys.version_info >= (3, 14) else [])]
Value = Callable[..., float | None]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    def value(metric: str, **labels: str) -> float | None:
        labels = {"executor": "executor"} | labels
        return registry.get_sample_value(f"flask_executor_{metric}", labels)

    return value


@pytest.fixture(params=TYPES)
def executor(
    app: Flask,
    executors: MakeExecutor,
    request: pytest.FixtureRequest,
    registry: CollectorRegistry,
) -> Executor:
    settings: dict[str, Any] = {"type": request.param, "max_workers": 2}
    if request.param == "dask":
        cluster: Cluster = request.getfixturevalue("cluster")
        settings["dask_address"] = cluster.address
        del settings["max_workers"]
    executor = executors(app, **settings)
    instrument(executor, registry)
    return executor


def test_jobs_elsewhere_are_counted_here_once(executor: Executor, value: Value) -> None:
    for _ in range(3):
        executor.submit(remote_app.power, 3).result(WAIT)
    executor.submit(remote_app.power, "3").exception(WAIT)
    executor.options(retry=Retry(2, delay=0)).submit(remote_app.power, "3").exception(WAIT)
    list(executor.map(remote_app.power, range(6), chunksize=3))  # two jobs
    executor.drain(WAIT)

    assert value("jobs_total", name="power", state="succeeded") == 5
    assert value("jobs_total", name="power", state="failed") == 2
    assert value("retries_total", name="power") == 1
    assert value("wait_seconds_count", name="power") == 8
    assert value("run_seconds_count", name="power") == 8
    assert (value("pending"), value("running"), value("workers")) == (0, 0, 2)


def test_the_gauges_show_jobs_elsewhere(executor: Executor, value: Value, door: Door) -> None:
    running = [executor.submit(remote_app.wait_at, door.address) for _ in range(2)]
    for _ in running:
        door.await_arrival()
    waiting = executor.submit(remote_app.power, 3)

    assert (value("pending"), value("running")) == (1, 2)
    waiting.cancel()
    assert value("pending") == 0
    assert value("jobs_total", name="power", state="cancelled") == 1
    door.open()
    executor.drain(WAIT)
    assert value("running") == 0


def test_a_job_whose_process_is_killed_is_counted_as_failed(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, value: Value, door: Door
) -> None:
    executor = executors(app, type="process", max_workers=1)
    instrument(executor, registry)
    pid = executor.submit(remote_app.pid).result(WAIT)
    future = executor.submit(remote_app.wait_at, door.address)
    door.await_arrival()

    os.kill(pid, signal.SIGKILL)

    assert isinstance(future.exception(WAIT), WorkerDied)
    executor.drain(WAIT)
    assert value("jobs_total", name="wait_at", state="failed") == 1
    assert value("running") == 0

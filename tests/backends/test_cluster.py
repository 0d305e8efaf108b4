"""A Dask cluster, and what happens when parts of it are lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import distributed
import pytest
from flask import Flask

from flask_executor import Executor, WorkerDied
from flask_executor.backends.dask import DaskPool
from tests import inside, remote_app
from tests.backends.dask_cluster import Cluster
from tests.support import ROOT, WAIT, Door, MakeExecutor, errors_of


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that the test may break."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


def on(cluster: Cluster, app: Flask, executors: MakeExecutor, **settings: object) -> Executor:
    return executors(app, type="dask", dask_address=cluster.address, **settings)


def tracebacks_of(error: BaseException | None) -> list[TracebackType]:
    """The tracebacks of an exception and of those that it refers to."""
    if error is None:
        return []
    own = [] if error.__traceback__ is None else [error.__traceback__]
    return [*own, *tracebacks_of(error.__cause__), *tracebacks_of(error.__context__)]


def test_jobs_run_at_once_on_all_workers_of_a_cluster(
    app: Flask, executors: MakeExecutor, cluster: Cluster, door: Door
) -> None:
    executor = on(cluster, app, executors)
    futures = [executor.submit(remote_app.wait_at, door.address) for _ in range(3)]

    door.await_arrival()
    door.await_arrival()

    stats = executor.stats()
    assert (stats.workers, stats.running, stats.pending) == (2, 2, 1)
    assert futures[2].cancel()
    door.open()
    pids = {future.result(WAIT) for future in futures[:2]}
    assert pids == {worker.pid for worker in cluster.workers}


def test_more_jobs_than_it_has_threads_can_be_with_a_cluster(
    app: Flask, executors: MakeExecutor, cluster: Cluster
) -> None:
    executor = on(cluster, app, executors, max_workers=10)

    assert executor.stats().workers == 10
    assert list(executor.map(remote_app.power, range(30))) == [n * n for n in range(30)]


def test_the_workers_are_counted_when_it_connects(
    app: Flask, executors: MakeExecutor, cluster: Cluster
) -> None:
    executor = on(cluster, app, executors)
    before = executor.stats().workers

    executor.submit(remote_app.power, 2).result(WAIT)

    assert (before, executor.stats().workers) == (0, 2)


def test_jobs_on_a_cluster_are_awaited_in_an_async_view(
    app: Flask, executors: MakeExecutor, cluster: Cluster
) -> None:
    executor = on(cluster, app, executors)

    @app.get("/")
    async def view() -> list[int]:
        futures = [executor.submit_async(remote_app.power, n) for n in range(10)]
        return await asyncio.gather(*futures)

    assert app.test_client().get("/").json == [n * n for n in range(10)]


def test_apps_can_share_a_cluster(executors: MakeExecutor, cluster: Cluster) -> None:
    one, other = Flask("one"), Flask("other")
    executor = Executor()
    for app, path in ((one, "tests.remote_app:app"), (other, "tests.remote_app:create_app()")):
        app.config.update(
            EXECUTOR_TYPE="dask", EXECUTOR_DASK_ADDRESS=cluster.address, EXECUTOR_APP=path
        )
        executor.init_app(app)

    names = []
    for app in (one, other):
        with app.app_context():
            names += list(executor.map(remote_app.app_name_of, range(4)))
            executor.shutdown()

    assert names == ["tests.remote_app"] * 4 + ["made_by_a_factory"] * 4


def test_a_job_of_a_lost_worker_is_given_to_another(
    app: Flask, executors: MakeExecutor, own_cluster: Cluster, door: Door
) -> None:
    executor = on(own_cluster, app, executors)
    first, second = (executor.submit(remote_app.wait_at, door.address) for _ in range(2))
    waiting = [executor.submit(remote_app.power, n) for n in range(5)]
    door.await_arrival()
    door.await_arrival()
    lost, kept = own_cluster.workers

    lost.kill()

    # The worker that is left has a job at the door already, and takes the other after that.
    door.let_through()
    door.await_arrival()
    door.open()
    assert {future.result(WAIT) for future in (first, second)} == {kept.pid}
    assert [future.result(WAIT) for future in waiting] == [n * n for n in range(5)]


def test_a_job_that_kills_worker_after_worker_fails(
    app: Flask, executors: MakeExecutor, own_cluster: Cluster
) -> None:
    executor = on(own_cluster, app, executors, max_workers=1)

    error = executor.submit(remote_app.die).exception(WAIT)

    assert isinstance(error, WorkerDied)
    assert "the Dask workers that ran the job have died" in str(error)
    assert isinstance(error.__cause__, distributed.KilledWorker)
    assert tracebacks_of(error) == [], "they would hold the job's arguments"
    own_cluster.start_worker()
    assert executor.submit(remote_app.power, 3).result(WAIT) == 9


def test_a_lost_scheduler_fails_what_runs_and_what_waits(
    app: Flask,
    executors: MakeExecutor,
    own_cluster: Cluster,
    door: Door,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inside.CONNECT_TIMEOUT, 0.5)
    executor = on(own_cluster, app, executors)
    running = [executor.submit(remote_app.wait_at, door.address) for _ in range(2)]
    waiting = [executor.submit(remote_app.power, n) for n in range(20)]
    door.await_arrival()
    door.await_arrival()

    own_cluster.scheduler.kill()

    for future in running:
        error = future.exception(WAIT)
        assert isinstance(error, WorkerDied)
        assert f"the connection to the scheduler {own_cluster.address} was lost" in str(error)
        assert tracebacks_of(error) == []
    assert {type(future.exception(WAIT)) for future in waiting} <= {OSError, WorkerDied}
    executor.drain(WAIT)
    assert executor.stats().failed == 22
    with pytest.raises(OSError, match=own_cluster.address):
        executor.submit(remote_app.power, 3)
    assert executor.stats().submitted == 22


def test_a_scheduler_that_comes_back_is_connected_to_anew(
    app: Flask, executors: MakeExecutor, own_cluster: Cluster, door: Door
) -> None:
    executor = on(own_cluster, app, executors)
    running = executor.submit(remote_app.wait_at, door.address)
    door.await_arrival()
    own_cluster.scheduler.kill()
    assert isinstance(running.exception(WAIT), WorkerDied)
    door.open()

    own_cluster.stop()
    own_cluster.start()

    assert executor.submit(remote_app.power, 3).result(WAIT) == 9


def test_no_scheduler_at_the_address_is_an_error_in_the_caller(
    app: Flask, executors: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.CONNECT_TIMEOUT, 0.2)
    executor = executors(app, type="dask", dask_address="tcp://127.0.0.1:9")

    with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:9"):
        executor.submit(remote_app.power, 3)

    assert executor.stats().submitted == 0
    executor.drain(WAIT)


@pytest.mark.parametrize("waits", [True, False])
def test_the_embedded_cluster_ends_with_the_executor(
    app: Flask, executors: MakeExecutor, door: Door, waits: bool
) -> None:
    executor = executors(app, type="dask", max_workers=2)
    pids = set(executor.map(remote_app.pid, range(20)))
    running = executor.submit(remote_app.wait_at, door.address, "result")
    door.await_arrival()
    if waits:
        door.open()

    executor.shutdown(wait=waits)

    door.open()
    assert running.result(WAIT) == "result"
    assert os.getpid() not in pids
    assert executor.stats().workers == 2


def test_a_log_handler_may_submit_while_a_call_is_handed_to_a_cluster(cluster: Cluster) -> None:
    pool = DaskPool(cluster.address, None, "own")

    # As a log handler does if a garbage collection there frees the future of a job that has failed.
    with pool._lock:
        call = pool.submit(int, "7")

    assert call.result(WAIT) == 7
    pool.shutdown()


def test_at_exit_what_is_with_a_cluster_is_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    source = f"""
        import sys
        from flask import Flask
        from flask_executor import Executor
        from tests import remote_app

        app = Flask("app")
        app.config.update(
            EXECUTOR_TYPE="dask",
            EXECUTOR_DASK_ADDRESS="{cluster.address}",
            EXECUTOR_APP="tests.remote_app:app",
        )
        executor = Executor(app)
        for n in range(20):
            executor.submit(remote_app.note, sys.argv[1], n)
    """
    lines = tmp_path / "lines"

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), str(lines)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )

    assert sorted(map(int, lines.read_text().split())) == list(range(20))
    assert errors_of(done) == ""

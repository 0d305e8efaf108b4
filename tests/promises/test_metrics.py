"""The metrics of one process: they count every job once, however it ran and ended."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from flask_executor import Executor, NotInitialised, QueueFull, Retry, current_job
from flask_executor.metrics import instrument
from tests.support import WAIT, Gate, MakeExecutor, at_once


class JobError(Exception):
    """What a job raises on purpose."""


def succeed(*_: object) -> None:
    pass


def fail(*_: object) -> None:
    raise JobError


async def succeed_later(*_: object) -> None:
    pass


async def fail_later(*_: object) -> None:
    raise JobError


def fail_once() -> None:
    if current_job.attempt == 1:
        raise JobError


async def fail_once_later() -> None:
    fail_once()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, metric: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"flask_executor_{metric}", {"executor": "executor"} | labels)


def ends(registry: CollectorRegistry, name: str, executor: str = "executor") -> dict[str, float]:
    """How many jobs of that name have ended, by how they ended; without those that are 0."""
    states = {
        state: value(registry, "jobs_total", executor=executor, name=name, state=state)
        for state in ("succeeded", "failed", "cancelled")
    }
    return {state: count for state, count in states.items() if count}


def names(registry: CollectorRegistry) -> set[str]:
    return {
        sample.labels["name"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "flask_executor_jobs_total"
    }


def gauges(registry: CollectorRegistry) -> tuple[float | None, ...]:
    return tuple(value(registry, gauge) for gauge in ("pending", "running", "workers"))


@pytest.mark.parametrize("kind", ["thread", "inline"])
@pytest.mark.parametrize(("good", "bad"), [(succeed, fail), (succeed_later, fail_later)])
def test_each_job_is_counted_by_its_end_and_timed(
    app: Flask,
    executors: MakeExecutor,
    registry: CollectorRegistry,
    kind: str,
    good: Any,
    bad: Any,
) -> None:
    executor = executors(app, type=kind)
    instrument(executor, registry)

    for job in (good, good, bad):
        executor.submit(job).exception(WAIT)
    list(executor.map(good, range(4)))
    executor.drain(WAIT)

    assert ends(registry, good.__name__) == {"succeeded": 6}
    assert ends(registry, bad.__name__) == {"failed": 1}
    for name, count in ((good.__name__, 6), (bad.__name__, 1)):
        assert value(registry, "wait_seconds_count", name=name) == count
        assert value(registry, "run_seconds_count", name=name) == count


def test_the_gauges_are_those_of_the_moment(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, gate: Gate
) -> None:
    executor = executors(app, max_workers=2)
    instrument(executor, registry)
    assert gauges(registry) == (0, 0, 2)

    gate.occupy(executor, 2)
    waiting = [executor.submit(gate) for _ in range(3)]

    assert gauges(registry) == (3, 2, 2)
    waiting[0].cancel()
    assert gauges(registry) == (2, 2, 2)
    gate.open()
    executor.drain(WAIT)
    assert gauges(registry) == (0, 0, 2)


def test_a_job_that_is_cancelled_while_it_waits_has_not_run(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    instrument(executor, registry)
    gate.occupy(executor)

    executor.submit(succeed).cancel()
    executor.options(delay=WAIT).submit(succeed).cancel()

    assert ends(registry, "succeed") == {"cancelled": 2}
    assert value(registry, "wait_seconds_count", name="succeed") == 0
    assert value(registry, "run_seconds_count", name="succeed") == 0


def test_a_job_that_is_cancelled_while_it_runs_is_timed(
    app: Flask, executor: Executor, registry: CollectorRegistry
) -> None:
    instrument(executor, registry)
    running = threading.Event()

    def job() -> None:
        running.set()
        while True:
            current_job.check_cancelled()

    future = executor.submit(job)
    assert running.wait(WAIT)
    future.cancel()
    executor.drain(WAIT)

    assert ends(registry, "job") == {"cancelled": 1}
    assert value(registry, "run_seconds_count", name="job") == 1


@pytest.mark.parametrize("kind", ["thread", "inline"])
@pytest.mark.parametrize("job", [fail_once, fail_once_later])
def test_each_attempt_is_timed_and_the_job_is_counted_once(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, kind: str, job: Any
) -> None:
    executor = executors(app, type=kind)
    instrument(executor, registry)

    executor.options(retry=Retry(3, delay=0)).submit(job).result(WAIT)
    executor.drain(WAIT)

    name = job.__name__
    assert ends(registry, name) == {"succeeded": 1}
    assert value(registry, "retries_total", name=name) == 1
    assert value(registry, "wait_seconds_count", name=name) == 2
    assert value(registry, "run_seconds_count", name=name) == 2


def test_a_job_whose_time_is_up_is_counted_once(
    app: Flask, executor: Executor, registry: CollectorRegistry, gate: Gate
) -> None:
    instrument(executor, registry)

    future = executor.options(timeout=0.01).submit(gate)
    assert isinstance(future.exception(WAIT), TimeoutError)
    assert value(registry, "running") == 1  # Its thread is not free yet.
    gate.open()
    executor.drain(WAIT)

    assert ends(registry, "Gate") == {"failed": 1}
    assert value(registry, "run_seconds_count", name="Gate") == 1


def test_a_job_that_gets_no_room_is_counted_as_failed(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    instrument(executor, registry)
    gate.occupy(executor)
    executor.submit(gate)

    async def view() -> None:
        with pytest.raises(QueueFull):
            await executor.options(queue_timeout=0.01).submit_async(succeed)

    app.ensure_sync(view)()

    assert ends(registry, "succeed") == {"failed": 1}
    assert value(registry, "wait_seconds_count", name="succeed") == 0


@pytest.mark.slow
def test_a_wait_begins_when_the_job_could_start(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    instrument(executor, registry)
    begun = time.time()

    executor.options(delay=0.2).submit(succeed).result(WAIT)
    executor.options(retry=Retry(2, delay=0.2, jitter=False)).submit(fail_once).result(WAIT)
    elapsed = time.time() - begun
    executor.drain(WAIT)
    waited = sum(
        value(registry, "wait_seconds_sum", name=name) for name in ("succeed", "fail_once")
    )

    # The delays are no part of it, so both together are shorter than all by at least the delays.
    assert waited <= elapsed - 0.4 + 0.01  # as clocks tick


@pytest.mark.slow
def test_a_wait_for_the_response_is_no_wait_for_a_worker(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry
) -> None:
    executor = executors(app)
    instrument(executor, registry)
    held = 0.0

    @app.get("/")
    def view() -> str:
        nonlocal held
        begun = time.time()
        executor.options(after="response").submit(succeed)
        time.sleep(0.2)
        held = time.time() - begun
        return ""

    begun = time.time()
    app.test_client().get("/")
    executor.drain(WAIT)
    elapsed = time.time() - begun

    assert value(registry, "wait_seconds_count", name="succeed") == 1
    assert value(registry, "wait_seconds_sum", name="succeed") <= elapsed - held + 0.01


# Names


def test_the_name_of_a_partial_a_local_function_or_a_lambda_is_that_of_the_function(
    app: Flask, executor: Executor, registry: CollectorRegistry
) -> None:
    instrument(executor, registry)

    def local() -> None:
        pass

    for job in (partial(succeed, 1), partial(partial(local)), lambda: 1, lambda: 2):
        executor.submit(job).result(WAIT)
    executor.drain(WAIT)

    assert names(registry) == {"succeed", "local", "<lambda>"}
    assert ends(registry, "<lambda>") == {"succeeded": 2}


def named(name: str) -> Callable[[], None]:
    def fn() -> None:
        pass

    fn.__name__ = name
    return fn


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("abcdef", min_size=1, max_size=2), max_size=30), st.integers(0, 5))
def test_the_names_are_bounded_and_no_job_is_left_out(submitted: list[str], bound: int) -> None:
    app, registry = Flask("app"), CollectorRegistry()
    app.config["EXECUTOR_TYPE"] = "inline"
    executor = Executor(app)
    instrument(executor, registry, max_names=bound)

    for name in submitted:
        executor.submit(named(name))

    first = set(list(dict.fromkeys(submitted))[:bound])
    others = [name for name in submitted if name not in first]
    assert names(registry) == first | ({"other"} if others else set())
    for name in first:
        assert ends(registry, name) == {"succeeded": submitted.count(name)}
    if others:
        assert ends(registry, "other") == {"succeeded": len(others)}


def test_names_that_come_at_once_are_bounded(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, fast_switching: None
) -> None:
    executor = executors(app, max_workers=8)
    instrument(executor, registry, max_names=3)

    def submit_all() -> None:
        for n in range(20):
            executor.submit(named(f"job{n}"))

    at_once(*[submit_all] * 4)
    executor.drain(WAIT)

    assert len(names(registry)) == 4
    assert sum(sum(ends(registry, name).values()) for name in names(registry)) == 80


# Executors, apps and registries


def test_a_second_call_changes_nothing(
    app: Flask, executor: Executor, registry: CollectorRegistry
) -> None:
    instrument(executor, registry)
    instrument(executor, registry)

    executor.submit(succeed).result(WAIT)
    executor.drain(WAIT)

    assert ends(registry, "succeed") == {"succeeded": 1}


def test_the_apps_of_an_executor_add_up(
    executors: MakeExecutor, registry: CollectorRegistry
) -> None:
    shop, admin = Flask("shop"), Flask("admin")
    executor = executors(shop, max_workers=2)
    instrument(executor, registry)
    admin.config["EXECUTOR_MAX_WORKERS"] = 3
    executor.init_app(admin)  # Later ones count, too.

    for app in (shop, admin, admin):
        with app.app_context():
            executor.submit(succeed).result(WAIT)
    for app in (shop, admin):
        with app.app_context():
            executor.drain(WAIT)

    assert ends(registry, "succeed") == {"succeeded": 3}
    assert gauges(registry) == (0, 0, 5)
    with admin.app_context():
        executor.shutdown()


def test_each_executor_has_its_own_label_and_one_of_the_same_name_adds_to_it(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry
) -> None:
    plain = executors(app, max_workers=2)
    mail = executors(app, name="mail", max_workers=1)
    again = executors(Flask("again"), max_workers=3)
    for executor in (plain, mail, again):
        instrument(executor, registry)

    for executor in (plain, mail, again):
        with executor.apps[0].app_context():
            executor.submit(succeed).result(WAIT)
            executor.drain(WAIT)

    assert ends(registry, "succeed") == {"succeeded": 2}
    assert ends(registry, "succeed", "mail") == {"succeeded": 1}
    assert value(registry, "workers") == 5
    assert value(registry, "workers", executor="mail") == 1


def test_an_executor_that_is_not_instrumented_is_not_counted(
    app: Flask, executors: MakeExecutor, registry: CollectorRegistry, gate: Gate
) -> None:
    executor, other = executors(app), executors(app, name="mail", max_workers=1)
    instrument(executor, registry)

    other.submit(succeed).result(WAIT)
    other.options(retry=Retry(2, delay=0)).submit(fail).exception(WAIT)
    gate.occupy(other)
    other.submit(succeed).cancel()

    assert names(registry) == set()
    assert value(registry, "workers", executor="mail") is None


def test_registries_are_counted_apart(executor: Executor, registry: CollectorRegistry) -> None:
    instrument(executor, registry)
    executor.submit(succeed).result(WAIT)
    executor.drain(WAIT)
    later = CollectorRegistry()
    instrument(executor, later)
    executor.submit(succeed).result(WAIT)
    executor.drain(WAIT)

    assert ends(registry, "succeed") == {"succeeded": 2}
    assert ends(later, "succeed") == {"succeeded": 1}


def test_the_metrics_keep_neither_registry_nor_executor_alive() -> None:
    app, registry = Flask("app"), CollectorRegistry()
    executor = Executor()
    executor.init_app(app)
    instrument(executor, registry)
    executor.submit(succeed).result(WAIT)
    executor.shutdown()
    refs = [weakref.ref(each) for each in (executor, registry)]

    del executor, app
    gc.collect()
    assert refs[0]() is None
    assert b"flask_executor_jobs_total" in generate_latest(registry)
    del registry
    gc.collect()
    assert refs[1]() is None


# Mistakes


def test_what_cannot_be_instrumented_is_refused(
    executor: Executor, registry: CollectorRegistry
) -> None:
    with pytest.raises(
        NotInitialised, match=r"the executor has no app yet; call executor.init_app\(app\) before"
    ):
        instrument(Executor(), registry)
    with pytest.raises(TypeError, match="expected an Executor"):
        instrument(Flask("app"), registry)
    with pytest.raises(TypeError, match="expected an int"):
        instrument(executor, registry, max_names="many")
    with pytest.raises(ValueError, match="max_names is -1; expected 0 or more"):
        instrument(executor, registry, max_names=-1)

    assert generate_latest(registry) == b""


def test_a_metric_of_the_same_name_is_refused(
    executor: Executor, registry: CollectorRegistry
) -> None:
    Counter("flask_executor_jobs", "Mine.", registry=registry)

    with pytest.raises(ValueError, match="flask_executor_jobs"):
        instrument(executor, registry)


@pytest.mark.slow
def test_without_prometheus_client_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["prometheus_client"] = None
import flask_executor
import flask_executor.metrics
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: flask_executor.metrics needs the package prometheus-client; "
        "pip install 'flask-executor[metrics]'"
    )

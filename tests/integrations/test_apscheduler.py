"""Schedules by APScheduler 3: its jobs run in an executor, or submit jobs, also in many workers."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
)
from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask, current_app, g

from flask_executor import Executor, ExecutorClosed, JobFuture, current_job
from tests.served.servers import served
from tests.support import WAIT, Gate, MakeExecutor

APPS = Path(__file__).parent

TICK = {"trigger": "interval", "seconds": 0.01, "max_instances": 100}

MakeScheduler = Callable[..., BackgroundScheduler]


class JobError(Exception):
    """What a job raises on purpose."""


class JobPool(BasePoolExecutor):
    """Runs the jobs of a scheduler in an executor, and leaves the executor to its app."""

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)

    def shutdown(self, wait: bool = True) -> None:
        pass


def shut_down(scheduler: BackgroundScheduler) -> None:
    """Shut it down between two of its rounds; within a round, it would not find its own jobs."""
    scheduler.pause()
    scheduler.get_jobs()  # Waits for the end of the round.
    scheduler.shutdown()


@pytest.fixture
def schedulers() -> Iterator[MakeScheduler]:
    """Makes schedulers that run, and shuts them down after the test."""
    made: list[BackgroundScheduler] = []

    def make(pool: BasePoolExecutor | None = None, **options: Any) -> BackgroundScheduler:
        executors = {} if pool is None else {"executors": {"default": pool}}
        never_missed = {"job_defaults": {"misfire_grace_time": None}}  # however busy the machine is
        made.append(BackgroundScheduler(timezone="UTC", **never_missed, **executors, **options))
        made[-1].start()
        return made[-1]

    yield make
    for scheduler in made:
        if scheduler.running:
            shut_down(scheduler)


@pytest.fixture
def scheduler(executor: Executor, schedulers: MakeScheduler) -> BackgroundScheduler:
    """A scheduler whose jobs run in the executor."""
    return schedulers(JobPool(executor))


def events_of(scheduler: BackgroundScheduler, mask: int) -> queue.SimpleQueue[Any]:
    """The events of these kinds, as they come."""
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    scheduler.add_listener(events.put, mask)
    return events


# Its jobs run in the executor


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_each_run_has_an_app_context_of_its_own(
    app: Flask, executors: MakeExecutor, schedulers: MakeScheduler, type_: str
) -> None:
    executor = executors(app, type=type_)
    scheduler = schedulers(JobPool(executor))
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def tick(word: str) -> None:
        g.runs = g.get("runs", 0) + 1
        seen.put((word, current_app.name, g.runs, current_job.name))

    scheduler.add_job(tick, args=["tick"], id="tick", **TICK)
    runs = [seen.get(timeout=WAIT) for _ in range(3)]
    scheduler.remove_job("tick")
    executor.drain(WAIT)

    assert runs == [("tick", "app", 1, "run_job")] * 3
    assert executor.stats().succeeded >= 3


def test_a_listener_gets_the_result_in_the_jobs_app_context(
    app: Flask, scheduler: BackgroundScheduler
) -> None:
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    scheduler.add_listener(
        lambda event: heard.put((event.retval, current_app.name)), EVENT_JOB_EXECUTED
    )

    scheduler.add_job(lambda: "result")

    assert heard.get(timeout=WAIT) == ("result", "app")


def test_a_run_that_fails_is_an_event_of_the_schedulers_and_the_next_run_comes(
    executor: Executor, scheduler: BackgroundScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    errors = events_of(scheduler, EVENT_JOB_ERROR)
    results = events_of(scheduler, EVENT_JOB_EXECUTED)
    runs = itertools.count()

    def fail_once() -> int:
        if (run := next(runs)) == 0:
            raise JobError
        return run

    scheduler.add_job(fail_once, id="tick", **TICK)
    error, result = errors.get(timeout=WAIT), results.get(timeout=WAIT)
    scheduler.remove_job("tick")
    executor.drain(WAIT)

    assert isinstance(error.exception, JobError)
    assert result.retval == 1
    assert executor.stats().failed == 0, "the scheduler has caught it"
    [record] = caplog.records
    assert (record.name, record.exc_info[0]) == ("apscheduler.executors.default", JobError)


def test_a_run_that_comes_too_late_is_missed(
    executor: Executor, scheduler: BackgroundScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    missed = events_of(scheduler, EVENT_JOB_MISSED)
    ran: list[None] = []
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)

    scheduler.add_job(
        lambda: ran.append(None),
        "date",
        run_date=an_hour_ago,
        misfire_grace_time=10,
        id="late",
    )
    event = missed.get(timeout=WAIT)
    executor.drain(WAIT)

    assert (event.job_id, event.scheduled_run_time) == ("late", an_hour_ago)
    assert ran == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_job_has_no_more_instances_than_it_may_until_one_ends(
    executor: Executor, scheduler: BackgroundScheduler, gate: Gate
) -> None:
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
    refused = events_of(scheduler, EVENT_JOB_MAX_INSTANCES)
    ended = events_of(scheduler, EVENT_JOB_EXECUTED)

    scheduler.add_job(gate, id="tick", **TICK | {"max_instances": 2})
    gate.await_arrival()
    gate.await_arrival()
    refused.get(timeout=WAIT)
    assert executor.stats().submitted == 2
    gate.open()

    for _ in range(4):
        ended.get(timeout=WAIT)


def test_a_run_waits_for_a_worker_of_the_executor(
    app: Flask, executors: MakeExecutor, schedulers: MakeScheduler, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    scheduler = schedulers(JobPool(executor))
    ended = events_of(scheduler, EVENT_JOB_EXECUTED)
    submitted = events_of(scheduler, EVENT_JOB_SUBMITTED)

    scheduler.add_job(lambda: "result")
    submitted.get(timeout=WAIT)
    waiting = executor.stats().pending
    gate.open()

    assert ended.get(timeout=WAIT).retval == "result"
    assert waiting == 1


def test_a_scheduler_that_is_shut_down_leaves_the_executor_to_the_app(
    executor: Executor, scheduler: BackgroundScheduler, gate: Gate
) -> None:
    scheduler.add_job(gate)
    gate.await_arrival()

    shut_down(scheduler)
    running = executor.stats().running
    gate.open()
    executor.drain(WAIT)

    assert running == 1
    assert executor.submit(int).result(WAIT) == 0
    assert executor.stats().succeeded == 2


def test_with_apschedulers_own_shutdown_the_executor_ends_with_the_scheduler(
    executor: Executor, schedulers: MakeScheduler, gate: Gate
) -> None:
    class Pool(BasePoolExecutor):
        def __init__(self, executor: Executor) -> None:
            super().__init__(executor)

    scheduler = schedulers(Pool(executor))
    scheduler.add_job(gate)
    gate.await_arrival()
    shutting_down = threading.Thread(target=shut_down, args=(scheduler,))
    shutting_down.start()
    gate.open()
    shutting_down.join(WAIT)

    assert executor.stats().succeeded == 1, "its job has ended first"
    with pytest.raises(ExecutorClosed):
        executor.submit(int)


# A scheduled function submits a job


def test_a_scheduled_submit_is_a_job_of_its_own_name(
    app: Flask, executor: Executor, schedulers: MakeScheduler
) -> None:
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @executor.job
    def clean_up(days: int) -> None:
        seen.put((current_job.name, current_app.name, days))

    @executor.job
    async def clean_up_later(days: int) -> None:
        await asyncio.sleep(0)
        clean_up.fn(days)

    scheduler = schedulers()
    for job in (clean_up, clean_up_later):
        scheduler.add_job(job.submit, kwargs={"days": 30})

    assert {seen.get(timeout=WAIT) for _ in range(2)} == {
        ("clean_up", "app", 30),
        ("clean_up_later", "app", 30),
    }


def test_a_scheduled_submit_whose_job_fails_is_logged_by_the_app(
    executor: Executor, schedulers: MakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = schedulers()
    submitted = events_of(scheduler, EVENT_JOB_EXECUTED)

    @executor.job
    def clean_up() -> None:
        raise JobError

    scheduler.add_job(clean_up.submit)
    event = submitted.get(timeout=WAIT)
    executor.drain(WAIT)
    assert isinstance(event.retval, JobFuture)
    del event
    shut_down(scheduler)  # A worker of its pool still has its last event.
    gc.collect()

    [record] = caplog.records
    assert (record.name, record.exc_info[0]) == ("app", JobError)
    assert executor.stats().failed == 1


def test_with_several_apps_the_scheduled_function_says_which(
    app: Flask, executors: MakeExecutor, schedulers: MakeScheduler
) -> None:
    executor = executors(app, Flask("other"))
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()

    @executor.job
    def clean_up() -> None:
        seen.put(current_app.name)

    def submit() -> None:
        with app.app_context():
            clean_up.submit()

    schedulers().add_job(submit)

    assert seen.get(timeout=WAIT) == "app"


of_this_module = Executor()


@of_this_module.job
def add(a: int, b: int) -> tuple[str, int]:
    return current_job.name, a + b


def test_a_store_of_schedules_finds_the_submit_of_a_job_by_its_name_after_a_restart(
    app: Flask, schedulers: MakeScheduler, tmp_path: Path
) -> None:
    of_this_module.init_app(app)
    url = f"sqlite:///{tmp_path / 'schedules.db'}"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    before = schedulers(jobstores={"default": SQLAlchemyJobStore(url)})
    before.add_job(f"{__name__}:add.submit", "date", run_date=tomorrow, args=[2, 3], id="add")
    shut_down(before)

    scheduler = schedulers(jobstores={"default": SQLAlchemyJobStore(url)})
    ended = events_of(scheduler, EVENT_JOB_EXECUTED)
    scheduler.modify_job("add", next_run_time=datetime.now(UTC))

    assert ended.get(timeout=WAIT).retval.result(WAIT) == ("add", 5)
    of_this_module.shutdown()


# The end of the process, and several processes


AT_EXIT = """
import sys, threading
from contextlib import suppress
from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask
from flask_executor import Executor, ExecutorClosed

executor = Executor(Flask("app"))
ticks = threading.Semaphore(0)
refused = threading.Event()

@executor.job
def tick():
    ticks.release()

def submit():
    try:
        tick.submit()
    except ExecutorClosed:
        refused.set()

def work():
    # Ends when the scheduler has met the executor that takes no more jobs.
    print(refused.wait(60))

scheduler = BackgroundScheduler()
scheduler.add_job(submit, "interval", seconds=0.01, max_instances=100)
scheduler.start()
for _ in range(3):
    ticks.acquire()
executor.submit(work)
"""


def test_a_process_ends_its_jobs_while_the_scheduler_still_ticks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=WAIT, check=True
    )

    assert done.stdout == "True\n"
    assert "Traceback" not in done.stderr


def runs_and_tries(journal: Path) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """The processes that ran the job of each tick, and those that have submitted it."""
    ran: defaultdict[str, list[str]] = defaultdict(list)
    tried: defaultdict[str, set[str]] = defaultdict(set)
    for line in journal.read_text().splitlines():
        verb, tick, pid = line.split()
        if verb == "ran":
            ran[tick].append(pid)
        else:
            tried[tick].add(pid)
    return ran, tried


def await_ticks(journal: Path, workers: int) -> list[str]:
    """Wait until two ticks have come in all workers and their job has run; return these ticks."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        if journal.exists():
            ran, tried = runs_and_tries(journal)
            ticks = [tick for tick, pids in tried.items() if len(pids) == workers and ran[tick]]
            if len(ticks) >= 2:
                return ticks
        time.sleep(0.05)
    pytest.fail("no tick came in all workers")


@pytest.mark.slow
def test_of_several_workers_one_runs_the_job_of_a_tick(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    monkeypatch.setenv("JOURNAL", str(journal))
    monkeypatch.setenv("FLASK_EXECUTOR_STORE", f"sqlite:///{tmp_path / 'jobs.db'}")

    command = "gunicorn -w 3 -b 127.0.0.1:0 --no-control-socket scheduling_app:app"
    with served(command, APPS):
        ticks = await_ticks(journal, workers=3)

    ran, tried = runs_and_tries(journal)
    assert {len(ran[tick]) for tick in ticks} == {1}
    assert {len(pids) for pids in ran.values()} == {1}
    assert set(tried) <= set(ran)

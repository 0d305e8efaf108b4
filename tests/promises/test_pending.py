"""The queue in front of the pool: order, counts, cancellation, and the end."""

from __future__ import annotations

import collections
import concurrent.futures
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask

from flask_executor import (
    Executor,
    ExecutorClosed,
    JobFuture,
    Stats,
    WaitTimeout,
    job_cancelled,
    job_submitted,
)
from tests import inside
from tests.support import errors_of

WAIT = 60.0


def test_jobs_start_in_the_order_of_their_submission(app, executors):
    executor = executors(app, max_workers=1)
    order = []

    for n in range(100):
        executor.submit(order.append, n)
    executor.drain(WAIT)

    assert order == list(range(100))


def test_as_many_jobs_run_at_once_as_there_are_workers(app, executors, gate):
    executor = executors(app, max_workers=3)

    gate.occupy(executor, 3)
    waiting = executor.submit(gate)

    assert executor.stats() == Stats(
        workers=3, submitted=4, pending=1, running=3, succeeded=0, failed=0, cancelled=0
    )
    assert not waiting.running()


def test_jobs_that_meet_at_a_barrier_all_have_a_worker(app, executors):
    executor = executors(app, max_workers=4)
    barrier = threading.Barrier(4, timeout=WAIT)

    for _ in range(50):
        futures = [executor.submit(barrier.wait) for _ in range(4)]
        assert sorted(future.result(WAIT) for future in futures) == [0, 1, 2, 3]


def test_the_counts_tell_how_each_job_ended_before_its_result_is_there(app, executors, gate):
    executor = executors(app, max_workers=1)

    executor.submit(int).result(WAIT)
    assert executor.stats().succeeded == 1
    executor.submit(int, "x").exception(WAIT)
    assert executor.stats().failed == 1
    gate.occupy(executor)
    executor.submit(int).cancel()

    assert executor.stats() == Stats(
        workers=1, submitted=4, pending=0, running=1, succeeded=1, failed=1, cancelled=1
    )


def test_the_counts_add_up_while_jobs_come_go_and_are_cancelled(app, executors):
    executor = executors(app, max_workers=4)
    done = threading.Event()

    def submit_and_cancel(seed: int) -> None:
        chance = random.Random(seed)
        while not done.is_set():
            future = executor.submit(int, chance.choice(["1", "x"]))
            if chance.random() < 0.5:
                future.cancel()
            future.cancelled() or future.exception(WAIT)

    threads = [threading.Thread(target=submit_and_cancel, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    seen = [executor.stats() for _ in range(2000)]
    done.set()
    for thread in threads:
        thread.join(WAIT)

    for stats in seen:
        parts = (stats.pending, stats.running, stats.succeeded, stats.failed, stats.cancelled)
        assert stats.submitted == sum(parts)
        assert min(parts) >= 0
        assert stats.running <= 4


def test_a_cancelled_job_never_runs_and_is_taken_out_of_the_queue(app, executors, gate):
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    ran = []

    futures = [executor.submit(ran.append, n) for n in range(1000)]
    for future in futures[:-1]:
        assert future.cancel()

    assert executor.stats().pending == 1
    assert len(inside.waiting(app)) <= 2
    gate.open()
    executor.drain(WAIT)
    assert ran == [999]
    assert executor.stats().cancelled == 999


def test_cancelling_against_workers_loses_and_doubles_nothing(app, executors):
    executor = executors(app, max_workers=2)
    ran = []

    for start in range(0, 5000, 100):
        futures = [executor.submit(ran.append, n) for n in range(start, start + 100)]
        cancelled = {start + n for n, future in enumerate(futures) if future.cancel()}
        executor.drain(WAIT)
        expected = [n for n in range(start, start + 100) if n not in cancelled]
        assert sorted(ran[-len(expected) :] if expected else []) == expected

    stats = executor.stats()
    assert stats.succeeded == len(ran)
    assert stats.succeeded + stats.cancelled == 5000


def test_drain_waits_for_callbacks_and_teardown(app, executors):
    executor = executors(app)
    ended = []
    app.teardown_appcontext(lambda _: ended.append("teardown"))

    executor.submit(int).add_done_callback(lambda _: ended.append("callback"))
    executor.drain(WAIT)

    assert sorted(ended) in (["callback", "teardown"], ["callback", "teardown", "teardown"])


def test_drain_says_what_is_left_when_its_time_is_over(app, executors, gate):
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    executor.submit(int)

    with pytest.raises(WaitTimeout, match=r"not drained after 0\.01 s: 1 jobs are pending, 1 runn"):
        executor.drain(0.01)


def test_drain_without_jobs_returns_at_once(app, executors):
    executor = executors(app)

    executor.drain(0)


def test_outside_an_app_context_drain_and_shutdown_are_for_all_apps(executors):
    apps = [Flask("one"), Flask("two")]
    executor = executors(*apps)
    ran = []

    for app in apps:
        with app.app_context():
            executor.submit(ran.append, app.name)
    executor.drain(WAIT)
    assert sorted(ran) == ["one", "two"]

    with apps[0].app_context():
        executor.shutdown()
        with pytest.raises(ExecutorClosed):
            executor.submit(int)
    with apps[1].app_context():
        assert executor.submit(int).result(WAIT) == 0
    executor.shutdown()
    with apps[1].app_context(), pytest.raises(ExecutorClosed):
        executor.submit(int)


def test_shutdown_runs_what_waits(app, executors, gate):
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    waiting = [executor.submit(int, n) for n in range(10)]

    executor.shutdown(wait=False)
    with pytest.raises(ExecutorClosed, match="was shut down"):
        executor.submit(int)
    gate.open()
    executor.shutdown(wait=True)

    assert [future.result(0) for future in waiting] == list(range(10))


def test_shutdown_can_cancel_what_waits(app, executors, gate):
    executor = executors(app, max_workers=1)
    (running,) = gate.occupy(executor)
    waiting = [executor.submit(int, n) for n in range(10)]

    executor.shutdown(wait=False, cancel_futures=True)

    assert all(future.cancelled() for future in waiting)
    assert concurrent.futures.wait(waiting, WAIT).not_done == set()
    gate.open()
    assert running.result(WAIT) is None


def test_shutdown_cancels_what_a_worker_has_not_come_to_yet(app, executors, gate):
    executor = executors(app, max_workers=1)
    inside.pool(app).submit(gate)  # the worker is late
    future = executor.submit(int)

    executor.shutdown(wait=False, cancel_futures=True)

    assert future.cancelled()


def test_a_with_statement_waits_for_the_jobs(app):
    with Executor(app) as executor:
        futures = [executor.submit(int, n) for n in range(20)]

    assert all(future.done() for future in futures)


def test_nothing_starts_before_the_first_job(app, executors):
    threads = threading.active_count()

    executor = executors(app)
    executor.stats()
    executor.drain()

    assert threading.active_count() == threads


def test_a_pool_that_refuses_leaves_nothing_behind(app, executors):
    executor = executors(app, max_workers=1)
    inside.pool(app).shutdown()

    with pytest.raises(ExecutorClosed, match="cannot schedule new futures after shutdown"):
        executor.submit_stored("key", int)

    assert executor.stats().submitted == 0
    assert executor.futures.get("key") is None
    executor.drain(0)


def test_a_pool_that_refuses_another_worker_leaves_the_job_to_those_at_work(app, executors, gate):
    executor = executors(app, max_workers=2)
    gate.occupy(executor)
    inside.pool(app).shutdown(wait=False)

    future = executor.submit(int, "7")
    gate.open()

    assert future.result(WAIT) == 7


class Refusing(concurrent.futures.Executor):
    """Runs its first call to the end in another thread, and then refuses it."""

    in_process = True

    def __init__(self, _: object) -> None:
        self.calls: list[Callable[[], object]] = []
        self.meanwhile: Callable[[], object] | None = None

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.meanwhile is None:
            self.calls.append(partial(fn, *args, **kwargs))
            return concurrent.futures.Future()
        meanwhile, self.meanwhile = self.meanwhile, None
        for call in (partial(fn, *args, **kwargs), meanwhile):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        raise RuntimeError("can't start new thread")


def test_a_pool_that_refuses_what_it_has_run_takes_no_worker_from_another_job(app, executors):
    executor = executors(app, max_workers=2, type=f"{__name__}:Refusing")
    pool = inside.own_pool(app)
    others: list[JobFuture[int]] = []
    pool.meanwhile = lambda: others.append(executor.submit(int, "7"))

    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.submit(int)
    for call in pool.calls:
        call()

    assert others[0].result(WAIT) == 7


def test_a_receiver_that_cancels_the_last_job_lets_drain_return(app, executors):
    executor = executors(app, max_pending=1)
    idle: list[concurrent.futures.Future[None]] = []

    def cancel(_: Flask, future: JobFuture[int], **__: object) -> None:
        idle.append(inside.future_of_drain(app))
        future.cancel()

    with job_submitted.connected_to(cancel):
        executor.submit(int)

    idle[0].result(0)


def test_a_logger_that_raises_costs_neither_outcome_nor_worker(app, executors, monkeypatch, capsys):
    executor = executors(app, max_workers=1, propagate_exceptions=True)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(app.logger, "error", fail)

    with pytest.raises(ValueError, match="invalid literal"):
        executor.submit(int, "x").result(WAIT)
    printed = capsys.readouterr().err
    assert "invalid literal" in printed
    assert "disk full" in printed
    assert executor.submit(int, "7").result(WAIT) == 7


@pytest.mark.slow
def test_all_that_was_submitted_runs_before_the_interpreter_ends():
    program = """
import sys, flask, flask_executor
executor = flask_executor.Executor(flask.Flask("app"))
for n in range(100):
    executor.submit(sys.stdout.write, f"{n}\\n")
"""

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=True
    )

    assert sorted(map(int, done.stdout.split())) == list(range(100))
    assert errors_of(done) == ""


def test_drains_that_time_out_leave_nothing_behind(app, executors, gate):
    executor = executors(app, max_workers=1)
    gate.occupy(executor)

    for _ in range(5):
        with pytest.raises(WaitTimeout):
            executor.drain(0.001)

    assert inside.count_who_drain(app) <= 1


class RefusingOnce(concurrent.futures.ThreadPoolExecutor):
    """Refuses calls as a system without threads does, after another thread has had its turn."""

    in_process = True

    def __init__(self, _: object) -> None:
        super().__init__(1)
        self.refusals = 0
        self.meanwhile: Callable[[], object] = int

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not self.refusals:
            return super().submit(fn, *args, **kwargs)
        self.refusals -= 1
        meanwhile, self.meanwhile = self.meanwhile, int
        thread = threading.Thread(target=meanwhile)
        thread.start()
        thread.join()
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_job_that_counted_on_a_worker_that_could_not_be_had_runs_or_fails(
    app, executors, refusals
):
    executor = executors(app, type=f"{__name__}:RefusingOnce", max_workers=1)
    pool = inside.own_pool(app)
    pool.refusals = refusals
    others: list[JobFuture[int]] = []
    pool.meanwhile = lambda: others.append(executor.submit(int, "7"))

    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.submit(int)
    executor.drain(WAIT)

    if refusals == 1:
        assert others[0].result(0) == 7
    else:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            others[0].result(0)
    stats = executor.stats()
    assert (stats.submitted, stats.succeeded + stats.failed) == (1, 1)
    assert executor.submit(int, "8").result(WAIT) == 8


def test_what_waits_is_listed_though_workers_take_jobs_meanwhile(app, executors, gate):
    class Changing(collections.deque):
        changes = 2

        def __iter__(self):
            if self.changes:
                self.changes -= 1
                raise RuntimeError("deque mutated during iteration")
            return super().__iter__()

    executor = executors(app, max_workers=1)
    inside.replace_waiting(app, Changing())  # as it does without the GIL
    gate.occupy(executor)
    waiting = [executor.submit(int, n) for n in range(3)]

    executor.shutdown(wait=False, cancel_futures=True)

    assert all(future.cancelled() for future in waiting)


@pytest.mark.usefixtures("fast_switching")
@pytest.mark.parametrize("is_coroutine", [False, True])
def test_what_is_cancelled_by_its_key_while_it_is_submitted_costs_no_worker(
    app, executors, is_coroutine
):
    executor = executors(app, max_workers=2)
    is_over = threading.Event()

    async def on_loop() -> None:
        pass

    def cancel() -> None:
        while not is_over.is_set():
            executor.futures.cancel("key")

    threads = [threading.Thread(target=cancel) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        executor.submit_stored("key", on_loop if is_coroutine else int)
        executor.futures.pop("key")
    is_over.set()
    for thread in threads:
        thread.join(WAIT)
    executor.drain(WAIT)

    stats = executor.stats()
    assert (stats.submitted, stats.pending, stats.running, stats.failed) == (3000, 0, 0, 0)
    assert stats.succeeded + stats.cancelled == 3000
    assert executor.submit(int, "7").result(WAIT) == 7


@pytest.mark.parametrize("is_shut_down", [False, True])
def test_a_job_cancelled_before_it_is_in_the_queue_is_counted_once(app, executors, is_shut_down):
    executor = executors(app)
    cancelled: list[str] = []

    def cancel(_: Flask, future: JobFuture[int], **__: object) -> None:
        future.cancel()
        if is_shut_down:
            executor.shutdown(wait=False)

    def note(_: Flask, job: Any, **__: object) -> None:
        cancelled.append(job.name)

    with job_submitted.connected_to(cancel), job_cancelled.connected_to(note):
        future = executor.submit_stored("key", int)

    stats = executor.stats()
    assert future.cancelled()
    assert (stats.submitted, stats.pending, stats.cancelled) == (1, 0, 1)
    assert cancelled == ["int"]

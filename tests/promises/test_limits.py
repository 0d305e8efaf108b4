"""The time that a job may run: who is told what, and when."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections import Counter
from typing import Any

import pytest
from flask import Flask, g

from flask_executor import Executor, JobFuture, JobTimeout, current_job, job_failed
from tests.support import WAIT, Gate, MakeExecutor, app_log
from tests.unit.test_loop import run


def wait_to_be_stopped() -> str:
    """Go on until the job is asked to stop."""
    while not current_job.cancel_requested:
        time.sleep(0.001)
    return "stopped"


def test_a_thread_job_out_of_time_fails_at_once_and_keeps_its_worker(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    future = executor.options(timeout=0.05).submit(gate)
    waiting = executor.submit(abs, -1)

    error = future.exception(WAIT)

    assert isinstance(error, JobTimeout)
    assert isinstance(error, TimeoutError)
    stats = executor.stats()
    assert (future.state, stats.running, stats.pending, stats.failed) == ("failed", 1, 1, 0)
    gate.open()
    assert waiting.result(WAIT) == 1
    executor.drain(WAIT)
    assert (executor.stats().failed, executor.stats().succeeded) == (1, 1)


def test_a_thread_job_out_of_time_is_asked_to_stop(executor: Executor) -> None:
    stopped: list[str] = []
    future = executor.options(timeout=0.05).submit(lambda: stopped.append(wait_to_be_stopped()))

    assert isinstance(future.exception(WAIT), JobTimeout)
    executor.drain(WAIT)
    assert stopped == ["stopped"]


@pytest.mark.slow
def test_the_wait_for_a_worker_does_not_count(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    future = executor.options(timeout=1).submit(abs, -1)

    threading.Timer(1.1, gate.open).start()

    assert future.result(WAIT) == 1


def test_callbacks_and_signals_are_told_once_in_an_app_context_that_has_the_jobs_g(
    app: Flask, executor: Executor
) -> None:
    told: Counter[tuple[str, str]] = Counter()

    def called_back(future: JobFuture[Any]) -> None:
        told["callback", g.user] += 1

    def receive(_: Flask, **sent: Any) -> None:
        told[type(sent["exception"]).__name__, g.user] += 1

    with app.app_context(), job_failed.connected_to(receive, app):
        g.user = "ada"
        future = executor.options(timeout=0.05).submit(wait_to_be_stopped)
        future.add_done_callback(called_back)
        executor.drain(WAIT)

    assert told == {("callback", "ada"): 1, ("JobTimeout", "ada"): 1}


def test_teardown_runs_once_when_the_code_has_ended(
    app: Flask, executor: Executor, gate: Gate
) -> None:
    seen: list[BaseException | None] = []
    app.teardown_appcontext(seen.append)
    future = executor.options(timeout=0.05).submit(gate)

    assert isinstance(future.exception(WAIT), JobTimeout)
    assert seen == []
    gate.open()
    executor.drain(WAIT)
    assert seen == [future.exception()]


@pytest.mark.parametrize("asks", [True, False])
def test_it_is_logged_once_if_nobody_asks(
    executor: Executor, caplog: pytest.LogCaptureFixture, asks: bool
) -> None:
    future = executor.options(timeout=0.05).submit(wait_to_be_stopped)
    executor.drain(WAIT)
    if asks:
        future.exception()

    reference = weakref.ref(future)
    del future
    while reference() is not None:  # the loop's thread may be about to let go of it
        time.sleep(0.001)

    messages = [record.getMessage() for record in app_log(caplog)]
    expected = [] if asks else ["Job wait_to_be_stopped failed and nobody asked for its outcome"]
    assert [" ".join(word for word in m.split() if "(" not in word) for m in messages] == expected


def test_what_a_job_raises_after_its_time_is_logged_and_changes_nothing(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_late() -> None:
        wait_to_be_stopped()
        raise LookupError("too late")

    future = executor.options(timeout=0.05).submit(fail_late)
    executor.drain(WAIT)

    assert isinstance(future.exception(), JobTimeout)
    [record] = app_log(caplog)
    assert "failed after its time was up" in record.getMessage()
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("end", ["return", "raise"])
def test_a_coroutine_out_of_time_fails_whatever_it_makes_of_that(
    executor: Executor, end: str
) -> None:
    async def resist() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if end == "raise":
                raise LookupError("something else") from None
        return "not cancelled"

    assert isinstance(executor.options(timeout=0.05).submit(resist).exception(WAIT), JobTimeout)


def test_timeouts_are_told_while_callbacks_of_other_jobs_hold_up_all_threads_for_that(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=50)
    seen: list[object] = []

    async def nothing() -> None:
        pass

    def wait_for_another(_: JobFuture[Any]) -> None:
        other = executor.options(timeout=0.05).submit(wait_to_be_stopped)
        seen.append(type(other.exception(WAIT)))

    for _ in range(40):  # more than there are such threads
        executor.submit(nothing).add_done_callback(wait_for_another)
    executor.drain(WAIT * 2)

    assert seen == [JobTimeout] * 40


def test_a_timeout_of_the_jobs_own_is_not_the_limits(executor: Executor) -> None:
    async def fail() -> None:
        raise TimeoutError("its own")

    future = executor.options(timeout=WAIT).submit(fail)

    assert type(future.exception(WAIT)) is TimeoutError


def test_an_awaited_job_out_of_time_raises_in_the_view(app: Flask, executor: Executor) -> None:
    @executor.job(timeout=0.05)
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    @app.get("/")
    async def view() -> str:
        try:
            await hang.submit_async()
        except JobTimeout as error:
            return str(error)
        return "no error"

    assert app.test_client().get("/").text == "the job 'hang' has not ended within its 0.05 s"


@pytest.mark.slow
@pytest.mark.parametrize("type_", ["thread", "process"])
def test_jobs_that_end_just_as_their_time_is_up_end_once(
    app: Flask, executors: MakeExecutor, type_: str
) -> None:
    count = 2000 if type_ == "thread" else 40
    executor = executors(app, type=type_, max_workers=4, mp_context="forkserver")
    told: Counter[str] = Counter()
    executor.add_default_done_callback(lambda future: told.update([future.id]))
    options = executor.options(timeout=0.01)

    futures = [options.submit(time.sleep, 0.0095 + n % 10 * 0.0001) for n in range(count)]
    executor.drain(WAIT * 2)

    assert all(future.done() for future in futures)
    assert told == dict.fromkeys((future.id for future in futures), 1)
    errors = [future.exception() for future in futures]
    stats = executor.stats()
    assert {type(error) for error in errors} <= {type(None), JobTimeout}
    assert stats.failed == sum(error is not None for error in errors)
    assert stats.submitted == stats.succeeded + stats.failed == count


@pytest.mark.slow
def test_a_job_that_first_starts_as_the_interpreter_ends_has_its_time() -> None:
    done = run("""
import time
executor = make(max_workers=1)
executor.submit(time.sleep, 0.2)
executor.options(timeout=10).submit(lambda: say("ran"))
executor.options(timeout=0.05).submit(time.sleep, 0.3).add_done_callback(
    lambda future: say(future.exception())
)
say("main ends")
""")

    assert done.stdout == ("main ends\nran\nthe job 'sleep' has not ended within its 0.05 s\n")
    assert done.stderr == ""


@pytest.mark.parametrize("value", [0, -1, float("nan"), 1e20])
def test_a_time_that_cannot_be_is_refused(executor: Executor, value: float) -> None:
    for decorate in (executor.options, executor.job):
        with pytest.raises(ValueError, match=r"^timeout is .*; expected"):
            decorate(timeout=value)


@pytest.mark.parametrize("value", ["5", True, [1]])
def test_a_time_that_is_no_number_is_refused(executor: Executor, value: Any) -> None:
    for decorate in (executor.options, executor.job):
        with pytest.raises(TypeError, match=r"^timeout is .*; expected a number of seconds"):
            decorate(timeout=value)


def test_a_receiver_of_another_app_opens_no_app_context_when_time_is_up(
    app: Flask, executor: Executor, gate: Gate
) -> None:
    seen: list[BaseException | None] = []
    app.teardown_appcontext(seen.append)
    other = Flask("other")

    with job_failed.connected_to(print, other):
        future = executor.options(timeout=0.05).submit(gate)

        assert isinstance(future.exception(WAIT), JobTimeout)
        assert seen == []
        gate.open()
        executor.drain(WAIT)


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_job_that_ended_in_time_leaves_nothing_with_the_timer(
    app: Flask, executor: Executor, is_coroutine: bool
) -> None:
    class Thing:
        pass

    async def on_loop() -> None:
        pass

    # With one that is due earlier, the loop keeps the timers that are cancelled.
    first = executor.options(delay=600).submit(int)
    things: list[weakref.ref[Thing]] = []

    for _ in range(10):
        with app.test_request_context():
            g.thing = Thing()
            things.append(weakref.ref(g.thing))
            executor.options(timeout=600).submit(on_loop if is_coroutine else int).result(WAIT)
    executor.options(delay=0).submit(int).result(WAIT)  # The loop has gone on.
    gc.collect()

    assert [thing() for thing in things if thing() is not None] == []
    first.cancel()


def test_a_wait_for_room_that_is_over_leaves_nothing_with_the_timer(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    class Thing:
        pass

    executor = executors(app, name="small", max_workers=1, max_pending=1)
    gate.occupy(executor)
    things: list[weakref.ref[Thing]] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(600, int)
        executor.submit(int)
        with app.test_request_context():
            g.thing = Thing()
            things.append(weakref.ref(g.thing))
            waiting = executor.options(queue_timeout=600).submit_async(int)
        gate.open()
        await waiting
        del waiting
        await asyncio.sleep(0)
        gc.collect()
        assert things[0]() is None

    asyncio.run(main())

"""Jobs that are being finished, at a shutdown or at the end of the process, may submit more."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_executor import Executor, ExecutorClosed, JobFuture
from tests import inside
from tests.served.test_exit import run
from tests.support import WAIT, Gate, MakeExecutor

Way = Callable[[Executor], list[int]]


async def double_on_loop(n: int) -> int:
    return 2 * n


def double(n: int) -> int:
    return 2 * n


def by_submit(executor: Executor) -> list[int]:
    return [future.result(WAIT) for future in [executor.submit(double, n) for n in range(3)]]


def by_delay(executor: Executor) -> list[int]:
    submit = executor.options(delay=0.001).submit
    return [future.result(WAIT) for future in [submit(double, n) for n in range(3)]]


def by_coroutine_jobs(executor: Executor) -> list[int]:
    futures = [executor.submit(double_on_loop, n) for n in range(3)]
    return [future.result(WAIT) for future in futures]


def by_submit_async(executor: Executor) -> list[int]:
    async def main() -> list[int]:
        return await asyncio.gather(*(executor.submit_async(double, n) for n in range(3)))

    return asyncio.run(main())


def by_map(executor: Executor) -> list[int]:
    return list(executor.map(double, range(3)))


def by_waiting_for_room(executor: Executor) -> list[int]:
    submit = executor.options(queue_timeout=WAIT).submit
    return [future.result(WAIT) for future in [submit(double, n) for n in range(3)]]


WAYS: list[Way] = [
    by_submit,
    by_delay,
    by_coroutine_jobs,
    by_submit_async,
    by_map,
    by_waiting_for_room,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"wait": False}, {"wait": False, "cancel_futures": True}])
def test_a_job_may_fan_out_after_a_shutdown_has_begun(
    app: Flask, executors: MakeExecutor, gate: Gate, way: Way, options: dict[str, bool]
) -> None:
    bound = 1 if way is by_waiting_for_room else None
    executor = executors(app, max_workers=2, max_pending=bound)

    def fan_out() -> list[int]:
        gate()
        return way(executor)

    future = executor.submit(fan_out)
    gate.await_arrival()
    ending = threading.Thread(target=executor.shutdown, kwargs=options)
    ending.start()
    if not options.get("wait", True):
        ending.join(WAIT)
    while not inside.is_closed(app):
        pass
    with pytest.raises(ExecutorClosed):
        executor.submit(int)
    gate.open()

    assert future.result(WAIT) == [0, 2, 4]
    ending.join(WAIT)
    executor.shutdown()
    with pytest.raises(ExecutorClosed):
        executor.submit(int)


def test_a_coroutine_job_may_fan_out_after_a_shutdown_has_begun(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=1)
    goes_on = asyncio.Event()

    async def fan_out() -> list[int]:
        await goes_on.wait()
        return await asyncio.gather(*(executor.submit_async(double, n) for n in range(3)))

    future = executor.submit(fan_out)
    let_go_on = executor.options(delay=0.01).submit(set_event, goes_on)
    executor.shutdown()

    assert future.result(0) == [0, 2, 4]
    assert let_go_on.result(0) is None


async def set_event(event: asyncio.Event) -> None:
    event.set()


def test_a_callback_may_submit_after_a_shutdown_has_begun(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    submitted: list[JobFuture[int]] = []
    (running,) = gate.occupy(executor)
    running.add_done_callback(lambda _: submitted.append(executor.submit(int, "7")))

    executor.shutdown(wait=False)
    gate.open()
    executor.shutdown()

    assert submitted[0].result(0) == 7


def test_code_that_an_ended_job_left_behind_may_not_submit_after_a_shutdown(
    app: Flask, executor: Executor
) -> None:
    is_closed = threading.Event()
    told: list[Any] = []

    def left_behind() -> None:
        assert is_closed.wait(WAIT)
        try:
            told.append(executor.submit(int))
        except ExecutorClosed as error:
            told.append(error)

    def leave_behind() -> threading.Thread:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(left_behind,))
        thread.start()
        return thread

    thread = executor.submit(leave_behind).result(WAIT)
    executor.shutdown()
    is_closed.set()
    thread.join(WAIT)

    assert isinstance(told[0], ExecutorClosed)


@pytest.mark.slow
@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2), reason="it starts no thread once it has begun to end"
)
def test_at_the_end_of_the_process_jobs_may_fan_out() -> None:
    done = run("""
from tests import inside

executor = Executor(app)

async def double_on_loop(n):
    return 2 * n

def fan_out():
    while not inside.is_closed(app):
        time.sleep(0.001)
    futures = [executor.submit(pow, n, 2) for n in range(3)]
    futures += [executor.submit(double_on_loop, 4), executor.options(delay=0.001).submit(int)]
    say([future.result() for future in futures], list(executor.map(abs, [-1, -2])))

async def fan_out_on_loop():
    while not inside.is_closed(app):
        await asyncio.sleep(0.001)
    say(await asyncio.gather(*(executor.submit_async(pow, n, 3) for n in range(3))))

executor.submit(fan_out)
executor.submit(fan_out_on_loop)
""")

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["[0, 1, 4, 8, 0] [1, 2]", "[0, 1, 8]"]


@pytest.mark.slow
def test_a_job_that_goes_on_submitting_ends_with_the_deadline() -> None:
    done = run("""
app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = 0.2
executor = Executor(app)

def again():
    time.sleep(0.01)
    try:
        executor.submit(again)
    except ExecutorClosed:
        say("refused")
        raise

executor.submit(again)
""")

    assert done.returncode == 0
    assert "Shut down after 0.2 s: " in done.stderr

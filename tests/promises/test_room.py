"""A queue with a bound: what is refused, what waits for room, and that none of it is lost."""

from __future__ import annotations

import asyncio
import queue
import resource
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import ServiceUnavailable

from flask_executor import (
    DuplicateKey,
    Executor,
    ExecutorClosed,
    JobFuture,
    JobTimeout,
    QueueFull,
    job_cancelled,
    job_failed,
    job_submitted,
)
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, at_once


def no_loop() -> asyncio.AbstractEventLoop:
    """Make no event loop."""
    raise OSError("no loop")


@pytest.fixture
def executor(app: Flask, executors: MakeExecutor) -> Executor:
    """One worker, and room for two jobs that wait for it."""
    return executors(app, max_workers=1, max_pending=2)


@pytest.fixture
def full(executor: Executor, gate: Gate) -> Executor:
    """The executor, with its worker at the gate and no room left."""
    gate.occupy(executor)
    for _ in range(2):
        executor.submit(gate)
    return executor


def test_past_the_bound_a_job_is_refused_and_leaves_nothing_behind(
    app: Flask, full: Executor, gate: Gate
) -> None:
    submitted = []
    with (
        job_submitted.connected_to(lambda _, **sent: submitted.append(sent), app),
        pytest.raises(
            QueueFull, match="no room for another job: 2 wait already, as EXECUTOR_MAX_P"
        ),
    ):
        full.submit_stored("key", int)

    assert submitted == []
    assert full.futures.get("key") is None
    assert (full.stats().submitted, full.stats().pending) == (3, 2)
    gate.open()
    full.drain(WAIT)
    assert full.submit_stored("key", int).result(WAIT) == 0


def test_the_refusal_is_what_a_caller_may_expect() -> None:
    error = QueueFull("no room")

    assert isinstance(error, queue.Full)
    assert isinstance(error, ServiceUnavailable)


@pytest.mark.parametrize("testing", [True, False])
def test_a_view_that_lets_the_refusal_pass_answers_503_with_retry_after(
    app: Flask, full: Executor, testing: bool
) -> None:
    app.testing = testing
    app.add_url_rule("/", view_func=lambda: full.submit(int).id)

    response = app.test_client().get("/")

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"


def test_a_place_is_free_again_when_a_worker_takes_a_job(full: Executor, gate: Gate) -> None:
    gate.open()
    full.drain(WAIT)

    assert full.submit(int, "7").result(WAIT) == 7


def test_a_place_is_free_again_when_a_job_is_cancelled(app: Flask, full: Executor) -> None:
    waiting = inside.waiting(app)[0]

    assert waiting.cancel()
    later = full.submit(int)

    assert later.state == "pending"
    with pytest.raises(QueueFull):
        full.submit(int)


def test_jobs_that_wait_for_their_time_take_room_and_coroutine_jobs_take_none(
    executor: Executor,
) -> None:
    later = [executor.options(delay=WAIT * 10).submit(int) for _ in range(2)]

    async def cube(n: int) -> int:
        return n**3

    with pytest.raises(QueueFull):
        executor.options(delay=WAIT * 10).submit(int)
    with pytest.raises(QueueFull):
        executor.options(delay=WAIT * 10).submit(cube, 3)
    with pytest.raises(QueueFull):
        executor.submit(int)
    assert [executor.submit(cube, n).result(WAIT) for n in range(9)] == [n**3 for n in range(9)]
    for future in later:
        future.cancel()
    assert executor.submit(int, "7").result(WAIT) == 7


def test_submit_waits_for_room_as_long_as_it_is_told_to(full: Executor, gate: Gate) -> None:
    with pytest.raises(QueueFull, match=r"another job after 0\.01 s: 2 wait already"):
        full.options(queue_timeout=0.01).submit(int)
    threading.Timer(0.01, gate.open).start()

    assert full.options(queue_timeout=WAIT).submit(int, "7").result(WAIT) == 7


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_a_time_to_wait_that_is_none_is_refused(
    executor: Executor, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^queue_timeout is .*; expected .* seconds"):
        executor.options(queue_timeout=value)  # type: ignore[arg-type]


def test_a_shutdown_ends_the_wait_for_room(app: Flask, full: Executor, gate: Gate) -> None:
    def shut_down() -> None:
        while not inside.waits_for_room(app):
            threading.Event().wait(0.001)
        full.shutdown(wait=False)

    answers = at_once(lambda: full.options(queue_timeout=WAIT).submit(int), shut_down)

    assert isinstance(answers[0], ExecutorClosed)
    assert not inside.has_reserved_room(app)


def test_a_job_that_is_refused_after_all_takes_no_room(app: Flask, executor: Executor) -> None:
    def shut_down(_: Flask, **sent: Any) -> None:
        sent["executor"].shutdown(wait=False)

    with job_submitted.connected_to(shut_down, app), pytest.raises(ExecutorClosed):
        executor.submit(int)

    assert not inside.has_reserved_room(app)


def test_submit_async_waits_for_room_and_the_loop_does_not(full: Executor, gate: Gate) -> None:
    async def main() -> list[int]:
        waiters = [full.submit_async(int, n) for n in range(50)]
        await asyncio.sleep(0)
        assert full.stats().pending == 2
        assert not any(waiter.done() for waiter in waiters)
        gate.open()
        return await asyncio.gather(*waiters)

    assert asyncio.run(main()) == list(range(50))


def test_jobs_come_in_in_the_order_in_which_they_wait(full: Executor, gate: Gate) -> None:
    order: list[int] = []

    async def main() -> None:
        waiters = [full.submit_async(order.append, n) for n in range(20)]
        with pytest.raises(QueueFull):
            full.submit(order.append, -1)
        gate.open()
        await asyncio.gather(*waiters)

    asyncio.run(main())

    assert order == list(range(20))


def test_a_wait_for_room_that_is_cancelled_leaves_nothing_behind(
    app: Flask, full: Executor, gate: Gate
) -> None:
    seen, ran = [], []

    async def main() -> None:
        waiter = full.options(key="key").submit_async(ran.append, 1)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    with job_cancelled.connected_to(lambda _, **sent: seen.append(sent["job"].name), app):
        asyncio.run(main())

    assert not inside.waits_for_room(app)
    assert full.futures.get("key") is None
    assert seen == ["append"]
    gate.open()
    full.drain(WAIT)
    assert ran == []
    assert (full.stats().submitted, full.stats().cancelled, full.stats().succeeded) == (4, 1, 3)


def test_submit_async_gives_up_waiting_when_it_is_told_to(
    app: Flask, full: Executor, gate: Gate
) -> None:
    failed = []

    async def main() -> None:
        options = full.options(key="key", queue_timeout=0.01)
        with pytest.raises(QueueFull, match=r"after 0\.01 s"):
            await options.submit_async(int)

    with job_failed.connected_to(lambda _, **sent: failed.append(sent["exception"]), app):
        asyncio.run(main())

    assert [type(error) for error in failed] == [QueueFull]
    assert not inside.waits_for_room(app)
    assert full.futures.get("key") is None
    assert full.stats().failed == 1


def test_a_job_gives_up_waiting_for_room_although_its_loop_has_ended(
    full: Executor, gate: Gate
) -> None:
    futures: list[Future[int]] = []

    def receive(_: Flask, future: Future[int], **__: object) -> None:
        futures.append(future)

    async def submit() -> None:
        full.options(key="key", queue_timeout=0.01).submit_async(int)

    with job_submitted.connected_to(receive):
        asyncio.run(submit())

    with pytest.raises(QueueFull):
        futures[0].result(WAIT)
    assert full.futures.get("key") is None


def test_a_key_is_taken_while_its_job_waits_for_room(full: Executor, gate: Gate) -> None:
    async def main() -> int:
        waiter = full.options(key="key").submit_async(int, "7")
        with pytest.raises(DuplicateKey):
            full.options(key="key").submit_async(int)
        gate.open()
        return await waiter

    assert asyncio.run(main()) == 7
    assert full.futures.result("key", WAIT) == 7


def test_a_key_stays_with_a_job_that_another_has_taken_from_the_line(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)

    async def middle() -> int:
        executor.submit(int)
        return await executor.options(key="key").submit_async(int, "7")

    def outer() -> int:
        return executor.submit(middle).result()

    assert executor.submit(outer).result(WAIT) == 7
    executor.drain(WAIT)
    assert executor.futures.result("key") == 7


def test_a_delayed_job_may_wait_for_room(full: Executor, gate: Gate) -> None:
    async def main() -> int:
        waiter = full.options(delay=0.001).submit_async(int, "7")
        gate.open()
        return await waiter

    assert asyncio.run(main()) == 7


def test_what_waits_for_room_when_the_executor_is_shut_down_still_runs(
    full: Executor, gate: Gate
) -> None:
    async def main() -> int:
        waiter = full.submit_async(int, "7")
        full.shutdown(wait=False)
        gate.open()
        return await waiter

    assert asyncio.run(main()) == 7


def test_what_waits_for_room_is_cancelled_with_the_rest(full: Executor) -> None:
    async def main() -> None:
        waiter = full.submit_async(int, "7")
        full.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(main())


def test_map_submits_as_much_as_there_is_room_for_and_then_more(executor: Executor) -> None:
    assert list(executor.map(int, range(1000))) == list(range(1000))


def test_map_is_refused_if_its_first_item_finds_no_room_in_time(full: Executor) -> None:
    with pytest.raises(QueueFull):
        full.map(int, range(3), timeout=0.01)


def test_map_in_a_job_does_not_wait_for_room_that_only_it_could_make(executor: Executor) -> None:
    def total() -> int:
        return sum(executor.map(int, range(50)))

    assert executor.submit(total).result(WAIT) == sum(range(50))


def test_map_async_waits_for_room(full: Executor, gate: Gate) -> None:
    async def main() -> list[int]:
        results = full.map_async(int, range(500), buffersize=100)
        gate.open()
        return [result async for result in results]

    assert asyncio.run(main()) == list(range(500))


@pytest.mark.slow
def test_a_flood_that_is_refused_takes_no_memory(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=2, max_pending=1000)
    gate.occupy(executor, 2)

    def flood() -> int:
        accepted = 0
        for _ in range(50_000):
            with suppress(QueueFull):
                executor.submit(int)
                accepted += 1
        return accepted

    before = resident_bytes()
    accepted = at_once(flood, flood)
    taken = resident_bytes() - before

    assert sum(accepted) == 1000
    assert taken < 50_000_000  # 100,000 jobs take several times that
    gate.open()
    executor.drain(WAIT)
    assert executor.stats().succeeded == executor.stats().submitted == 1002


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def test_of_a_flood_every_accepted_job_runs_once(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=2, max_pending=10)
    ran: list[int] = []

    def flood(first: int) -> list[int]:
        accepted = []
        for n in range(first, 20_000, 2):
            with suppress(QueueFull):
                executor.submit(ran.append, n)
                accepted.append(n)
        return accepted

    accepted = at_once(lambda: flood(0), lambda: flood(1))
    executor.drain(WAIT)

    assert sorted(ran) == sorted(accepted[0] + accepted[1])
    assert executor.stats().succeeded == executor.stats().submitted == len(ran)


def test_a_bound_holds_for_any_number_of_threads_that_submit(
    app: Flask, executor: Executor, gate: Gate
) -> None:
    gate.occupy(executor)

    answers = at_once(*[lambda: executor.submit(gate)] * 16)

    refused = [answer for answer in answers if isinstance(answer, QueueFull)]
    assert len(refused) == 14
    assert executor.stats().pending == 2


def test_a_bound_holds_for_worker_processes(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="process", max_workers=1, max_pending=3)

    async def main() -> list[int]:
        return await asyncio.gather(*(executor.submit_async(pow, n, 2) for n in range(30)))

    assert asyncio.run(main()) == [n**2 for n in range(30)]


def test_delayed_jobs_do_not_exceed_the_bound_however_many_come_at_once(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=8, max_pending=1)
    both = threading.Barrier(9, timeout=WAIT)

    def submit() -> None:
        both.wait()
        executor.options(delay=WAIT * 10).submit(int)

    answers = at_once(*[submit] * 9)

    assert [type(answer) for answer in answers].count(QueueFull) == 8
    executor.shutdown(cancel_futures=True)


@pytest.mark.filterwarnings("error")
def test_a_wait_for_room_that_does_not_begin_takes_no_room(
    app: Flask, full: Executor, gate: Gate
) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeWarning, match="blocks the event loop"):
            full.options(queue_timeout=WAIT).submit(int)

    asyncio.run(main())

    assert not inside.waits_for_room(app)
    assert not inside.has_reserved_room(app)


@pytest.mark.parametrize("options", [{}, {"delay": 0.001}])
def test_a_receiver_of_the_submission_may_cancel_what_waits_for_room_or_its_time(
    app: Flask, full: Executor, gate: Gate, options: dict[str, Any]
) -> None:
    def cancel(_: Flask, **sent: Any) -> None:
        sent["future"].cancel()

    async def main() -> None:
        waiter = full.options(**options).submit_async(int)
        with pytest.raises(asyncio.CancelledError):
            await waiter

    with job_submitted.connected_to(cancel, app):
        asyncio.run(main())

    stats = full.stats()
    assert (stats.submitted, stats.pending, stats.cancelled) == (4, 2, 1)
    gate.open()
    full.drain(WAIT)


def test_a_submitter_that_waits_for_room_is_woken_when_its_job_is_cancelled(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, name="small", max_workers=1, max_pending=1)
    gate.occupy(executor)
    executor.submit(int)
    submitted: list[JobFuture[int]] = []

    def submit() -> None:
        options = executor.options(key="key", queue_timeout=600)
        submitted.append(options.submit(int))

    thread = threading.Thread(target=submit)
    thread.start()
    while not inside.waits_for_room(app, "small"):
        time.sleep(0.001)
    executor.futures.cancel("key")
    thread.join(WAIT)

    assert submitted[0].cancelled()
    gate.open()
    executor.drain(WAIT)
    stats = executor.stats()
    assert (stats.submitted, stats.pending, stats.cancelled) == (3, 0, 1)


def test_a_job_that_is_cancelled_while_its_submitter_waits_for_room_is_announced_in_order(
    app: Flask, full: Executor, gate: Gate
) -> None:
    sent: list[str] = []

    def submit() -> None:
        full.options(key="key", queue_timeout=600).submit(int)

    with (
        job_submitted.connected_to(lambda _, **values: sent.append("submitted"), app),
        job_cancelled.connected_to(lambda _, **values: sent.append("cancelled"), app),
    ):
        thread = threading.Thread(target=submit)
        thread.start()
        while not inside.waits_for_room(app):
            time.sleep(0.001)
        full.futures.cancel("key")
        thread.join(WAIT)

    assert sent == ["submitted", "cancelled"]


def test_a_place_is_free_again_when_its_job_is_cancelled_before_it_comes(
    app: Flask, full: Executor, gate: Gate
) -> None:
    admitted = inside.hold_back_admitted(app)

    async def main() -> None:
        waiter = full.submit_async(int)
        gate.open()
        while not admitted:
            await asyncio.sleep(0.001)
        waiter.cancel()

    asyncio.run(main())
    while full.stats().running:
        time.sleep(0.001)
    idle = inside.idle(app)
    admitted.pop()()

    idle.result(WAIT)


@pytest.mark.slow
def test_a_refused_job_ends_the_future_that_others_have_found(
    app: Flask, full: Executor, gate: Gate
) -> None:
    found: list[Future[Any] | None] = []

    def find() -> None:
        while not inside.waits_for_room(app):
            time.sleep(0.001)
        found.append(full.futures.get("key"))

    finder = threading.Thread(target=find)
    finder.start()
    with pytest.raises(QueueFull):
        full.options(key="key", queue_timeout=2).submit(int)
    finder.join(WAIT)

    assert full.futures.get("key") is None
    assert found[0] is not None
    assert found[0].cancelled()


def test_a_job_that_has_waited_for_room_keeps_its_timeout(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, name="small", max_workers=2, max_pending=1)
    ended = threading.Event()

    async def turn_of_the_loop() -> None:
        pass

    async def first() -> object:
        delayed.append(executor.options(delay=600).submit(int))  # There is no more room now.
        options = executor.options(key="key", queue_timeout=600, timeout=0.01)
        waiter = options.submit_async(ended.wait, WAIT)
        await executor.submit_async(turn_of_the_loop)  # By now the wait for room has its timer.
        gate.open()
        return await waiter

    def second() -> object:
        gate()
        return executor.futures.result("key")

    delayed: list[JobFuture[int]] = []
    jobs = [executor.submit(second)]
    gate.await_arrival()
    jobs.append(executor.submit(asyncio.run, first()))

    # Both workers wait for it, so an extra worker takes the job out of its wait for room.
    for job in jobs:
        with pytest.raises(JobTimeout):
            job.result(WAIT)
    ended.set()
    delayed[0].cancel()
    executor.drain(WAIT)


def test_a_job_that_finds_room_needs_no_timer_for_its_wait(app: Flask, executor: Executor) -> None:
    async def main() -> int:
        return await executor.options(queue_timeout=600).submit_async(int, "7")

    assert asyncio.run(main()) == 7
    assert not [each for each in threading.enumerate() if each.name.endswith("-loop")]


def test_a_job_that_cannot_have_a_timer_is_not_run_after_its_submission_has_failed(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    factory = f"{__name__}:no_loop"
    executor = executors(app, name="small", max_workers=1, max_pending=1, loop_factory=factory)
    gate.occupy(executor)
    executor.submit(int)
    ran: list[int] = []

    async def main() -> None:
        with pytest.raises(OSError, match="no loop"):
            executor.options(key="key", queue_timeout=600).submit_async(ran.append, 1)

    asyncio.run(main())

    assert executor.futures.get("key") is None
    assert not inside.waits_for_room(app, "small")
    gate.open()
    executor.drain(WAIT)
    assert ran == []


def test_one_free_place_admits_one_of_the_delayed_jobs_that_wait_for_it(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, name="small", max_workers=4, max_pending=1)
    first = executor.options(delay=600).submit(int)
    submitted: list[JobFuture[int]] = []

    def submit() -> None:
        with suppress(QueueFull, ExecutorClosed):
            submitted.append(executor.options(delay=600, queue_timeout=WAIT).submit(int))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    while inside.count_held(app, "small") < 4:
        time.sleep(0.001)
    first.cancel()
    while not submitted:
        time.sleep(0.001)

    assert (executor.stats().pending, inside.count_held(app, "small")) == (1, 3)
    executor.shutdown(cancel_futures=True)
    for thread in threads:
        thread.join(WAIT)
    assert len(submitted) == 1

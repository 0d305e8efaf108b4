"""Jobs that belong to a block: `executor.group`, next to `asyncio.TaskGroup`."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from flask import Flask
from sqlalchemy.orm import Session

from flask_executor import (
    Executor,
    GroupTimeout,
    JobExited,
    JobFuture,
    JobGroup,
    JobInfo,
    QueueFull,
    Retry,
    current_job,
    job_cancelled,
    job_submitted,
)
from tests import inside
from tests.support import WAIT, Gate, Interrupted, MakeExecutor, app_log


def double(number: int) -> int:
    return 2 * number


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


async def double_async(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fail_async(text: str = "on purpose") -> None:
    await asyncio.sleep(0)
    raise ValueError(text)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def until_asked() -> None:
    """Run until it is asked to stop."""
    while not current_job.cancel_requested:
        threading.Event().wait(0.001)
    current_job.check_cancelled()


def outcome_of(call: Callable[[], Any]) -> Any:
    """What *call* returns or raises, in a form that can be compared."""
    try:
        return call()
    except BaseExceptionGroup as group:
        return {"failures": sorted(map(repr, group.exceptions))}
    except BaseException as error:
        return repr(error)


# Next to asyncio.TaskGroup, with coroutines as jobs

Start = Callable[..., Awaitable[Any]]


async def all_succeed(start: Start) -> list[Any]:
    return [start(double_async, 1), start(double_async, 2)]


async def one_fails(start: Start) -> None:
    start(forever)
    start(fail_async)


async def one_fails_while_the_block_waits(start: Start) -> None:
    start(fail_async)
    await forever()


async def one_fails_while_the_block_awaits_another(start: Start) -> None:
    start(fail_async)
    await start(forever)


async def one_is_cancelled(start: Start) -> None:
    start(forever).cancel()  # type: ignore[attr-defined]
    start(double_async, 1)


async def the_block_awaits_a_cancelled_one(start: Start) -> None:
    cancelled = start(forever)
    cancelled.cancel()  # type: ignore[attr-defined]
    await cancelled


async def the_caller_cancels_the_block(start: Start) -> None:
    start(forever)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    await forever()


async def the_caller_cancels_the_wait(start: Start) -> None:
    start(forever)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel)


async def a_cancelled_block_whose_job_fails(start: Start) -> None:
    has_begun = False

    async def fails_as_it_ends() -> None:
        nonlocal has_begun
        try:
            has_begun = True
            await forever()
        finally:
            raise ValueError("as it ends")

    start(fails_as_it_ends)
    while not has_begun:
        await asyncio.sleep(0.001)
    raise asyncio.CancelledError


CASES = [
    all_succeed,
    one_fails,
    one_fails_while_the_block_waits,
    one_fails_while_the_block_awaits_another,
    one_is_cancelled,
    the_block_awaits_a_cancelled_one,
    the_caller_cancels_the_block,
    the_caller_cancels_the_wait,
    a_cancelled_block_whose_job_fails,
]


async def in_task_group(case: Callable[[Start], Awaitable[Any]]) -> Any:
    async with asyncio.TaskGroup() as group:
        started = await case(lambda fn, *args: group.create_task(fn(*args)))
    return started and [task.result() for task in started]


async def in_job_group(executor: Executor, case: Callable[[Start], Awaitable[Any]]) -> Any:
    async with executor.group() as group:
        started = await case(group.submit_async)
    return started and [future.result() for future in started]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_an_async_group_ends_as_a_task_group(
    executor: Executor, case: Callable[[Start], Awaitable[Any]]
) -> None:
    expected = outcome_of(lambda: asyncio.run(asyncio.wait_for(in_task_group(case), WAIT)))

    assert outcome_of(
        lambda: asyncio.run(asyncio.wait_for(in_job_group(executor, case), WAIT))
    ) == (expected)
    executor.drain(WAIT)


# Those that need no futures of the jobs: anyio's task group, which is trio's nursery, has none.
WITHOUT_FUTURES = [
    one_fails,
    one_fails_while_the_block_waits,
    the_caller_cancels_the_block,
    the_caller_cancels_the_wait,
    a_cancelled_block_whose_job_fails,
]


async def in_anyio(case: Callable[[Start], Awaitable[Any]]) -> None:
    async with anyio.create_task_group() as group:
        await case(group.start_soon)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", WITHOUT_FUTURES, ids=lambda case: case.__name__)
def test_an_async_group_ends_as_that_of_anyio(
    executor: Executor, case: Callable[[Start], Awaitable[Any]]
) -> None:
    expected = outcome_of(lambda: asyncio.run(asyncio.wait_for(in_anyio(case), WAIT)))

    found = outcome_of(lambda: asyncio.run(asyncio.wait_for(in_job_group(executor, case), WAIT)))
    assert found == expected


# Where they differ; the table in the docs says so.


async def the_block_raises(start: Start) -> None:
    start(forever)
    raise KeyError("of the block")


async def the_block_raises_and_a_job_fails(start: Start) -> None:
    begun = asyncio.Event()

    async def fails_as_it_ends(loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            await forever()
        finally:
            raise ValueError("as it ends")

    start(fails_as_it_ends, asyncio.get_running_loop())
    await begun.wait()
    raise KeyError("of the block")


@pytest.mark.parametrize("case", [the_block_raises, the_block_raises_and_a_job_fails])
def test_the_block_of_a_group_raises_its_own_exception_and_others_a_group_with_it(
    executor: Executor, case: Callable[[Start], Awaitable[Any]]
) -> None:
    own = repr(KeyError("of the block"))
    failures = [] if case is the_block_raises else [repr(ValueError("as it ends"))]

    for run in (in_task_group, in_anyio):
        outcome = outcome_of(lambda run=run: asyncio.run(asyncio.wait_for(run(case), WAIT)))
        assert outcome == {"failures": [own, *failures]}
    outcome = outcome_of(lambda: asyncio.run(asyncio.wait_for(in_job_group(executor, case), WAIT)))
    assert outcome == own


async def one_cancels_itself(start: Start) -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError("its own")

    start(cancels_itself)


def test_a_job_that_raises_a_cancelled_error_by_itself_has_failed(executor: Executor) -> None:
    for run in (in_task_group, in_anyio):
        assert asyncio.run(asyncio.wait_for(run(one_cancels_itself), WAIT)) is None
    with pytest.raises(ExceptionGroup, match="1 job of a group failed: cancels_itself"):
        asyncio.run(asyncio.wait_for(in_job_group(executor, one_cancels_itself), WAIT))


def test_a_job_that_exits_has_failed(executor: Executor) -> None:
    with pytest.raises(ExceptionGroup) as caught, executor.group() as group:
        group.submit(sys.exit, 3)

    assert caught.group_contains(JobExited, depth=1)


async def a_job_takes_too_long(start: Start) -> None:
    start(forever)


async def the_block_takes_too_long(start: Start) -> None:
    start(forever)
    await forever()


async def a_job_fails_as_it_ends(start: Start) -> None:
    async def fails_as_it_ends() -> None:
        try:
            await forever()
        finally:
            raise ValueError("as it ends")

    start(fails_as_it_ends)


Limit = Callable[[Executor, float, Callable[[Start], Awaitable[Any]]], Awaitable[Any]]


async def task_group_in_asyncio_timeout(_: Executor, seconds: float, case: Any) -> None:
    async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
        await case(lambda fn: group.create_task(fn()))


async def group_of_anyio_in_fail_after(_: Executor, seconds: float, case: Any) -> None:
    with anyio.fail_after(seconds):
        async with anyio.create_task_group() as group:
            await case(group.start_soon)


async def group_in_asyncio_timeout(executor: Executor, seconds: float, case: Any) -> None:
    async with asyncio.timeout(seconds), executor.group() as group:
        await case(group.submit_async)


async def group_in_fail_after(executor: Executor, seconds: float, case: Any) -> None:
    with anyio.fail_after(seconds):
        async with executor.group() as group:
            await case(group.submit_async)


async def group_with_a_timeout(executor: Executor, seconds: float, case: Any) -> None:
    async with executor.group(timeout=seconds) as group:
        await case(group.submit_async)


@pytest.mark.parametrize(
    "limit",
    [
        task_group_in_asyncio_timeout,
        group_of_anyio_in_fail_after,
        group_in_asyncio_timeout,
        group_in_fail_after,
        group_with_a_timeout,
    ],
)
@pytest.mark.parametrize(
    ("case", "seconds", "expected"),
    [
        (a_job_takes_too_long, 0.01, TimeoutError),
        (the_block_takes_too_long, 0.01, TimeoutError),
        (a_job_fails_as_it_ends, 0.3, ExceptionGroup),  # It begins in time.
    ],
)
def test_groups_end_alike_when_their_time_is_up(
    executor: Executor, limit: Limit, case: Any, seconds: float, expected: type[Exception]
) -> None:
    executor.submit(double_async, 1).result(WAIT)  # so that the loop runs

    with pytest.raises(expected):
        asyncio.run(asyncio.wait_for(limit(executor, seconds, case), WAIT))
    executor.drain(WAIT)


@pytest.mark.parametrize("case", CASES[1:4], ids=lambda case: case.__name__)
def test_a_task_goes_on_after_a_group_has_cancelled_it(
    executor: Executor, case: Callable[[Start], Awaitable[Any]]
) -> None:
    async def goes_on() -> int:
        with pytest.raises(ExceptionGroup):
            await in_job_group(executor, case)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(asyncio.wait_for(goes_on(), WAIT)) == 0


@pytest.mark.parametrize("ends_with", [KeyError, None])
def test_a_cancellation_that_an_error_hides_is_raised_by_the_next_await(
    executor: Executor, ends_with: type[Exception] | None
) -> None:
    begun = threading.Event()
    asked = asyncio.Event()

    async def cleans_up(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        begun.set()
        try:
            await forever()
        finally:
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(asked.set)
            while not task.cancelling():
                await asyncio.sleep(0)
            if ends_with is None:
                raise ValueError("as it ends")

    async def block() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(ends_with or ExceptionGroup):
            async with executor.group() as group:
                group.submit(cleans_up, asyncio.get_running_loop(), task)
                await asyncio.to_thread(begun.wait, WAIT)
                if ends_with is not None:
                    raise ends_with
                group.submit(fail)
        assert task.cancelling() == 1
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(block(), WAIT))


def test_one_that_anyio_cancels_in_each_turn_of_the_loop_awaits_its_job_once(
    executor: Executor, gate: Gate
) -> None:
    counts: list[int] = []

    def turn(future: JobFuture[Any], left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(turn, future, left - 1)
            return
        counts.append(inside.count_who_await(future))
        gate.open()

    async def block() -> None:
        with anyio.CancelScope() as scope:
            async with executor.group() as group:
                future = group.submit(gate)
                gate.await_arrival()
                scope.cancel()
                turn(future, 50)

    asyncio.run(block())

    assert counts == [1]


# In both kinds of block


def in_sync(executor: Executor, block: Callable[[JobGroup], Any], timeout: float | None) -> Any:
    with executor.group(timeout=timeout) as group:
        return block(group)


def in_async(executor: Executor, block: Callable[[JobGroup], Any], timeout: float | None) -> Any:
    async def run() -> Any:
        async with executor.group(timeout=timeout) as group:
            return block(group)

    return asyncio.run(asyncio.wait_for(run(), WAIT))


may_block_the_loop = pytest.mark.filterwarnings("ignore:.*blocks the event loop:RuntimeWarning")


@pytest.fixture(params=[in_sync, in_async])
def run(request: pytest.FixtureRequest, executor: Executor) -> Callable[..., Any]:
    """Run a function as the block of a group, and return its result."""
    return lambda block, timeout=None: request.param(executor, block, timeout)


@pytest.mark.parametrize("fn", [double, double_async])
def test_the_block_ends_when_its_jobs_have_ended(run: Callable[..., Any], fn: Any) -> None:
    futures = run(lambda group: [group.submit(fn, 1), group.options(delay=0.01).submit(fn, 2)])

    assert [future.done() for future in futures] == [True, True]
    assert [future.result() for future in futures] == [2, 4]


def test_jobs_of_a_group_may_submit_to_it(run: Callable[..., Any]) -> None:
    futures = []

    def submits(group: JobGroup) -> None:
        futures.append(group.submit(double, 2))

    run(lambda group: group.submit(submits, group) and None)

    assert [future.result() for future in futures] == [4]


@pytest.mark.parametrize("waiting", [until_asked, forever])
def test_a_failure_stops_the_others(
    run: Callable[..., Any], executor: Executor, gate: Gate, waiting: Any
) -> None:
    futures = []

    def block(group: JobGroup) -> None:
        futures.append(group.submit(waiting))
        futures.append(group.options(delay=1000).submit(double, 1))
        group.submit(fail)

    with pytest.raises(ExceptionGroup, match=r"^1 job of a group failed: fail") as caught:
        run(block)

    assert [str(error) for error in caught.value.exceptions] == ["on purpose"]
    assert [future.state for future in futures] == ["cancelled", "cancelled"]
    assert executor.stats().cancelled == 2


@may_block_the_loop
def test_a_job_that_comes_after_a_failure_is_cancelled(run: Callable[..., Any]) -> None:
    ran: list[int] = []
    futures = []

    def block(group: JobGroup) -> None:
        failed = group.submit(fail)
        with pytest.raises(ValueError, match="on purpose"):
            failed.result(WAIT)
        while not group.is_aborted():
            threading.Event().wait(0.001)
        futures.append(group.submit(ran.append, 1))

    with pytest.raises(ExceptionGroup):
        run(block)

    assert futures[0].cancelled()
    assert ran == []


def test_an_error_of_the_block_stops_the_jobs_and_passes(run: Callable[..., Any]) -> None:
    futures = []

    def block(group: JobGroup) -> None:
        futures.append(group.submit(until_asked))
        futures.append(group.submit(fail))
        while not futures[1].done():
            threading.Event().wait(0.001)
        raise KeyError("of the block")

    with pytest.raises(KeyError, match="of the block") as caught:
        run(block)

    assert futures[0].cancelled()
    assert caught.value.__notes__ == ["Meanwhile, 1 job of a group failed: fail"]
    assert isinstance(futures[1].exception(), ValueError)


@pytest.mark.parametrize("key", [None, "key"])
def test_a_job_that_comes_after_a_failure_is_announced_and_recorded_as_any_other(
    app: Flask, executors: MakeExecutor, gate: Gate, key: str | None
) -> None:
    executor = executors(app, max_workers=1, max_pending=1, store_records="all")
    announced: list[str] = []

    def submitted(_: Flask, job: JobInfo, **__: object) -> None:
        announced.append(f"{job.name} is submitted")

    def cancelled(_: Flask, job: JobInfo, **__: object) -> None:
        announced.append(f"{job.name} is cancelled")

    with pytest.raises(ExceptionGroup), executor.group() as group:
        group.submit(fail)
        while not group.is_aborted():
            threading.Event().wait(0.001)
        gate.occupy(executor)
        executor.submit(double, 1)  # Now the queue has no room.
        with job_submitted.connected_to(submitted), job_cancelled.connected_to(cancelled):
            future = group.options(key=key).submit(double, 2)
        gate.open()

    assert future.cancelled()
    assert announced == ["double is submitted", "double is cancelled"]
    record = executor.records.get(future.id)
    assert record is not None
    assert record.state == "cancelled"


def test_a_job_that_waits_for_room_is_cancelled_with_its_group(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    announced: list[str] = []
    stack = ExitStack()
    for signal in (job_submitted, job_cancelled):
        stack.enter_context(
            signal.connected_to(
                lambda _, job, signal=signal, **__: announced.append(f"{signal.name} {job.name}")
            )
        )
    gate.occupy(executor)
    executor.submit(double, 1)
    ending = threading.Event()

    def ends() -> None:
        ending.wait(WAIT)
        raise KeyError("of the block")

    def waits_for_room(group: JobGroup) -> JobFuture[int]:
        with app.app_context():
            return group.options(queue_timeout=WAIT).submit(double, 2)

    with stack, ThreadPoolExecutor(1) as thread:
        with pytest.raises(KeyError, match="of the block"), executor.group() as group:
            submitting = thread.submit(waits_for_room, group)
            while not inside.waits_for_room(app):
                threading.Event().wait(0.001)
            del announced[:]
            ending.set()
            ends()
        future = submitting.result(WAIT)
        gate.open()

    assert future.cancelled()
    assert announced == ["job-submitted double", "job-cancelled double"]


@may_block_the_loop
@pytest.mark.parametrize("is_read", [False, True])
def test_a_cancelled_error_that_a_job_raises_by_itself_is_a_failure_that_views_can_handle(
    run: Callable[..., Any], is_read: bool
) -> None:
    def raises() -> None:
        raise asyncio.CancelledError("its own")

    def block(group: JobGroup) -> None:
        future = group.submit(raises)
        if is_read:
            future.result(WAIT)

    with pytest.raises(ExceptionGroup) as caught:
        run(block)

    (failure,) = caught.value.exceptions
    assert isinstance(failure, RuntimeError)
    assert isinstance(failure.__cause__, asyncio.CancelledError)


def test_a_cancelled_error_of_a_job_that_the_block_awaits_is_raised_in_a_group(
    executor: Executor,
) -> None:
    async def raises() -> None:
        raise asyncio.CancelledError("its own")

    async def block() -> None:
        async with executor.group() as group:
            future = group.submit(raises)
            with pytest.raises(RuntimeError):
                await future
            while not group.is_aborted():
                await asyncio.sleep(0)
            await future

    with pytest.raises(ExceptionGroup, match=r"^1 job of a group failed: raises"):
        asyncio.run(asyncio.wait_for(block(), WAIT))


@may_block_the_loop
def test_a_failure_that_the_block_has_read_is_raised_as_a_group(run: Callable[..., Any]) -> None:
    def block(group: JobGroup) -> None:
        waiting = group.submit(until_asked)
        failed = group.submit(fail)
        with pytest.raises(CancelledError):
            waiting.result(WAIT)
        failed.result(WAIT)

    with pytest.raises(ExceptionGroup, match=r"^1 job of a group failed: fail") as caught:
        run(block)

    assert [str(error) for error in caught.value.exceptions] == ["on purpose"]
    assert caught.value.__suppress_context__


@may_block_the_loop
def test_a_failure_that_a_map_raises_in_the_block_is_raised_as_a_group(
    run: Callable[..., Any],
) -> None:
    for chunksize in (1, 2):
        with pytest.raises(ExceptionGroup) as caught:
            run(lambda group, size=chunksize: list(group.map(fail, "ab", chunksize=size)))

        assert {str(error) for error in caught.value.exceptions} <= {"a", "b"}


@may_block_the_loop
def test_a_block_that_awaits_an_ended_job_raises_its_failure_as_a_group(
    executor: Executor,
) -> None:
    async def block() -> None:
        async with executor.group() as group:
            future = group.submit(fail)
            with pytest.raises(ValueError, match="on purpose"):
                future.result(WAIT)
            await future

    with pytest.raises(ExceptionGroup, match=r"^1 job of a group failed: fail"):
        asyncio.run(asyncio.wait_for(block(), WAIT))


@may_block_the_loop
def test_a_block_that_waits_for_a_job_when_the_time_is_up_raises_group_timeout(
    run: Callable[..., Any],
) -> None:
    for wait in (
        lambda group: group.submit(until_asked).result(WAIT),
        lambda group: list(group.options(delay=1000).map(double, [1])),
    ):
        with pytest.raises(GroupTimeout) as caught:
            run(wait, timeout=0.05)

        assert caught.value.__suppress_context__


@may_block_the_loop
def test_a_block_that_waits_for_a_job_it_has_cancelled_raises_the_cancellation(
    run: Callable[..., Any],
) -> None:
    def block(group: JobGroup) -> None:
        future = group.options(delay=1000).submit(double, 1)
        future.cancel()
        future.result(WAIT)

    with pytest.raises(CancelledError):
        run(block)


def test_a_job_that_was_asked_to_stop_is_cancelled_although_its_group_has_failed(
    executor: Executor,
) -> None:
    has_begun = threading.Event()

    def job() -> None:
        with executor.group() as group:
            group.submit(fail)
            has_begun.set()
            until_asked()

    future = executor.submit(job)
    assert has_begun.wait(WAIT)
    assert not future.cancel()

    with pytest.raises(CancelledError):
        future.result(WAIT)


@may_block_the_loop
def test_a_plain_group_does_not_hide_that_its_task_is_cancelled(executor: Executor) -> None:
    async def block() -> None:
        with executor.group() as group:
            assert isinstance(group.submit(fail).exception(WAIT), ValueError)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(block())


def test_failures_behind_an_error_of_the_block_are_logged(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError), executor.group() as group:
        group.submit(fail)
        raise KeyError

    executor.drain(WAIT)
    assert [record.message.partition(" (")[0] for record in app_log(caplog)] == ["Job fail"]


def test_failures_that_a_group_raises_are_not_logged(
    run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def block(group: JobGroup) -> None:
        for text in "ab":
            group.options(delay=0.001).submit(fail, text)

    with pytest.raises(ExceptionGroup):
        run(block)

    assert app_log(caplog) == []


def test_when_the_time_is_up_the_jobs_are_stopped(run: Callable[..., Any]) -> None:
    futures = []

    def block(group: JobGroup) -> None:
        futures.append(group.submit(until_asked))
        futures.append(group.submit(forever))
        futures.append(group.options(delay=1000).submit(double, 1))

    with pytest.raises(GroupTimeout) as caught:
        run(block, timeout=0.05)

    assert isinstance(caught.value, TimeoutError)
    late = "until_asked, forever, double"
    assert str(caught.value) == f"a group has not ended within its 0.05 s; not done by then: {late}"
    assert [future.state for future in futures] == ["cancelled"] * 3


def test_when_the_time_is_up_the_code_of_an_async_block_is_cancelled(executor: Executor) -> None:
    async def waits(block: Callable[[JobGroup], Awaitable[Any]]) -> None:
        async with executor.group(timeout=0.05) as group:
            await block(group)

    for block, late in [
        (lambda _: forever(), "the code of its block"),
        (lambda group: group.submit_async(forever), "forever"),
    ]:
        with pytest.raises(GroupTimeout, match=f"; not done by then: {late}$"):
            asyncio.run(asyncio.wait_for(waits(block), WAIT))


def test_a_group_that_ends_in_time_leaves_no_timer(run: Callable[..., Any]) -> None:
    future = run(lambda group: group.submit(double, 1), timeout=2)

    assert future.result() == 2


def test_a_map_may_belong_to_a_group(executor: Executor) -> None:
    async def double_all() -> list[int]:
        async with executor.group() as group:
            return [result async for result in group.map_async(double, [1, 2])]

    with executor.group() as group:
        assert list(group.map(double, [1, 2])) == [2, 4]
    with pytest.raises(ExceptionGroup), executor.group() as group:
        group.map(fail, ["a"])
    assert asyncio.run(double_all()) == [2, 4]


def test_a_refused_job_is_no_failure_of_the_group(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    gate.occupy(executor)
    executor.submit(double, 1)

    with executor.group() as group:
        with pytest.raises(QueueFull):
            group.submit(double, 1)
        gate.open()


@pytest.mark.parametrize("type_", ["thread", "inline"])
@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_job_of_a_group_may_have_all_options(
    app: Flask, executors: MakeExecutor, type_: str, is_coroutine: bool
) -> None:
    executor = executors(app, type=type_, max_workers=1, max_pending=1)
    attempts: list[int] = []
    session = Session()

    def job() -> list[int]:
        attempts.append(current_job.attempt)
        if len(attempts) < 3:
            raise ValueError
        return attempts

    async def job_async() -> list[int]:
        return job()

    with executor.group(timeout=WAIT) as group:
        options = group.options(
            key="key",
            on_duplicate="return",
            after=session,
            delay=0.001,
            retry=Retry(3, delay=0.001),
            timeout=WAIT,
            queue_timeout=0.01,
        )
        future = options.submit(job_async if is_coroutine else job)
        assert options.submit(job) is future
        with pytest.raises(QueueFull):
            group.options(after=session).submit(double, 1)
        session.commit()

    assert future.result() == [1, 2, 3]
    stats = executor.stats()
    assert (stats.submitted, stats.succeeded, stats.failed, stats.cancelled) == (1, 1, 0, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_groups_nest_in_jobs_of_few_workers(
    app: Flask, executors: MakeExecutor, workers: int
) -> None:
    executor = executors(app, max_workers=workers)

    def add_up(depth: int) -> int:
        if depth == 0:
            return 1
        with executor.group() as group:
            futures = [group.submit(add_up, depth - 1) for _ in range(2)]
        return sum(future.result() for future in futures)

    assert executor.submit(add_up, 5).result(WAIT) == 32


def test_groups_nest_in_coroutine_jobs(executor: Executor) -> None:
    async def add_up(depth: int) -> int:
        if depth == 0:
            return 1
        async with executor.group() as group:
            futures = [group.submit_async(add_up, depth - 1) for _ in range(2)]
        return sum(future.result() for future in futures)

    assert executor.submit(add_up, 5).result(WAIT) == 32


def test_a_failure_leaves_nested_groups_as_groups(executor: Executor) -> None:
    def inner() -> None:
        with executor.group() as group:
            group.submit(fail)

    with pytest.raises(ExceptionGroup) as caught, executor.group() as group:
        group.submit(inner)

    assert caught.group_contains(ValueError, match="on purpose", depth=2)


def test_jobs_in_other_processes_belong_to_groups(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="process", max_workers=2)

    with executor.group() as group:
        future = group.submit(double, 2)
    assert future.result() == 4
    with pytest.raises(ExceptionGroup), executor.group() as group:
        group.submit(fail)


def test_a_cancelled_coroutine_job_cancels_its_group(executor: Executor) -> None:
    futures, has_begun = [], threading.Event()

    async def job() -> None:
        async with executor.group() as group:
            futures.append(group.submit(forever))
            has_begun.set()

    future = executor.submit(job)
    assert has_begun.wait(WAIT)
    assert future.cancel()

    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert futures[0].cancelled()


def test_a_wait_that_is_interrupted_stops_the_jobs(
    executor: Executor, interrupt: Callable[[], None]
) -> None:
    with pytest.raises(Interrupted), executor.group() as group:
        future = group.submit(until_asked)
        threading.Thread(target=interrupt, daemon=True).start()

    with pytest.raises(CancelledError):
        future.result(WAIT)


def test_inline_jobs_belong_to_groups(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="inline")
    ran: list[int] = []

    with executor.group() as group:
        group.submit(ran.append, 1)
    with pytest.raises(ExceptionGroup), executor.group() as group:
        group.submit(fail)
        group.submit(ran.append, 2)

    assert ran == [1]


def test_a_view_answers_with_the_results_of_a_group(app: Flask, executor: Executor) -> None:
    @app.get("/")
    async def view() -> list[int]:
        async with executor.group(timeout=WAIT) as group:
            futures = [group.submit_async(double, n) for n in range(3)]
        return [future.result() for future in futures]

    assert app.test_client().get("/").json == [0, 2, 4]


# Refused


@pytest.mark.parametrize(
    "fn", [double, pytest.param(double_async, id="on the executor's own loop")]
)
def test_a_plain_block_in_async_code_is_told_to_be_an_async_one(
    app: Flask, executors: MakeExecutor, fn: Any
) -> None:
    app.config["EXECUTOR_ASYNC_VIEWS"] = True
    executor = executors(app)
    told: list[str] = []

    @app.get("/")
    async def view() -> str:
        with (
            pytest.raises((RuntimeWarning, RuntimeError)) as caught,
            executor.group() as group,
        ):
            group.options(delay=0.05).submit(fn, 1)
        told.append(str(caught.value))
        return ""

    assert app.test_client().get("/").status_code == 200
    assert told[0].endswith(("; use 'async with'", "; use 'async with' instead"))


def test_a_group_is_for_one_block(executor: Executor) -> None:
    group = executor.group()

    with pytest.raises(RuntimeError, match="only while its 'with' block runs"):
        group.submit(double, 1)
    with group:
        pass
    with pytest.raises(RuntimeError, match="only while its 'with' block runs"):
        group.submit(double, 1)
    with pytest.raises(RuntimeError, match="make another one"), group:
        pass
    assert executor.stats().submitted == 0


@pytest.mark.parametrize("timeout", [0, -1, "1"])
def test_a_bad_timeout_is_refused(executor: Executor, timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout is"):
        executor.group(timeout=timeout)

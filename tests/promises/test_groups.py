"""Jobs that belong to a block: `executor.group`, next to `asyncio.TaskGroup`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any

import anyio
import pytest
from flask import Flask

from flask_executor import Executor, GroupTimeout, JobGroup, QueueFull, current_job
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
    async def fails_as_it_ends() -> None:
        try:
            await forever()
        finally:
            raise ValueError("as it ends")

    start(fails_as_it_ends)
    await asyncio.sleep(0.05)  # so that it has begun
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


def test_a_group_out_of_time_ends_as_that_of_anyio(executor: Executor) -> None:
    async def in_anyio() -> None:
        with anyio.fail_after(0.01):
            async with anyio.create_task_group() as group:
                group.start_soon(forever)

    async def in_ours() -> None:
        async with executor.group(timeout=0.01) as group:
            group.submit_async(forever)

    for run in (in_anyio, in_ours):
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(run(), WAIT))


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


# In both kinds of block


def in_sync(executor: Executor, block: Callable[[JobGroup], Any], timeout: float | None) -> Any:
    with executor.group(timeout=timeout) as group:
        return block(group)


def in_async(executor: Executor, block: Callable[[JobGroup], Any], timeout: float | None) -> Any:
    async def run() -> Any:
        async with executor.group(timeout=timeout) as group:
            return block(group)

    return asyncio.run(asyncio.wait_for(run(), WAIT))


Run = Callable[[Callable[[JobGroup], Any]], Any]


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

    with pytest.raises(GroupTimeout, match=r"not ended within its 0\.05 s") as caught:
        run(block, timeout=0.05)

    assert isinstance(caught.value, TimeoutError)
    assert [future.state for future in futures] == ["cancelled"] * 3


def test_when_the_time_is_up_the_code_of_an_async_block_is_cancelled(executor: Executor) -> None:
    async def waits(block: Callable[[JobGroup], Awaitable[Any]]) -> None:
        async with executor.group(timeout=0.05) as group:
            await block(group)

    for block in (lambda _: forever(), lambda group: group.submit_async(forever)):
        with pytest.raises(GroupTimeout):
            asyncio.run(asyncio.wait_for(waits(block), WAIT))


def test_a_group_that_ends_in_time_leaves_no_timer(run: Callable[..., Any]) -> None:
    future = run(lambda group: group.submit(double, 1), timeout=0.2)

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

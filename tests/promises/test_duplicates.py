"""A key that is in use: `on_duplicate`."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Flask

from flask_executor import DuplicateKey, Executor, JobFuture, job_submitted
from tests.support import WAIT, Gate, MakeExecutor, at_once

THREADS = 8


def double(number: int) -> int:
    return 2 * number


class Argument:
    """An argument that can be seen to go."""


@pytest.fixture(params=["thread", "process", "inline"])
def any_executor(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Executor:
    return executors(app, type=request.param)


def test_return_gives_the_stored_future_and_submits_no_job(any_executor: Executor) -> None:
    first = any_executor.options(key="report").submit(pow, 2, 3)
    announced, called = [], []
    any_executor.add_default_done_callback(called.append)

    def receive(sender: Flask, **_: object) -> None:
        announced.append(sender)

    with job_submitted.connected_to(receive):
        second = any_executor.options(key="report", on_duplicate="return").submit(pow, 5, 2)
    any_executor.drain(WAIT)

    assert second is first
    assert second.result(WAIT) == 8
    assert (announced, called) == ([], [])
    assert any_executor.stats().submitted == 1


def test_replace_submits_the_job_if_the_stored_one_has_ended(any_executor: Executor) -> None:
    first = any_executor.options(key="report").submit(pow, 2, 3)
    any_executor.submit_stored("other", pow, 1, 1)
    any_executor.drain(WAIT)

    second = any_executor.options(key="report", on_duplicate="replace").submit(pow, 5, 2)

    assert (first.result(WAIT), second.result(WAIT)) == (8, 25)
    assert any_executor.futures.get("report") is second
    assert list(any_executor.futures) == ["other", "report"]


def test_replace_is_refused_while_the_stored_job_has_not_ended(
    executor: Executor, gate: Gate
) -> None:
    first = executor.submit_stored("report", gate)

    with pytest.raises(DuplicateKey, match="it can be replaced once it has ended") as caught:
        executor.options(key="report", on_duplicate="replace").submit(double, 2)

    assert caught.value.key == "report"
    assert executor.futures.get("report") is first
    assert executor.stats().submitted == 1


@pytest.mark.parametrize("on_duplicate", [None, "raise"])
def test_by_default_a_key_in_use_is_refused(executor: Executor, on_duplicate: Any) -> None:
    executor.submit_stored("report", double, 2).result(WAIT)

    with pytest.raises(DuplicateKey, match="pop it first"):
        executor.options(key="report", on_duplicate=on_duplicate).submit(double, 2)


def test_the_option_of_a_decorator_applies_to_submit_stored(executor: Executor) -> None:
    job = executor.job(on_duplicate="return")(double)

    first = job.submit_stored("report", 2)

    assert job.submit_stored("report", 3) is first
    assert executor.submit_stored("report", job, 4) is first
    assert job.options(key="report", on_duplicate="replace").submit(5).result(WAIT) == 10


@pytest.mark.parametrize(
    "submit",
    [
        lambda executor: executor.options(on_duplicate="return").submit(double, 1),
        lambda executor: executor.job(on_duplicate="return")(double).submit(1),
        lambda executor: executor.job(double).options(on_duplicate="return").submit(1),
    ],
    ids=["options", "decorator", "job-options"],
)
def test_without_a_key_it_is_refused(
    executor: Executor, submit: Callable[[Executor], object]
) -> None:
    with pytest.raises(TypeError, match=r"on_duplicate='return' is for a job with a key"):
        submit(executor)

    assert executor.stats().submitted == 0


@pytest.mark.parametrize("name", ["map", "map_async"])
def test_a_map_is_told_to_submit_each_item_by_itself(executor: Executor, name: str) -> None:
    job = executor.job(on_duplicate="return")(double)

    with pytest.raises(TypeError, match=r"^on_duplicate is .* each item by itself: options\(key="):
        getattr(job, name)([1])

    assert executor.stats().submitted == 0


@pytest.mark.parametrize("value", ["ignore", 1, ["return"]])
@pytest.mark.parametrize("method", ["options", "job"])
def test_another_value_is_refused_where_it_is_given(
    executor: Executor, method: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=r"on_duplicate is .*; expected 'raise', 'return' or 're"):
        getattr(executor, method)(on_duplicate=value)


def test_of_many_threads_that_return_one_starts_its_job(
    executor: Executor, gate: Gate, fast_switching: None
) -> None:
    submitter = executor.options(key="report", on_duplicate="return")

    futures = at_once(*[lambda: submitter.submit(gate)] * THREADS)

    assert len(set(futures)) == 1
    assert executor.stats().submitted == 1


def test_of_many_threads_that_replace_one_does(
    executor: Executor, gate: Gate, fast_switching: None
) -> None:
    old = executor.submit_stored("report", double, 1)
    executor.drain(WAIT)
    submitter = executor.options(key="report", on_duplicate="replace")

    outcomes = at_once(*[lambda: submitter.submit(gate)] * THREADS)

    [new] = [each for each in outcomes if isinstance(each, JobFuture)]
    assert sum(isinstance(each, DuplicateKey) for each in outcomes) == THREADS - 1
    assert executor.futures.get("report") is new is not old
    assert executor.stats().submitted == 2


def test_a_returned_duplicate_takes_no_place_in_a_bounded_queue(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    gate.occupy(executor)
    submitter = executor.options(key="report", on_duplicate="return")
    first = submitter.submit(double, 2)  # It takes the only place.

    assert [submitter.submit(double, 3) for _ in range(3)] == [first] * 3
    gate.open()
    assert first.result(WAIT) == 4
    executor.drain(WAIT)
    assert executor.stats().submitted == 2


def test_the_arguments_of_a_job_that_is_not_submitted_are_let_go(
    executor: Executor, no_gc: None
) -> None:
    executor.submit_stored("report", double, 2)
    argument = Argument()
    ref = weakref.ref(argument)

    executor.options(key="report", on_duplicate="return").submit(id, argument)
    del argument

    assert ref() is None


def test_a_replaced_future_is_let_go(executor: Executor) -> None:
    ref = weakref.ref(executor.submit_stored("report", double, 2))
    executor.drain(WAIT)

    executor.options(key="report", on_duplicate="replace").submit(double, 3)
    executor.drain(WAIT)

    gc.collect()
    assert ref() is None


def test_a_replaced_future_does_not_count_as_the_oldest_that_is_done(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, futures_max_length=2)
    for key in ("a", "b"):
        executor.submit_stored(key, double, 1)
        executor.drain(WAIT)

    executor.options(key="a", on_duplicate="replace").submit(double, 2)
    executor.drain(WAIT)
    executor.submit_stored("c", double, 3)

    assert list(executor.futures) == ["a", "c"]


def test_a_plain_future_that_the_app_has_stored_is_returned(executor: Executor) -> None:
    plain: Future[int] = Future()
    executor.futures.add("report", plain)

    assert executor.options(key="report", on_duplicate="return").submit(double, 2) is plain


async def outcome_of_plain(executor: Executor, settle: Callable[[Future[int]], object]) -> Any:
    """What an await of a plain stored future gives."""
    plain: Future[int] = Future()
    executor.futures.add("report", plain)
    submitter = executor.options(key="report", on_duplicate="return")
    waiter = submitter.submit_async(double, 2)
    await asyncio.to_thread(settle, plain)
    return await waiter


def test_submit_async_awaits_a_plain_stored_future(executor: Executor) -> None:
    assert asyncio.run(outcome_of_plain(executor, lambda future: future.set_result(7))) == 7
    executor.futures.pop("report")
    with pytest.raises(LookupError):
        asyncio.run(outcome_of_plain(executor, lambda future: future.set_exception(LookupError())))
    executor.futures.pop("report")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(outcome_of_plain(executor, lambda future: future.cancel()))


def test_a_wait_for_a_plain_stored_future_that_is_cancelled_cancels_it(executor: Executor) -> None:
    plain: Future[int] = Future()
    executor.futures.add("report", plain)

    async def give_up() -> None:
        executor.options(key="report", on_duplicate="return").submit_async(double, 2).cancel()

    asyncio.run(give_up())

    assert plain.cancelled()


def test_submit_async_awaits_the_stored_job(executor: Executor, gate: Gate) -> None:
    first = executor.submit_stored("report", gate, 5)

    async def main() -> object:
        waiter = executor.options(key="report", on_duplicate="return").submit_async(double, 2)
        gate.open()
        return await waiter

    assert asyncio.run(main()) == 5
    assert first.result(WAIT) == 5
    assert executor.stats().submitted == 1


def test_a_returned_future_does_not_become_a_job_of_the_group(
    executor: Executor, gate: Gate
) -> None:
    first = executor.submit_stored("report", gate)

    async def main() -> asyncio.Future[object]:
        async with executor.group() as group:
            submitter = group.options(key="report", on_duplicate="return")
            assert submitter.submit(double, 2) is first
            waiter = submitter.submit_async(double, 2)
        assert not waiter.done()
        return waiter.cancel()

    asyncio.run(main())


def test_a_plain_future_that_was_returned_is_settled_with_its_group(executor: Executor) -> None:
    plain: Future[int] = Future()
    executor.futures.add("report", plain)

    async def main() -> list[bool]:
        is_done = []
        for outcome in (None, 7):
            async with executor.group() as group:
                submitter = group.options(key="report", on_duplicate="return")
                waiter = submitter.submit_async(double, 2)
                if outcome:
                    plain.set_result(outcome)
            is_done.append(waiter.done())
        return is_done

    assert asyncio.run(main()) == [False, True]


def test_a_job_that_is_refused_by_its_group_leaves_its_key_free(executor: Executor) -> None:
    group = executor.group()

    with pytest.raises(RuntimeError, match="only while its 'with' block runs"):
        group.options(key="report").submit(double, 2)

    assert "report" not in executor.futures
    assert executor.stats().submitted == 0


def test_a_stored_job_that_was_cancelled_can_be_replaced(executor: Executor) -> None:
    executor.options(key="report", delay=WAIT).submit(double, 1).cancel()

    new = executor.options(key="report", on_duplicate="replace").submit(double, 2)

    assert new.result(WAIT) == 4

"""Async iterables in plain code: `executor.iterate`."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from flask import Flask, Response, current_app, g, request, stream_with_context

from flask_executor import Executor, current_job
from tests.support import WAIT, Gate, Interrupted

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def count(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        await asyncio.sleep(0)
        yield number


class Numbers:
    """An async iterable that is no generator."""

    def __aiter__(self) -> AsyncIterator[int]:
        return count(3)


@pytest.mark.parametrize("iterable", [count(3), Numbers()], ids=["generator", "iterable"])
def test_the_items_come_in_order(executor: Executor, iterable: Any) -> None:
    assert list(executor.iterate(iterable)) == [0, 1, 2]


def test_a_view_streams_an_async_generator(app: Flask, executor: Executor) -> None:
    async def lines() -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0)
            yield f"{request.args['user']} {g.user} {current_app.name} {number}\n"

    @app.get("/")
    def view() -> Response:
        g.user = "ada"
        return Response(stream_with_context(executor.iterate(lines())))

    text = app.test_client().get("/?user=grace").text

    assert text == "grace ada app 0\ngrace ada app 1\ngrace ada app 2\n"


def test_a_step_is_made_when_its_item_is_asked_for(executor: Executor) -> None:
    made: list[int] = []

    async def rows() -> AsyncIterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    items = executor.iterate(rows())

    assert made == []
    assert next(items) == 0
    assert made == [0]
    assert list(items) == [1, 2]


def test_all_steps_are_made_in_one_task_and_in_one_copy_of_the_contextvars(
    executor: Executor,
) -> None:
    async def rows() -> AsyncIterator[tuple[Any, str]]:
        async with asyncio.timeout(WAIT), asyncio.TaskGroup():
            for number in range(3):
                yield asyncio.current_task(), variable.get()
                variable.set(f"row {number}")

    variable.set("caller")
    tasks, values = zip(*executor.iterate(rows()), strict=True)

    assert len(set(tasks)) == 1
    assert values == ("caller", "row 0", "row 1")
    assert variable.get() == "caller"


def test_plain_functions_of_the_iterable_share_a_thread(executor: Executor) -> None:
    async def rows() -> AsyncIterator[int]:
        for _ in range(3):
            yield await sync_to_async(threading.get_ident)()

    assert len(set(executor.iterate(rows()))) == 1


def test_closing_the_iterator_closes_the_async_generator(executor: Executor) -> None:
    closed: list[str] = []

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    items = executor.iterate(rows())
    next(items)
    items.close()

    assert closed == ["closed"]


@pytest.mark.parametrize("is_in_cycle", [False, True])
def test_an_iterator_that_is_dropped_closes_the_async_generator_and_does_not_wait(
    executor: Executor, caplog: pytest.LogCaptureFixture, gate: Gate, is_in_cycle: bool
) -> None:
    closed = threading.Event()

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.to_thread(gate)
            closed.set()

    items = executor.iterate(rows())
    next(items)
    holder: list[Any] = [items]
    if is_in_cycle:
        holder.append(holder)
    del items, holder
    gc.collect()

    assert not closed.is_set()
    gate.open()
    assert closed.wait(WAIT)
    executor.shutdown()
    assert caplog.records == []


def test_an_error_while_a_dropped_one_is_closed_is_logged(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("on purpose")

    items = executor.iterate(rows())
    next(items)
    del items
    executor.submit(asyncio.sleep, 0).result(WAIT)
    executor.shutdown()

    [record] = caplog.records
    assert record.getMessage() == "An async iterable raised as it was closed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "on purpose"


def test_one_that_shutdown_has_ended_is_dropped_in_silence(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    items = executor.iterate(count(3))
    next(items)
    executor.shutdown()

    del items

    assert caplog.records == []


def test_one_that_shutdown_has_ended_can_be_closed(executor: Executor) -> None:
    """As a server does with a response whose client goes away, or Python at its end."""
    closed: list[str] = []

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    items = executor.iterate(rows())
    next(items)
    executor.shutdown()

    items.close()

    assert closed == ["closed"]


def test_an_iterator_that_is_never_asked_starts_nothing(executor: Executor) -> None:
    async def rows() -> AsyncIterator[int]:
        raise AssertionError
        yield 1

    executor.iterate(rows()).close()


def test_an_error_of_the_iterable_is_raised_once(executor: Executor) -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1
        raise ValueError("on purpose")

    items = executor.iterate(rows())

    assert next(items) == 1
    with pytest.raises(ValueError, match="on purpose"):
        next(items)
    assert list(items) == []


def test_an_error_while_it_is_closed_is_raised(executor: Executor) -> None:
    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("on purpose")

    items = executor.iterate(rows())
    next(items)

    with pytest.raises(ValueError, match="on purpose"):
        items.close()


def test_an_iterable_that_cancels_itself_ends_the_iteration(executor: Executor) -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    items = executor.iterate(rows())
    next(items)

    with pytest.raises(CancelledError, match="cancelled: by the async iterable"):
        next(items)


def test_shutdown_ends_a_running_iteration(executor: Executor) -> None:
    items = executor.iterate(count(3))
    next(items)

    executor.shutdown()

    with pytest.raises(CancelledError, match="loop was stopped"):
        next(items)


def test_an_interrupted_reader_cancels_the_step(executor: Executor, interrupt: Any) -> None:
    ended = threading.Event()

    async def rows() -> AsyncIterator[int]:
        try:
            threading.Thread(target=interrupt, daemon=True).start()
            await asyncio.get_running_loop().create_future()
            yield 1
        finally:
            ended.set()

    with pytest.raises(Interrupted):
        next(executor.iterate(rows()))

    assert ended.wait(WAIT)


def test_a_value_that_is_yielded_is_not_kept(executor: Executor, no_gc: None) -> None:
    class Row:
        pass

    async def rows() -> AsyncIterator[Row]:
        yield Row()
        yield Row()

    items = executor.iterate(rows())
    first = next(items)
    seen = weakref.ref(first)
    del first
    next(items)

    assert seen() is None


def test_a_job_may_iterate(executor: Executor) -> None:
    async def names() -> AsyncIterator[str]:
        yield current_job.name

    def report() -> list[str]:
        return list(executor.iterate(names()))

    assert executor.submit(report).result(WAIT) == ["report"]


@pytest.mark.parametrize("wrong", [[1, 2], count, None])
def test_a_plain_iterable_is_refused(executor: Executor, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be iterated; expected an async iterable"):
        executor.iterate(wrong)


def test_the_executors_loop_cannot_iterate_and_other_loops_are_warned(
    executor: Executor,
) -> None:
    async def job() -> None:
        with pytest.warns(RuntimeWarning, match="blocks the event loop"):
            items = executor.iterate(count(3))
        with pytest.raises(RuntimeError, match="use 'async for' there"):
            next(items)

    executor.submit(job).result(WAIT)

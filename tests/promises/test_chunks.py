"""Chunks of items in this process: one job, and contexts of their own."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest
from flask import Flask, g, request

from flask_executor import Executor, current_job

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.fixture
def torn_down(app: Flask) -> list[object]:
    """What teardown functions are told, of items and jobs."""
    torn_down: list[object] = []
    app.teardown_appcontext(torn_down.append)
    return torn_down


def test_each_item_has_contextvars_and_g_of_its_own(app: Flask, executor: Executor) -> None:
    def item(n: int) -> tuple[object, ...]:
        seen = g.name, tenant.get(), request.path
        g.name = f"item {n}"
        tenant.set(f"item {n}")
        return seen

    with app.test_request_context("/here"):
        g.name = "view"
        tenant.set("acme")
        results = executor.map(item, range(10), chunksize=4)
        g.name = "later"
        assert list(results) == [("view", "acme", "/here")] * 10
        assert (g.name, tenant.get()) == ("later", "acme")
    tenant.set("nobody")


def test_the_items_of_a_chunk_are_one_job(executor: Executor) -> None:
    ids = list(executor.map(lambda _: current_job.id, range(10), chunksize=4))

    assert [ids.count(each) for each in dict.fromkeys(ids)] == [4, 4, 2]
    executor.drain()
    assert executor.stats().submitted == 3


def test_the_teardown_of_an_item_that_returns_a_coroutine_is_told(
    executor: Executor, torn_down: list[object]
) -> None:
    async def later(n: int) -> int:
        return n

    def work(n: int) -> object:
        return later(n)

    with pytest.raises(TypeError, match="'later' itself") as raised:
        list(executor.map(work, range(2), chunksize=2))
    executor.drain()

    assert torn_down == [raised.value, raised.value], "of the item, and of its job"


def test_each_item_has_one_teardown_with_what_it_raised(
    executor: Executor, torn_down: list[object]
) -> None:
    def item(n: int) -> float:
        return 1 / n

    results = executor.map(item, [1, 2, 0, 4], chunksize=4)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    executor.drain()

    # The last one is the job's own.
    assert torn_down == [None, None, raised.value, raised.value]


def test_without_app_contexts_items_have_none(app: Flask, executors) -> None:
    executor = executors(app, push_app_context=False)

    assert list(executor.map(lambda _: bool(g), range(4), chunksize=2)) == [False] * 4


def test_coroutine_functions_run_one_by_one_on_the_loop(executor: Executor) -> None:
    both = asyncio.Barrier(4)

    async def meet(n: int) -> int:
        await both.wait()
        return n

    assert list(executor.map(meet, range(4), chunksize=4, timeout=20)) == list(range(4))
    assert executor.stats().submitted == 4

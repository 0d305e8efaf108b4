"""asyncpg: one pool for all coroutine jobs and, with EXECUTOR_ASYNC_VIEWS, for all async views."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from flask import Flask

from flask_executor import Executor
from tests.integrations.support import N_JOBS, Failed
from tests.support import WAIT, MakeExecutor, at_once

SIZE = 4


@pytest.fixture
def executor(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, async_views=True)


@pytest.fixture
def pool(executor: Executor, postgresql: str) -> Iterator[asyncpg.Pool]:
    """A pool of four connections, and an empty table."""

    async def open_pool() -> asyncpg.Pool:
        pool = await asyncpg.create_pool(postgresql, min_size=0, max_size=SIZE)
        await pool.execute("CREATE TABLE numbers (n INTEGER)")
        return pool

    async def close_pool() -> None:
        await pool.execute("DROP TABLE numbers")
        await pool.close()

    pool = executor.submit(open_pool).result(WAIT)
    yield pool
    executor.submit(close_pool).result(WAIT)


async def numbers(pool: asyncpg.Pool) -> list[int]:
    """The numbers that are committed."""
    return [row["n"] for row in await pool.fetch("SELECT n FROM numbers ORDER BY n")]


def test_a_thousand_coroutine_jobs_share_a_pool_and_hold_no_connection(
    executor: Executor, pool: asyncpg.Pool
) -> None:
    async def job(n: int) -> int:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO numbers VALUES ($1)", n)
            if n % 2:
                raise Failed
            return await connection.fetchval("SELECT pg_backend_pid()")

    jobs = [executor.submit(job, n) for n in range(N_JOBS)]
    failed = [each.exception(WAIT) for each in jobs[1::2]]
    backends = {each.result(WAIT) for each in jobs[::2]}

    assert {type(error) for error in failed} == {Failed}
    assert 1 <= len(backends) <= SIZE
    assert pool.get_idle_size() == pool.get_size()
    assert executor.submit(numbers, pool).result(WAIT) == list(range(0, N_JOBS, 2))


def test_jobs_that_run_together_have_a_connection_each(
    executor: Executor, pool: asyncpg.Pool
) -> None:
    all_here = asyncio.Barrier(SIZE)

    async def job() -> int:
        async with pool.acquire() as connection:
            await all_here.wait()
            return await connection.fetchval("SELECT pg_backend_pid()")

    jobs = [executor.submit(job) for _ in range(SIZE)]

    assert len({each.result(WAIT) for each in jobs}) == SIZE


def test_async_views_and_their_jobs_share_the_pool(
    app: Flask, executor: Executor, pool: asyncpg.Pool
) -> None:
    async def double(n: int) -> int:
        return await pool.fetchval("SELECT 2 * $1::int", n)

    @app.get("/<int:n>")
    async def view(n: int) -> list[int]:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO numbers VALUES ($1)", n)
        return [n, await executor.submit_async(double, n), await double(n)]

    get = lambda n: app.test_client().get(f"/{n}").json  # noqa: E731
    answers = at_once(*(lambda n=n: get(n) for n in range(6)))

    assert answers == [[n, 2 * n, 2 * n] for n in range(6)]
    assert executor.submit(numbers, pool).result(WAIT) == list(range(6))
    assert pool.get_idle_size() == pool.get_size() <= SIZE


def test_a_job_that_is_cancelled_gives_its_connection_back(
    executor: Executor, pool: asyncpg.Pool
) -> None:
    is_querying = asyncio.Event()

    async def job() -> None:
        async with pool.acquire() as connection:
            is_querying.set()
            await connection.execute("SELECT pg_sleep(3600)")

    future = executor.submit(job)
    executor.submit(is_querying.wait).result(WAIT)
    future.cancel()
    executor.drain(WAIT)

    assert future.cancelled()
    assert pool.get_idle_size() == pool.get_size() == 1
    assert executor.submit(pool.fetchval, "SELECT 1").result(WAIT) == 1

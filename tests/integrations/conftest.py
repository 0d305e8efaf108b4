"""Ways to run jobs, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.integrations.support import MANY, Many
from tests.records.servers import Postgresql
from tests.support import WAIT, MakeExecutor


@pytest.fixture(params=["thread", "inline", "coroutine"])
def run(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a function as a job, and returns what it returns."""
    is_coroutine = request.param == "coroutine"
    executor = executors(app, type="thread" if is_coroutine else request.param, max_workers=2)

    def run(fn: Callable[..., Any], *args: Any) -> Any:
        async def coroutine_job() -> Any:
            return fn(*args)

        job = executor.submit(coroutine_job) if is_coroutine else executor.submit(fn, *args)
        return job.result(WAIT)

    return run


@pytest.fixture(params=MANY)
def many(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Many:
    """Runs a function as 1,000 jobs, of which every other one fails."""
    is_on_loop = request.param == "async views on one loop"
    return Many(app, executors(app, max_workers=8, async_views=is_on_loop), request.param)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a database on a server that belongs to the tests."""
    try:
        server = Postgresql()
    except FileNotFoundError as error:
        pytest.skip(f"the machine does not have {error}: apt-get install postgresql")
    yield server.database("integrations")
    server.stop()

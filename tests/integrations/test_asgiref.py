"""asgiref and asyncio run functions in an executor: each is a job."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from flask import Flask, current_app, g, request

from flask_executor import Executor, JobFuture, current_job
from tests.support import WAIT, Gate, MakeExecutor

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def where(word: str) -> dict[str, Any]:
    seen = {
        "word": word,
        "app": current_app.name,
        "path": request.path,
        "user": g.get("user"),
        "job": current_job.name if current_job else None,
        "thread": threading.current_thread().name.split("_")[0],
    }
    g.user = "changed by the job"
    return seen


def fail() -> None:
    raise LookupError("on purpose")


def by_asgiref(executor: Executor, fn: Any, *args: Any) -> Any:
    return sync_to_async(fn, thread_sensitive=False, executor=executor)(*args)


def by_the_loop(executor: Executor, fn: Any, *args: Any) -> Any:
    return asyncio.get_running_loop().run_in_executor(executor, fn, *args)


def by_a_wrapped_future(executor: Executor, fn: Any, *args: Any) -> Any:
    return asyncio.wrap_future(executor.submit(fn, *args))


WAYS = [by_asgiref, by_the_loop, by_a_wrapped_future]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("on_our_loop", [False, True])
def test_in_an_async_view_the_function_is_a_job_with_the_views_request(
    app: Flask, executors: MakeExecutor, way: Any, on_our_loop: bool
) -> None:
    executor = executors(app, async_views=on_our_loop)

    @app.get("/view")
    async def view() -> dict[str, Any]:
        g.user = "ada"
        return {**await way(executor, where, "hello"), "afterwards": g.user}

    # asgiref runs the function in a copy of the caller's contextvars, not in those of the job.
    is_asgiref = way is by_asgiref
    assert app.test_client().get("/view").json == {
        "word": "hello",
        "app": "app",
        "path": "/view",
        "user": "ada",
        "job": None if is_asgiref else "where",
        "thread": "executor-app",
        "afterwards": "changed by the job" if is_asgiref else "ada",
    }
    executor.drain(WAIT)
    assert executor.stats().succeeded == 1


@pytest.mark.parametrize("way", WAYS)
def test_what_the_function_raises_is_raised_by_the_await(executor: Executor, way: Any) -> None:
    async def main() -> None:
        with pytest.raises(LookupError, match="on purpose"):
            await way(executor, fail)

    asyncio.run(main())
    executor.drain(WAIT)

    assert executor.stats().failed == 1


def test_asgiref_alone_brings_contextvars_of_the_function_back(executor: Executor) -> None:
    async def after(way: Any) -> str:
        await way(executor, variable.set, "of the job")
        return variable.get()

    assert [asyncio.run(after(way)) for way in WAYS] == ["of the job", "unset", "unset"]


@pytest.mark.parametrize("way", WAYS)
def test_a_wait_that_is_cancelled_cancels_the_job_that_has_not_started(
    app: Flask, executors: MakeExecutor, gate: Gate, way: Any
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    ran: list[None] = []

    async def main() -> None:
        waiting = asyncio.ensure_future(way(executor, ran.append, None))
        while executor.stats().pending == 0:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    asyncio.run(main())
    gate.open()
    executor.drain(WAIT)

    assert ran == []
    assert executor.stats().cancelled == 1


def test_a_coroutine_job_runs_functions_in_it(app: Flask, executor: Executor) -> None:
    async def job() -> list[str]:
        def name() -> str:
            return current_app.name

        return [await way(executor, name) for way in WAYS]

    assert executor.submit(job).result(WAIT) == ["app"] * 3


def test_a_plain_view_runs_a_coroutine_that_runs_functions_in_it(
    app: Flask, executor: Executor
) -> None:
    async def work() -> list[str]:
        def path() -> str:
            return request.path

        return await asyncio.gather(*[way(executor, path) for way in WAYS])

    app.add_url_rule("/view", view_func=async_to_sync(work), endpoint="view")

    assert app.test_client().get("/view").json == ["/view"] * 3


def test_as_completed_and_wait_for_take_its_wrapped_futures(executor: Executor) -> None:
    async def main() -> list[int]:
        futures = [executor.submit(abs, -n) for n in range(4)]
        assert {type(future) for future in futures} == {JobFuture}
        waiting = [asyncio.wrap_future(future) for future in futures]
        return sorted([await each for each in asyncio.as_completed(waiting, timeout=WAIT)])

    assert asyncio.run(main()) == [0, 1, 2, 3]

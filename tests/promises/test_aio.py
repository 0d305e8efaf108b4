"""Submitting to be awaited, and async iteration; for what an await gives see `test_bridge.py`."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest
from asgiref.sync import sync_to_async
from flask import current_app, g, request

from flask_executor import NoRunningLoop
from tests import inside

WAIT = 60.0


def run(coroutine):
    """Run *coroutine* in a loop of its own, with a limit."""
    return asyncio.run(asyncio.wait_for(coroutine, WAIT))


def add(a: int, b: int = 0) -> int:
    return a + b


def test_submit_async_returns_a_future_of_the_running_loop(executor):
    async def main():
        future = executor.submit_async(add, 1, b=2)
        assert isinstance(future, asyncio.Future)
        assert future.get_loop() is asyncio.get_running_loop()
        return await future

    assert run(main()) == 3


def test_the_job_starts_at_the_call(executor):
    ran = threading.Event()

    async def main():
        future = executor.submit_async(ran.set)
        assert ran.wait(WAIT)  # with the loop held up
        await future

    run(main())


def test_a_view_awaits_jobs_that_see_its_request(app, executor):
    @app.get("/page")
    async def page():
        g.user = "ada"
        jobs = [executor.submit_async(lambda: f"{request.path} {g.user}") for _ in range(3)]
        return await asyncio.gather(*jobs)

    assert app.test_client().get("/page").json == ["/page ada"] * 3


def test_a_view_that_forgets_await_is_told_what_it_returned(app, executor):
    @app.get("/")
    async def page():
        return executor.submit_async(add, 1)

    with pytest.raises(TypeError, match="AsyncioJobFuture"):
        app.test_client().get("/")


def test_the_future_shows_job_and_state_and_never_the_result(executor, gate):
    async def main():
        future = executor.submit_async(gate, "secret")
        before = repr(future)
        gate.open()
        await future
        return [before, repr(future)]

    assert run(main()) == [
        "<AsyncioJobFuture of the job 'Gate', pending>",
        "<AsyncioJobFuture of the job 'Gate', finished>",
    ]


def test_awaiting_needs_a_running_loop(executor):
    future = executor.submit(add, 1)

    with pytest.raises(NoRunningLoop, match="no event loop is running"):
        future.__await__()


def test_waiters_that_gave_up_are_forgotten(executor, gate):
    async def main():
        (future,) = gate.occupy(executor)
        for _ in range(10):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.ensure_future(future), 0.001)
        return inside.take_waiters(future)

    assert run(main()) == []


def test_a_burst_wakes_the_loop_far_fewer_times_than_there_are_jobs(executor, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        wake_ups = []
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(
            loop,
            "call_soon_threadsafe",
            lambda *args, **options: wake_ups.append(args) or wake(*args, **options),
        )
        futures = [executor.submit_async(add, n) for n in range(200)]
        executor.drain(WAIT)  # holds the loop up until all is there to be delivered
        results = await asyncio.gather(*futures)
        return results, len(wake_ups)

    with pytest.warns(RuntimeWarning, match="blocks the event loop"):
        results, wake_ups = run(main())

    assert results == list(range(200))
    assert wake_ups == 1


def test_the_executor_serves_run_in_executor_and_sync_to_async(app, executor):
    async def main():
        loop = asyncio.get_running_loop()
        name = await loop.run_in_executor(executor, lambda: current_app.name)
        thread = await sync_to_async(
            threading.current_thread, thread_sensitive=False, executor=executor
        )()
        return name, thread.name

    name, thread = run(main())

    assert name == "app"
    assert thread.startswith("executor-app_")


class Source:
    """An endless async iterable that counts what it gave."""

    def __init__(self) -> None:
        self.given = 0

    def __aiter__(self):
        return self

    async def __anext__(self) -> int:
        self.given += 1
        return self.given - 1


def endless():
    """An endless iterable; `given` counts what it gave."""
    given = 0
    while True:
        yield given
        given += 1


@pytest.mark.parametrize("ordered", [True, False])
def test_map_async_yields_all_results(executor, ordered):
    async def main():
        results = executor.map_async(add, range(50), range(0, 100, 2), ordered=ordered)
        return [value async for value in results]

    values = run(main())

    assert (values if ordered else sorted(values)) == list(range(0, 150, 3))


@pytest.mark.parametrize("make_source", [Source, endless])
@pytest.mark.parametrize("ordered", [True, False])
def test_map_async_takes_endless_iterables(executor, make_source, ordered):
    async def main():
        values = []
        async with aclosing(
            executor.map_async(add, make_source(), buffersize=3, ordered=ordered)
        ) as results:
            async for value in results:
                values.append(value)
                if len(values) == 20:
                    break
        return values

    values = run(main())

    assert len(set(values)) == 20
    assert max(values) <= 20 + 3


def test_map_async_zips_sync_and_async_iterables(executor):
    async def main():
        return [value async for value in executor.map_async(add, Source(), range(3))]

    assert run(main()) == [0, 2, 4]


@pytest.mark.parametrize("ordered", [True, False])
def test_map_async_never_has_more_in_flight_than_buffersize(executor, gate, ordered):
    async def main():
        source = Source()
        results = executor.map_async(gate, source, buffersize=3, ordered=ordered)
        taking = asyncio.ensure_future(anext(results))
        while executor.stats().submitted < 3:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        held = source.given
        gate.open()
        await taking
        given = [source.given]
        for _ in range(5):
            await anext(results)
            given.append(source.given)
        await results.aclose()
        return held, given

    held, given = run(main())

    assert held == 3
    assert all(count <= 3 + yielded for yielded, count in enumerate(given))


def test_map_async_as_completed_does_not_wait_for_a_slow_first_item(executors, app, gate):
    executor = executors(app, max_workers=2)

    async def main():
        async with aclosing(
            executor.map_async(lambda n: gate(n) if n == 0 else n, range(4), ordered=False)
        ) as results:
            quick = [await anext(results) for _ in range(3)]
            gate.open()
            return quick, await anext(results)

    assert run(main()) == ([1, 2, 3], 0)


def test_map_async_yields_results_while_its_source_waits(executor):
    async def main():
        taken = asyncio.Event()

        async def source():
            yield 1
            await taken.wait()
            yield 2

        values = []
        async for value in executor.map_async(add, source(), buffersize=8):
            values.append(value)
            taken.set()
        return values

    assert run(main()) == [1, 2]


@pytest.mark.parametrize("ordered", [True, False])
def test_closing_map_async_cancels_what_has_not_started(executors, app, gate, ordered):
    executor = executors(app, max_workers=1)
    ran = []

    def job(n: int) -> int:
        ran.append(n)
        return n if n == 0 else gate(n)

    async def main():
        results = executor.map_async(job, range(100), buffersize=10, ordered=ordered)
        first = await anext(results)
        await results.aclose()
        return first

    assert run(main()) == 0
    gate.open()
    executor.drain(WAIT)
    assert ran[0] == 0
    assert len(ran) <= 2, "the one worker may have begun another meanwhile"
    assert executor.stats().cancelled >= 8


def test_map_async_raises_what_an_item_raises_and_cancels_the_rest(executors, app):
    executor = executors(app, max_workers=1)

    async def main():
        values = []
        with pytest.raises(ZeroDivisionError):
            async for value in executor.map_async(lambda n: 1 // n, [1, 0, 1, 1], buffersize=4):
                values.append(value)
        return values

    assert run(main()) == [1]


@pytest.mark.parametrize("ordered", [True, False])
def test_map_async_raises_what_its_source_raises_after_the_results(executor, ordered):
    async def source():
        yield 1
        yield 2
        raise LookupError("the source's")

    async def main():
        values = []
        with pytest.raises(LookupError, match="the source's"):
            async for value in executor.map_async(add, source(), ordered=ordered):
                values.append(value)
        return sorted(values)

    assert run(main()) == [1, 2]


def test_map_async_items_see_what_the_call_saw(app, executor):
    @app.get("/page")
    async def page():
        g.user = "at the call"
        results = executor.map_async(lambda _: f"{g.user} {request.path}", range(3))
        g.user = "later"
        return [value async for value in results]

    assert app.test_client().get("/page").json == ["at the call /page"] * 3

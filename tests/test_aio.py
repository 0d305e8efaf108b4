"""Awaiting jobs: from one loop or several, in time, late or never."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
from contextlib import aclosing

import pytest
from asgiref.sync import sync_to_async
from flask import current_app, g, request

from flask_executor import JobFuture, NoRunningLoop, WaitTimeout, current_job

WAIT = 20.0


def run(coroutine):
    """Run *coroutine* in a loop of its own, with a limit."""
    return asyncio.run(asyncio.wait_for(coroutine, WAIT))


def add(a: int, b: int = 0) -> int:
    return a + b


def fail(error: BaseException) -> None:
    raise error


def as_submitted(executor, fn, *args):
    return executor.submit_async(fn, *args)


def as_awaited(executor, fn, *args):
    async def wait():
        return await executor.submit(fn, *args)

    return asyncio.ensure_future(wait())


def as_wrapped(executor, fn, *args):
    return asyncio.wrap_future(executor.submit(fn, *args))


@pytest.fixture(params=[as_submitted, as_awaited, as_wrapped])
def submit(executor, request):
    """The ways to await a job; asyncio's own bridge among them, which the others are to equal."""
    return lambda fn, *args: request.param(executor, fn, *args)


def test_a_result_is_awaited(submit):
    async def main():
        return await submit(add, 1, 2)

    assert run(main()) == 3


def test_an_exception_is_raised_as_it_is(submit):
    error = LookupError("mine")

    async def main():
        with pytest.raises(LookupError) as caught:
            await submit(fail, error)
        return caught.value

    assert run(main()) is error


def test_a_job_that_raises_stop_iteration_gives_runtime_error(submit):
    async def main():
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await submit(fail, StopIteration(1))
        return caught.value

    assert isinstance(run(main()).__cause__, StopIteration)


def test_many_are_awaited_at_once(submit):
    async def main():
        return await asyncio.gather(*[submit(add, n) for n in range(500)])

    assert run(main()) == list(range(500))


def test_a_cancelled_await_of_a_waiting_job_cancels_the_job(executor, gate, submit):
    ran = []
    gate.occupy(executor, executor.stats().workers)

    async def main():
        future = submit(ran.append, 1)
        await asyncio.sleep(0)  # lets the task that awaits begin
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    run(main())
    gate.open()
    executor.drain(WAIT)

    assert ran == []
    assert executor.stats().cancelled == 1
    assert executor.stats().pending == 0


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


def test_task_group_timeout_wait_for_and_as_completed_work(executor, gate):
    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.wait_for(executor.submit_async(add, 1), WAIT))
        async with asyncio.timeout(WAIT):
            second = await executor.submit(add, 2)
        futures = [executor.submit_async(add, n) for n in (3, 4)]
        rest = [await future for future in asyncio.as_completed(futures)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.submit_async(gate), 0.01)
        return task.result(), second, sorted(rest)

    assert run(main()) == (1, 2, [3, 4])


def test_a_jobs_own_timeout_can_be_told_from_the_waiters(executor, gate):
    own = TimeoutError("the job's")

    async def main():
        async with asyncio.timeout(WAIT) as limit:
            with pytest.raises(TimeoutError) as caught:
                await executor.submit_async(fail, own)
        return caught.value, limit.expired()

    held = gate.occupy(executor)[0]
    with pytest.raises(WaitTimeout) as of_the_wait:
        held.result(0.01)
    with pytest.raises(TimeoutError) as of_the_job:
        executor.submit(fail, own).result(WAIT)

    assert run(main()) == (own, False)
    assert of_the_job.value is own
    assert "'Gate' has not ended after 0.01 s: it is running" in str(of_the_wait.value)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), concurrent.futures.CancelledError()])
def test_a_jobs_own_cancelled_error_is_no_cancellation_of_the_waiter(executor, error):
    async def main():
        future = executor.submit_async(fail, error)
        with pytest.raises((RuntimeError, concurrent.futures.CancelledError)) as caught:
            await future
        return future.cancelled(), caught.value

    cancelled, raised = run(main())

    assert not cancelled
    assert error in (raised, raised.__cause__)


def test_a_job_future_is_awaited_by_several_waiters_in_several_loops(executor, gate):
    (future,) = gate.occupy(executor)
    ready = threading.Barrier(4, timeout=WAIT)
    results = []

    async def wait():
        tasks = [asyncio.ensure_future(future) for _ in range(3)]
        await asyncio.sleep(0)
        ready.wait()
        results.extend(await asyncio.gather(*tasks))

    threads = [threading.Thread(target=run, args=(wait(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    gate.open()
    for thread in threads:
        thread.join(WAIT)

    assert results == [None] * 9


def test_a_job_future_is_awaited_late_without_a_turn_of_the_loop(executor):
    future = executor.submit(add, 1)
    future.result(WAIT)

    async def main():
        with pytest.raises(StopIteration) as ended:
            next(future.__await__())
        return ended.value.value

    assert run(main()) == 1


def test_awaiting_needs_a_running_loop(executor):
    future = executor.submit(add, 1)

    with pytest.raises(NoRunningLoop, match="no event loop is running"):
        future.__await__()


def test_a_loop_that_has_gone_costs_the_outcome_nothing(executor, gate):
    (future,) = gate.occupy(executor)

    async def give_up():
        asyncio.ensure_future(future)  # noqa: RUF006 - its loop goes first
        await asyncio.sleep(0)
        asyncio.get_running_loop().stop()

    loop = asyncio.new_event_loop()
    task = loop.create_task(give_up())
    loop.run_forever()
    loop.close()
    gate.open()

    assert future.result(WAIT) is None
    assert run(asyncio.wait_for(future, WAIT)) is None
    for unfinished in asyncio.all_tasks(loop) | {task}:
        unfinished._log_destroy_pending = False


def test_a_failure_for_a_loop_that_has_gone_is_logged(executor, gate, caplog):
    def late() -> None:
        gate()
        raise LookupError("late")

    async def leave_it():
        executor.submit_async(late)

    run(leave_it())
    gate.open()
    executor.drain(WAIT)
    gc.collect()

    assert [record.exc_info[1].args for record in caplog.records] == [("late",)]
    assert "Job late (" in caplog.text


@pytest.mark.parametrize("retrieved", [True, False])
def test_a_failure_is_logged_once_if_the_loops_future_goes_unasked(executor, caplog, retrieved):
    async def main():
        future = executor.submit_async(fail, LookupError("mine"))
        await asyncio.wait([future])
        if retrieved:
            future.exception()
        del future
        gc.collect()

    run(main())

    messages = [(record.name, record.getMessage()) for record in caplog.records]
    assert len(messages) == (0 if retrieved else 1)
    assert all(name == "app" and message.startswith("Job fail (") for name, message in messages)


def test_a_cancelled_await_asks_a_running_job_to_stop(executor):
    started, noticed = threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        while not current_job.cancel_requested:
            pass
        noticed.set()

    async def main():
        future = executor.submit_async(job)
        await asyncio.to_thread(started.wait, WAIT)
        future.cancel()

    run(main())

    assert noticed.wait(WAIT)


def test_only_the_last_of_several_waiters_to_give_up_cancels(executors, app, gate):
    executor = executors(app, max_workers=1)

    async def main():
        gate.occupy(executor)
        future = executor.submit(add, 1)
        first, last = asyncio.ensure_future(future), asyncio.ensure_future(future)
        await asyncio.sleep(0)
        states = [future.state]
        for waiter in (first, last):
            waiter.cancel()
            await asyncio.sleep(0)
            states.append(future.state)
        return states

    assert run(main()) == ["pending", "pending", "cancelled"]


def test_a_waiter_that_comes_after_another_gave_up_gets_the_result(executor, gate):
    async def main():
        (future,) = gate.occupy(executor)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)
        gate.open()
        return await future, future.job.cancel_requested

    assert run(main()) == (None, True)


def test_a_job_cancelled_elsewhere_cancels_its_waiters(executors, app, gate):
    executor = executors(app, max_workers=1)

    async def main():
        gate.occupy(executor)
        future = executor.submit(add, 1)
        waiter = asyncio.ensure_future(future)
        await asyncio.sleep(0)
        await asyncio.to_thread(future.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiter
        with pytest.raises(asyncio.CancelledError):
            await future

    run(main())


def test_waiters_that_gave_up_are_forgotten(executor, gate):
    async def main():
        (future,) = gate.occupy(executor)
        for _ in range(10):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.ensure_future(future), 0.001)
        return future._take_waiters()

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
    assert ran in ([0], [0, 1])
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


def test_a_job_future_stays_a_future_for_asyncio_wrap_future(executor):
    future = executor.submit(add, 1)

    async def main():
        return await asyncio.wrap_future(future)

    assert isinstance(future, JobFuture)
    assert run(main()) == 1

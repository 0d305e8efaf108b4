"""Where `sync_to_async` calls the functions of jobs."""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

from flask_executor import JobTimeout
from flask_executor.threads.sync_threads import WaitingThread, async_code_on
from tests.support import WAIT


async def thread_of_functions() -> threading.Thread:
    """Where `sync_to_async` calls functions."""
    return await sync_to_async(threading.current_thread)()


def test_coroutine_jobs_at_a_time_call_their_functions_side_by_side(executor):
    all_here = threading.Barrier(5)

    async def job():
        return await sync_to_async(all_here.wait)(WAIT)

    futures = [executor.submit(job) for _ in range(5)]

    assert sorted(future.result(WAIT) for future in futures) == [0, 1, 2, 3, 4]


def test_a_coroutine_job_has_one_thread_which_ends_with_it(executor):
    async def job():
        threads = [await thread_of_functions() for _ in range(2)]
        return [*threads, *await asyncio.gather(*[thread_of_functions() for _ in range(3)])]

    threads = executor.submit(job).result(WAIT)
    others = executor.submit(job).result(WAIT)

    assert len({*threads}) == len({*others}) == 1
    assert {*threads}.isdisjoint(others)
    for thread in (threads[0], others[0]):
        thread.join(WAIT)
        assert not thread.is_alive()


def test_a_coroutine_job_that_uses_no_thread_starts_none(executor):
    async def job():
        await asyncio.sleep(0)
        return threading.enumerate()

    executor.submit(job).result(WAIT)
    before = threading.enumerate()

    assert executor.submit(job).result(WAIT) == before


def test_a_failed_job_that_is_kept_keeps_no_thread(executor):
    threads = []

    def fail():
        threads.append(threading.current_thread())
        raise LookupError

    async def job():
        await sync_to_async(fail)()

    future = executor.submit(job)
    assert isinstance(future.exception(WAIT), LookupError)

    threads[0].join(WAIT)
    assert not threads[0].is_alive()


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_a_job_that_ends_while_its_function_runs_ends_the_thread_after_that(executor, gate, how):
    threads = []

    def function():
        threads.append(threading.current_thread())
        gate()

    async def job():
        await sync_to_async(function)()

    future = executor.options(timeout=0.05 if how == "timed out" else None).submit(job)
    gate.await_arrival()
    if how == "cancelled":
        assert future.cancel()
        executor.drain(WAIT)
        assert future.cancelled()
    else:
        assert isinstance(future.exception(WAIT), JobTimeout)
    assert threads[0].is_alive()
    gate.open()
    threads[0].join(WAIT)
    assert not threads[0].is_alive()


@pytest.mark.parametrize("async_views", [True, False])
def test_functions_and_coroutines_of_a_job_nest_in_its_thread(app, executors, async_views):
    executor = executors(app, async_views=async_views)

    def down(depth):
        here = [threading.current_thread()]
        return here if depth == 0 else [*here, *app.ensure_sync(further)(depth - 1)]

    async def further(depth):
        return [await thread_of_functions(), *await sync_to_async(down)(depth)]

    threads = executor.submit(further, 3).result(WAIT)

    assert len(threads) == 8
    assert len({*threads}) == 1


def test_a_task_that_outlives_its_job_has_a_thread_that_ends_with_the_task(executor):
    may_end = asyncio.Event()
    tasks = []

    async def work():
        await may_end.wait()
        return [await thread_of_functions() for _ in range(2)]

    async def job():
        tasks.append(asyncio.create_task(work()))
        return await thread_of_functions()

    async def wait_for_it():
        may_end.set()
        return await tasks.pop()

    of_job = executor.submit(job).result(WAIT)
    first, second = executor.submit(wait_for_it).result(WAIT)

    assert first is second is not of_job
    first.join(WAIT)
    assert not first.is_alive()


def test_a_job_of_a_job_has_a_thread_of_its_own(executor):
    def in_a_loop_of_its_own():
        return asyncio.run(thread_of_functions())

    async def job():
        inner = [thread_of_functions, in_a_loop_of_its_own]
        return [
            await thread_of_functions(),
            *[await executor.submit_async(each) for each in inner],
            await thread_of_functions(),
        ]

    first, coroutines, threads, last = executor.submit(job).result(WAIT)

    assert first is last
    assert len({first, coroutines, threads}) == 3
    for thread in (coroutines, threads):
        thread.join(WAIT)
        assert not thread.is_alive()


def test_a_job_does_not_share_the_thread_of_an_asgiref_context(app, executor):
    async def main():
        async with ThreadSensitiveContext():
            with app.app_context():
                return await thread_of_functions(), await executor.submit(thread_of_functions)

    outside, inside = asyncio.run(main())

    assert outside is not inside


def test_a_thread_job_calls_the_functions_of_its_coroutines_itself(app, executor):
    def job():
        here = threading.current_thread()
        return [
            async_to_sync(thread_of_functions)() is here,
            app.ensure_sync(thread_of_functions)() is here,
        ]

    async def main():
        with app.app_context():
            return await executor.submit(job), await sync_to_async(call)()

    def call():
        return executor.submit(job).result(WAIT)

    assert executor.submit(job).result(WAIT) == [True, True]
    assert async_to_sync(main)() == ([True, True], [True, True])


def test_an_ended_job_leaves_nothing_of_its_thread(executor, no_gc):
    class Thing:
        pass

    refs = []

    async def job():
        thing = Thing()
        refs.append(weakref.ref(thing))
        await sync_to_async(lambda thing: None)(thing)

    executor.submit(job).result(WAIT)
    executor.drain(WAIT)
    executor.submit(asyncio.sleep, 0).result(WAIT)  # The loop has gone on.

    assert refs[0]() is None


def test_functions_that_a_thread_has_left_are_called_in_one_other():
    waiting = WaitingThread()
    with ThreadPoolExecutor(1) as loop:
        left = [loop.submit(waiting.submit, threading.current_thread).result() for _ in range(2)]
        waiting.hand_over()
        later = loop.submit(waiting.submit, threading.current_thread).result()
    threads = {call.result(WAIT) for call in [*left, later]}
    del waiting  # The other thread ends with it.

    assert len(threads) == 1
    assert threads.isdisjoint({threading.current_thread()})


def test_async_code_runs_on_a_given_loop_only_in_the_block(executor):
    async def find_loop():
        return asyncio.get_running_loop()

    loop = executor.submit(find_loop).result(WAIT)
    with async_code_on(loop):
        in_block = async_to_sync(find_loop)()

    assert in_block is loop
    assert async_to_sync(find_loop)() is not loop


def test_async_code_for_a_loop_that_has_ended_runs_on_a_new_one(executor):
    async def find_loop():
        return asyncio.get_running_loop()

    ended = asyncio.new_event_loop()
    ended.close()
    with async_code_on(ended):
        assert async_to_sync(find_loop)() is not ended

"""Coroutine jobs and async views on loops whose task factory wraps, starts at once, or raises."""

from __future__ import annotations

import asyncio
import sys

import pytest

from flask_executor import current_job
from tests.support import WAIT


def wrapping(loop, coro, **kwargs):
    """Wraps the coroutine, as error trackers do to report what it raises."""

    async def wrapped():
        return await coro

    return asyncio.Task(wrapped(), loop=loop, **kwargs)


def wrapping_and_going_on(loop, coro, **kwargs):
    """Goes on after the coroutine, as tracers do to end their span."""

    async def wrapped():
        result = await coro
        await asyncio.sleep(0)
        return result

    return asyncio.Task(wrapped(), loop=loop, **kwargs)


def eager_and_wrapping(loop, coro, **kwargs):
    async def wrapped():
        return await coro

    kwargs.pop("eager_start", None)
    return asyncio.Task(wrapped(), loop=loop, eager_start=True, **kwargs)


def eager(loop, coro, **kwargs):
    kwargs.pop("eager_start", None)  # uvloop passes it on
    return asyncio.Task(coro, loop=loop, eager_start=True, **kwargs)


def raising(loop, coro, **kwargs):
    raise OSError("the factory failed")


def raising_in_the_task(loop, coro, **kwargs):
    async def wrapped():
        raise OSError("the wrapper failed")

    return asyncio.Task(wrapped(), loop=loop, **kwargs)


def losing(loop, coro, **kwargs):
    return asyncio.Task(asyncio.sleep(0), loop=loop, **kwargs)


FACTORIES = [wrapping, wrapping_and_going_on]
if sys.version_info >= (3, 12):
    FACTORIES += [eager, eager_and_wrapping]
LOOPS = [None, "uvloop:new_event_loop"]


@pytest.fixture
def with_factory(app, executors):
    """Makes an executor whose loop has a task factory."""

    def make(factory, **settings):
        executor = executors(app, **settings)

        async def install():
            asyncio.get_running_loop().set_task_factory(factory)

        with app.app_context():
            executor.submit(install).result(WAIT)
            executor.drain(WAIT)
        return executor

    return make


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_jobs_and_views_run_with_any_task_factory(app, with_factory, factory, loop_factory):
    executor = with_factory(factory, async_views=True, loop_factory=loop_factory)
    torn_down = []
    app.teardown_appcontext(torn_down.append)

    async def at_once():
        return current_job.name

    async def later():
        await asyncio.sleep(0)
        return current_job.name

    async def fails():
        await asyncio.sleep(0)
        raise LookupError

    @app.get("/")
    async def view():
        await asyncio.sleep(0)
        return await executor.submit_async(later)

    assert executor.submit(at_once).result(WAIT) == "at_once"
    assert executor.submit(later).result(WAIT) == "later"
    assert isinstance(executor.submit(fails).exception(WAIT), LookupError)
    assert app.test_client().get("/").text == "later"
    executor.drain(WAIT)
    stats = executor.stats()
    assert (stats.succeeded, stats.failed, stats.running) == (4, 1, 0)
    assert len(torn_down) == 5  # the view's, too


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_running_job_is_cancelled_with_any_task_factory(with_factory, factory):
    executor = with_factory(factory)
    loop_is_free = asyncio.Event()

    async def endless():
        loop_is_free.set()
        await asyncio.Event().wait()

    future = executor.submit(endless)
    executor.submit(loop_is_free.wait).result(WAIT)
    assert future.cancel()
    executor.drain(WAIT)

    assert future.cancelled()


@pytest.mark.parametrize("factory", [None, *FACTORIES])
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_job_cancelled_before_its_first_step_never_runs(with_factory, factory, loop_factory):
    executor = with_factory(factory, loop_factory=loop_factory)
    ran = []

    async def never():
        ran.append("never")

    async def cancel_it():
        future = executor.submit(never)
        # Posted to this loop after the start of the job: both are made in its next turn.
        assert future.cancel()
        return future

    future = executor.submit(cancel_it).result(WAIT)
    executor.drain(WAIT)

    assert future.cancelled()
    assert ran == []


@pytest.mark.parametrize("factory", [raising, raising_in_the_task])
def test_what_a_task_factory_raises_is_the_failure_of_the_job_and_the_view(
    app, with_factory, factory
):
    executor = with_factory(factory, async_views=True)

    async def job():
        pass

    @app.get("/")
    async def view():
        pass

    assert isinstance(executor.submit(job).exception(WAIT), OSError)
    with pytest.raises(OSError, match="failed"):
        app.test_client().get("/")
    executor.drain(WAIT)


def test_a_task_factory_that_loses_the_coroutine_fails_the_job_and_the_view(app, with_factory):
    executor = with_factory(losing, async_views=True)

    async def job():
        pass

    @app.get("/")
    async def view():
        pass

    with pytest.raises(RuntimeError, match="did not run its coroutine"):
        executor.submit(job).result(WAIT)
    with pytest.raises(RuntimeError, match="did not run its coroutine"):
        app.test_client().get("/")

"""Coroutine jobs, on the app's own loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import threading
import types
import weakref

import pytest
from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async
from flask import Flask, current_app, g, request

from flask_executor import (
    Executor,
    JobExited,
    current_job,
    job_cancelled,
    job_failed,
    job_started,
    job_succeeded,
)
from flask_executor.runners.closing import Deadline, shutdown
from tests import inside
from tests.support import WAIT


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


class Doubler:
    async def method(self, n: int) -> int:
        return await double(n)

    async def __call__(self, n: int) -> int:
        return await double(n)


@markcoroutinefunction
def marked(n: int):
    return double(n)


@pytest.mark.parametrize(
    "fn",
    [double, functools.partial(double), Doubler().method, Doubler(), marked],
    ids=["function", "partial", "method", "callable", "marked"],
)
def test_what_gives_a_coroutine_is_run_on_the_loop(executor, fn):
    async def main():
        return await executor.submit_async(fn, 2), [n async for n in executor.map_async(fn, [3])]

    assert executor.submit(fn, 1).result(WAIT) == 2
    assert asyncio.run(main()) == (4, [6])
    assert list(executor.map(fn, range(4))) == [0, 2, 4, 6]
    assert executor.submit_stored("key", fn, 5).result(WAIT) == 10


@pytest.mark.parametrize("type_", ["thread", "inline"])
@pytest.mark.parametrize(
    ("fn", "name"),
    [(lambda: double(1), "double"), (functools.partial(lambda fn: fn(1), Doubler()), "__call__")],
    ids=["lambda", "partial"],
)
def test_a_function_that_returns_a_coroutine_fails_and_says_what_to_submit(
    app, executors, type_, fn, name
):
    executor = executors(app, type=type_)

    async def main():
        with pytest.raises(TypeError) as caught:
            await executor.submit_async(fn)
        return caught.value

    errors = [executor.submit(fn).exception(WAIT), asyncio.run(main())]
    gc.collect()  # Python would warn of one that was never awaited.

    message = (
        "the job '<lambda>' returned a coroutine, which nobody would run; submit the coroutine "
        f"function '{name}' itself, without a lambda and without the parentheses: "
        "submit(function, *args)"
    )
    assert [str(error) for error in errors] == [message] * 2
    assert executor.stats().failed == 2


def test_a_coroutine_that_is_at_work_may_be_returned_and_is_left_alone(executor):
    @types.coroutine
    def pause():
        yield

    async def work():
        await pause()
        return "went on"

    coroutine = work()
    coroutine.send(None)

    assert isinstance(executor.submit(lambda: coroutine).exception(WAIT), TypeError)
    with pytest.raises(StopIteration, match="went on"):
        coroutine.send(None)


def test_both_bridges_of_asgiref_are_jobs(executor):
    assert executor.submit(async_to_sync(double), 2).result(WAIT) == 4
    assert executor.submit(sync_to_async(abs, thread_sensitive=False), -2).result(WAIT) == 2


def test_a_decorated_coroutine_function_submits_itself_and_can_be_awaited(executor):
    job = executor.job(double)

    async def main():
        return await job(1), await job.submit_async(2), await job.submit(3)

    assert job.submit(1).result(WAIT) == 2
    assert asyncio.run(main()) == (2, 4, 6)


def test_all_run_on_one_thread_named_after_the_executor(app, executors):
    executor = executors(app, name="mail")

    async def where() -> str:
        return threading.current_thread().name

    names = {executor.submit(where).result(WAIT) for _ in range(5)}

    assert names == {"mail-app-loop"}


@pytest.mark.slow
def test_ten_thousand_run_at_once(executor):
    everybody = threading.Event()
    waiting = 0

    async def job() -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 10_000:
            everybody.set()
        while not everybody.is_set():
            await asyncio.sleep(0.01)

    futures = [executor.submit(job) for _ in range(10_000)]

    assert everybody.wait(WAIT)
    assert executor.stats().submitted == 10_000
    executor.drain(WAIT)
    assert all(future.done() for future in futures)


def test_each_has_its_own_context_and_teardown_off_the_loop(app, executor):
    torn = []

    @app.teardown_appcontext
    def teardown(exc: BaseException | None) -> None:
        if current_job:
            torn.append((threading.current_thread().name, g.pop("user", None), exc))

    async def job(user: str) -> str:
        seen = g.user
        g.user = user
        await asyncio.sleep(0)
        return f"{seen} {g.user} {request.path} {current_app.name} {current_job.name}"

    @app.get("/page")
    def page():
        g.user = "view"
        futures = [executor.submit(job, f"job{n}") for n in range(3)]
        return [future.result(WAIT) for future in futures] + [g.user]

    answer = app.test_client().get("/page").json

    assert answer == [*(f"view job{n} /page app job" for n in range(3)), "view"]
    assert sorted((user, exc) for _, user, exc in torn) == [(f"job{n}", None) for n in range(3)]
    assert all(name.startswith("executor-app-callbacks") for name, _, _ in torn)


def test_an_async_teardown_function_runs_too(app, executor):
    torn = []

    @app.teardown_appcontext
    async def teardown(exc: BaseException | None) -> None:
        await asyncio.sleep(0)
        torn.append(exc)

    error = LookupError("mine")

    async def job() -> None:
        raise error

    assert executor.submit(job).exception(WAIT) is error
    assert torn == [error]


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_async_code_of_a_teardown_runs_on_the_loop_and_in_the_context_of_its_job(
    app, executor, is_async, fails
):
    loops = []

    async def close(exc: BaseException | None) -> None:
        loops.extend([g.loop, asyncio.get_running_loop()])

    def plain_close(exc: BaseException | None) -> None:
        async_to_sync(close)(exc)

    app.teardown_appcontext(close if is_async else plain_close)

    async def job() -> None:
        g.loop = asyncio.get_running_loop()
        if fails:
            raise LookupError

    assert isinstance(executor.submit(job).exception(WAIT), LookupError if fails else type(None))
    assert loops == [loops[0]] * 2


def test_a_coroutine_job_that_is_given_up_ends_its_async_teardown_before_its_loop_ends(
    app, executors
):
    executor = executors(app, shutdown_timeout=0)
    may_close, ends = threading.Event(), []
    n_running = threading.Semaphore(0)

    @app.teardown_appcontext
    async def close(exc: BaseException | None) -> None:
        await asyncio.to_thread(may_close.wait, WAIT)
        ends.append(exc)

    async def job() -> None:
        n_running.release()
        await asyncio.Event().wait()

    futures = [executor.submit(job) for _ in range(9)]
    for future in futures:  # With a callback, a future is done before the teardown.
        future.add_done_callback(lambda _: None)
        assert n_running.acquire(timeout=WAIT)
    shutting_down = threading.Thread(target=executor.shutdown)
    shutting_down.start()
    concurrent.futures.wait(futures, WAIT)
    may_close.set()
    shutting_down.join(WAIT)

    assert list(map(type, ends)) == [asyncio.CancelledError] * 9


def test_a_teardown_that_blocks_holds_up_neither_the_loop_nor_other_jobs(app, executor):
    blocked, release = threading.Event(), threading.Event()

    @app.teardown_appcontext
    def teardown(_: object) -> None:
        if current_job and current_job.name == "slow":
            blocked.set()
            assert release.wait(WAIT)

    async def slow() -> None:
        pass

    future = executor.submit(slow)
    assert blocked.wait(WAIT)
    assert executor.submit(double, 1).result(WAIT) == 2
    assert not future.done()
    release.set()
    assert future.result(WAIT) is None


def test_callbacks_run_in_the_jobs_app_context_before_its_teardown(app, executor):
    calls = []
    app.teardown_appcontext(lambda _: calls.append("teardown"))

    async def job() -> None:
        g.user = "job"

    future = executor.submit(job)
    executor.drain(WAIT)
    calls.clear()
    executor.add_default_done_callback(lambda _: calls.append((current_app.name, g.user)))
    executor.submit(job)
    executor.drain(WAIT)

    assert calls == [("app", "job"), "teardown"]
    assert future.result() is None


@pytest.mark.parametrize("error", [LookupError("mine"), BaseException("mine")])
def test_what_it_raises_reaches_the_future_and_the_loop_goes_on(executor, error):
    async def job() -> None:
        await asyncio.sleep(0)
        raise error

    assert executor.submit(job).exception(WAIT) is error
    assert executor.submit(double, 1).result(WAIT) == 2
    assert executor.stats().failed == 1


def test_a_failure_nobody_asks_for_is_logged_once(executor, caplog):
    async def job() -> None:
        raise LookupError("mine")

    executor.submit(job)
    executor.drain(WAIT)
    gc.collect()

    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("Job job (")


def test_signals_follow_it_in_its_app_context(app, executor):
    events = []

    def record(signal):
        def receive(_, *, job, **__):
            events.append((signal.name, job.name, current_app.name))

        return receive

    receivers = [(s, record(s)) for s in (job_started, job_succeeded, job_failed, job_cancelled)]
    for signal, receiver in receivers:
        signal.connect(receiver, app)

    executor.submit(double, 1).result(WAIT)

    assert events == [("job-started", "double", "app"), ("job-succeeded", "double", "app")]


def test_cancelling_it_cancels_its_task_and_waits_for_its_finally(executor):
    started, cleaning, release = threading.Event(), threading.Event(), threading.Event()

    async def job() -> None:
        started.set()
        try:
            await asyncio.sleep(WAIT)
        finally:
            cleaning.set()
            await asyncio.to_thread(release.wait, WAIT)

    future = executor.submit(job)
    called = []
    future.add_done_callback(lambda future: called.append(future.cancelled()))
    assert started.wait(WAIT)
    assert future.cancel()
    assert cleaning.wait(WAIT)
    assert future.state == "running"
    release.set()
    executor.drain(WAIT)

    assert future.cancelled()
    assert called == [True]
    stats = executor.stats()
    assert (stats.cancelled, stats.running, stats.submitted) == (1, 0, 1)


def test_cancelling_its_await_cancels_its_task(executor):
    started, ended = threading.Event(), threading.Event()

    async def job() -> None:
        started.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            ended.set()
            raise

    async def main():
        waiter = executor.submit_async(job)
        await asyncio.to_thread(started.wait, WAIT)
        waiter.cancel()

    asyncio.run(main())

    assert ended.wait(WAIT)
    executor.drain(WAIT)
    assert executor.stats().cancelled == 1


def test_one_that_does_not_let_itself_be_cancelled_succeeds(executor):
    started = threading.Event()

    async def job() -> str:
        started.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            return "finished"
        return "unreached"

    future = executor.submit(job)
    assert started.wait(WAIT)
    future.cancel()

    assert future.result(WAIT) == "finished"


def test_its_own_cancelled_error_is_a_failure(executor):
    async def job() -> None:
        raise asyncio.CancelledError

    async def main():
        with pytest.raises(RuntimeError, match="without being cancelled"):
            await executor.submit_async(job)

    asyncio.run(main())
    assert executor.stats().failed == 1


def test_it_may_await_thread_jobs_and_they_may_wait_for_it(app, executors):
    executor = executors(app, max_workers=1)
    app.teardown_appcontext(lambda _: None)  # so that its end takes a thread

    async def outer() -> list[int]:
        return await asyncio.gather(*[executor.submit_async(abs, -n) for n in range(5)])

    def waits() -> int:
        return executor.submit(double, 4).result(WAIT)

    assert executor.submit(outer).result(WAIT) == [0, 1, 2, 3, 4]
    assert executor.submit(waits).result(WAIT) == 8


def test_a_finished_one_holds_nothing(app, executor):
    class Thing:
        pass

    async def job(_: Thing) -> None:
        await asyncio.sleep(0)

    thing = Thing()
    ref = weakref.ref(thing)
    future = executor.submit(job, thing)
    future.result(WAIT)
    executor.drain(WAIT)
    del thing
    gc.collect()

    assert future.done()
    assert ref() is None


def test_a_delayed_job_starts_later_in_the_order_of_time(executor):
    order = []

    futures = [executor.options(delay=delay).submit(order.append, delay) for delay in (0.8, 0.4, 0)]
    futures.append(executor.options(delay=0.03).submit(double, 1))
    states = {futures[0].state}
    for future in futures:
        future.result(WAIT)

    assert order == [0, 0.4, 0.8]
    assert states == {"pending"}


def test_a_delayed_job_that_is_cancelled_is_gone_at_once(executor):
    ran = []

    future = executor.options(delay=WAIT * 10).submit(ran.append, 1)
    assert executor.stats().pending == 1
    assert future.cancel()
    executor.drain(WAIT)

    assert executor.stats().pending == 0
    assert executor.stats().cancelled == 1
    assert ran == []


@pytest.mark.parametrize("delay", ["5", True, -1, float("nan"), float("inf")])
def test_a_bad_delay_is_refused(executor, delay):
    with pytest.raises((TypeError, ValueError), match=r"^delay is .*; expected .* seconds"):
        executor.options(delay=delay)


def test_inline_coroutine_jobs_run_in_the_thread_that_submits_them(app, executors):
    executor = executors(app, type="inline")

    async def where() -> tuple[str, int]:
        await asyncio.sleep(0)
        return current_app.name, threading.get_ident()

    @app.get("/page")
    async def page():
        me = threading.get_ident()
        return [
            await executor.submit_async(where) == ("app", me),
            await executor.submit(where) == ("app", me),
        ]

    before = set(threading.enumerate())
    assert executor.submit(where).result(0) == ("app", threading.get_ident())
    assert app.test_client().get("/page").json == [True, True]
    started = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in started if "executor" in name]


def test_a_delayed_job_is_cancelled_by_a_shutdown_however_soon_that_comes(executor):
    ran = []

    future = executor.options(delay=WAIT * 10).submit(ran.append, 1)
    executor.shutdown(cancel_futures=True)

    assert future.cancelled()
    assert ran == []


def test_one_submitters_contextvars_are_not_kept_by_another_ones_job(executor):
    class Held:
        pass

    variable: contextvars.ContextVar[Held] = contextvars.ContextVar("variable")
    begun, release = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        assert release.wait(WAIT)

    async def stay() -> None:
        await asyncio.sleep(WAIT)

    def submit_with_variable() -> weakref.ref[Held]:
        variable.set(held := Held())
        executor.submit(double, 1)
        return weakref.ref(held)

    executor.submit(block)
    assert begun.wait(WAIT)
    ref = contextvars.copy_context().run(submit_with_variable)  # the first to wake the loop
    staying = executor.submit(stay)
    release.set()
    executor.submit(double, 2).result(WAIT)
    gc.collect()

    assert ref() is None
    staying.cancel()


def test_how_a_job_ended_is_decided_once(app, executor):
    in_teardown, release = threading.Event(), threading.Event()
    failed = []

    @app.teardown_appcontext
    def teardown(_: object) -> None:
        in_teardown.set()
        assert release.wait(WAIT)

    def record(_: object, **__: object) -> None:
        failed.append(1)

    job_failed.connect(record, app)

    def job() -> None:
        raise concurrent.futures.CancelledError

    future = executor.submit(job)
    assert in_teardown.wait(WAIT)
    future.cancel()
    release.set()
    executor.drain(WAIT)

    assert (future.state, failed, executor.stats().failed) == ("failed", [1], 1)
    future.exception()


def test_shutdown_in_the_loops_own_thread_is_refused(executor):
    async def job() -> None:
        contextvars.Context().run(executor.shutdown)

    with pytest.raises(RuntimeError, match="would wait for that loop"):
        executor.submit(job).result(WAIT)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_would_end_the_process_ends_itself_alone(executor, caplog, error):
    started, go_on = threading.Event(), threading.Event()

    async def raise_it() -> None:
        raise error

    async def careless() -> None:
        await asyncio.create_task(raise_it())

    async def neighbour() -> str:
        started.set()
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        return "went on"

    other = executor.submit(neighbour)
    assert started.wait(WAIT)
    later = executor.options(delay=0.01).submit(int, "7")
    future = executor.submit(careless)

    exited = future.exception(WAIT)
    assert isinstance(exited, JobExited)
    assert isinstance(exited.__cause__, error)
    assert later.result(WAIT) == 7
    go_on.set()
    assert other.result(WAIT) == "went on"
    assert "A task raised what ends a process" in caplog.text


def test_a_job_whose_contextvars_cannot_be_entered_again_ends_all_the_same(app, executors):
    executors(app)

    future = inside.end_in_entered_context(app)

    assert isinstance(future.exception(0), RuntimeError)


@pytest.mark.parametrize("has_begun", [False, True])
def test_an_interrupted_submit_runs_the_job_whole_or_not_at_all(app, executors, gate, has_begun):
    executor = executors(app)
    calls = []
    torn_down = []
    app.teardown_appcontext(torn_down.append)

    async def job():
        await asyncio.to_thread(gate)

    def interrupt(fn):
        if has_begun:
            call(fn)
            gate.await_arrival()
        calls.append(fn)
        raise KeyboardInterrupt

    call = inside.replace_start_of_coroutines(app, interrupt)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(job)
    inside.replace_start_of_coroutines(app, call)
    if not has_begun:
        call(calls[0])
    gate.open()
    executor.submit(asyncio.sleep, 0).result(WAIT)
    executor.drain(WAIT)

    stats = executor.stats()
    assert (stats.submitted, stats.succeeded, len(torn_down)) == (1 + has_begun,) * 3
    assert (stats.pending, stats.running) == (0, 0)


def test_a_job_ends_although_its_app_is_gone(gate):
    app = Flask("gone")
    app.config["EXECUTOR_PUSH_APP_CONTEXT"] = False
    executor = Executor()
    executor.init_app(app)
    future = executor.submit(asyncio.to_thread, gate)
    gate.await_arrival()
    host = inside.part(app).host
    reference = weakref.ref(app)
    del app
    gc.collect()
    gate.open()

    assert reference() is None
    assert future.result(WAIT) is None
    shutdown(host, wait=True, cancel_futures=False, deadline=Deadline())


def test_a_job_that_is_cancelled_before_its_first_step_is_cancelled(app, executors):
    executor = executors(app, type="inline")
    has_run = []

    async def job():
        has_run.append(1)

    async def main():
        with app.app_context():
            future = executor.submit(job)
            assert future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await future
        return future

    future = asyncio.run(main())

    assert future.cancelled()
    assert has_run == []
    assert executor.stats().cancelled == 1


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has them")
def test_a_job_may_be_an_eager_task(app, executors):
    executor = executors(app, type="inline")
    goes_on = asyncio.Event()

    async def job():
        await goes_on.wait()
        return "went on"

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        with app.app_context():
            at_once, later = executor.submit(returns), executor.submit(job)
        assert at_once.result(0) == "returned"
        goes_on.set()
        return at_once, await later

    async def returns():
        return "returned"

    at_once, result = asyncio.run(main())

    assert result == "went on"
    assert not inside.has_task(at_once)
    assert executor.stats().succeeded == 2

"""Jobs that wait for jobs: they never hang, however few workers there are."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import random
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest
from asgiref.sync import async_to_sync
from flask import Flask, g

from flask_executor import Executor, JobFuture, Stats, WaitTimeout, current_job
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, at_once


@pytest.fixture
def executor(app: Flask, executors: MakeExecutor) -> Executor:
    """One worker."""
    return executors(app, max_workers=1)


def result(future: JobFuture[int]) -> int:
    return future.result()


def exception(future: JobFuture[int]) -> int:
    assert future.exception() is None
    return future.result(0)


@pytest.mark.parametrize("ask", [result, exception])
@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_that_wait_for_one_another_end_at_any_depth(
    app: Flask, executors: MakeExecutor, ask: Callable[[JobFuture[int]], int], workers: int
) -> None:
    executor = executors(app, max_workers=workers)

    def descend(depth: int) -> int:
        return depth and ask(executor.submit(descend, depth - 1)) + 1

    for depth in (1, 50, 300):
        assert executor.submit(descend, depth).result(WAIT) == depth
    executor.drain(WAIT)
    assert not inside.has_awaited_jobs(app)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_recursion_of_jobs_ends(app: Flask, executors: MakeExecutor, workers: int) -> None:
    executor = executors(app, max_workers=workers)

    @executor.job
    def fib(n: int) -> int:
        if n < 2:
            return n
        futures = [fib.submit(n - 1), fib.submit(n - 2)]
        return sum(future.result() for future in futures)

    assert fib.submit(15).result(WAIT) == 610
    executor.drain(WAIT)
    assert executor.stats() == Stats(
        workers=workers, submitted=1973, pending=0, running=0, succeeded=1973, failed=0, cancelled=0
    )


def test_a_job_may_iterate_a_map(executor: Executor) -> None:
    def squares(depth: int) -> int:
        return sum(executor.map(squares, [depth - 1] * 3)) if depth else 1

    assert executor.submit(squares, 5).result(WAIT) == 3**5


def test_a_job_that_another_waits_for_has_its_own_context_and_thread(
    app: Flask, executor: Executor
) -> None:
    ended = []
    app.teardown_appcontext(lambda error: ended.append(g.get("name")))

    def inner() -> tuple[str, str, int]:
        seen = g.name, current_job.name, threading.get_ident()
        g.name = "inner"
        return seen

    def outer() -> tuple[object, ...]:
        g.name = "outer"
        future = executor.submit(inner)
        g.name = "later"
        return (future.result(), g.name, current_job.name, threading.get_ident())

    (seen, name, job, thread) = executor.submit(outer).result(WAIT)
    executor.drain(WAIT)

    assert seen[:2] == ("outer", "inner")
    assert seen[2] != thread, "no job runs on the stack of another"
    assert (name, job) == ("later", "outer")
    assert ended == ["inner", "later"]


def test_a_job_that_waits_shares_no_thread_locals_with_the_job_it_waits_for(
    app: Flask, executor: Executor
) -> None:
    registry = threading.local()  # as a scoped session has
    lock = threading.RLock()

    @app.teardown_appcontext
    def remove(_: BaseException | None = None) -> None:
        vars(registry).clear()

    def session() -> object:
        return vars(registry).setdefault("session", object())

    def inner() -> tuple[object, bool]:
        return session(), lock.acquire(blocking=False)

    def outer() -> tuple[bool, bool, bool]:
        mine = session()
        with lock:
            other, has_entered = executor.submit(inner).result()
        return session() is mine, other is mine, has_entered

    assert executor.submit(outer).result(WAIT) == (True, False, False)


def test_what_a_job_raises_that_another_waits_for_is_raised_there(executor: Executor) -> None:
    def outer() -> str:
        try:
            executor.submit(int, "x").result()
        except ValueError as error:
            return str(error)
        return ""

    assert "invalid literal" in executor.submit(outer).result(WAIT)
    assert executor.stats().failed == 1


def test_a_job_that_runs_elsewhere_is_waited_for(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=2)
    started, go_on = threading.Event(), threading.Event()

    def inner() -> int:
        started.set()
        assert go_on.wait(WAIT)
        return 7

    def outer() -> int:
        future = executor.submit(inner)
        assert started.wait(WAIT)
        threading.Timer(0.01, go_on.set).start()
        return future.result()

    assert executor.submit(outer).result(WAIT) == 7


def test_with_a_timeout_the_wait_ends_in_time(executor: Executor, gate: Gate) -> None:
    def outer() -> str:
        with pytest.raises(WaitTimeout):
            executor.submit(gate).result(0.01)
        return "went on"

    assert executor.submit(outer).result(WAIT) == "went on"


def test_with_a_timeout_what_is_waited_for_runs_all_the_same(executor: Executor) -> None:
    def outer() -> int:
        return executor.submit(int, "7").result(WAIT)

    assert executor.submit(outer).result(WAIT) == 7


def test_a_job_may_wait_for_one_that_waits_for_its_time(executor: Executor) -> None:
    def outer() -> int:
        return executor.options(delay=0.01).submit(int, "7").result()

    assert executor.submit(outer).result(WAIT) == 7


def test_a_job_may_wait_for_a_coroutine_job_that_waits_for_jobs(executor: Executor) -> None:
    async def middle(depth: int) -> int:
        results = await asyncio.gather(*(executor.submit_async(outer, depth - 1) for _ in "ab"))
        return sum(results)

    def outer(depth: int) -> int:
        return executor.submit(middle, depth).result() if depth else 1

    assert executor.submit(outer, 4).result(WAIT) == 2**4


def test_a_job_may_await_jobs_in_an_event_loop_of_its_own(executor: Executor) -> None:
    def outer(depth: int) -> int:
        async def main() -> int:
            results = await asyncio.gather(*(executor.submit_async(outer, depth - 1) for _ in "ab"))
            return sum(results)

        return asyncio.run(main()) if depth else 1

    assert executor.submit(outer, 4).result(WAIT) == 2**4


def test_jobs_of_two_apps_may_wait_for_each_other(executors: MakeExecutor) -> None:
    apps = Flask("one"), Flask("two")
    executor = executors(*apps, max_workers=1)

    def descend(depth: int) -> int:
        if not depth:
            return 0
        with apps[depth % 2].app_context():
            future = executor.submit(descend, depth - 1)
        return future.result() + 1

    with apps[0].app_context():
        assert executor.submit(descend, 40).result(WAIT) == 40


def test_no_more_jobs_are_at_work_than_there_are_workers(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=2)
    at_work, most, lock = 0, 0, threading.Lock()

    def count(by: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += by
            most = max(most, at_work)

    async def middle() -> None:
        await asyncio.gather(*(executor.submit_async(inner) for _ in range(5)))

    def inner() -> None:
        count(1)
        for _ in range(1000):
            pass
        count(-1)

    def outer() -> None:
        futures = [executor.submit(inner), executor.submit(middle)]
        for future in futures:
            future.result()

    for future in [executor.submit(outer) for _ in range(20)]:
        future.result(WAIT)

    assert most <= 2


def test_what_is_awaited_waits_for_a_worker_that_is_at_work(executor: Executor, gate: Gate) -> None:
    gate.occupy(executor)
    awaited: list[str] = []
    begun = threading.Event()

    async def outer() -> int:
        future = executor.submit(int, "7")
        waiter = asyncio.ensure_future(future)
        await asyncio.sleep(0)  # now it is awaited
        awaited.append(future.state)
        begun.set()
        return await waiter

    future = executor.submit(outer)
    assert begun.wait(WAIT)

    assert awaited == ["pending"]
    gate.open()
    assert future.result(WAIT) == 7


def test_jobs_that_wait_for_another_executors_start_no_more_threads(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    slow = executors(app, name="slow", max_workers=1)
    executor = executors(app, max_workers=2)
    gate.occupy(slow)
    begun = threading.Semaphore(0)

    def outer() -> int:
        begun.release()
        return slow.submit(int, "7").result()

    futures = [executor.submit(outer) for _ in range(10)]
    for _ in range(2):
        assert begun.acquire(timeout=WAIT)

    assert executor.stats().pending == 8
    gate.open()
    assert [future.result(WAIT) for future in futures] == [7] * 10


def test_a_job_that_waits_for_itself_is_told_so(executor: Executor) -> None:
    own: list[JobFuture[object]] = []
    has_own = threading.Event()

    def job() -> object:
        assert has_own.wait(WAIT)
        return own[0].result()

    own.append(executor.submit(job))
    has_own.set()

    with pytest.raises(RuntimeError, match="this would never end: the job job, which waits for jo"):
        own[0].result(WAIT)


def test_jobs_that_wait_for_each_other_are_told_so(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=2)
    futures: dict[str, JobFuture[object]] = {}
    ready = threading.Barrier(3, timeout=WAIT)

    def wait_for(name: str) -> object:
        ready.wait()
        return futures[name].result()

    futures["one"] = executor.submit(wait_for, "two")
    futures["two"] = executor.submit(wait_for, "one")
    ready.wait()

    errors = [future.exception(WAIT) for future in futures.values()]
    assert all(isinstance(error, RuntimeError) for error in errors)
    assert "wait_for, which waits for wait_for, which waits for wait_for" in str(errors[0])


def test_a_thread_that_is_no_worker_runs_no_job(executor: Executor, gate: Gate) -> None:
    gate.occupy(executor)
    waiting = executor.submit(threading.get_ident)

    threading.Timer(0.01, gate.open).start()

    assert waiting.result(WAIT) != threading.get_ident()


def test_a_callback_may_wait_for_a_job(executor: Executor) -> None:
    seen: list[int] = []
    done = threading.Event()

    def call_back(_: object) -> None:
        seen.append(executor.submit(int, "7").result())
        done.set()

    executor.submit(int).add_done_callback(call_back)

    assert done.wait(WAIT)
    assert seen == [7]


def test_helping_against_cancelling_loses_and_doubles_nothing(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=2)
    ran: list[int] = []
    futures: list[JobFuture[None]] = []

    def outer(seed: int) -> None:
        chance = random.Random(seed)
        for n in range(200):
            future = executor.submit(ran.append, seed * 200 + n)
            futures.append(future)
            if chance.random() < 0.3:
                chance.choice(futures[-20:]).cancel()
            if chance.random() < 0.5:
                with suppress(concurrent.futures.CancelledError):
                    future.result()

    answers = at_once(
        *(lambda seed=seed: executor.submit(outer, seed).result(WAIT) for seed in range(4))
    )
    executor.drain(WAIT)

    assert answers == [None] * 4
    cancelled = [future for future in futures if future.cancelled()]
    assert all(future.done() for future in futures)
    assert len(ran) == len(set(ran)) == len(futures) - len(cancelled)
    stats = executor.stats()
    assert (stats.cancelled, stats.succeeded) == (len(cancelled), len(ran) + 4)
    assert inside.count_waiting(app) == 0


def test_a_job_may_await_jobs_as_flask_has_plain_functions_do_it(
    app: Flask, executor: Executor
) -> None:
    async def inner() -> int:
        return await executor.submit_async(int, "7")

    assert executor.submit(async_to_sync(inner)).result(WAIT) == 7
    assert executor.submit(app.ensure_sync(inner)).result(WAIT) == 7


def test_a_job_may_have_another_thread_wait_for_jobs(executor: Executor) -> None:
    def outer() -> int:
        async def main() -> int:
            return await asyncio.to_thread(executor.submit(int, "7").result)

        return asyncio.run(main())

    assert executor.submit(outer).result(WAIT) == 7


def test_a_job_that_waits_inside_an_inline_job_holds_nobody_up(
    app: Flask, executors: MakeExecutor, executor: Executor
) -> None:
    inline = executors(app, name="inline", type="inline")

    def outer() -> int:
        return inline.submit(lambda: executor.submit(int, "7").result()).result()

    assert executor.submit(outer).result(WAIT) == 7


def test_inline_jobs_never_hold_each_other_up_in_a_circle(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    inline = executors(app, name="inline", type="inline")
    started: list[threading.Thread] = []
    stacks: list[list[object]] = []

    def innermost() -> None:
        stacks.append(inside.worker_stack())

    def left_behind() -> None:
        gate()
        inline.submit(innermost)

    def leave_behind() -> None:
        run = contextvars.copy_context().run
        started.append(threading.Thread(target=run, args=(inline.submit, left_behind)))
        started[0].start()
        gate.await_arrival()

    inline.submit(leave_behind)
    gate.open()
    started[0].join(WAIT)

    [stack] = stacks
    assert len(stack) == len(set(stack))


def test_code_that_a_job_leaves_behind_may_wait_as_the_job_ends(
    app: Flask, executor: Executor
) -> None:
    assert inside.wait_in_ended_worker(executor.submit(int, "7"), lambda _: 7) == 7


def test_what_a_job_left_waiting_does_not_count_for_the_next_one(
    app: Flask, executor: Executor, gate: Gate
) -> None:
    loop = asyncio.new_event_loop()
    left: list[asyncio.Future[object]] = []

    async def wait_at_gate() -> None:
        await asyncio.to_thread(gate)

    async def leave_waiting() -> None:
        left.append(executor.submit_async(wait_at_gate))

    executor.submit(loop.run_until_complete, leave_waiting()).result(WAIT)
    is_blocked = executor.submit(inside.is_worker_blocked).result(WAIT)
    gate.open()
    executor.drain(WAIT)
    loop.close()

    assert is_blocked is False


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_what_waits_for_room_to_wait_for_its_time_keeps_that_time(
    app: Flask, executors: MakeExecutor, is_coroutine: bool
) -> None:
    executor = executors(app, name="small", max_workers=1, max_pending=1)

    async def now() -> float:
        return time.monotonic()

    def outer() -> float:
        executor.submit(int)  # There is no more room now.
        began = time.monotonic()

        async def main() -> float:
            fn = now if is_coroutine else time.monotonic
            return await executor.options(delay=0.1).submit_async(fn)

        return asyncio.run(main()) - began

    assert executor.submit(outer).result(WAIT) >= 0.1


def test_callbacks_of_coroutine_jobs_may_wait_for_coroutine_jobs(
    app: Flask, executor: Executor
) -> None:
    app.teardown_appcontext(lambda _: None)
    seen: list[int] = []

    async def seven() -> int:
        return 7

    executor.add_default_done_callback(
        lambda future: future.key and seen.append(executor.submit(seven).result())
    )
    for n in range(50):
        executor.submit_stored(f"key {n}", seven)
    executor.drain(WAIT)

    assert seen == [7] * 50


def test_a_callback_may_wait_for_a_job_that_has_waited_for_its_own(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, name="two", max_workers=2)
    go, waits = threading.Event(), threading.Event()
    seen: list[object] = []

    def wait_for_first() -> str:
        waits.set()
        return first.result()

    def call_back(_: object) -> None:
        try:
            seen.append(second.result())
        except RuntimeError as error:
            seen.append(error)

    first = executor.submit(lambda: go.wait(WAIT) and "first")
    second = executor.submit(wait_for_first)
    first.add_done_callback(call_back)
    assert waits.wait(WAIT)
    go.set()
    executor.drain(WAIT)

    assert seen == ["first"]


@pytest.mark.filterwarnings("ignore:result.. blocks the event loop:RuntimeWarning")
def test_what_is_waited_for_in_a_running_event_loop_may_run_one_of_its_own(
    executor: Executor,
) -> None:
    def inner() -> int:
        return asyncio.run(asyncio.sleep(0, 7))

    def outer() -> int:
        async def main() -> int:
            return executor.submit(inner).result()

        return asyncio.run(main())

    assert executor.submit(outer).result(WAIT) == 7


def test_a_job_that_waits_for_room_counts_as_one_that_waits(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, name="two", max_workers=2, max_pending=1)
    others: list[JobFuture[int]] = []
    both = threading.Barrier(2, timeout=WAIT)

    def wait_for_room() -> int:
        others.append(executor.submit(int, "7"))
        both.wait()
        return executor.options(queue_timeout=WAIT).submit(int, "8").result()

    def wait_for_other() -> int:
        both.wait()
        return others[0].result(WAIT)

    futures = [executor.submit(wait_for_room), executor.submit(wait_for_other)]

    assert [future.result(WAIT) for future in futures] == [8, 7]


def test_nothing_is_kept_of_what_was_waited_for(app: Flask, executor: Executor) -> None:
    gate = threading.Event()
    box: list[JobFuture[int]] = []

    async def await_it() -> int:
        return await box[0]

    def outer() -> int:
        assert gate.wait(WAIT)
        return box[0].result()

    waiting = executor.submit(outer)
    box.append(executor.submit(int, "7"))
    awaiting = executor.submit(await_it)
    gate.set()

    assert (waiting.result(WAIT), awaiting.result(WAIT)) == (7, 7)
    executor.drain(WAIT)
    assert not inside.has_awaited_jobs(app)


class Result:
    """What weak references can tell of."""


def make_result() -> Result:
    return Result()


async def make_result_on_loop() -> Result:
    return Result()


@pytest.mark.parametrize("options", [{}, {"delay": 0}, {"timeout": WAIT}], ids=str)
@pytest.mark.parametrize("inner", [make_result, make_result_on_loop])
@pytest.mark.parametrize("is_awaited", [False, True])
def test_the_result_that_another_job_waited_for_is_let_go_of(
    app: Flask,
    executors: MakeExecutor,
    options: dict[str, float],
    inner: Callable[[], Result],
    is_awaited: bool,
) -> None:
    executor = executors(app, name="two", max_workers=2)
    results: list[weakref.ref[Result]] = []

    async def awaits() -> None:
        for _ in range(10):
            results.append(weakref.ref(await executor.options(**options).submit_async(inner)))

    def waits() -> None:
        for _ in range(10):
            results.append(weakref.ref(executor.options(**options).submit(inner).result()))

    executor.submit(awaits if is_awaited else waits).result(WAIT)
    executor.submit(make_result_on_loop).result(WAIT)  # The loop has come to its timers, too.
    executor.drain(WAIT)
    gc.collect()

    assert len(results) == 10
    assert [result() for result in results if result() is not None] == []

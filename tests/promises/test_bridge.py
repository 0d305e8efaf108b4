"""The bridge from jobs to asyncio: ours does what `asyncio.wrap_future` does, but for a list."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import signal
import sys
import threading
import traceback
import weakref
from contextlib import suppress

import pytest
import uvloop

from flask_executor import current_job
from tests import inside
from tests.support import WAIT, app_log, at_once

# Where the bridges differ: what asyncio.wrap_future does, and what ours does. Else they are equal.
DIFFERENCES = {
    # Of several waiters, only the last to give up cancels the job.
    "one of two waiters that gives up cancels the job": (True, False),
    # What the job raises of its own accord can be told from a cancellation of the waiter, and
    # arrives as it is; only asyncio.CancelledError cannot, which would be one.
    "a job's asyncio.CancelledError arrives as": (asyncio.CancelledError, RuntimeError),
    "a job's CancelledError arrives as": (
        asyncio.CancelledError,
        concurrent.futures.CancelledError,
    ),
    "a job's InvalidStateError arrives as": (
        asyncio.InvalidStateError,
        concurrent.futures.InvalidStateError,
    ),
    "a job's TimeoutError arrives as itself": (sys.version_info >= (3, 13), True),
    # The app's log has the failures of jobs that nobody asks for, with the job's name.
    "a failure that nobody asks for is logged by": ("asyncio", "app"),
    # All who wait for a job are one in that.
    "a failure is logged, if of two waiters one is asked or none": ([1, 2], [0, 1]),
    # A late await takes no turn of the loop.
    "the outcome of a job that has ended is there at once": (sys.version_info >= (3, 14), True),
    # The wrapped future is one more done callback, and these run before the job's teardown.
    "the waiter may go on before the job's teardown has ended": (True, False),
    # A job that awaits another one makes room for it.
    "a job may await one that needs its worker": (False, True),
}


def awaited(future):
    return future


@pytest.fixture(
    params=[asyncio.wrap_future, inside.awaitable, awaited],
    ids=["wrap_future", "submit_async", "await"],
)
def bridge(request):
    """What makes a job's future one that can be awaited: asyncio's own bridge, or ours."""
    return request.param


@pytest.fixture
def expected(bridge):
    """What this bridge does where the two of them differ."""
    return lambda what: DIFFERENCES[what][bridge is not asyncio.wrap_future]


@pytest.fixture
def submit(executor, bridge):
    """Submits a job and gives what can be awaited of it."""
    if bridge is inside.awaitable:
        return executor.submit_async
    return lambda fn, *args: bridge(executor.submit(fn, *args))


@pytest.fixture(params=["asyncio", "debug", "uvloop"])
def run(request):
    """Runs a coroutine in a loop of its own: asyncio's, the same in debug mode, or uvloop's."""

    def run(coroutine):
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(debug=request.param == "debug", loop_factory=factory) as runner:
            runner.get_loop().slow_callback_duration = WAIT  # a busy machine is not worth a warning
            return runner.run(asyncio.wait_for(coroutine, WAIT))

    return run


@pytest.fixture
def one_worker(app, executors):
    return executors(app, name="one", max_workers=1)


@pytest.fixture(autouse=True)
def nothing_logged(caplog):
    """A test that expects a record in the log takes it out."""
    yield
    assert caplog.get_records("call") == []


class FalsyError(Exception):
    def __bool__(self) -> bool:
        return False


def fail(error: BaseException) -> None:
    raise error


async def fail_on_loop(error: BaseException) -> None:
    raise error


async def wait(awaitable):
    """A coroutine, for what takes nothing else."""
    return await awaitable


async def turns() -> None:
    """Give the loop as many turns as a cancellation takes to arrive where it is to."""
    for _ in range(5):
        await asyncio.sleep(0)


def hold_up(call) -> None:
    """Make *call* elsewhere, while the loop of this thread stands still."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(WAIT)


# Outcomes


def test_a_result_is_the_very_object(submit, run):
    thing = object()

    async def on_loop():
        return thing

    async def main():
        return await submit(lambda: thing), await submit(on_loop)

    assert run(main()) == (thing, thing)


class Awaitable:
    """What can be awaited; a job that returns a coroutine fails."""

    def __await__(self):
        pytest.fail("it was awaited")


def test_what_can_be_awaited_is_not_awaited_for_being_a_result(submit, run):
    results = [Awaitable(), concurrent.futures.Future(), LookupError("no failure")]

    async def main():
        return [await submit(iter([result]).__next__) for result in results]

    arrived = run(main())

    assert all(one is other for one, other in zip(arrived, results, strict=True))


@pytest.mark.parametrize("fn", [fail, fail_on_loop])
@pytest.mark.parametrize(
    "make_error",
    [
        lambda: LookupError("on purpose"),
        FalsyError,
        StopAsyncIteration,
        lambda: BaseException("bare"),  # GeneratorExit closes any coroutine that it is raised in
        lambda: ExceptionGroup("several", [LookupError(), StopIteration()]),
    ],
    ids=["plain", "falsy", "async", "bare", "group"],
)
def test_an_exception_is_raised_as_it_is_from_the_jobs_line(submit, run, make_error, fn):
    error = make_error()

    async def main():
        with pytest.raises(type(error)) as caught:
            await submit(fn, error)
        return caught.value, traceback.extract_tb(caught.tb)[-1]

    raised, last = run(main())

    assert raised is error
    assert (last.name, last.line) == (fn.__name__, "raise error")


@pytest.mark.parametrize("fn", [fail, fail_on_loop])
def test_stop_iteration_gives_runtime_error(submit, run, fn):
    error = StopIteration(1)

    async def main():
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await submit(fail, error)
        return caught.value

    assert run(main()).__cause__ is error


def test_a_jobs_timeout_is_told_from_the_waiters(submit, run, expected):
    own = TimeoutError("the job's")

    async def main():
        async with asyncio.timeout(WAIT) as limit:
            with pytest.raises(TimeoutError, match="the job's") as caught:
                await submit(fail, own)
        return caught.value is own, limit.expired()

    assert run(main()) == (expected("a job's TimeoutError arrives as itself"), False)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (asyncio.CancelledError("mine"), "a job's asyncio.CancelledError arrives as"),
        (concurrent.futures.CancelledError("mine"), "a job's CancelledError arrives as"),
        (concurrent.futures.InvalidStateError("mine"), "a job's InvalidStateError arrives as"),
    ],
    ids=["asyncio", "cancelled", "state"],
)
def test_a_job_may_raise_what_futures_raise(submit, run, expected, error, what):
    async def main():
        awaitable = submit(fail, error)
        with pytest.raises((Exception, asyncio.CancelledError), match="mine") as caught:
            await awaitable
        return type(caught.value), awaitable.cancelled(), asyncio.current_task().cancelling()

    assert run(main()) == (expected(what), False, 0)


def test_an_outcome_can_be_asked_for_again(submit, run, gate):
    error = LookupError("on purpose")

    async def main():
        good = asyncio.ensure_future(submit(gate))
        bad = asyncio.ensure_future(submit(fail, error))
        with pytest.raises(asyncio.InvalidStateError):
            good.result()
        gate.open()
        await asyncio.wait([good, bad])
        with pytest.raises(LookupError):
            await bad
        return [await good, good.result(), good.exception(), bad.exception()]

    assert run(main()) == [None, None, None, error]


# When it is awaited


def test_it_may_be_awaited_late(bridge, executor, run, expected):
    future, failed = executor.submit(int), executor.submit(fail, LookupError("late"))
    executor.drain(WAIT)

    def is_there(awaitable):
        try:
            next(awaitable.__await__())
        except StopIteration:
            return True
        return False

    async def main():
        with pytest.raises(LookupError, match="late"):
            await bridge(failed)
        return await bridge(future), is_there(bridge(future))

    assert run(main()) == (0, expected("the outcome of a job that has ended is there at once"))


def test_it_may_be_awaited_in_the_moment_it_ends(bridge, executor, run, fast_switching):
    async def main():
        return [await bridge(executor.submit(abs, -n)) for n in range(300)]

    assert run(main()) == list(range(300))


def test_it_may_be_awaited_never(submit, run, executor):
    ran = []

    async def main():
        submit(ran.append, 1)

    run(main())
    executor.drain(WAIT)

    assert ran == [1]
    assert executor.stats().succeeded == 1


def test_a_loop_may_be_closed_before_the_job_ends(bridge, one_worker, gate, run):
    (future,) = gate.occupy(one_worker)

    async def main():
        bridge(future)

    run(main())
    asked_to_stop = future.job.cancel_requested
    gate.open()

    assert not asked_to_stop
    assert future.result(WAIT) is None
    assert one_worker.submit(int).result(WAIT) == 0
    assert run(wait(bridge_in(bridge, future))) is None


def test_a_loop_may_be_closed_under_its_tasks(bridge, one_worker, gate):
    (future,) = gate.occupy(one_worker)

    async def main():
        waiter = asyncio.ensure_future(wait(bridge(future)))
        await turns()
        return waiter

    loop = asyncio.new_event_loop()
    waiter = loop.run_until_complete(main())
    loop.close()
    gate.open()

    assert future.result(WAIT) is None
    assert one_worker.submit(int).result(WAIT) == 0
    waiter._log_destroy_pending = False


async def bridge_in(bridge, future):
    return await bridge(future)


@pytest.mark.parametrize("error", [None, LookupError("on purpose")])
def test_several_may_wait_also_in_several_loops(bridge, executor, gate, run, error):
    def job():
        gate()
        if error is not None:
            raise error
        return "result"

    future = executor.submit(job)
    gate.await_arrival()
    all_wait = threading.Barrier(3, gate.open, timeout=WAIT)

    async def main():
        waiters = [asyncio.ensure_future(bridge(future)) for _ in range(3)]
        await turns()
        all_wait.wait()
        return await asyncio.gather(*waiters, return_exceptions=True)

    assert at_once(*[lambda: run(main())] * 3) == [[error or "result"] * 3] * 3


# Cancellation


def test_a_waiter_that_gives_up_cancels_a_pending_job(bridge, one_worker, gate, run):
    gate.occupy(one_worker)
    ran = []
    future = one_worker.submit(ran.append, 1)

    async def main():
        waiter = asyncio.ensure_future(bridge(future))
        await turns()
        assert waiter.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await waiter
        await turns()
        return waiter.cancelled(), future.state

    assert run(main()) == (True, "cancelled")
    gate.open()
    one_worker.drain(WAIT)
    assert ran == []
    assert one_worker.stats().cancelled == 1


def test_a_waiter_that_gives_up_asks_a_running_job_to_stop(bridge, executor, gate, run):
    (future,) = gate.occupy(executor)

    async def main():
        waiter = asyncio.ensure_future(bridge(future))
        await turns()
        states = [future.job.cancel_requested, waiter.cancel()]
        await turns()
        states += [future.job.cancel_requested, waiter.cancelled(), future.state]
        gate.open()
        await executor.drain_async()
        await turns()
        return [*states, waiter.cancelled(), future.state]

    assert run(main()) == [False, True, True, True, "running", True, "succeeded"]


def test_a_waiter_that_gives_up_cancels_a_coroutine_job(bridge, executor, run):
    started = threading.Event()
    ended = []

    async def job():
        started.set()
        try:
            await asyncio.wait_for(asyncio.Event().wait(), WAIT)
        finally:
            ended.append(True)

    future = executor.submit(job)
    assert started.wait(WAIT)

    async def main():
        waiter = asyncio.ensure_future(bridge(future))
        await turns()
        waiter.cancel()
        await executor.drain_async()
        return waiter.cancelled(), future.cancelled()

    assert run(main()) == (True, True)
    assert ended == [True]


@pytest.mark.parametrize("error", [None, LookupError("on purpose")])
def test_a_job_that_has_ended_is_not_cancelled(bridge, executor, gate, run, error):
    def job():
        gate()
        if error is not None:
            raise error

    future = executor.submit(job)
    gate.await_arrival()

    def end() -> None:
        gate.open()
        executor.drain(WAIT)

    async def main():
        waiter = asyncio.ensure_future(bridge(future))
        await turns()
        hold_up(end)  # The outcome is there, and the loop has not heard of it.
        in_between = waiter.cancel()
        await turns()
        late = asyncio.ensure_future(bridge(future))
        await asyncio.wait([late])
        return in_between, waiter.cancelled(), late.cancel(), late.exception()

    assert run(main()) == (True, True, False, error)
    assert not future.job.cancel_requested
    assert future.state == ("failed" if error else "succeeded")


def test_of_several_waiters_one_gives_up_and_then_the_other(
    bridge, one_worker, gate, run, expected
):
    gate.occupy(one_worker)
    future = one_worker.submit(int)

    async def main():
        first, last = [asyncio.ensure_future(bridge(future)) for _ in range(2)]
        await turns()
        states = []
        for waiter in (first, last):
            waiter.cancel()
            await turns()
            states.append((future.cancelled(), last.cancelled()))
        return states

    is_cancelled = expected("one of two waiters that gives up cancels the job")
    assert run(main()) == [(is_cancelled, is_cancelled), (True, True)]


def test_of_several_loops_one_gives_up_and_then_the_other(bridge, one_worker, gate, run, expected):
    gate.occupy(one_worker)
    future = one_worker.submit(int)
    both_wait, one_has_left = threading.Barrier(2, timeout=WAIT), threading.Event()
    is_cancelled = []

    async def main(is_first):
        waiter = asyncio.ensure_future(bridge(future))
        await turns()
        both_wait.wait()
        if not is_first:
            assert one_has_left.wait(WAIT)
            await turns()
            is_cancelled.append(future.cancelled())
        waiter.cancel()
        await turns()
        one_has_left.set()
        return waiter.cancelled()

    assert at_once(lambda: run(main(True)), lambda: run(main(False))) == [True, True]
    assert is_cancelled == [expected("one of two waiters that gives up cancels the job")]
    assert future.cancelled()


def test_one_that_comes_after_another_gave_up_gets_the_result(bridge, executor, gate, run):
    (future,) = gate.occupy(executor)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bridge(future), 0.01)
        await turns()
        gate.open()
        return await bridge(future), future.job.cancel_requested

    assert run(main()) == (None, True)


def test_a_pending_job_cancelled_elsewhere_cancels_who_waits_and_who_comes_late(
    bridge, one_worker, gate, run
):
    gate.occupy(one_worker)
    future = one_worker.submit(int)

    async def main():
        waiters = [asyncio.ensure_future(bridge(future)) for _ in range(2)]
        await turns()
        await asyncio.to_thread(future.cancel)
        await asyncio.wait(waiters)
        late = asyncio.ensure_future(bridge(future))
        await asyncio.wait([late])
        for waiter in [*waiters, late]:
            with pytest.raises(asyncio.CancelledError):
                waiter.exception()
        return [waiter.cancelled() for waiter in [*waiters, late]]

    assert run(main()) == [True, True, True]


@pytest.mark.parametrize("stops", [True, False])
def test_a_running_job_asked_elsewhere_to_stop_decides_what_the_waiter_gets(
    bridge, executor, gate, run, stops
):
    def job():
        gate()
        if stops:
            current_job.check_cancelled()
        return "result"

    future = executor.submit(job)
    gate.await_arrival()

    async def main():
        waiter = asyncio.ensure_future(bridge(future))
        await turns()
        await asyncio.to_thread(future.cancel)
        await turns()
        waits_on = not waiter.done()
        gate.open()
        await asyncio.wait([waiter])
        return waits_on, waiter.cancelled() or waiter.result()

    assert run(main()) == (True, True if stops else "result")


def test_a_shutdown_that_cancels_jobs_cancels_who_waits(bridge, one_worker, gate, run):
    gate.occupy(one_worker)

    async def main():
        waiter = asyncio.ensure_future(bridge(one_worker.submit(int)))
        await turns()
        await asyncio.to_thread(one_worker.shutdown, wait=False, cancel_futures=True)
        await asyncio.wait([waiter])
        return waiter.cancelled()

    assert run(main())


def test_tasks_that_are_left_at_the_end_of_the_loop_give_up(bridge, executor, gate, run):
    (future,) = gate.occupy(executor)

    async def main():
        task = asyncio.create_task(wait(bridge(future)))
        await turns()
        return task

    assert run(main()).cancelled()
    assert future.job.cancel_requested


@pytest.fixture
def interruptible():
    """Have Ctrl-C interrupt, also where a shell has started the tests in its background."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_gives_up(bridge, executor, gate, run):
    (future,) = gate.occupy(executor)

    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await bridge(future)

    with pytest.raises(KeyboardInterrupt):
        run(main())

    assert future.job.cancel_requested


# What asyncio does with futures


def test_gather_gives_all_results_in_order(submit, run):
    async def main():
        return await asyncio.gather(*[submit(abs, -n) for n in range(100)])

    assert run(main()) == list(range(100))


def test_gather_may_give_exceptions_for_results(bridge, one_worker, gate, run):
    error = LookupError("on purpose")
    gate.occupy(one_worker)
    futures = [one_worker.submit(*call) for call in [(int,), (fail, error), (int,)]]

    async def main():
        gathered = asyncio.gather(*map(bridge, futures), return_exceptions=True)
        await turns()
        futures[2].cancel()
        gate.open()
        return await gathered

    good, bad, cancelled = run(main())

    assert (good, bad) == (0, error)
    assert isinstance(cancelled, asyncio.CancelledError)


def test_gather_raises_the_first_exception_and_leaves_the_others(bridge, executor, gate, run):
    (held,) = gate.occupy(executor)
    failing = executor.submit(fail, LookupError("on purpose"))

    async def main():
        with pytest.raises(LookupError):
            await asyncio.gather(bridge(held), bridge(failing))
        asked_to_stop = held.job.cancel_requested
        gate.open()
        return asked_to_stop, await bridge(held)

    assert run(main()) == (False, None)


def test_gather_that_is_cancelled_gives_all_up(bridge, executor, gate, run):
    futures = gate.occupy(executor, 2)

    async def main():
        gathered = asyncio.gather(*map(bridge, futures))
        await turns()
        gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered
        await turns()

    run(main())

    assert [future.job.cancel_requested for future in futures] == [True, True]


def test_wait_tells_who_is_done_and_gives_nobody_up(bridge, executor, gate, run):
    (held,) = gate.occupy(executor)

    async def main():
        waiting = asyncio.ensure_future(bridge(held))
        ending = asyncio.ensure_future(bridge(executor.submit(int)))
        first = await asyncio.wait([waiting, ending], return_when=asyncio.FIRST_COMPLETED)
        too_soon = await asyncio.wait([waiting], timeout=0.01)
        asked_to_stop = held.job.cancel_requested
        gate.open()
        later = await asyncio.wait([waiting, ending])
        assert first == ({ending}, {waiting})
        assert too_soon == (set(), {waiting})
        assert later == ({waiting, ending}, set())
        return asked_to_stop

    assert run(main()) is False


def test_as_completed_gives_results_as_they_come(bridge, executor, gate, run):
    held = executor.submit(gate, "held")
    gate.await_arrival()

    async def main():
        results = []
        for one in asyncio.as_completed([bridge(held), bridge(executor.submit(str, "quick"))]):
            results.append(await one)
            gate.open()
        return results

    assert run(main()) == ["quick", "held"]


@pytest.mark.parametrize("limit", ["wait_for", "timeout"])
def test_a_wait_whose_time_is_up_gives_up(bridge, executor, gate, run, limit):
    (future,) = gate.occupy(executor)

    async def main():
        with pytest.raises(TimeoutError):
            if limit == "wait_for":
                await asyncio.wait_for(bridge(future), 0.01)
            else:
                async with asyncio.timeout(0.01):
                    await bridge(future)
        await turns()

    run(main())

    assert future.job.cancel_requested


def test_a_task_group_gives_the_others_up_when_one_fails(bridge, executor, gate, run):
    (held,) = gate.occupy(executor)

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait(bridge(held)))
                group.create_task(wait(bridge(executor.submit(fail, LookupError("on purpose")))))
        await turns()
        return caught.value.exceptions

    (error,) = run(main())

    assert isinstance(error, LookupError)
    assert held.job.cancel_requested


def test_a_task_group_waits_for_all(submit, run):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait(submit(abs, -n))) for n in range(10)]
        return [task.result() for task in tasks]

    assert run(main()) == list(range(10))


def test_a_shield_keeps_the_job_from_who_gives_up(bridge, executor, gate, run):
    (future,) = gate.occupy(executor)

    async def main():
        inner = asyncio.ensure_future(bridge(future))
        outer = asyncio.shield(inner)
        await turns()
        outer.cancel()
        await turns()
        asked_to_stop = future.job.cancel_requested
        gate.open()
        return outer.cancelled(), asked_to_stop, await inner

    assert run(main()) == (True, False, None)


var = contextvars.ContextVar("var")


def test_done_callbacks_run_in_the_loop_in_the_contextvars_of_who_adds_them(submit, run, gate):
    def job() -> None:
        gate()
        var.set("the job's")

    async def main():
        waiter = asyncio.ensure_future(submit(job))
        var.set("the adder's")
        called = []

        def call_back(done):
            called.append((done is waiter, var.get("no one's"), threading.current_thread()))

        waiter.add_done_callback(call_back)
        waiter.add_done_callback(print)
        removed = waiter.remove_done_callback(print)
        gate.open()
        await waiter
        await turns()
        waiter.add_done_callback(call_back, context=contextvars.Context())
        at_once = len(called)
        await turns()
        return called, removed, at_once, var.get()

    here = threading.current_thread()
    called = [(True, "the adder's", here), (True, "no one's", here)]
    assert run(main()) == (called, 1, 1, "the adder's")


def test_its_repr_has_the_state(bridge, one_worker, gate, run):
    gate.occupy(one_worker)
    futures = [one_worker.submit(str, "seen"), one_worker.submit(int)]

    async def main():
        waiters = [asyncio.ensure_future(bridge(future)) for future in futures]
        await turns()
        before = [repr(waiter) for waiter in waiters]
        waiters[1].cancel()
        gate.open()
        await asyncio.wait(waiters)
        return [*before, *map(repr, waiters)]

    shown = run(main())

    words = ["pending", "pending", "finished", "cancelled"]
    assert [word in text for word, text in zip(words, shown, strict=True)] == [True] * 4


# Failures that nobody asks for


def test_a_failure_that_nobody_asks_for_is_logged_once(submit, run, executor, expected, caplog):
    async def main():
        awaitable = submit(fail, LookupError("unasked"))
        await executor.drain_async()
        await turns()
        del awaitable

    run(main())
    gc.collect()

    (record,) = caplog.records
    assert record.exc_info[1].args == ("unasked",)
    assert record.name == expected("a failure that nobody asks for is logged by")
    caplog.clear()


def test_a_failure_of_a_task_that_nobody_asks_for_is_the_tasks(submit, run, caplog):
    async def main():
        task = asyncio.create_task(wait(submit(fail, LookupError("unasked"))))
        await asyncio.wait([task])
        del task

    run(main())
    gc.collect()

    (record,) = caplog.records
    assert record.getMessage().startswith("Task exception was never retrieved")
    caplog.clear()


def test_a_failure_after_the_loop_was_closed_is_logged_once(bridge, executor, gate, run, caplog):
    def late() -> None:
        gate()
        raise LookupError("late")

    async def main():
        bridge(executor.submit(late))

    run(main())
    gate.open()
    executor.drain(WAIT)
    gc.collect()

    (record,) = app_log(caplog)
    assert record.exc_info[1].args == ("late",)
    caplog.clear()


async def result_of(waiter):
    await asyncio.wait([waiter])
    return waiter.result()


async def exception_of(waiter):
    await asyncio.wait([waiter])
    return waiter.exception()


@pytest.mark.parametrize("is_late", [True, False])
@pytest.mark.parametrize("ask", [wait, asyncio.gather, asyncio.shield, result_of, exception_of])
def test_a_failure_that_somebody_asks_for_is_not_logged(submit, run, ask, is_late):
    async def main():
        waiter = asyncio.ensure_future(submit(fail, LookupError("on purpose")))
        if is_late:
            await asyncio.wait([waiter])
        with suppress(LookupError):
            await ask(waiter)

    run(main())
    gc.collect()


def test_two_waiters_for_a_failure(bridge, executor, run, expected, caplog):
    async def main(asked):
        future = executor.submit(fail, LookupError("on purpose"))
        waiters = [bridge(future) for _ in range(2)]
        await executor.drain_async()
        await turns()
        for waiter in waiters[:asked]:
            with pytest.raises(LookupError):
                await waiter

    logged = []
    for asked in (1, 0):
        run(main(asked))
        gc.collect()
        logged.append(len(caplog.records))
        caplog.clear()

    assert logged == expected("a failure is logged, if of two waiters one is asked or none")


def test_a_failure_that_comes_after_the_wait_was_given_up_is_not_logged(
    bridge, executor, gate, run
):
    def late() -> None:
        gate()
        raise LookupError("late")

    async def main():
        waiter = asyncio.ensure_future(bridge(executor.submit(late)))
        await asyncio.to_thread(gate.await_arrival)
        await turns()  # It waits by now.
        waiter.cancel()
        await turns()
        gate.open()
        await executor.drain_async()

    run(main())
    gc.collect()


# What is left of a job


class Held(Exception):
    """What a weak reference can be had of, to return or to raise."""


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_what_was_awaited_is_freed_at_once(bridge, one_worker, gate, run, no_gc, outcome):
    held = []

    def hold(thing):
        held.append(weakref.ref(thing))
        return thing

    def job():
        if outcome == "failed":
            raise hold(Held())
        return hold(Held())

    async def main():
        gate.occupy(one_worker)
        future = hold(one_worker.submit(job))
        awaitables = [hold(bridge(future))]
        if outcome == "cancelled":
            future.cancel()
        del future
        gate.open()
        # A frame that raises what it awaited must not hold that.
        with suppress(Held, asyncio.CancelledError):
            await awaitables.pop()
        await one_worker.drain_async()
        await turns()

    run(main())

    assert [one() for one in held] == [None] * (2 if outcome == "cancelled" else 3)


def test_a_result_does_not_keep_the_jobs_future(bridge, executor, run, no_gc):
    async def main():
        future = executor.submit(int)
        reference = weakref.ref(future)
        waiter = asyncio.ensure_future(bridge(future))
        del future
        await asyncio.wait([waiter])
        await executor.drain_async()
        return reference(), waiter.result()

    assert run(main()) == (None, 0)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="it finds something there, with either")
def test_the_garbage_collector_finds_nothing(bridge, executor, run, no_gc):
    def fail_anew() -> None:  # `fail` has what it raises, which has its frame.
        raise LookupError("on purpose")

    async def give_up():
        waiter = asyncio.ensure_future(bridge(executor.submit(int)))
        waiter.cancel()
        await asyncio.wait([waiter])

    async def main():
        gc.collect()
        for n in range(400):
            await bridge(executor.submit(abs, n))
            with suppress(LookupError):
                await bridge(executor.submit(fail_anew))
            await give_up()
        await executor.drain_async()
        return gc.collect()

    assert run(main()) < 400  # Other threads may have left something, but not one thing per job.


# What surrounds a job


def test_a_job_awaits_another_of_its_only_worker(bridge, one_worker, run, expected):
    async def main():
        with suppress(TimeoutError):
            return await asyncio.wait_for(bridge(one_worker.submit(lambda: True)), 0.5)
        return False

    outer = one_worker.submit(lambda: run(main()))

    assert outer.result(WAIT) == expected("a job may await one that needs its worker")


def test_a_teardown_function_that_takes_long(app, bridge, executor, gate, run, expected):
    begun, may_end = threading.Event(), threading.Event()

    @app.teardown_appcontext
    def take_long(_):
        begun.set()
        assert may_end.wait(WAIT)

    async def main():
        waiter = asyncio.ensure_future(bridge(executor.submit(gate, "result")))
        await turns()
        gate.open()
        await asyncio.to_thread(begun.wait, WAIT)
        await turns()
        is_done = waiter.done()
        may_end.set()
        return is_done, await waiter

    is_early = expected("the waiter may go on before the job's teardown has ended")
    assert run(main()) == (is_early, "result")

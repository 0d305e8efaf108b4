"""Each bad call is refused where it is made, says what to do instead, and loses nothing."""

from __future__ import annotations

import asyncio
import functools
import re
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest
from flask import Blueprint, Flask, current_app

from flask_executor import (
    AlreadyInitialised,
    DuplicateKey,
    Executor,
    ExecutorClosed,
    FlaskExecutorError,
    NoRunningLoop,
    NotInitialised,
    WaitTimeout,
    job_cancelled,
    job_submitted,
)
from tests.support import WAIT, Gate, MakeExecutor

Use = Callable[[Executor], Any]


async def in_loop(call: Callable[[], Any]) -> Any:
    """Call it where an event loop runs."""
    return call()


def use_job(method: str, *args: Any) -> Use:
    return lambda executor: getattr(executor.job(pow), method)(*args)


# Each way to use an executor, with 2 ** 3 as the job of those that submit one.
SUBMITTING: dict[str, Use] = {
    "submit": lambda executor: executor.submit(pow, 2, 3),
    "submit_async": lambda executor: asyncio.run(in_loop(lambda: executor.submit_async(pow, 2, 3))),
    "submit_stored": lambda executor: executor.submit_stored("key", pow, 2, 3),
    "options-submit": lambda executor: executor.options(key="key").submit(pow, 2, 3),
    "options-submit_async": lambda executor: asyncio.run(
        in_loop(lambda: executor.options(key="key").submit_async(pow, 2, 3))
    ),
    "map": lambda executor: executor.map(pow, [2], [3]),
    "job-submit": use_job("submit", 2, 3),
    "job-submit_async": lambda executor: asyncio.run(
        in_loop(lambda: executor.job(pow).submit_async(2, 3))
    ),
    "job-submit_stored": use_job("submit_stored", "key", 2, 3),
    "job-map": use_job("map", [2], [3]),
}
OTHER: dict[str, Use] = {
    "map_async": lambda executor: executor.map_async(pow, [2], [3]),
    "job-map_async": use_job("map_async", [2], [3]),
    "futures": lambda executor: executor.futures,
    "stats": lambda executor: executor.stats(),
}


def named(uses: dict[str, Use]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("use", list(uses.values()), ids=list(uses))


# The executor and its app


@named(SUBMITTING | OTHER)
def test_an_executor_without_an_app_says_how_to_give_it_one(use: Use) -> None:
    with pytest.raises(NotInitialised, match=re.escape("executor.init_app(app)")):
        use(Executor())


@named(SUBMITTING | OTHER)
def test_with_two_apps_and_no_context_the_apps_are_named(executors: MakeExecutor, use: Use) -> None:
    executor = executors(Flask("shop"), Flask("admin"))

    with pytest.raises(NotInitialised, match=r"\('admin', 'shop'\).*app\.app_context\(\)"):
        use(executor)


@named(SUBMITTING | OTHER)
def test_a_current_app_without_the_executor_is_named(executor: Executor, use: Use) -> None:
    with (
        Flask("admin").app_context(),
        pytest.raises(NotInitialised, match=r"for the app 'admin'; call executor\.init_app\(app\)"),
    ):
        use(executor)


@named(SUBMITTING | OTHER)
def test_an_executor_does_not_use_another_ones_part_of_the_app(
    app: Flask, executor: Executor, use: Use
) -> None:
    with app.app_context(), pytest.raises(NotInitialised, match=r"'app'; call"):
        use(Executor())


@pytest.mark.parametrize("app", [Blueprint("shop", __name__), "shop", Flask, None])
def test_only_an_app_can_be_given_an_executor(app: object) -> None:
    with pytest.raises(TypeError, match=r"^(a value of the|None).* have an executor; expected a"):
        Executor().init_app(app)


def test_the_current_app_can_be_given_an_executor(app: Flask, executors: MakeExecutor) -> None:
    with app.app_context():
        executor = executors(current_app)

    assert executor.submit(pow, 2, 3).result(WAIT) == 8


@pytest.mark.parametrize(("name", "named"), [("", "without a name"), ("mail", "named 'mail'")])
def test_a_second_executor_of_a_name_is_refused_with_what_to_do(
    app: Flask, name: str, named: str
) -> None:
    first = Executor(app, name=name)

    for again in (lambda: first.init_app(app), lambda: Executor(app, name=name)):
        with pytest.raises(AlreadyInitialised) as caught:
            again()
        assert f"'app' has an executor {named} already; use that one" in str(caught.value)
        assert "Executor(app, name=" in str(caught.value)
    assert app.extensions[f"{name}executor"] is first


@pytest.mark.parametrize(
    "name", ["two words", "mail-1", "mail\n", "a.b", 5, None, b"mail"], ids=repr
)
def test_a_name_that_cannot_prefix_config_keys_is_refused(app: Flask, name: object) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Executor(app, name=name)

    told = repr(name) if isinstance(name, (str, int)) else kind(name)
    assert f"the executor's name is {told}; " in str(caught.value)
    assert "expected only letters, digits and underscores" in str(caught.value)
    assert not app.extensions


# What is to be run, and under which key


@pytest.mark.parametrize("fn", [None, "pow", 5, ["pow"]])
@pytest.mark.parametrize(
    "use",
    [
        lambda executor, fn: executor.submit(fn),
        lambda executor, fn: executor.submit_stored("key", fn),
        lambda executor, fn: executor.options(key="key").submit(fn),
        lambda executor, fn: asyncio.run(in_loop(lambda: executor.submit_async(fn))),
        lambda executor, fn: executor.map(fn, [1]),
        lambda executor, fn: executor.map_async(fn, [1]),
        lambda executor, fn: executor.job(fn) if fn is not None else executor.submit(fn),
        lambda executor, fn: executor.add_default_done_callback(fn),
    ],
    ids=["submit", "stored", "options", "async", "map", "map_async", "job", "callback"],
)
def test_what_cannot_be_called_is_refused(
    executor: Executor, use: Callable[[Executor, object], Any], fn: object
) -> None:
    with pytest.raises(TypeError, match=f"^{kind(fn)} cannot be called; expected a function"):
        use(executor, fn)

    assert "key" not in executor.futures
    assert executor.stats().submitted == 0
    assert executor.submit(pow, 2, 3).result(WAIT) == 8


def test_a_call_in_place_of_a_function_is_refused(executor: Executor) -> None:
    async def job() -> None: ...

    coroutine = job()

    with pytest.raises(TypeError, match=r"expected a function, and its arguments apart from it"):
        executor.submit(coroutine)
    coroutine.close()


@pytest.mark.parametrize("is_done", [False, True])
def test_a_key_that_is_taken_is_refused_before_the_job_starts(
    executor: Executor, gate: Gate, is_done: bool
) -> None:
    ran: list[int] = []
    if is_done:
        gate.open()
    first = executor.submit_stored("report 7", gate)
    if is_done:
        first.result(WAIT)

    for use in (executor.submit_stored, executor.job(ran.append).submit_stored):
        args = ("report 7", ran.append, 1) if use == executor.submit_stored else ("report 7", 1)
        with pytest.raises(DuplicateKey, match="already, that of the job 'Gate'; pop it first"):
            use(*args)

    gate.open()
    executor.drain(WAIT)
    assert ran == []
    assert executor.futures.get("report 7") is first
    assert executor.stats().submitted == 1


@pytest.mark.parametrize("key", [["a list"], None])
def test_what_cannot_be_a_key_is_refused_before_the_job_starts(
    executor: Executor, key: object
) -> None:
    ran: list[int] = []

    with pytest.raises(TypeError, match=r"unhashable|None cannot be a key"):
        executor.submit_stored(key, ran.append, 1)

    executor.drain(WAIT)
    assert ran == []
    assert executor.stats().submitted == 0


@named(SUBMITTING)
def test_after_shutdown_a_job_is_refused_and_leaves_no_trace(
    app: Flask, executor: Executor, use: Use
) -> None:
    executor.shutdown()
    submitted: list[object] = []

    with (
        job_submitted.connected_to(lambda *_, **sent: submitted.append(sent), sender=app),
        pytest.raises(ExecutorClosed, match="was shut down; it takes no more jobs"),
    ):
        use(executor)

    assert "key" not in executor.futures
    assert submitted == []
    assert executor.stats().submitted == 0


def test_a_job_that_is_overtaken_by_a_shutdown_leaves_no_key(
    app: Flask, executor: Executor
) -> None:
    seen: list[Any] = []

    def shut_down(_: Flask, **sent: object) -> None:
        seen.append(sent["future"])
        executor.shutdown()

    with (
        job_submitted.connected_to(shut_down, sender=app),
        job_cancelled.connected_to(lambda _, **sent: seen.append(sent["job"]), sender=app),
        pytest.raises(ExecutorClosed),
    ):
        executor.submit_stored("key", pow, 2, 3)

    assert "key" not in executor.futures
    assert executor.stats().submitted == 0
    future, cancelled = seen
    assert future.cancelled()
    assert cancelled is future.job


def test_after_shutdown_the_iteration_of_map_async_is_refused(executor: Executor) -> None:
    executor.shutdown()

    async def iterate() -> None:
        async for _ in executor.map_async(pow, [2], [3]):
            pytest.fail("there is nothing to yield")

    with pytest.raises(ExecutorClosed):
        asyncio.run(iterate())


@pytest.mark.parametrize(
    "use",
    [
        lambda executor, fn: executor.submit_async(fn, 1),
        lambda executor, fn: executor.options(key="key").submit_async(fn, 1),
        lambda executor, fn: executor.job(fn).submit_async(1),
        lambda executor, fn: executor.submit(pow, 2, 3).__await__(),
        lambda executor, fn: executor.map_async(fn, [1]).__anext__().send(None),
        lambda executor, fn: executor.group().__aenter__().send(None),
        lambda executor, fn: executor.drain_async().send(None),
    ],
    ids=["submit_async", "options", "job", "await", "map_async", "group", "drain_async"],
)
def test_without_a_running_loop_the_async_side_is_refused_before_the_job_starts(
    executor: Executor, use: Callable[[Executor, object], Any]
) -> None:
    ran: list[int] = []

    with pytest.raises(NoRunningLoop, match=r"that asyncio runs, or submit\(\) and result\(\)"):
        use(executor, ran.append)

    executor.drain(WAIT)
    assert ran == []
    assert "key" not in executor.futures


# Numbers

SECONDS = "expected a number of seconds, or None for no limit"


@pytest.mark.parametrize("timeout", ["5", True, float("nan"), [5]], ids=repr)
@pytest.mark.parametrize(
    "use",
    [
        lambda executor, timeout: executor.submit(pow, 2, 3).result(timeout),
        lambda executor, timeout: executor.submit(pow, 2, 3).exception(timeout),
        lambda executor, timeout: executor.drain(timeout),
        lambda executor, timeout: asyncio.run(executor.drain_async(timeout)),
        lambda executor, timeout: executor.map(pow, [2], [3], timeout=timeout),
        lambda executor, timeout: executor.job(pow).map([2], [3], timeout=timeout),
    ],
    ids=["result", "exception", "drain", "drain_async", "map", "job-map"],
)
def test_a_timeout_that_is_no_number_of_seconds_is_refused(
    executor: Executor, use: Callable[[Executor, object], Any], timeout: object
) -> None:
    error = ValueError if isinstance(timeout, float) else TypeError

    with pytest.raises(
        error, match=f"^timeout is {re.escape(number_or_kind(timeout))}; {SECONDS}$"
    ):
        use(executor, timeout)


@pytest.mark.parametrize("timeout", [float("inf"), 10**400], ids=["inf", "huge"])
def test_a_timeout_that_never_comes_is_refused_or_waited_for(
    executor: Executor, gate: Gate, timeout: float
) -> None:
    (future,) = gate.occupy(executor)
    executor.submit(gate.open)

    try:
        assert future.result(timeout) is None
    except ValueError as error:
        assert str(error) == f"timeout is {timeout!r}; {SECONDS}"  # noqa: PT017 - one of two


@pytest.mark.parametrize("count", [0, -1, "2", True, 1.5], ids=repr)
@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("map", "chunksize"),
        ("map", "buffersize"),
        ("map_async", "buffersize"),
    ],
)
def test_a_size_that_is_no_int_above_0_is_refused(
    executor: Executor, method: str, option: str, count: object
) -> None:
    error = ValueError if type(count) is int else TypeError
    message = f"^{option} is {re.escape(number_or_kind(count))}; expected an int above 0$"

    for owner in (functools.partial(getattr(executor, method), pow), executor.job(pow)):
        call = owner if isinstance(owner, functools.partial) else getattr(owner, method)
        with pytest.raises(error, match=message):
            call([2], [3], **{option: count})

    assert executor.stats().submitted == 0


@pytest.mark.parametrize("iterables", [[5], [None], [[1, 2], 5]], ids=repr)
@pytest.mark.parametrize("method", ["map", "map_async"])
def test_mapping_over_what_cannot_be_iterated_is_refused_at_the_call(
    executor: Executor, method: str, iterables: list[object]
) -> None:
    with pytest.raises(TypeError, match=r"not iterable|must support iteration"):
        getattr(executor, method)(pow, *iterables)

    assert executor.stats().submitted == 0


# Waiting where one should not


@pytest.mark.parametrize("what", ["result()", "exception()", "drain()"])
def test_blocking_an_event_loop_warns_at_the_line_that_blocks(
    executor: Executor, gate: Gate, what: str
) -> None:
    future = executor.submit(gate)
    block = executor.drain if what == "drain()" else getattr(future, what[:-2])
    remedy = "await drain_async() instead" if what == "drain()" else "await the future instead"

    async def view() -> None:
        with pytest.raises(WaitTimeout):
            block(0)

    with pytest.warns(RuntimeWarning) as caught:
        asyncio.run(view())

    (warning,) = caught
    assert str(warning.message).startswith(f"{what} blocks the event loop of this thread until ")
    assert str(warning.message).endswith(remedy)
    assert (warning.filename, warning.lineno) == (__file__, line_of(view) + 2)


@pytest.mark.parametrize("method", ["result", "exception"])
def test_blocking_an_event_loop_on_a_stored_future_warns_at_the_line_that_blocks(
    executor: Executor, gate: Gate, method: str
) -> None:
    executor.submit_stored("key", gate)
    block = getattr(executor.futures, method)

    async def view() -> None:
        with pytest.raises(WaitTimeout):
            block("key", 0)

    with pytest.warns(RuntimeWarning, match=r"await the future instead$") as caught:
        asyncio.run(view())

    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line_of(view) + 2)


def test_blocking_an_event_loop_on_a_map_warns_at_the_line_that_blocks(
    executor: Executor, gate: Gate
) -> None:
    async def view() -> None:
        results = executor.map(gate, [1], timeout=0)
        with pytest.raises(WaitTimeout):
            next(results)

    with pytest.warns(RuntimeWarning) as caught:
        asyncio.run(view())

    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line_of(view) + 3)


def test_what_does_not_block_an_event_loop_does_not_warn(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    succeeded = executor.submit_stored("key", pow, 2, 3)
    executor.drain(WAIT)
    gate.occupy(executor)
    cancelled = executor.submit(pow, 2, 3)
    assert cancelled.cancel()

    async def view() -> None:
        assert succeeded.result() == 8
        assert succeeded.exception() is None
        assert executor.futures.result("key") == 8
        for outcome in (cancelled.result, cancelled.exception):
            with pytest.raises(CancelledError):
                outcome()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(view())
        gate.open()
        executor.submit(pow, 2, 3).result(WAIT)
        executor.drain(WAIT)

    assert caught == []


@pytest.mark.parametrize("type_", ["thread", "inline"])
@pytest.mark.parametrize(
    ("wait_for_all", "verb"),
    [
        (lambda executor: executor.drain(WAIT), "drain"),
        (lambda executor: asyncio.run(executor.drain_async(WAIT)), "drain"),
        (lambda executor: executor.shutdown(), "shut down"),
    ],
    ids=["drain", "drain_async", "shutdown"],
)
def test_a_job_that_would_wait_for_itself_fails_at_once(
    app: Flask, executors: MakeExecutor, type_: str, wait_for_all: Use, verb: str
) -> None:
    executor = executors(app, type=type_, max_workers=1)
    job = functools.partial(wait_for_all, executor)

    with pytest.raises(RuntimeError, match=f"cannot {verb} its own executor: it would wait") as own:
        executor.submit(job).result(WAIT)

    assert not isinstance(own.value, FlaskExecutorError | CancelledError)
    assert executor.submit(pow, 2, 3).result(WAIT) == 8


def test_a_job_may_drain_another_executor(app: Flask, executors: MakeExecutor) -> None:
    executor, mail = executors(app), executors(app, name="mail")
    sent: list[int] = []

    def send_all() -> list[int]:
        mail.submit(sent.append, 1)
        mail.drain(WAIT)
        return sent.copy()

    assert executor.submit(send_all).result(WAIT) == [1]


def test_a_job_may_shut_its_own_executor_down_without_waiting(executor: Executor) -> None:
    executor.submit(executor.shutdown, wait=False).result(WAIT)

    with pytest.raises(ExecutorClosed):
        executor.submit(pow, 2, 3)


def line_of(fn: Callable[..., Any]) -> int:
    return fn.__code__.co_firstlineno


def kind(value: object) -> str:
    return "None" if value is None else f"a value of the type {type(value).__name__}"


def number_or_kind(value: object) -> str:
    return repr(value) if isinstance(value, (int, float)) else kind(value)

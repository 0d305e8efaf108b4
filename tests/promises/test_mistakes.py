"""Mistakes that people make: each is told at once, with the way out."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from flask_executor import Executor, InvalidSetting, JobFuture, QueueFull, WaitTimeout
from flask_executor.testing import failing_jobs_raise, recorded_jobs
from tests.support import WAIT, Gate, MakeExecutor


def numbers(stop: int = 3) -> Iterator[int]:
    yield from range(stop)


async def numbers_async(stop: int = 3) -> AsyncIterator[int]:
    for number in range(stop):
        yield number


class Numbers:
    def __call__(self) -> Iterator[int]:
        yield 1

    def method(self) -> Iterator[int]:
        yield 1


def double(number: int) -> int:
    return 2 * number


async def double_async(number: int) -> int:
    return 2 * number


# Functions that run nothing when they are called


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (numbers, "'numbers' is a generator function"),
        (numbers_async, "'numbers_async' is an async generator function"),
        (functools.partial(numbers, 5), "'numbers' is a generator function"),
        (functools.partial(numbers_async, 5), "'numbers_async' is an async generator function"),
        (Numbers(), "'Numbers' is a generator function"),
        (Numbers().method, "'method' is a generator function"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda executor, fn: executor.submit(fn),
        lambda executor, fn: executor.submit_stored("key", fn),
        lambda executor, fn: executor.options(delay=1).submit(fn),
        lambda executor, fn: executor.map(fn, [1]),
        lambda executor, fn: executor.map_async(fn, [1]),
        lambda executor, fn: executor.job(fn),
        lambda executor, fn: executor.job(timeout=5)(fn),
    ],
    ids=["submit", "stored", "options", "map", "map_async", "job", "job-options"],
)
def test_a_generator_function_is_no_job(
    executor: Executor, use: Callable[[Executor, Any], object], fn: Any, kind: str
) -> None:
    with pytest.raises(TypeError, match=f"^{kind}, and a call of it runs nothing; submit "):
        use(executor, fn)

    assert executor.stats().submitted == 0


def test_a_function_that_hides_a_generator_is_a_job(executor: Executor) -> None:
    @contextmanager
    def block() -> Iterator[int]:
        yield 5

    assert list(executor.submit(lambda: list(numbers())).result(WAIT)) == [0, 1, 2]
    with executor.submit(block).result(WAIT) as five:
        assert five == 5


# Calls in place of functions


@pytest.mark.parametrize("type_", ["thread", "process"])
def test_a_coroutine_in_place_of_its_function_is_closed(
    app: Flask, executors: MakeExecutor, type_: str
) -> None:
    executor = executors(app, type=type_)

    with pytest.raises(
        TypeError, match=r"coroutine cannot.*submit\(fn, \*args\), not submit\(fn\("
    ):
        executor.submit(double_async(5))  # type: ignore[call-overload]


def test_the_key_of_submit_stored_cannot_be_forgotten(executor: Executor) -> None:
    for call in (
        lambda: executor.submit_stored(double, 5),  # type: ignore[call-overload]
        lambda: executor.submit_stored(double),  # type: ignore[call-overload]
    ):
        with pytest.raises(TypeError, match=r"has the function 'double' .* submit_stored\(key, fn"):
            call()


def test_the_decorator_takes_its_options_by_keyword(executor: Executor) -> None:
    with pytest.raises(TypeError, match=r"options by keyword: @executor\.job\(timeout=30\)"):
        executor.job(30)  # type: ignore[call-overload]


def test_map_takes_the_function_first_and_some_items(executor: Executor) -> None:
    with pytest.raises(TypeError, match=r"list cannot be called.* map\(fn, \*iterables\)"):
        executor.map([1, 2], double)  # type: ignore[call-overload]
    for call in (executor.map, executor.map_async):
        with pytest.raises(TypeError, match=r"no items to map; expected map\(fn, \*iterables\)"):
            call(double)  # type: ignore[operator]


# Options among the arguments


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"timeout": 3}, r"'timeout'.* options\(timeout=3\)"),
        ({"delay": 0.5, "number": 5}, r"'delay'.* options\(delay=0\.5\)"),
        ({"queue_timeout": 3}, r"'queue_timeout'.* options\(queue_timeout=3\)"),
        ({"key": "secret"}, r"'key'.* options\(key=\.\.\.\)"),
    ],
)
@pytest.mark.parametrize("fn", [double, double_async, functools.partial(double)])
def test_an_option_among_the_arguments_is_told(
    executor: Executor, fn: Any, keywords: dict[str, Any], told: str
) -> None:
    for job in (fn, executor.job(fn)):
        with pytest.raises(TypeError, match=f"^'double.*takes no argument {told}") as caught:
            executor.submit(job, **keywords)
        assert "secret" not in str(caught.value)

    assert executor.stats().submitted == 0


def test_a_functions_own_argument_may_be_called_as_an_option(executor: Executor) -> None:
    def own(timeout: int) -> int:
        return timeout

    def positional(timeout: int, /, **others: int) -> tuple[int, dict[str, int]]:
        return timeout, others

    def by_position(timeout: int, /) -> int:
        return timeout

    assert executor.submit(own, timeout=3).result(WAIT) == 3
    assert executor.submit(positional, 1, timeout=3).result(WAIT) == (1, {"timeout": 3})
    assert executor.submit(dict, timeout=3).result(WAIT) == {"timeout": 3}
    with pytest.raises(TypeError, match=r"options\(timeout=3\)"):
        executor.submit(by_position, 1, timeout=3)  # type: ignore[call-overload]


# Results that nobody takes


@pytest.mark.parametrize("limits", [{"buffersize": 2}, {}], ids=["buffersize", "bound"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_map_that_nobody_iterates_warns_if_items_are_left(
    app: Flask, executors: MakeExecutor, gate: Gate, limits: dict[str, int], chunksize: int
) -> None:
    executor = executors(app, max_workers=1, max_pending=None if limits else 1)
    gate.occupy(executor)

    with pytest.warns(RuntimeWarning, match=r"of map\(double, .*some items were not submitted"):
        executor.map(double, range(9), chunksize=chunksize, **limits)


def test_a_map_that_nobody_iterates_is_silent_if_no_item_is_left(executor: Executor) -> None:
    done: list[int] = []

    executor.map(done.append, range(9))
    executor.map(done.append, [9], buffersize=2)
    iterated = executor.map(done.append, [10, 11], buffersize=1)
    next(iterated)
    del iterated

    executor.drain(WAIT)
    assert sorted(done) >= list(range(11))


def test_a_map_that_is_refused_does_not_warn(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    gate.occupy(executor)
    executor.submit(double, 1)

    with pytest.raises(QueueFull):
        executor.options(queue_timeout=0.01).map(double, [1])


def test_a_map_async_that_nobody_iterates_warns(executor: Executor) -> None:
    async def forget() -> None:
        executor.map_async(double, [1])

    with pytest.warns(RuntimeWarning, match=r"of map_async\(double, .*no job was submitted"):
        asyncio.run(forget())


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_map_that_takes_too_long_names_its_own_time(
    executor: Executor, gate: Gate, chunksize: int
) -> None:
    results = executor.map(gate, [1, 2], timeout=0.01, chunksize=chunksize)

    with pytest.raises(WaitTimeout, match=r"of map\(Gate, .*within its 0\.01 s"):
        next(results)


def test_a_wait_of_a_mapped_job_keeps_its_own_error(executor: Executor) -> None:
    def impatient(_: int) -> None:
        raise WaitTimeout("the job's own")

    for chunksize in (1, 2):
        with pytest.raises(WaitTimeout, match="the job's own"):
            list(executor.map(impatient, [1, 2], timeout=WAIT, chunksize=chunksize))


def test_a_task_is_no_result(executor: Executor) -> None:
    async def forget() -> Any:
        return asyncio.create_task(double_async(1))

    async def remember() -> Any:
        task = asyncio.create_task(double_async(1))
        await task
        return task

    with pytest.raises(TypeError, match=r"'forget' returned .*Task, .*; await it in the job"):
        executor.submit(forget).result(WAIT)
    assert executor.submit(remember).result(WAIT).result() == 2


# Callbacks


async def callback_async(_: object) -> None: ...


@pytest.mark.parametrize(
    ("fn", "told"),
    [
        (None, r"^None cannot be called.*add_done_callback\(fn\), and fn\(future\) is called"),
        (callback_async, "'callback_async' is a coroutine function, and nobody would await"),
        (functools.partial(callback_async), "'callback_async' is a coroutine function"),
    ],
    ids=["None", "coroutine", "partial"],
)
def test_what_cannot_be_a_callback_is_refused(executor: Executor, fn: Any, told: str) -> None:
    future = executor.submit(double, 1)

    for add in (future.add_done_callback, executor.add_default_done_callback):
        with pytest.raises(TypeError, match=told):
            add(fn)


def test_a_default_callback_may_be_decorated(executor: Executor) -> None:
    seen: list[str] = []

    @executor.add_default_done_callback
    def note(future: JobFuture[Any]) -> None:
        seen.append(future.name)

    executor.submit(double, 1).result(WAIT)
    executor.drain(WAIT)

    assert seen == ["double"]
    note(executor.submit(double, 1))


def test_around_job_says_which_decorator_is_missing(executor: Executor) -> None:
    @executor.around_job
    def around(_: object) -> Iterator[None]:  # type: ignore[type-var]
        yield

    with pytest.raises(TypeError, match="expected a context manager; decorate it with @context"):
        executor.submit(double, 1).result(WAIT)
    with pytest.raises(TypeError, match=r"apart from it: @executor\.around_job"):
        executor.around_job(None)  # type: ignore[type-var]


# Waits that could not end


def test_asyncio_wait_is_told_that_it_needs_another_future(executor: Executor, gate: Gate) -> None:
    async def wait(wrap: Callable[[Any], Any]) -> int:
        done, _ = await asyncio.wait([wrap(executor.submit(gate))])
        return len(done)

    with pytest.raises(TypeError, match=r"asyncio\.wait\(\) cannot wait .*ensure_future\(future\)"):
        asyncio.run(wait(lambda future: future))
    gate.open()
    assert asyncio.run(wait(asyncio.ensure_future)) == 1


@pytest.mark.filterwarnings("ignore:.*blocks the event loop:RuntimeWarning")
def test_the_executors_loop_does_not_wait_for_its_own_jobs(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, async_views=True)

    async def view() -> list[str]:
        told = []
        for wait in (
            lambda: executor.submit(double_async, 1).result(),
            lambda: executor.submit(double_async, 1).exception(),
            lambda: list(executor.map(double_async, [1])),
            executor.drain,
        ):
            with pytest.raises(RuntimeError) as caught:
                wait()
            told.append(str(caught.value))
        return [*told, str(executor.submit(double, 1).result())]

    app.add_url_rule("/", view_func=view)

    *own, drain, plain = app.test_client().get("/").json
    never = (
        "this would never end: the job 'double_async' runs on the event loop that the wait for it "
        "would block; await the future"
    )
    assert own == [never] * 3
    assert drain == (
        "drain() in the thread of the executor's event loop would wait for that loop; await "
        "drain_async()"
    )
    assert plain == "2"


def test_a_future_that_is_asked_too_early_says_to_await_it(executor: Executor, gate: Gate) -> None:
    async def view() -> None:
        future = executor.submit_async(gate)
        with pytest.raises(asyncio.InvalidStateError, match="'Gate' has not ended; await the fut"):
            future.result()
        gate.open()
        await future

    asyncio.run(view())


# Executors in views


def test_a_view_that_makes_or_ends_an_executor_is_warned(app: Flask, executor: Executor) -> None:
    def view() -> str:
        with pytest.warns(RuntimeWarning, match="made in a view; make it once"):
            Executor(Flask("other"), name="other")
        with pytest.warns(
            RuntimeWarning, match=r"shutdown\(\) in a view ends the executor for all"
        ):
            executor.shutdown()
        return ""

    app.add_url_rule("/", view_func=view)

    assert app.test_client().get("/").status_code == 200


# A with block in a view


@pytest.mark.parametrize("is_view", [True, False])
def test_a_with_block_in_a_view_warns_that_it_shuts_the_executor_down(
    app: Flask, executor: Executor, is_view: bool
) -> None:
    def use() -> str:
        with executor:
            return str(executor.submit(double, 2).result(WAIT))

    app.add_url_rule("/", view_func=use)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if is_view:
            assert app.test_client().get("/").text == "4"
        else:
            with app.app_context():
                assert use() == "4"

    told = [(str(each.message), each.category, each.filename) for each in caught]
    text = (
        "'with executor:' shuts the executor down for all requests when its block ends; submit "
        "without a 'with' block"
    )
    assert told == ([(text, RuntimeWarning, __file__)] if is_view else [])


# Options of the decorator, of a job, and of a map


def test_every_option_may_stand_in_the_decorator(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    nightly = executor.job(key="nightly", timeout=WAIT, delay=0, queue_timeout=0.01)(double)

    future = nightly.submit(5)

    assert executor.futures.get("nightly") is future
    assert future.result(WAIT) == 10
    gate.occupy(executor)
    executor.submit(double, 1)
    executor.futures.pop("nightly")
    with pytest.raises(QueueFull, match=r"after 0\.01 s"):
        nightly.submit(5)


def test_a_decorators_options_hold_however_the_job_is_submitted(executor: Executor) -> None:
    stored = executor.job(key="key")(double)

    for submit in (
        lambda: stored.submit(1),
        lambda: executor.submit(stored, 1),
        lambda: executor.options(delay=0).submit(stored, 1),
        lambda: stored.options(delay=0).submit(1),
    ):
        assert executor.futures.get("key") is None
        assert submit().result(WAIT) == 2
        assert executor.futures.pop("key") is not None


def test_options_of_the_call_come_before_those_of_the_decorator(executor: Executor) -> None:
    stored = executor.job(key="decorated", timeout=30)(double)

    future = stored.options(key="called").submit(1)

    assert (future.key, future.result(WAIT)) == ("called", 2)
    assert future is executor.futures.get("called")


def test_a_jobs_options_serve_every_way_to_submit(executor: Executor) -> None:
    job = executor.job(double)

    async def use() -> list[int]:
        options = job.options(delay=0)
        results = [await options.submit_async(1)]
        return results + [result async for result in options.map_async([2, 3])]

    assert asyncio.run(use()) == [2, 4, 6]
    assert list(job.options(timeout=WAIT).map([1, 2], chunksize=2)) == [2, 4]
    assert list(executor.options(timeout=WAIT).map(double, [1, 2])) == [2, 4]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_options_apply_to_each_item_of_a_map(executor: Executor, chunksize: int) -> None:
    options = executor.options(timeout=0.05)
    forever = Gate()

    results = options.map(forever, [1, 2], chunksize=chunksize)

    with pytest.raises(TimeoutError, match="'Gate' has not ended within its"):
        next(results)
    forever.open()


def test_a_map_waits_for_room_as_long_as_its_options_say(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    gate.occupy(executor)
    executor.submit(double, 1)

    async def use() -> list[int]:
        options = executor.options(queue_timeout=0.01)
        return [result async for result in options.map_async(double, [1])]

    with pytest.raises(QueueFull):
        executor.options(queue_timeout=0.01).map(double, [1])
    with pytest.raises(QueueFull):
        executor.job(queue_timeout=0.01)(double).map([1], timeout=WAIT)
    with pytest.raises(QueueFull):
        asyncio.run(use())


def test_a_map_has_no_key(executor: Executor) -> None:
    for call in (
        lambda: executor.options(key="key").map(double, [1]),
        lambda: executor.job(key="key")(double).map_async([1]),
    ):
        with pytest.raises(TypeError, match="a key is for one job, and map makes a job of each"):
            call()


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"delay": -1}, {"queue_timeout": "1"}, {"key": []}], ids=str
)
def test_a_bad_option_is_refused_where_it_is_given(
    executor: Executor, options: dict[str, Any]
) -> None:
    for give in (executor.options, executor.job(double).options, executor.job):
        with pytest.raises((TypeError, ValueError), match="expected"):
            give(**options)


# Settings that cannot work


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("missing_loop:new_event_loop", "cannot be imported: No module named 'missing_loop'"),
        ("asyncio:missing", "cannot be imported: "),
        ("asyncio:__name__", "expected the import path of a loop factory"),
    ],
)
def test_a_loop_factory_that_cannot_be_imported_says_why(
    app: Flask, executors: MakeExecutor, value: str, told: str
) -> None:
    with pytest.raises(InvalidSetting, match=told):
        executors(app, loop_factory=value)


def test_a_loop_factory_that_makes_no_loop_says_so(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, loop_factory="builtins:dict")

    with pytest.raises(TypeError, match=r"'dict' returned a value of the type dict; expected "):
        executor.submit(double_async, 1)


@pytest.mark.parametrize("name", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_a_pool_of_the_stdlib_is_no_factory(app: Flask, executors: MakeExecutor, name: str) -> None:
    with pytest.raises(InvalidSetting, match="expected 'thread', 'process' or 'interpreter'"):
        executors(app, type=f"concurrent.futures:{name}")


def test_a_recorder_needs_an_executor(app: Flask) -> None:
    for record in (recorded_jobs, failing_jobs_raise):
        with (
            pytest.raises(TypeError, match=r"\(\) has a value of the type flask.*; expected an Ex"),
            record(app),
        ):
            pass

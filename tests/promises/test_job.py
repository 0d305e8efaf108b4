"""What the decorator leaves behind, and what a job knows of itself."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, current_app

from flask_executor import Executor, Job, JobFuture, JobInfo, Retry, current_job
from tests.support import WAIT, Gate, MakeExecutor

executor = Executor()


@executor.job
def power(base: int, exponent: int = 2) -> int:
    """Raise *base* to *exponent*."""
    return base**exponent


@executor.job()
def who_am_i(*args: Any, **kwargs: Any) -> tuple[str, Any, Any]:
    return current_job.id, args, kwargs


@pytest.fixture
def initialised(app: Flask) -> Any:
    """Give the executor of this module an app, as a factory does, after the jobs were decorated."""
    executor.init_app(app)
    with app.app_context():
        yield executor
        executor.shutdown()


def test_a_decorated_function_is_called_as_ever() -> None:
    assert power(3) == 9
    assert power(2, exponent=3) == 8


def test_a_decorated_function_keeps_what_describes_it() -> None:
    assert isinstance(power, Job)
    assert (power.__name__, power.__qualname__, power.__module__) == ("power", "power", __name__)
    assert power.__doc__ == "Raise *base* to *exponent*."
    assert power.__wrapped__ is power.fn
    assert list(inspect.signature(power).parameters) == ["base", "exponent"]
    assert "power" in repr(power)


def test_what_has_no_name_can_be_a_job(initialised: Executor) -> None:
    job = initialised.job(Gate())

    assert "Gate" in repr(job)
    job.fn.open()
    assert job.submit("result").result(WAIT) == "result"


def test_the_decorator_may_be_called() -> None:
    assert isinstance(who_am_i, Job)
    assert isinstance(executor.job()(pow), Job)


async def submit_async(*args: Any, **kwargs: Any) -> Any:
    return await power.submit_async(*args, **kwargs)


async def map_async(*iterables: Any, **options: Any) -> list[Any]:
    return [result async for result in power.map_async(*iterables, **options)]


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda: power.submit(2, exponent=3).result(WAIT), 8),
        (lambda: power.submit_stored("key", 2, exponent=3).result(WAIT), 8),
        (lambda: asyncio.run(submit_async(2, exponent=3)), 8),
        (lambda: list(power.map([2, 3], [3, 2])), [8, 9]),
        (lambda: list(power.map(range(4), timeout=WAIT, chunksize=2, buffersize=1)), [0, 1, 4, 9]),
        (lambda: asyncio.run(map_async([2, 3], [3, 2])), [8, 9]),
        (lambda: sorted(asyncio.run(map_async([2, 3], buffersize=1, ordered=False))), [4, 9]),
    ],
    ids=["submit", "submit_stored", "submit_async", "map", "map-options", "map_async", "unordered"],
)
def test_a_job_submits_itself_to_its_executor(
    initialised: Executor, call: Callable[[], Any], result: Any
) -> None:
    submitted = initialised.stats().submitted

    assert call() == result
    initialised.drain(WAIT)
    assert initialised.stats().submitted > submitted


def test_the_options_of_a_jobs_map_reach_it(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    own = executors(app, max_workers=1)
    job = own.job(gate)

    with pytest.raises(TimeoutError):
        next(job.map("ab", timeout=0))
    results = job.map("abcdef", buffersize=2)
    submitted = own.stats().submitted
    gate.open()

    assert submitted == 2 + 2
    assert list(results) == list("abcdef")


def test_the_options_of_a_jobs_map_async_reach_it(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    own = executors(app, max_workers=2)

    @own.job
    def job(n: int) -> int:
        return n or gate(n)

    async def first_of(**options: Any) -> tuple[int, int]:
        results = job.map_async(range(9), buffersize=2, **options)
        async with contextlib.aclosing(results):
            first = await anext(results)
            submitted = own.stats().submitted
            gate.open()
        return first, submitted

    first, submitted = asyncio.run(first_of(ordered=False))

    assert first == 1
    assert submitted <= 3
    own.drain(WAIT)
    assert asyncio.run(first_of())[0] == 0


def test_the_chunksize_of_a_jobs_map_reaches_it() -> None:
    with pytest.raises(ValueError, match="chunksize is 0"):
        power.map([1], chunksize=0)


@pytest.mark.parametrize("name", ["self", "fn", "key", "timeout", "delay", "executor"])
@pytest.mark.parametrize("method", ["submit", "submit_stored", "submit_async", "__call__"])
def test_every_keyword_argument_is_the_functions_own(
    initialised: Executor, method: str, name: str
) -> None:
    async def submit() -> Any:
        return await who_am_i.submit_async(**{name: 1})

    if method == "submit_async":
        _, args, kwargs = asyncio.run(submit())
    elif method == "submit_stored":
        _, args, kwargs = who_am_i.submit_stored("a key", **{name: 1}).result(WAIT)
    elif method == "submit":
        _, args, kwargs = who_am_i.submit(**{name: 1}).result(WAIT)
    else:
        _, args, kwargs = initialised.submit(who_am_i, **{name: 1}).result(WAIT)

    assert (args, kwargs) == ((), {name: 1})


def test_a_stored_job_is_stored(initialised: Executor) -> None:
    future = power.submit_stored(("power", 2), 2)

    assert isinstance(future, JobFuture)
    assert initialised.futures.get(("power", 2)) is future


def test_a_job_serves_whichever_app_its_executor_does(executors: MakeExecutor) -> None:
    shop, admin = Flask("shop"), Flask("admin")
    own = executors(shop, admin)
    job = own.job(lambda: current_job.name)

    for app in (shop, admin):
        with app.app_context():
            assert job.submit().result(WAIT) == "<lambda>"
            assert own.stats().submitted == 1


# current_job


def test_a_job_knows_its_id_name_and_key(initialised: Executor) -> None:
    def job() -> tuple[Any, ...]:
        assert isinstance(current_job, JobInfo)
        return current_job.id, current_job.name, current_job.key, repr(current_job)

    future = initialised.submit_stored("key", job)
    plain = initialised.submit(job)

    assert future.result(WAIT)[:3] == (future.id, "job", "key")
    assert plain.result(WAIT)[:3] == (plain.id, "job", None)
    assert future.result()[3] == f"<job {future.id} job>"
    assert plain.result()[3] == f"<job {plain.id} job>"


def test_every_job_has_an_id_of_its_own(initialised: Executor, executors: MakeExecutor) -> None:
    other = executors(current_app._get_current_object(), name="other")
    ids = [id_ for id_, *_ in initialised.map(who_am_i, range(50))]
    ids += [id_ for id_, *_ in other.map(who_am_i, range(50))]

    assert len(set(ids)) == 100


def test_outside_a_job_there_is_none(initialised: Executor) -> None:
    power.submit(2).result(WAIT)

    assert not current_job
    with pytest.raises(RuntimeError, match=r"^current_job can only be used inside a job$"):
        _ = current_job.id


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_a_job_inside_a_job_is_another(app: Flask, executors: MakeExecutor, type_: str) -> None:
    own = executors(app, type=type_, max_workers=2)

    def outer() -> list[str]:
        before = current_job.id
        inner = own.submit(lambda: current_job.id).result(WAIT)
        assert current_job.id == before
        return [before, inner]

    future = own.submit(outer)

    before, inner = future.result(WAIT)
    assert before == future.id != inner


def test_a_job_knows_since_when_it_could_start(initialised: Executor) -> None:
    def due() -> Any:
        if current_job.attempt == 1:
            seen.append(current_job.due_at)
            raise ValueError
        return current_job.due_at

    seen: list[Any] = []
    before = time.time()
    future = initialised.options(delay=0.1, retry=Retry(2, delay=0.1, jitter=False)).submit(due)
    last = future.result(WAIT)

    assert seen[0].timestamp() >= before + 0.1
    assert (last - seen[0]).total_seconds() >= 0.1
    assert last.utcoffset().total_seconds() == 0
    assert before <= initialised.submit(lambda: current_job.due_at).result(WAIT).timestamp()


def test_a_later_attempt_that_runs_inline_is_due_later(app: Flask, executors: MakeExecutor) -> None:
    due: list[Any] = []

    def job() -> None:
        due.append(current_job.due_at)
        if current_job.attempt == 1:
            raise ValueError

    executors(app, type="inline").options(retry=Retry(2)).submit(job).result(WAIT)

    assert due[0] < due[1]

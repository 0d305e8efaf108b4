"""The helpers for users' tests: jobs recorded, and jobs that run at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from flask import Flask, current_app, g, has_app_context, request

from flask_executor import Executor, JobExited, JobFuture, JobTimeout, current_job
from flask_executor.testing import RecordedJob, failing_jobs_raise, recorded_jobs
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, app_log, at_once


def fail() -> None:
    raise LookupError("on purpose")


@pytest.fixture
def inline(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, type="inline")


# recorded_jobs


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_the_jobs_of_a_block_are_recorded_and_run(
    app: Flask, executors: MakeExecutor, type_: str
) -> None:
    executor = executors(app, type=type_)

    with recorded_jobs(executor) as jobs:
        power = executor.submit(pow, 2, 3)
        number = executor.submit_stored("key", int, "11", base=2)
        executor.job(pow).submit(2, 4).result(WAIT)

    assert jobs[:2] == [
        RecordedJob(pow, (2, 3), {}, power),
        RecordedJob(int, ("11",), {"base": 2}, number),
    ]
    assert [(job.name, job.key) for job in jobs] == [("pow", None), ("int", "key"), ("pow", None)]
    assert [job.future.result(WAIT) for job in jobs] == [8, 3, 16]


def test_a_recorded_job_is_frozen(inline: Executor) -> None:
    with recorded_jobs(inline) as jobs:
        inline.submit(pow, 2, 3)

    with pytest.raises(dataclasses.FrozenInstanceError):
        jobs[0].fn = int


def test_neither_jobs_outside_the_block_nor_those_of_another_executor_are_recorded(
    app: Flask, inline: Executor, executors: MakeExecutor
) -> None:
    mail = executors(app, name="mail", type="inline")
    inline.submit(fail).exception()

    def record() -> None:
        with recorded_jobs(mail) as jobs:
            recorded.append(jobs)
            inline.submit(dict)
            mail.submit(pow, 2, 3)
            raise LookupError

    recorded: list[list[RecordedJob]] = []
    with pytest.raises(LookupError):
        record()
    mail.submit(dict)

    assert [job.name for jobs in recorded for job in jobs] == ["pow"]


def test_jobs_are_recorded_from_every_app_view_job_and_thread(executors: MakeExecutor) -> None:
    shop, admin = Flask("shop"), Flask("admin")
    executor = executors(shop, admin)

    @shop.get("/")
    def view() -> str:
        executor.submit(executor.submit, int, "1").result(WAIT).result(WAIT)
        return ""

    def submit() -> None:
        with admin.app_context():
            executor.submit(pow, 2, 3).result(WAIT)

    with recorded_jobs(executor) as jobs:
        assert shop.test_client().get("/").status_code == 200
        at_once(submit)

    assert [job.name for job in jobs] == ["submit", "int", "pow"]


# failing_jobs_raise


def charge() -> NoReturn:
    raise LookupError("charge")


async def mail() -> NoReturn:
    raise ValueError("mail")


def get_result(future: JobFuture[Any]) -> None:
    with pytest.raises(LookupError):
        future.result(WAIT)


async def awaiting(future: JobFuture[Any]) -> None:
    with suppress(LookupError):
        await future


ASKING: dict[str, Callable[[JobFuture[Any]], Any]] = {
    "exception": lambda future: future.exception(WAIT),
    "result": get_result,
    "await": lambda future: asyncio.run(awaiting(future)),
}


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_failures_that_nobody_asks_for_are_raised_once_all_jobs_have_ended(
    app: Flask, executors: MakeExecutor, caplog: pytest.LogCaptureFixture, type_: str
) -> None:
    executor = executors(app, type=type_)

    def submit_more() -> None:
        executor.submit(mail)
        executor.submit(charge)

    with pytest.raises(ExceptionGroup) as caught, failing_jobs_raise(executor):
        executor.submit(charge)
        executor.submit(submit_more)
    message, errors = caught.value.message, sorted(map(str, caught.value.exceptions))
    del caught
    gc.collect()

    assert message == "3 jobs failed and nobody asked for their outcome: charge (2 times), mail"
    assert errors == ["charge", "charge", "mail"]
    assert app_log(caplog) == [], "they are not logged as well"


def test_the_error_of_a_single_failure_names_its_job(executor: Executor) -> None:
    with pytest.raises(ExceptionGroup) as caught, failing_jobs_raise(executor):
        executor.submit(charge)

    assert caught.value.message == "1 job failed and nobody asked for its outcome: charge"


def test_a_failure_that_is_no_exception_is_raised_in_a_base_group(executor: Executor) -> None:
    def leave() -> NoReturn:
        raise GeneratorExit

    with pytest.raises(BaseExceptionGroup) as caught, failing_jobs_raise(executor):
        executor.submit(leave)

    assert type(caught.value) is BaseExceptionGroup


def test_a_failure_that_is_false_is_raised_as_well(executor: Executor) -> None:
    class Falsy(Exception):
        def __len__(self) -> int:
            return 0

    def job() -> NoReturn:
        raise Falsy

    with pytest.raises(ExceptionGroup) as caught, failing_jobs_raise(executor):
        executor.submit(job)

    assert [type(error) for error in caught.value.exceptions] == [Falsy]


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_a_failure_that_somebody_asks_for_is_not_raised(
    executor: Executor, ask: Callable[[JobFuture[Any]], Any]
) -> None:
    with failing_jobs_raise(executor):
        ask(executor.submit(charge))


def test_a_failure_that_another_job_asks_for_is_not_raised(executor: Executor) -> None:
    async def handle() -> None:
        with suppress(LookupError):
            await executor.submit_async(charge)

    with failing_jobs_raise(executor):
        executor.submit(handle)
        executor.submit(lambda: executor.submit(charge).exception())


def test_the_failure_of_a_job_that_was_asked_to_stop_is_not_raised(
    executor: Executor, gate: Gate
) -> None:
    with failing_jobs_raise(executor):
        future = executor.submit(lambda: fail(gate()))
        gate.await_arrival()
        future.cancel()
        gate.open()


def test_a_job_whose_time_is_up_is_raised_although_it_was_asked_to_stop(
    executor: Executor, gate: Gate
) -> None:
    with pytest.raises(ExceptionGroup) as caught, failing_jobs_raise(executor):
        executor.options(timeout=0.05).submit(gate).add_done_callback(lambda _: gate.open())

    assert [type(error) for error in caught.value.exceptions] == [JobTimeout]


@pytest.mark.parametrize("propagates", [False, True])
def test_a_failure_that_was_only_logged_is_raised_as_well(
    app: Flask, executors: MakeExecutor, propagates: bool
) -> None:
    executor = executors(app, propagate_exceptions=propagates)

    with pytest.raises(ExceptionGroup) as caught, failing_jobs_raise(executor):
        executor.submit_stored("key", charge)
    with failing_jobs_raise(executor):
        executor.submit_stored("another", charge).exception(WAIT)

    assert [str(error) for error in caught.value.exceptions] == ["charge"]


def test_failures_are_raised_from_every_app_and_thread_and_of_this_executor_alone(
    executors: MakeExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    shop, admin = Flask("shop"), Flask("admin")
    executor, other = executors(shop, admin), executors(shop, name="other")

    def submit() -> None:
        with admin.app_context():
            executor.submit(mail)

    with pytest.raises(ExceptionGroup) as caught, shop.app_context():
        executor.submit(fail)
        executor.drain(WAIT)
        with failing_jobs_raise(executor):
            executor.submit(charge)
            at_once(submit)
            other.submit(fail)

    assert sorted(map(str, caught.value.exceptions)) == ["charge", "mail"]


def test_a_job_of_one_app_may_submit_one_to_another_while_the_end_is_awaited(
    executors: MakeExecutor, gate: Gate
) -> None:
    shop, admin = Flask("shop"), Flask("admin")
    executor = executors(shop, admin)
    late = threading.Event()

    def submit_to_shop() -> None:
        gate()
        with shop.app_context():
            executor.submit(fail_late)

    def fail_late() -> NoReturn:
        late.wait(WAIT)
        charge()

    def open_when_waited_for() -> None:
        for app, open_ in ((admin, gate.open), (shop, late.set)):
            deadline = time.monotonic() + WAIT
            while not inside.count_who_drain(app) and time.monotonic() < deadline:
                time.sleep(0.001)
            open_()

    with (
        ThreadPoolExecutor(1) as thread,
        pytest.raises(ExceptionGroup) as caught,
        failing_jobs_raise(executor),
    ):
        with admin.app_context():
            executor.submit(submit_to_shop)
        thread.submit(open_when_waited_for)

    assert [str(error) for error in caught.value.exceptions] == ["charge"]


def test_what_the_block_raises_passes_with_a_note_and_failures_are_logged_as_ever(
    executor: Executor, caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    error = KeyError("of the test")
    executor.submit(gate)  # which is not waited for

    def block() -> NoReturn:
        with failing_jobs_raise(executor):
            concurrent.futures.wait([executor.submit(charge), executor.submit(mail)], WAIT)
            raise error

    with pytest.raises(KeyError) as caught:
        block()
    gate.open()
    executor.drain(WAIT)
    gc.collect()

    assert caught.value is error
    assert error.__notes__ == [
        "Meanwhile, 2 jobs failed and nobody asked for their outcome: charge, mail"
    ]
    names = [record.getMessage().split()[1] for record in app_log(caplog)]
    assert sorted(names) == ["charge", "mail"]


def test_what_the_block_raises_gets_no_note_where_no_job_has_failed(executor: Executor) -> None:
    with pytest.raises(KeyError) as caught, failing_jobs_raise(executor):
        raise KeyError

    assert not hasattr(caught.value, "__notes__")


def test_an_exception_that_takes_no_note_passes_as_it_is(executor: Executor) -> None:
    class Frozen(Exception):
        def add_note(self, note: str) -> NoReturn:
            raise dataclasses.FrozenInstanceError

    with pytest.raises(Frozen), failing_jobs_raise(executor):
        concurrent.futures.wait([executor.submit(charge)], WAIT)
        raise Frozen


def test_an_async_test_that_has_drained_is_not_told_that_it_blocks(executor: Executor) -> None:
    async def drained() -> None:
        with failing_jobs_raise(executor):
            executor.submit(charge)
            await executor.drain_async(WAIT)

    with pytest.raises(ExceptionGroup):
        asyncio.run(drained())


def test_an_async_test_that_has_not_drained_is_told_that_it_blocks(
    executor: Executor, gate: Gate
) -> None:
    async def undrained() -> None:
        with failing_jobs_raise(executor):
            executor.submit(gate)

    with pytest.raises(RuntimeWarning, match=r"failing_jobs_raise\(\) blocks .* drain_async"):
        asyncio.run(undrained())
    gate.open()


def test_a_job_cannot_wait_for_the_jobs_of_its_own_executor(executor: Executor) -> None:
    def job() -> None:
        with failing_jobs_raise(executor):
            executor.submit(dict)

    error = executor.submit(job).exception(WAIT)

    assert isinstance(error, RuntimeError)
    assert "would wait for itself" in str(error)


# Executors of type "inline"


def test_an_inline_job_runs_at_once_in_the_submitting_thread(inline: Executor) -> None:
    threads = threading.enumerate()

    future = inline.submit(threading.get_ident)

    assert type(future) is JobFuture
    assert future.state == "succeeded"
    assert future.result(timeout=0) == threading.get_ident()
    assert list(inline.map(lambda _: threading.get_ident(), "ab")) == [threading.get_ident()] * 2
    assert threading.enumerate() == threads


def test_the_failure_of_an_inline_job_is_its_futures(inline: Executor) -> None:
    future = inline.submit(fail)

    assert future.state == "failed"
    with pytest.raises(LookupError, match="on purpose"):
        future.result(timeout=0)


def test_the_end_of_the_process_in_an_inline_job_is_its_futures_too(inline: Executor) -> None:
    assert isinstance(inline.submit(exit).exception(timeout=0), JobExited)


def test_an_inline_job_may_submit_jobs_and_have_their_results(inline: Executor) -> None:
    order: list[Any] = []

    def count_down(n: int) -> int:
        order.append((n, current_job.id))
        total = n + (inline.submit(count_down, n - 1).result(timeout=0) if n else 0)
        order.append((n, current_job.id))
        return total

    future = inline.submit(count_down, 3)

    assert future.result(timeout=0) == 6
    assert [n for n, _ in order] == [3, 2, 1, 0, 0, 1, 2, 3]
    ids = [id_ for _, id_ in order]
    assert ids == ids[::-1]
    assert len(set(ids)) == 4
    assert not current_job


def test_an_inline_job_has_a_context_of_its_own(app: Flask, inline: Executor) -> None:
    torn_down: list[object] = []

    @app.teardown_appcontext
    def teardown(exc: BaseException | None) -> None:
        torn_down.append(g.value)

    def job() -> tuple[str, str, str]:
        seen = current_app.name, g.value, request.path
        g.value = "the job's"
        return seen

    with app.test_request_context("/path"):
        g.value = "the view's"
        seen = inline.submit(job).result(timeout=0)
        before = torn_down.copy()
        after = g.value

    assert seen == ("app", "the view's", "/path")
    assert before == ["the job's"]
    assert after == "the view's"
    assert inline.submit(has_app_context).result(timeout=0) is True
    assert not has_app_context()


def test_inline_jobs_of_threads_do_not_mix(inline: Executor, fast_switching: None) -> None:
    def submit_many() -> set[bool]:
        me = threading.get_ident()
        futures = [inline.submit(threading.get_ident) for _ in range(300)]
        return {future.done() and future.result() == me for future in futures}

    assert at_once(*[submit_many] * 4) == [{True}] * 4


def test_an_inline_executor_has_room_for_all(inline: Executor) -> None:
    inline.submit(dict)
    inline.submit(fail).exception()

    stats = inline.stats()
    assert stats.workers == float("inf")
    assert (stats.submitted, stats.succeeded, stats.failed) == (2, 1, 1)
    assert (stats.pending, stats.running) == (0, 0)
    inline.drain(timeout=0)

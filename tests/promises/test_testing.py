"""The helpers for users' tests: jobs recorded, and jobs that run at once."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context, request

from flask_executor import Executor, JobExited, JobFuture, current_job
from flask_executor.testing import RecordedJob, recorded_jobs
from tests.support import WAIT, MakeExecutor, at_once


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

"""What a running job reports of its progress, and who sees that."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from flask import Flask

from flask_executor import (
    Executor,
    JobFuture,
    JobGroup,
    JobTimeout,
    Retry,
    current_job,
    job_retried,
    job_succeeded,
)
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor


class Step:
    """An int for `operator.index`, as NumPy's are."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


class Old:
    """Can be iterated by its numbered items only."""

    def __getitem__(self, number: int) -> int:
        if number == 3:
            raise IndexError
        return number


def seen(future: JobFuture[Any]) -> tuple[Any, ...] | None:
    """Done, total and message of the future's progress."""
    progress = future.progress
    return None if progress is None else (progress.done, progress.total, progress.message)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


# Reports


def test_others_see_how_far_a_running_job_is(executor: Executor, gate: Gate) -> None:
    def job() -> None:
        current_job.progress(3, total=10, message="counting")
        gate()

    future = executor.submit_stored("key", job)
    gate.await_arrival()

    assert seen(future) == (3, 10, "counting")
    assert executor.futures.progress("key") == future.progress
    gate.open()
    future.result(WAIT)
    assert seen(future) == (3, 10, "counting"), "an ended job keeps its last report"


def test_a_coroutine_job_reports_its_progress(executor: Executor) -> None:
    is_seen = threading.Event()

    async def job() -> None:
        current_job.progress(1, 2)
        await asyncio.to_thread(is_seen.wait, WAIT)
        current_job.progress(2, 2)

    future = executor.submit(job)
    while seen(future) != (1, 2, ""):
        assert not future.done()
    is_seen.set()
    future.result(WAIT)

    assert seen(future) == (2, 2, "")


def test_a_job_of_inline_reports_its_progress(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="inline")

    assert seen(executor.submit(lambda: current_job.progress(1, 2))) == (1, 2, "")


def test_a_job_that_reports_nothing_has_no_progress(executor: Executor) -> None:
    future = executor.submit_stored("key", int)
    future.result(WAIT)

    assert future.progress is None
    assert executor.futures.progress("key") is None


def test_keys_of_no_job_have_no_progress(executor: Executor) -> None:
    executor.futures.add("foreign", concurrent.futures.Future())

    assert executor.futures.progress("foreign") is None
    assert executor.futures.progress("unknown") is None


def test_each_report_replaces_all_of_the_last_one(executor: Executor) -> None:
    def job() -> None:
        current_job.progress(1, 2, "text")
        current_job.progress(2)

    future = executor.submit(job)
    future.result(WAIT)

    assert seen(future) == (2, None, "")


def test_smaller_counts_among_many_reports_begin_anew(executor: Executor) -> None:
    def job() -> None:
        for number in range(20):  # More than are published at once.
            current_job.progress(number, 100)
        current_job.progress(1, 100)

    future = executor.submit(job)
    future.result(WAIT)

    assert future.progress is not None
    assert future.progress.started_at == future.progress.updated_at


def test_numbers_of_other_types_become_pythons(executor: Executor) -> None:
    future = executor.submit(lambda: current_job.progress(Step(1), Step(2)))
    future.result(WAIT)

    assert seen(future) == (1, 2, "")


def test_more_may_be_done_than_was_expected(executor: Executor) -> None:
    future = executor.submit(lambda: current_job.progress(11, 10))
    future.result(WAIT)

    assert future.progress is not None
    assert (future.progress.done, future.progress.fraction) == (11, 1)


@pytest.mark.parametrize(
    ("report", "error"),
    [
        ((-1,), "done is -1; expected a number from 0 to 2**63 - 1"),
        ((float("nan"),), "done is nan; expected a number from 0 to 2**63 - 1"),
        ((float("inf"),), "done is inf; expected a number from 0 to 2**63 - 1"),
        ((2**63,), "done is 9223372036854775808; expected a number from 0 to 2**63 - 1"),
        (("1",), "done is a value of the type str; expected a number"),
        ((True,), "done is a value of the type bool; expected a number"),
        ((None,), "done is None; expected a number"),
        ((1, -1), "total is -1; expected a number from 0 to 2**63 - 1"),
        ((1, "2"), "total is a value of the type str; expected a number"),
        ((1, 2, b"text"), "message is a value of the type bytes; expected a str"),
        ((0, 9, b"text"), "message is a value of the type bytes; expected a str"),
        ((2**63, 9), "done is 9223372036854775808; expected a number from 0 to 2**63 - 1"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_wrong_report_raises_in_the_job_and_changes_nothing(
    executor: Executor, report: Any, error: str, is_first: bool
) -> None:
    def job() -> str:
        if not is_first:
            for _ in range(20):  # More than are published at once.
                current_job.progress(0, 9)
        with pytest.raises((TypeError, ValueError)) as caught:
            current_job.progress(*report)
        return str(caught.value)

    future = executor.submit(job)

    assert future.result(WAIT) == error
    assert seen(future) == (None if is_first else (0, 9, ""))


def test_outside_of_a_job_nothing_can_be_reported() -> None:
    with pytest.raises(RuntimeError, match=r"^current_job can only be used inside a job$"):
        current_job.progress(1)
    with pytest.raises(RuntimeError, match=r"^current_job can only be used inside a job$"):
        current_job.track([])


# The end of a job


def test_each_attempt_starts_afresh(app: Flask, executor: Executor) -> None:
    at_retry, at_start = [], []

    def job() -> None:
        at_start.append(seen(future_of_job[0]))
        current_job.progress(current_job.attempt, 10)
        if current_job.attempt == 1:
            raise ValueError

    future_of_job: list[JobFuture[None]] = []
    retry = executor.options(retry=Retry(2, delay=0), delay=0)
    with job_retried.connected_to(
        lambda _, job, **__: at_retry.append(seen(future_of_job[0])), app
    ):
        gate = Gate()
        gate.occupy(executor, executor.stats().workers)
        future_of_job.append(retry.submit(job))
        gate.open()
        future_of_job[0].result(WAIT)

    assert at_start == [None, None]
    assert at_retry == [None]
    assert seen(future_of_job[0]) == (2, 10, "")


@pytest.mark.parametrize("reports_before", [True, False])
def test_a_report_after_the_end_of_the_job_changes_nothing(
    executor: Executor, gate: Gate, reports_before: bool
) -> None:
    threads = []

    def job() -> None:
        for _ in range(20 if reports_before else 0):  # More than are published at once.
            current_job.progress(1, 10)
        info = current_job._get_current_object()

        def report_late() -> None:
            gate()
            info.progress(9, 10)

        threads.append(threading.Thread(target=report_late))
        threads[0].start()

    future = executor.submit(job)
    future.result(WAIT)
    before = future.progress
    gate.open()
    threads[0].join(WAIT)

    assert future.progress == before


def test_a_job_whose_time_is_up_reports_no_more(executor: Executor, gate: Gate) -> None:
    def job() -> None:
        current_job.progress(1, 10)
        gate()
        current_job.progress(2, 10)

    future = executor.options(timeout=0.01).submit(job)
    with pytest.raises(JobTimeout):
        future.result(WAIT)
    gate.open()
    executor.drain(WAIT)

    assert seen(future) == (1, 10, "")


# Publication


@pytest.fixture
def published(app: Flask, executor: Executor) -> list[tuple[Any, ...]]:
    """What the hook was called with: done, total and message of each report."""
    reports: list[tuple[Any, ...]] = []
    inside.replace_on_progress(app, lambda item: reports.append(item.reports.latest[:3]))
    return reports


def test_few_reports_are_published_at_once(
    executor: Executor, published: list[tuple[Any, ...]]
) -> None:
    def job() -> None:
        for message in ("loading", "computing", "saving"):
            current_job.progress(0, message=message)

    executor.submit(job).result(WAIT)

    assert [message for _, _, message in published] == ["loading", "computing", "saving"]


def test_of_many_reports_some_are_published_and_the_last_one(
    executor: Executor, published: list[tuple[Any, ...]]
) -> None:
    seconds = []

    def job() -> None:
        start = monotonic()
        for number in range(50_000):
            current_job.progress(number, 100_000)
        seconds.append(monotonic() - start)

    executor.submit(job).result(WAIT)

    assert 10 <= len(published) <= 12 + 10 * seconds[0]
    assert published[0] == (0, 100_000, "")
    assert published[-1] == (49_999, 100_000, "")
    assert len(set(published)) == len(published)


def test_the_last_report_is_published_before_the_end_is_announced(
    app: Flask, executor: Executor, published: list[tuple[Any, ...]]
) -> None:
    at_end: list[Any] = []

    def job() -> None:
        for number in range(50):
            current_job.progress(number, 100)

    with job_succeeded.connected_to(lambda *_, **__: at_end.append(published[-1]), app):
        executor.submit(job).result(WAIT)

    assert at_end == [(49, 100, "")]


# Tracking


@pytest.mark.parametrize(
    ("rows", "total"),
    [
        (lambda: [7, 8, 9], 3),
        (lambda: range(3), 3),
        (lambda: {"a": 1, "b": 2, "c": 3}, 3),
        (lambda: (n for n in range(3)), None),
        (Old, None),
    ],
    ids=["list", "range", "dict", "generator", "old"],
)
def test_track_yields_each_row_and_reports_how_many_are_done(
    executor: Executor, rows: Callable[[], Any], total: int | None
) -> None:
    def job() -> tuple[list[Any], list[Any]]:
        tracked, reports = [], []
        for row in current_job.track(rows(), message="rows"):
            tracked.append(row)
            reports.append(current_job.reports.latest[:3])
        return tracked, reports

    future = executor.submit(job)
    tracked, reports = future.result(WAIT)

    assert tracked == list(rows())
    assert reports == [(0, total, "rows"), (1, total, "rows"), (2, total, "rows")]
    assert seen(future) == (3, total, "rows")


def test_track_takes_a_total_for_rows_without_a_length(executor: Executor) -> None:
    future = executor.submit(lambda: list(current_job.track(iter("abc"), total=3)))

    assert future.result(WAIT) == ["a", "b", "c"]
    assert seen(future) == (3, 3, "")


def test_track_takes_rows_one_at_a_time(executor: Executor) -> None:
    taken = []

    def rows() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    def job() -> list[list[int]]:
        return [taken.copy() for _ in current_job.track(rows())]

    assert executor.submit(job).result(WAIT) == [[0], [0, 1], [0, 1, 2]]


def test_a_row_that_was_not_done_is_not_counted(executor: Executor) -> None:
    def job() -> None:
        for row in current_job.track("abc"):
            if row == "c":
                break

    future = executor.submit(job)
    future.result(WAIT)

    assert seen(future) == (2, 3, "")


def test_the_last_row_is_published_as_the_iteration_ends(
    executor: Executor, published: list[tuple[Any, ...]]
) -> None:
    def job() -> tuple[Any, ...]:
        for _ in current_job.track(iter(range(1000))):
            pass
        return published[-1]

    assert executor.submit(job).result(WAIT) == (1000, None, "")


def test_the_last_row_of_an_async_iteration_is_published_as_it_ends(
    executor: Executor, published: list[tuple[Any, ...]]
) -> None:
    async def job() -> tuple[list[int], tuple[Any, ...]]:
        tracked = [row async for row in current_job.track(numbers(1000), total=2000)]
        return tracked, published[-1]

    tracked, last = executor.submit(job).result(WAIT)
    assert tracked == list(range(1000))
    assert last == (1000, 2000, "")


def test_rows_for_both_kinds_of_loops_are_tracked_in_a_plain_one(executor: Executor) -> None:
    class Both:
        def __iter__(self) -> Iterator[int]:
            return iter([1, 2])

        def __aiter__(self) -> AsyncIterator[int]:
            raise NotImplementedError

    assert executor.submit(lambda: list(current_job.track(Both()))).result(WAIT) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((5,), "a value of the type int cannot be tracked; expected an iterable"),
        (([], -1), "total is -1; expected a number from 0 to 2**63 - 1"),
    ],
)
def test_track_refuses_wrong_arguments_at_the_call(
    executor: Executor, arguments: Any, error: str
) -> None:
    def job() -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            current_job.track(*arguments)
        return str(caught.value)

    assert executor.submit(job).result(WAIT) == error


# Groups


def sums(group: JobGroup) -> tuple[Any, ...]:
    return group.progress.done, group.progress.total


def test_a_group_adds_up_the_progress_of_its_jobs(executor: Executor, gate: Gate) -> None:
    def job(*report: int) -> None:
        if report:
            current_job.progress(*report)
        gate()

    with executor.group() as group:
        assert sums(group) == (0, 0)
        assert group.progress.rate is None
        for report in [(3, 10), (), (2, 2)]:
            group.submit(job, *report)
            gate.await_arrival()
        assert sums(group) == (5, 13), "a job without a report counts as 0 of 1"
        assert group.progress.rate is not None
        assert group.progress.rate > 0

        group.submit(job, 4)
        gate.await_arrival()
        assert sums(group) == (9, None), "the total of a job is unknown"
        gate.open()

    assert sums(group) == (17, 17), "ended jobs are complete"
    assert group.progress == group.progress
    assert group.progress.message == ""


def test_jobs_of_a_group_that_fail_or_do_more_than_expected_are_complete_too(
    executor: Executor, gate: Gate
) -> None:
    def fail() -> None:
        current_job.progress(1, 5)
        gate()
        raise LookupError

    def do_more() -> None:
        current_job.progress(12, 10)
        gate()

    with pytest.raises(ExceptionGroup), executor.group() as group:
        group.submit(fail)
        gate.await_arrival()
        group.submit(do_more)
        gate.await_arrival()
        assert sums(group) == (13, 17)
        gate.open()

    assert sums(group) == (17, 17)

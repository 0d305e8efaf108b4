"""The executor against a model of its futures: step by step, from many threads, and in races."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.orm import Session

from flask_executor import (
    DuplicateKey,
    Executor,
    ExecutorClosed,
    JobFuture,
    Retry,
    Stats,
    WaitTimeout,
    current_job,
)
from tests.support import WAIT, MakeExecutor, switching_every

pytestmark = pytest.mark.slow

ENDS = ("succeeded", "failed", "cancelled")

# Where a job may go from each state; it may pass through several between two looks at it. It goes
# back to "pending" if it is retried.
NEXT = {
    "pending": {"pending", "running", *ENDS},
    "running": {"running", *ENDS},
    **{end: {end} for end in ENDS},
}

# Seconds that no job of these tests is old enough to see.
FAR = 600

SOON = Retry(3, delay=0.001)
WAITS = Retry(3, delay=FAR, max_delay=FAR, jitter=False)


class JobError(Exception):
    """What a job raises on purpose."""


class BlockError(Exception):
    """What the block of a group raises on purpose."""


class ModelJob:
    """A job, what it is to do, and what has been seen of it.

    :param fails: how many of its attempts fail
    :param retry: how it is retried; None for one attempt
    :param waits_for_commit: whether it waits for the commit of a session
    """

    def __init__(
        self,
        *,
        is_coroutine: bool = False,
        fails: int = 0,
        retry: Retry | None = None,
        is_gated: bool = False,
        delay: float | None = None,
        waits_for_commit: bool = False,
        on_run: Callable[[], object] = bool,
    ) -> None:
        self.is_coroutine = is_coroutine
        self.fails = fails
        self.retry = retry
        self.attempts = 1 if retry is None else retry.attempts
        self.delay = delay
        self.waits_for_commit = waits_for_commit
        self.gate = threading.Event()
        if not is_gated:
            self.gate.set()
        self.runs: list[str] = []
        self.told: list[JobFuture[Any]] = []
        self.is_to_be_cancelled = False
        self.is_closed = False  # and so its executor may begin no more attempts
        self.state = "pending"
        self.future: JobFuture[Any]
        self._on_run = on_run

    @property
    def fn(self) -> Callable[[], Any]:
        return self.run_async if self.is_coroutine else self.run

    def run(self) -> ModelJob:
        self.runs.append(current_job.id)
        self._on_run()
        assert self.gate.wait(WAIT)
        return self.end()

    async def run_async(self) -> ModelJob:
        self.runs.append(current_job.id)
        self._on_run()
        await asyncio.sleep(0)
        while not self.gate.is_set():
            await asyncio.sleep(0.001)
        return self.end()

    def end(self) -> ModelJob:
        if len(self.runs) <= self.fails:
            raise JobError
        return self

    def accept(self, future: JobFuture[Any]) -> None:
        self.future = future
        future.add_done_callback(self.told.append)

    def cancel(self) -> bool:
        self.is_to_be_cancelled = True
        return self.future.cancel()

    def is_bound_to_end(self) -> bool:
        """Whether it ends without anything more done to it; no matter whether it has."""
        is_far = self.delay == FAR or (self.retry is WAITS and self.fails) or self.waits_for_commit
        return self.gate.is_set() and (not is_far or self.is_to_be_cancelled)

    def check(self) -> None:
        """It has gone where it may go from where it was seen last."""
        has_run = bool(self.runs)  # looked at first: a job is running before its code runs
        state = self.future.state
        assert state in NEXT[self.state] | ({"pending"} if self.may_be_retried() else set())
        self.state = state

        if state == "succeeded":
            assert self.runs == [self.future.id] * (self.fails + 1)
        elif state == "failed":
            assert self.runs == [self.future.id] * len(self.runs)
            assert len(self.runs) == self.attempts or self.is_to_be_cancelled or self.is_closed
            assert 0 < len(self.runs) <= self.fails
        elif state == "cancelled":
            assert self.is_to_be_cancelled
            assert not has_run or self.is_coroutine or self.may_be_retried()
        elif has_run:
            assert state == "running" or self.may_be_retried()
        assert len(self.runs) <= min(self.attempts, self.fails + 1)
        assert not (self.waits_for_commit and has_run)

    def may_be_retried(self) -> bool:
        """Whether there may be more than one attempt."""
        return self.attempts > 1 and self.fails > 0

    def check_end(self) -> None:
        """It has ended, and whoever asked to be told was told once."""
        self.check()
        assert self.state in ENDS
        assert self.told == [self.future]
        with suppress(concurrent.futures.CancelledError):
            error = self.future.exception(0)
            assert type(error) is (JobError if self.state == "failed" else type(None))
            assert error is not None or self.future.result(0) is self


class FuturesMachine(RuleBasedStateMachine):
    """What may be asked of an executor and of its futures, in any order.

    What a rule expects is known without a look at the threads, whose pace is their own.
    """

    jobs: Bundle[ModelJob] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.app = Flask("app")
        self.app.config["EXECUTOR_MAX_WORKERS"] = 2
        self.executor = Executor(self.app)
        self.session = Session()
        self.accepted: list[ModelJob] = []
        self.stored: dict[str, ModelJob] = {}
        self.is_closed = False

    @rule(
        target=jobs,
        is_coroutine=st.booleans(),
        fails=st.sampled_from([0, 0, 1, 2, 3]),
        retry=st.sampled_from([None, None, SOON, WAITS]),
        is_gated=st.booleans(),
        delay=st.sampled_from([None, None, 0, 0.001, FAR]),
        waits_for_commit=st.sampled_from([False, False, True]),
        key=st.sampled_from([None, None, "a", "b", "c"]),
        on_duplicate=st.sampled_from([None, "return", "replace"]),
    )
    def submit(self, key: str | None, on_duplicate: Any, **options: Any) -> Any:
        job, stored = ModelJob(**options), self.stored.get(key or "")
        submit = self.executor.options(
            key=key,
            delay=job.delay,
            retry=job.retry,
            after=self.session if job.waits_for_commit else None,
            on_duplicate=None if key is None else on_duplicate,
        ).submit
        has_ended = stored is not None and stored.future.done()
        try:
            future = submit(job.fn)
        except ExecutorClosed:
            assert self.is_closed
            assert job.runs == []
            return multiple()
        except DuplicateKey:
            assert stored is not None
            assert on_duplicate is None or (on_duplicate == "replace" and not has_ended)
            assert job.runs == []
            return multiple()

        assert not self.is_closed
        if stored is not None and on_duplicate == "return":
            assert future is stored.future
            return multiple()
        assert stored is None or (on_duplicate == "replace" and stored.future.done())
        job.accept(future)
        self.accepted.append(job)
        if key is not None:
            self.stored[key] = job
        return job

    @rule(is_commit=st.booleans())
    def end_the_transaction(self, is_commit: bool) -> None:
        waiting = [job for job in self.accepted if job.waits_for_commit]
        for job in waiting:
            job.waits_for_commit = False
            job.is_to_be_cancelled |= not is_commit

        if is_commit:
            self.session.commit()
        else:
            self.session.rollback()

        assert is_commit or all(job.future.state == "cancelled" for job in waiting)

    @rule(
        target=jobs,
        kinds=st.lists(
            st.tuples(
                st.booleans(), st.sampled_from([0, 0, 0, 1, 3]), st.sampled_from([None, SOON])
            ),
            max_size=4,
        ),
        block_raises=st.sampled_from([False, False, True]),
    )
    @precondition(lambda self: all(job.gate.is_set() for job in self.accepted))
    def run_a_group(self, kinds: list[Any], block_raises: bool) -> Any:
        group_jobs = [
            ModelJob(is_coroutine=is_coroutine, fails=fails, retry=retry)
            for is_coroutine, fails, retry in kinds
        ]
        is_aborted = block_raises or any(job.fails >= job.attempts for job in group_jobs)
        if is_aborted:  # Else it would be waited for.
            group_jobs.append(ModelJob(delay=FAR))
        reported = 0
        try:
            with self.executor.group() as group:
                for job in group_jobs:
                    job.is_to_be_cancelled = is_aborted
                    options = group.options(delay=job.delay, retry=job.retry)
                    job.accept(options.submit(job.fn))
                    self.accepted.append(job)
                if block_raises:
                    raise BlockError
        except ExecutorClosed:
            assert self.is_closed
            return multiple()
        except BlockError:
            assert block_raises
        except ExceptionGroup as error:
            reported = len(error.exceptions)
        else:
            assert not is_aborted

        failures = [job for job in group_jobs if job.future.state == "failed"]
        assert reported == (0 if block_raises else len(failures))
        for job in group_jobs:
            job.check()
            assert job.state in ENDS
        return multiple(*group_jobs)

    @rule(job=jobs)
    def cancel(self, job: ModelJob) -> None:
        is_cancelled = job.cancel()

        if is_cancelled and not job.is_coroutine:
            assert job.runs == [] or job.may_be_retried()
            assert job.future.state == "cancelled"

    @rule(job=jobs)
    def give_up_awaiting(self, job: ModelJob) -> None:
        job.is_to_be_cancelled = True

        async def give_up() -> None:
            with suppress(JobError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(0):
                    assert await job.future is job

        asyncio.run(give_up())
        # An attempt that ran, and was asked to stop with it, was the last one.
        assert job.future.state != "pending"

    @rule(job=jobs)
    def open_its_gate(self, job: ModelJob) -> None:
        job.gate.set()

    @rule(job=jobs)
    def ask_for_the_outcome(self, job: ModelJob) -> None:
        try:
            assert job.future.result(0) is job
        except JobError:
            assert job.fails
        except concurrent.futures.CancelledError:
            assert job.is_to_be_cancelled
        except WaitTimeout:
            job.check()

    @rule(key=st.sampled_from(["a", "b", "c"]))
    def pop(self, key: str) -> None:
        job = self.stored.pop(key, None)

        assert self.executor.futures.pop(key) is (job and job.future)

    @rule()
    def let_all_through(self) -> None:
        for job in self.accepted:
            job.gate.set()

        ending = [job for job in self.accepted if job.is_bound_to_end()]
        futures = [job.future for job in ending]
        assert concurrent.futures.wait(futures, WAIT).not_done == set()
        for job in ending:
            job.check()

    @rule(cancel_futures=st.booleans())
    @precondition(lambda self: len(self.accepted) > 5)
    def shut_down(self, cancel_futures: bool) -> None:
        for job in self.accepted:
            job.is_to_be_cancelled |= cancel_futures or job.waits_for_commit
            job.is_closed = True

        self.executor.shutdown(wait=False, cancel_futures=cancel_futures)
        self.is_closed = True

        states = [job.future.state for job in self.accepted]
        assert not cancel_futures or "pending" not in states
        assert not any(
            job.future.state == "pending" for job in self.accepted if job.waits_for_commit
        )

    @rule()
    @precondition(lambda self: len(self.accepted) > 5)
    @precondition(
        lambda self: all(job.is_bound_to_end() or job.waits_for_commit for job in self.accepted)
    )
    def shut_down_and_wait(self) -> None:
        for job in self.accepted:
            job.is_to_be_cancelled |= job.waits_for_commit
            job.is_closed = True
        self.executor.shutdown()
        self.is_closed = True

        for job in self.accepted:
            job.check_end()

    @invariant()
    def each_job_moves_forward_and_runs_once_in_each_attempt(self) -> None:
        for job in self.accepted:
            job.check()

    @invariant()
    def the_counts_add_up(self) -> None:
        stats = self.executor.stats()

        check_sum(stats)
        assert stats.submitted == len(self.accepted)
        assert stats.running <= 2 + sum(job.is_coroutine for job in self.accepted)

    def teardown(self) -> None:
        for job in self.accepted:
            job.is_closed = True
            job.gate.set()
            job.is_to_be_cancelled |= job.waits_for_commit
            if job.delay == FAR:
                job.cancel()
        self.executor.shutdown()
        self.session.close()

        for job in self.accepted:
            job.check_end()
        check_counts(self.executor.stats(), self.accepted)


class Place:
    """An executor that many threads use, and all that came of it."""

    def __init__(self, app: Flask, executor: Executor) -> None:
        self.app = app
        self.executor = executor
        self.other = self
        self.accepted: list[ModelJob] = []
        self.refused: list[Exception] = []

    def submit(self, job: ModelJob, key: int | None = None) -> None:
        with self.app.app_context():
            try:
                options = self.executor.options(key=key, delay=job.delay, retry=job.retry)
                job.accept(options.submit(job.fn))
            except Exception as error:
                self.refused.append(error)
                assert job.runs == []
            else:
                self.accepted.append(job)


class Client:
    """One of the threads: what it does next is known from its number."""

    def __init__(self, number: int, places: list[Place], steps: int) -> None:
        self.number = number
        self.chance = random.Random(number)
        self.places = places
        self.steps = steps
        self.own: list[ModelJob] = []

    def run(self, barrier: threading.Barrier) -> None:
        barrier.wait(WAIT)
        for step in range(self.steps):
            place = self.chance.choice(self.places)
            self.chance.choices(
                [self.submit, self.submit_stored, self.cancel, self.wait, self.look],
                [6, 2, 3, 2, 1],
            )[0](place)
            if step == self.steps // 2:
                self.shut_down()

    def submit(self, place: Place, key: int | None = None) -> None:
        job = self.new_job(place)
        place.submit(job, key)
        if hasattr(job, "future"):
            self.own.append(job)

    def submit_stored(self, place: Place) -> None:
        self.submit(place, self.chance.randrange(8))
        with place.app.app_context():
            place.executor.futures.pop(self.chance.randrange(8))

    def cancel(self, place: Place) -> None:
        job = self.chance.choice(self.chance.choice([self.own, place.accepted]) or [None])
        if job is not None and job.cancel() and not job.is_coroutine:
            assert job.future.state == "cancelled"

    def wait(self, _: Place) -> None:
        with suppress(concurrent.futures.CancelledError):
            self.own and self.chance.choice(self.own).future.exception(WAIT)

    def look(self, place: Place) -> None:
        check_sum(place.executor.stats())

    def shut_down(self) -> None:
        """The first two threads shut the two executors down, each in its way."""
        if self.number == 0:
            self.places[0].executor.shutdown(wait=False, cancel_futures=True)
        if self.number == 1:
            self.places[1].executor.shutdown()

    def new_job(self, place: Place, *, is_child: bool = False) -> ModelJob:
        kind: dict[str, Any] = {
            "is_coroutine": self.chance.random() < 0.4,
            "fails": self.chance.choice([0, 0, 1, 3]),
            "retry": self.chance.choice([None, None, SOON]),
            "delay": self.chance.choice([None, None, None, 0, 0.001]),
        }
        if not is_child and self.chance.random() < 0.4:
            child = self.new_job(place, is_child=True)
            into = self.chance.choice([place, place.other])
            kind["on_run"] = lambda: current_job.attempt == 1 and into.submit(child)
        return ModelJob(**kind)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns much more often than they do by default."""
    with switching_every(1e-5):
        yield


def test_futures_keep_to_the_model_whatever_is_asked_of_them() -> None:
    run_state_machine_as_test(
        FuturesMachine,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=80,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_many_threads_do_to_two_executors_adds_up(
    executors: MakeExecutor, hasty_threads: None
) -> None:
    apps = [Flask("one"), Flask("two")]
    places = [Place(app, executors(app, max_workers=4)) for app in apps]
    places[0].other, places[1].other = reversed(places)
    clients = [Client(number, places, steps=120) for number in range(32)]
    barrier = threading.Barrier(len(clients))

    with concurrent.futures.ThreadPoolExecutor(len(clients)) as threads:
        for future in [threads.submit(client.run, barrier) for client in clients]:
            future.result(WAIT)
    for place in places:
        place.executor.shutdown()

    for job in places[0].accepted:
        job.is_to_be_cancelled = True  # if by nobody else, then by the shutdown
    for place in places:
        for job in place.accepted:
            job.is_closed = True
            job.check_end()
        check_counts(place.executor.stats(), place.accepted)
        reasons = {type(error) for error in place.refused}
        assert {ExecutorClosed} <= reasons <= {ExecutorClosed, DuplicateKey}


def test_cancelling_a_job_as_it_ends_or_starts_loses_and_doubles_nothing(
    app: Flask, executors: MakeExecutor, hasty_threads: None
) -> None:
    executor = executors(app, max_workers=1)
    barrier = threading.Barrier(2, timeout=WAIT)
    chance = random.Random(0)
    ending, starting = [], []

    for _ in range(5_000):
        pair = ModelJob(on_run=barrier.wait), ModelJob()
        for job in pair:
            job.accept(executor.submit(job.fn))
        barrier.wait()  # The worker ends the first job now, and starts the second.
        for job in chance.sample(pair, 2):
            job.is_told_cancelled = job.cancel()
        ending.append(pair[0])
        starting.append(pair[1])
    executor.shutdown()

    for job in ending + starting:
        job.check_end()
        assert job.is_told_cancelled == (job.state == "cancelled") == (job.runs == [])
    check_counts(executor.stats(), ending + starting)
    assert {job.state for job in ending} == {"succeeded"}
    assert {job.state for job in starting} == {"succeeded", "cancelled"}


def test_cancelling_a_coroutine_job_as_it_ends_or_starts_loses_and_doubles_nothing(
    executor: Executor, hasty_threads: None
) -> None:
    barrier = threading.Barrier(2, timeout=WAIT)
    chance = random.Random(0)
    jobs = []

    for _ in range(2_500):
        pair = ModelJob(is_coroutine=True, on_run=barrier.wait), ModelJob(is_coroutine=True)
        for job in pair:
            job.accept(executor.submit(job.fn))
        barrier.wait()  # The loop ends the first job now, and starts the second.
        for job in chance.sample(pair, 2):
            job.is_told_cancelled = job.cancel()
        jobs += pair
    executor.shutdown()

    for job in jobs:
        job.check_end()
        assert job.is_told_cancelled or job.state == "succeeded"
        assert job.state == "cancelled" or len(job.runs) == 1
    check_counts(executor.stats(), jobs)
    assert {job.state for job in jobs} == {"succeeded", "cancelled"}


def check_sum(stats: Stats) -> None:
    """The counts of one look add up."""
    parts = (stats.pending, stats.running, stats.succeeded, stats.failed, stats.cancelled)
    assert stats.submitted == sum(parts)
    assert min(parts) >= 0


def check_counts(stats: Stats, jobs: list[ModelJob]) -> None:
    """The counts at the end are those of *jobs*."""
    states = Counter(job.state for job in jobs)
    assert stats == Stats(
        workers=stats.workers,
        submitted=len(jobs),
        pending=0,
        running=0,
        **{end: states[end] for end in ENDS},
    )

"""Keys of stored jobs: one job has a key, in whichever process and thread it is submitted."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_executor import DuplicateKey, Executor, Retry
from flask_executor.records import writer
from flask_executor.records.sql import SqlDatabase
from tests.support import ROOT, WAIT, Gate, Interrupted, MakeExecutor, app_log, at_once

THREADS, PROCESSES = 50, 4


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    return str(request.getfixturevalue("postgresql").make())


@contextmanager
def racing(url: str, journal: Path, on_duplicate: str) -> Iterator[list[subprocess.Popen[str]]]:
    environment = {"FLASK_EXECUTOR_STORE": url, "JOURNAL": str(journal), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.records.racing_app", str(THREADS), on_duplicate]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        yield processes
        for process in processes:
            _, errors = process.communicate(timeout=WAIT)
            assert (errors, process.returncode) == ("", 0)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def race(processes: list[subprocess.Popen[str]], key: str) -> Counter[str]:
    """How often each answer was given when all threads of all processes submit the key."""
    for process in processes:
        process.stdin.write(f"{key}\n")
        process.stdin.flush()
    answers: Counter[str] = Counter()
    for process in processes:
        answers.update(json.loads(process.stdout.readline()))
    return answers


@pytest.mark.slow
def test_of_threads_of_many_processes_one_starts_the_job_of_a_key(url: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    keys = [f"key-{number}" for number in range(3)]
    with racing(url, journal, "raise") as processes:
        answers = [race(processes, key) for key in keys]

    assert journal.read_text("utf-8").splitlines() == keys
    for each in answers:
        assert each["refused"] == THREADS * PROCESSES - 1
        assert len(each) == 2


@pytest.mark.slow
def test_threads_of_many_processes_get_the_outcome_of_the_one_job(url: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    keys = [f"key-{number}" for number in range(3)]
    with racing(url, journal, "return") as processes:
        answers = [race(processes, key) for key in keys]

    assert journal.read_text("utf-8").splitlines() == keys
    for each in answers:
        assert list(each.values()) == [THREADS * PROCESSES]


class Held:
    """A SQLite file in which another one holds the write lock."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def hold(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self.let_go()
        self._connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def executor(path: Path, app: Flask, executors: MakeExecutor) -> Executor:
    """An executor whose tables are made."""
    return made(executors(app, store=f"sqlite:///{path}"))


@pytest.fixture
def other(path: Path, executors: MakeExecutor) -> Executor:
    """An executor of the same app in another process, as far as the store knows."""
    app = Flask("app")
    return made(executors(app, store=f"sqlite:///{path}"))


def made(executor: Executor) -> Executor:
    assert executor.records.list() == []
    return executor


@pytest.fixture
def held(path: Path, executor: Executor) -> Iterator[Held]:
    """Another one of the file; it lets go before executors are shut down."""
    held = Held(path)
    yield held
    held.close()


def until(is_met: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not is_met():
        assert time.monotonic() < end
        time.sleep(0.01)


async def ticking(done: asyncio.Future[Any]) -> int:
    """How often the loop has turned until *done* is."""
    ticks = 0
    while not done.done():
        await asyncio.sleep(0.005)
        ticks += 1
    return ticks


def test_a_thread_that_shares_a_future_shares_the_job_of_another_process(
    executor: Executor, other: Executor, held: Held, gate: Gate
) -> None:
    theirs = other.submit_stored("report", gate)
    gate.await_arrival()
    options = executor.options(key="report", on_duplicate="return")
    futures = at_once(*[lambda: options.submit(pow, 2, 5)] * 8)
    gate.open()

    assert {future.id for future in futures} == {theirs.id}
    assert [future.result(WAIT) for future in futures] == [None] * 8


def test_a_held_database_delays_the_first_claim_only(
    executor: Executor, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    held.hold()
    began = time.monotonic()
    first = executor.submit_stored("first", pow, 2, 1)
    first_took = time.monotonic() - began
    futures = [executor.submit_stored(f"later-{number}", pow, 2, 1) for number in range(20)]
    all_took = time.monotonic() - began
    with pytest.raises(DuplicateKey):
        executor.submit_stored("first", pow, 2, 1)
    results = [future.result(WAIT) for future in (first, *futures)]
    held.let_go()
    until(lambda: executor.records.counts()["succeeded"] == 21)
    until(lambda: len(app_log(caplog)) == 2)

    assert results == [2] * 21
    assert first_took >= 1
    assert all_took < 20  # 21 claims that waited would take 21 seconds.
    away, back = [record.getMessage() for record in app_log(caplog)]
    assert away.startswith("The database of EXECUTOR_STORE does not answer (TimeoutError).")
    assert back == "The database of EXECUTOR_STORE answers again; no record is lost"
    assert executor.records.get("first").id == first.id


def test_a_first_use_that_gets_answers_is_waited_for(
    executor: Executor, other: Executor, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered_at(_: object) -> float:
        if threading.current_thread() is threading.main_thread():  # It has waited for its key.
            held.let_go()
        return time.monotonic()

    other.submit_stored("report", pow, 2, 5).result(WAIT)
    other.records.counts()
    held.hold()
    monkeypatch.setattr(SqlDatabase, "answered_at", property(answered_at))

    with pytest.raises(DuplicateKey):
        executor.submit_stored("report", pow, 2, 5)


def test_a_first_use_that_fails_after_its_answers_is_not_waited_for(
    app: Flask, executors: MakeExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqlDatabase, "answered_at", property(lambda _: time.monotonic()))
    monkeypatch.setattr(writer, "_FIRST", math.inf)
    executor = executors(app, store=f"sqlite:///{tmp_path}")  # A folder is no database.

    assert executor.submit_stored("report", pow, 2, 5).result(WAIT) == 32


def test_a_key_that_two_processes_claim_while_the_database_is_held_goes_to_one(
    executor: Executor, other: Executor, held: Held
) -> None:
    held.hold()
    ids = {one.submit_stored("report", pow, 2, 5).id for one in (executor, other)}
    held.let_go()
    until(lambda: executor.records.counts()["succeeded"] == 2)

    assert executor.records.get("report").id in ids
    assert [executor.records.get(each).result for each in ids] == [32, 32]
    assert {record.id for record in executor.records.list()} == ids


def test_submit_async_does_not_block_the_loop_for_a_claim(executor: Executor, held: Held) -> None:
    async def main() -> tuple[int, int]:
        future = executor.options(key="report").submit_async(pow, 2, 5)
        ticks = await ticking(future)
        return await future, ticks

    held.hold()
    result, ticks = asyncio.run(main())

    assert result == 32
    assert ticks > 10


@pytest.mark.parametrize("group_fails", [False, True])
def test_a_group_waits_for_jobs_whose_keys_are_being_claimed(
    executor: Executor, held: Held, group_fails: bool
) -> None:
    async def main() -> None:
        async with executor.group() as group:
            future = group.options(key="report").submit_async(pow, 2, 5)
            futures.append(future)
            assert group.progress.total in {0, 1}
            if group_fails:
                raise ValueError("the block")
            ticks.append(await ticking(future))

    futures: list[asyncio.Future[int]] = []
    ticks: list[int] = []
    held.hold()
    if group_fails:
        with pytest.raises(ValueError, match="the block"):
            asyncio.run(main())
    else:
        asyncio.run(main())
        assert futures[0].result() == 32
        assert ticks[0] > 10
    held.let_go()
    executor.drain(WAIT)

    assert executor.futures.state("report") == ("cancelled" if group_fails else "succeeded")
    until(lambda: executor.records.get("report").is_ended)
    assert executor.records.get("report").state == executor.futures.state("report")


def test_a_group_fails_with_a_key_that_is_taken(executor: Executor, other: Executor) -> None:
    async def main() -> None:
        async with executor.group() as group:
            group.options(key="report").submit_async(pow, 2, 5)

    other.submit_stored("report", pow, 1, 1)
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())

    assert [type(error) for error in caught.value.exceptions] == [DuplicateKey]


def test_a_job_that_is_cancelled_before_its_key_is_claimed_does_not_run(
    executor: Executor, held: Held
) -> None:
    async def main() -> None:
        future = executor.options(key="report").submit_async(ran.append, 1)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    ran: list[int] = []
    held.hold()
    asyncio.run(main())
    until(lambda: executor.futures.state("report") == "cancelled")
    held.let_go()
    executor.drain(WAIT)

    assert ran == []
    until(lambda: executor.records.get("report").state == "cancelled")


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("on_duplicate", ["return", "raise"])
def test_a_future_that_was_found_before_its_key_was_refused_ends(
    executor: Executor, other: Executor, held: Held, on_duplicate: Any, is_cancelled: bool
) -> None:
    called: list[object] = []
    executor.add_default_done_callback(called.append)
    theirs = other.submit_stored("report", pow, 2, 5)
    other.drain(WAIT)
    other.records.counts()
    options = executor.options(key="report", on_duplicate=on_duplicate)
    held.hold()
    with ThreadPoolExecutor(1) as pool:
        submission = pool.submit(options.submit, pow, 3, 2)
        until(lambda: "report" in executor.futures)
        found = executor.futures.get("report")
        if is_cancelled:
            found.cancel()
        held.let_go()
        error = submission.exception(WAIT)

    with pytest.raises(CancelledError):
        found.result(WAIT)
    if on_duplicate == "return":
        assert submission.result().id == theirs.id
        assert called == ([found] if is_cancelled else [])
    else:
        assert isinstance(error, DuplicateKey)


def test_a_job_that_is_cancelled_after_its_key_was_claimed_is_cancelled(
    executor: Executor, gate: Gate
) -> None:
    async def main() -> None:
        future = executor.options(key="report", delay=3600).submit_async(pow, 1, 1)
        while executor.futures.state("report") is None:
            await asyncio.sleep(0.01)
        future.cancel()

    asyncio.run(main())
    until(lambda: executor.records.get("report").state == "cancelled")


def test_the_ends_of_jobs_are_recorded_while_keys_are_claimed_all_the_time(
    executor: Executor, other: Executor
) -> None:
    is_over = threading.Event()
    first = executor.submit_stored("first", pow, 2, 5)

    def claim(thread: int) -> None:
        number = 0
        while not is_over.is_set():
            executor.submit_stored(f"{thread}-{number}", pow, 2, 5)
            number += 1

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        first.result(WAIT)
        until(lambda: other.records.get("first").state == "succeeded")
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def waiters_of(executor: Executor, key: str) -> list[object]:
    future = executor.futures.get(key)
    return [] if future is None else list(future._loop_waiters or [])


def test_one_of_several_who_await_the_job_of_a_key_may_give_up(
    executor: Executor, gate: Gate
) -> None:
    async def main() -> object:
        options = executor.options(key="report", on_duplicate="return")
        first, second = options.submit_async(gate, "done"), options.submit_async(gate, "done")
        while len(waiters_of(executor, "report")) < 2:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.05)
        gate.open()
        return await second

    assert asyncio.run(main()) == "done"
    assert executor.futures.get("report").job.cancel_requested is False


def test_giving_up_the_job_of_another_process_does_not_cancel_it(
    executor: Executor, other: Executor, gate: Gate
) -> None:
    async def main() -> None:
        options = executor.options(key="report", on_duplicate="return")
        first, second = options.submit_async(pow, 2, 5), options.submit_async(pow, 2, 5)
        while executor.futures.state("report") is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        first.cancel()
        gate.open()
        assert await second == "done"
        assert await executor.futures.get("report") == "done"

    theirs = other.submit_stored("report", gate, "done")
    gate.await_arrival()
    asyncio.run(main())

    assert theirs.result(WAIT) == "done"
    assert theirs.job.cancel_requested is False


@pytest.mark.parametrize("retry", [None, Retry(2, delay=0)])
def test_submit_async_with_a_key_takes_all_other_options(
    app: Flask, executor: Executor, held: Held, retry: Retry | None
) -> None:
    async def fail_once() -> int:
        attempts.append(1)
        if retry is not None and len(attempts) == 1:
            raise ValueError
        return len(attempts)

    @app.get("/")
    async def view() -> str:
        options = executor.options(key="report", after="response", delay=0.01, retry=retry)
        futures.append(options.submit_async(fail_once))
        return "sent"

    attempts: list[int] = []
    futures: list[asyncio.Future[int]] = []
    held.hold()
    response = app.test_client().get("/")
    held.let_go()
    until(lambda: executor.futures.state("report") == "succeeded")

    assert response.text == "sent"
    assert executor.futures.result("report") == (1 if retry is None else 2)


def test_jobs_that_await_a_claim_in_all_workers_do_not_deadlock(
    app: Flask, executors: MakeExecutor, path: Path
) -> None:
    executor = executors(app, store=f"sqlite:///{path}", max_workers=1)

    def outer(key: str) -> int:
        async def main() -> int:
            return await executor.options(key=key).submit_async(pow, 2, 5)

        return asyncio.run(main())

    def outer_sync(key: str) -> int:
        return executor.submit_stored(key, pow, 2, 5).result(WAIT)

    futures = [executor.submit(fn, fn.__name__) for fn in (outer, outer_sync)]
    results = [future.result(WAIT) for future in futures]

    assert results == [32, 32]


def test_an_interrupted_claim_leaves_no_job_that_waits(
    executor: Executor, held: Held, interrupt: Callable[[], None]
) -> None:
    held.hold()
    with pytest.raises(Interrupted):
        interrupt_soon(interrupt, executor)
    held.let_go()
    until(lambda: "pending" not in {record.state for record in executor.records.list()})
    executor.submit_stored("report", pow, 2, 5).result(WAIT)
    executor.drain(WAIT)

    assert executor.records.get("report").result == 32


def interrupt_soon(interrupt: Callable[[], None], executor: Executor) -> None:
    """Submit a job in the main thread, and raise while it waits for its key."""

    def when_claiming() -> None:
        until(lambda: executor.futures.keys() == ["report"])
        interrupt()

    thread = threading.Thread(target=when_claiming)
    thread.start()
    try:
        executor.submit_stored("report", pow, 2, 5)
    finally:
        thread.join()


def test_a_key_that_another_process_pops_or_replaces_is_not_answered_from_the_old_job(
    executor: Executor, other: Executor, gate: Gate
) -> None:
    first = executor.submit_stored("report", pow, 2, 5)
    until(lambda: other.futures.state("report") == "succeeded")
    second = other.options(key="report", on_duplicate="replace").submit(gate)
    gate.await_arrival()
    until(lambda: executor.futures.state("report") == "running")
    replaced = executor.futures.state("report")
    gate.open()
    until(lambda: executor.futures.state("report") == "succeeded")
    popped = executor.futures.pop("report")
    third = executor.submit_stored("report", pow, 2, 6)
    until(lambda: other.futures.state("report") == "succeeded")
    other.futures.pop("report")
    gone = executor.futures.state("report")
    fourth = executor.submit_stored("report", pow, 2, 7)

    assert (replaced, gone) == ("running", None)
    assert popped.id == second.id
    assert len({first.id, second.id, third.id, fourth.id}) == 4


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("text", ["\0", "ä", "🎉", "\ud800", "%", "x"])
def test_a_key_as_long_as_an_id_may_have_any_characters(
    app, executors, request, tmp_path, kind, text
):
    app.instance_path = str(tmp_path)
    executor = executors(app, store=request.getfixturevalue(kind).make())
    key = text * 36

    assert executor.records.get(key) is None
    future = executor.submit_stored(key, pow, 2, 5)
    executor.drain(WAIT)
    assert executor.records.get(key).id == future.id
    assert [record.id for record in executor.records.list(key=text)] == [future.id]

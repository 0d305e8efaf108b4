"""Records of jobs: in memory, and in a database of one process."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import gc
import json
import os
import socket
import threading
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app
from flask.json.provider import DefaultJSONProvider

from flask_executor import DuplicateKey, Executor, QueueFull, Retry, WaitTimeout, current_job
from flask_executor.records import JobRecord, RecordedError, Spread
from flask_executor.records.history import Ended, Ends, Times, minutes_of
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, at_once

END_STATES = ["succeeded", "failed", "cancelled"]


def fail(text: str = "no") -> None:
    raise ValueError(text)


def report(rows: int) -> int:
    for _ in current_job.track(range(rows), message="rows"):
        pass
    return rows


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, app: Flask, tmp_path: Path) -> str:
    if request.param == "sqlite":
        app.config["EXECUTOR_STORE"] = f"sqlite:///{tmp_path / 'jobs.db'}"
    return str(request.param)


@pytest.fixture
def executor(store: str, app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app)


@pytest.fixture(params=["thread", "process", "inline"])
def any_executor(
    store: str, app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest
) -> Executor:
    return executors(app, type=request.param)


@pytest.fixture
def shared(app: Flask, executors: MakeExecutor, tmp_path: Path) -> Executor:
    """An executor with a database, in SQLite."""
    app.config["EXECUTOR_STORE"] = f"sqlite:///{tmp_path / 'jobs.db'}"
    return executors(app)


@pytest.fixture
def elsewhere(shared: Executor, app: Flask, executors: MakeExecutor) -> Executor:
    """An executor that sees the jobs of `shared` as another process does."""
    return executors(Flask(app.name), store=app.config["EXECUTOR_STORE"])


def finish(executor: Executor) -> None:
    """Wait until all jobs have ended, and their records are written."""
    executor.drain(WAIT)
    executor.records.counts()


def record_of(executor: Executor, key: str) -> JobRecord:
    record = executor.records.get(key)
    assert record is not None
    return record


def test_a_record_tells_all_of_a_job_that_has_succeeded(any_executor: Executor) -> None:
    before = datetime.now(UTC)
    future = any_executor.submit_stored("power", pow, 2, 5)
    any_executor.drain(WAIT)
    record = record_of(any_executor, "power")

    assert record.id == future.id
    assert (record.key, record.name, record.executor) == ("power", "pow", "")
    assert (record.state, record.attempt, record.result) == ("succeeded", 1, 32)
    assert (record.error, record.result_missing, record.progress) == (None, None, None)
    assert (record.host, record.pid) == (socket.gethostname(), os.getpid())
    assert record.started_at is not None
    assert record.ended_at is not None
    times = [before - timedelta(seconds=1), record.submitted_at, record.started_at]
    assert sorted(times) == times
    assert record.started_at <= record.ended_at <= datetime.now(UTC)
    assert record.is_ended


def test_a_record_has_type_message_and_traceback_of_a_failure(any_executor: Executor) -> None:
    future = any_executor.submit_stored("fails", fail, "the reason")
    assert isinstance(future.exception(WAIT), ValueError)
    any_executor.drain(WAIT)
    record = record_of(any_executor, "fails")

    assert record.state == "failed"
    assert record.error is not None
    assert (record.error.type, record.error.message) == ("ValueError", "the reason")
    assert "in fail" in str(record.error.traceback)
    assert "flask_executor/" not in str(record.error.traceback)
    assert record.result is None


def test_only_the_type_of_an_error_is_recorded_if_the_config_says_so(
    store: str, app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, store_errors="type")
    executor.submit_stored("fails", fail, "secret").exception(WAIT)
    executor.drain(WAIT)

    assert record_of(executor, "fails").error == RecordedError("ValueError", None, None)


def test_a_record_follows_its_job(executor: Executor, gate: Gate) -> None:
    def wait() -> None:
        current_job.progress(1, 3, "first")
        gate()

    executor.submit_stored("waits", wait)
    gate.await_arrival()
    running = record_of(executor, "waits")
    executor.options(key="later", delay=3600).submit(pow, 2, 2)
    later = record_of(executor, "later")
    counts = executor.records.counts()
    executor.futures.cancel("later")
    gate.open()
    executor.drain(WAIT)

    assert running.state == "running"
    assert running.ended_at is None
    assert running.progress is not None
    assert (running.progress.done, running.progress.total) == (1, 3)
    assert (later.state, later.started_at) == ("pending", None)
    assert (counts["running"], counts["pending"]) == (1, 1)
    assert record_of(executor, "later").state == "cancelled"
    assert record_of(executor, "waits").state == "succeeded"


def test_a_record_has_the_result_while_the_job_is_torn_down(
    app: Flask, executor: Executor, gate: Gate
) -> None:
    app.teardown_appcontext(lambda _: gate() if current_job else None)
    future = executor.submit_stored("power", pow, 2, 5)
    gate.await_arrival()
    record = record_of(executor, "power")
    is_done = future.done()
    gate.open()
    executor.drain(WAIT)

    assert not is_done
    assert (record.state, record.result) == ("succeeded", 32)
    assert record_of(executor, "power") == record


def test_a_process_is_known_as_long_as_it_has_jobs(executor: Executor, gate: Gate) -> None:
    assert executor.records.processes() == []
    executor.submit_stored("runs", gate)
    executor.options(key="waits", delay=3600).submit(pow, 2, 2)
    gate.await_arrival()
    before = datetime.now(UTC)
    [process] = executor.records.processes()
    executor.futures.cancel("waits")
    gate.open()
    finish(executor)

    assert (process.host, process.pid) == (socket.gethostname(), os.getpid())
    assert (process.is_alive, process.running, process.pending) == (True, 1, 1)
    assert process.lost == 0
    assert process.seen_at is not None
    assert abs(process.seen_at - before) < timedelta(seconds=WAIT)
    assert process.as_dict() == {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "seen_at": process.seen_at.isoformat(),
        "is_alive": True,
        "running": 1,
        "pending": 1,
        "lost": 0,
    }
    assert executor.records.processes() == []


def test_a_record_counts_attempts(executor: Executor) -> None:
    executor.options(key="again", retry=Retry(3, delay=0)).submit(fail)
    executor.drain(WAIT)

    record = record_of(executor, "again")
    assert (record.state, record.attempt) == ("failed", 3)


def test_the_progress_at_the_end_is_recorded(any_executor: Executor) -> None:
    any_executor.submit_stored("report", report, 3).result(WAIT)
    any_executor.drain(WAIT)
    progress = record_of(any_executor, "report").progress

    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (3, 3, "rows")


def test_a_record_is_found_by_its_id(executor: Executor) -> None:
    future = executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)

    assert executor.records.get(future.id) == record_of(executor, "power")
    assert executor.records.get("no such key") is None
    assert executor.records.get("0" * 36) is None


def test_jobs_without_a_key_are_recorded_if_the_config_says_so(
    store: str, app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, store_records="all")
    future = executor.submit(pow, 2, 5)
    assert list(executor.map(abs, [-1, -2])) == [1, 2]
    executor.drain(WAIT)

    record = executor.records.get(future.id)
    assert record is not None
    assert (record.key, record.state, record.result) == (None, "succeeded", 32)
    assert executor.records.counts()["succeeded"] == 3


def test_jobs_without_a_key_are_not_recorded_by_default(executor: Executor) -> None:
    future = executor.submit(pow, 2, 5)
    executor.drain(WAIT)

    assert executor.records.get(future.id) is None
    assert executor.records.list() == []


def test_records_are_listed_from_the_last_to_the_first_in_pages(executor: Executor) -> None:
    for number in range(5):
        executor.submit_stored(f"power-{number}", pow, 2, number)
    executor.submit_stored("fails", fail).exception(WAIT)
    executor.drain(WAIT)
    records = executor.records
    first = records.list(limit=4)
    second = records.list(limit=4, before=first[-1].id)

    keys = [record.key for record in (*first, *second)]
    assert keys == ["fails", "power-4", "power-3", "power-2", "power-1", "power-0"]
    assert [record.key for record in records.list("failed")] == ["fails"]
    assert [record.key for record in records.list(name="fail")] == ["fails"]
    assert records.list("lost") == []
    assert records.counts() == {
        "pending": 0,
        "running": 0,
        "succeeded": 5,
        "failed": 1,
        "cancelled": 0,
        "lost": 0,
    }


def test_a_list_may_have_any_number_of_records(executor: Executor) -> None:
    executor.submit_stored("power", pow, 2, 5).result(WAIT)

    assert [record.key for record in executor.records.list(limit=2**64)] == ["power"]


def test_a_popped_key_has_no_record_but_its_id_has(executor: Executor) -> None:
    future = executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    executor.futures.pop("power")
    again = executor.submit_stored("power", pow, 3, 2)
    executor.drain(WAIT)

    assert record_of(executor, "power").id == again.id
    first = executor.records.get(future.id)
    assert first is not None
    assert first.state == "succeeded"


def test_a_replaced_job_has_a_record_by_its_id(executor: Executor) -> None:
    first = executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    second = executor.options(key="power", on_duplicate="replace").submit(pow, 3, 2)
    executor.drain(WAIT)

    assert record_of(executor, "power").id == second.id
    assert executor.records.get(first.id) is not None


def test_a_pop_that_another_thread_overtakes_frees_the_key_of_its_own_job_only(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app)
    popped = executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    following = executor.options(key="power", on_duplicate="replace").submit(pow, 3, 2)

    # The last step of a `pop` that has taken the future, before the other thread submitted.
    assert inside.record_store(app).pop("power", popped) is popped
    assert record_of(executor, "power").id == following.id


def test_a_key_that_is_popped_while_its_job_is_submitted_has_no_record(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    executor.submit_stored("power", pow, 2, 4).result(WAIT)
    executor.drain(WAIT)
    gate.occupy(executor)
    executor.submit(int)
    options = executor.options(key="power", on_duplicate="replace", queue_timeout=WAIT)

    def pop() -> object:
        while not inside.waits_for_room(app):  # The key is the job's own by then.
            threading.Event().wait(0.001)
        popped = executor.futures.pop("power")
        gate.open()
        return popped

    future, popped = at_once(lambda: options.submit(pow, 2, 5), pop)
    executor.drain(WAIT)

    assert popped is future
    assert executor.records.get("power") is None
    assert record_of(executor, future.id).result_missing is None


def test_a_job_that_is_cancelled_while_it_is_submitted_does_not_take_the_key_of_the_next(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    gate.occupy(executor)
    executor.submit(int)
    options = executor.options(key="power", on_duplicate="replace", queue_timeout=WAIT)

    async def cube(number: int) -> int:
        return number**3

    def replace() -> Any:
        while not inside.waits_for_room(app):
            threading.Event().wait(0.001)
        executor.futures.cancel("power")
        return options.submit(cube, 2)

    _, following = at_once(lambda: options.submit(pow, 2, 5), replace)
    gate.open()
    executor.drain(WAIT)

    assert record_of(executor, "power").id == following.id


def test_a_refused_job_changes_no_record(executor: Executor) -> None:
    first = executor.submit_stored("power", pow, 2, 5)
    with pytest.raises(DuplicateKey):
        executor.submit_stored("power", pow, 3, 2)
    executor.drain(WAIT)

    assert record_of(executor, "power").id == first.id
    assert len(executor.records.list()) == 1


def test_a_job_that_finds_no_room_leaves_its_key_free(
    store: str, app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    executor.submit(gate)
    gate.await_arrival()
    executor.submit(pow, 1, 1)
    with pytest.raises(QueueFull):
        executor.submit_stored("power", pow, 2, 5)
    gate.open()
    executor.drain(WAIT)
    refused = executor.records.get("power")
    executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)

    assert refused is None
    assert record_of(executor, "power").result == 32


def test_cancel_and_forget_by_key_and_by_id(executor: Executor) -> None:
    future = executor.options(key="later", delay=3600).submit(pow, 2, 2)
    records = executor.records

    assert records.forget("later") is False
    assert records.cancel("later") is True
    assert future.cancelled()
    executor.drain(WAIT)
    assert records.cancel(future.id) is False
    assert records.forget(future.id) is True
    assert records.get("later") is None
    assert records.cancel("later") is None
    assert records.forget("later") is None


def test_a_running_job_is_asked_to_stop_by_its_key(executor: Executor) -> None:
    started = threading.Event()

    def until_cancelled() -> None:
        started.set()
        while True:
            current_job.check_cancelled()

    future = executor.submit_stored("runs", until_cancelled)
    assert started.wait(WAIT)

    assert executor.records.cancel("runs") is True
    with pytest.raises(CancelledError):
        future.result(WAIT)
    executor.drain(WAIT)
    assert record_of(executor, "runs").state == "cancelled"


def test_wait_returns_the_record_once_the_job_has_ended(executor: Executor, gate: Gate) -> None:
    executor.submit_stored("waits", gate)

    async def wait() -> tuple[JobRecord | None, JobRecord | None, JobRecord | None]:
        early = await executor.records.wait("waits", timeout=0.01)
        gate.open()
        return early, await executor.records.wait("waits"), await executor.records.wait("none")

    early, ended, none = asyncio.run(wait())

    assert early is not None
    assert early.state in {"pending", "running"}
    assert ended is not None
    assert ended.state == "succeeded"
    assert none is None


def test_wait_is_for_the_job_that_had_the_key_when_it_began(
    executor: Executor, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = executor.submit_stored("key", gate, 1)
    sleep = asyncio.sleep

    async def meanwhile(seconds: float) -> None:  # between two looks at the record
        if executor.futures.get("key") is first:
            executor.futures.pop("key")
            executor.submit_stored("key", abs, 2)
            gate.open()
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", meanwhile)
    record = asyncio.run(executor.records.wait("key"))

    assert record is not None
    assert (record.id, record.result) == (first.id, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"state": "done"}, ValueError, r"state is 'done'; expected one of 'pending', 'running'"),
        ({"name": 3}, TypeError, r"name is 3; expected a str"),
        ({"before": 3}, TypeError, r"before is 3; expected a str"),
        ({"key": 3}, TypeError, r"key is 3; expected a str"),
        ({"limit": 0}, ValueError, r"limit is 0; expected an int above 0"),
    ],
)
def test_bad_arguments_of_list_are_refused(
    executor: Executor, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        executor.records.list(**arguments)


def test_records_are_listed_by_the_beginning_of_their_key(executor: Executor) -> None:
    keys = ["a", "a%", "a%b", "a_", "A", 'a"', 'a"b', "ä", "äb", "a\\", "a\n"]
    for key in keys:
        executor.submit_stored(key, pow, 2, 5)
    finish(executor)

    def begin(text: str) -> set[object]:
        return {record.key for record in executor.records.list(key=text)}

    assert begin("") == set(keys)
    assert begin("a") == {key for key in keys if key.startswith("a")}
    assert begin("a%") == {"a%", "a%b"}
    assert begin("a_") == {"a_"}
    assert begin('a"') == {'a"', 'a"b'}
    assert begin("ä") == {"ä", "äb"}
    assert begin("a\\") == {"a\\"}
    assert begin("a%bc") == set()


def test_keys_that_are_no_text_begin_with_no_text(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app)
    executor.submit_stored(7, pow, 2, 5)
    executor.submit_stored("7", pow, 2, 5)
    executor.drain(WAIT)

    assert [record.key for record in executor.records.list(key="7")] == ["7"]
    assert [record.key for record in executor.records.list(key="")] == ["7"]


def test_a_list_without_results_has_all_else(executor: Executor) -> None:
    executor.submit_stored("power", pow, 2, 5)
    executor.submit_stored("fails", fail, "the reason").exception(WAIT)
    finish(executor)
    failed, succeeded = executor.records.list(results=False)
    whole = executor.records.list()

    assert (succeeded.result, succeeded.result_missing) == (None, "it was not asked for")
    assert failed.error == RecordedError("ValueError", "the reason", None)
    assert failed.result_missing is None
    assert [failed, succeeded] == [each.without_result() for each in whole]
    assert whole[1].result == 32


# History


def test_the_history_has_the_ends_of_each_minute(executor: Executor) -> None:
    before = datetime.now(UTC)
    for number in range(3):
        executor.submit_stored(f"power-{number}", pow, 2, number)
    executor.submit_stored("fails", fail).exception(WAIT)
    executor.options(key="later", delay=3600).submit(pow, 2, 5)
    executor.futures.cancel("later")
    finish(executor)
    history = executor.records.history(3)

    assert len(history) == 3
    begins = [minute.begins_at for minute in history]
    assert begins == [begins[0] + timedelta(minutes=number) for number in range(3)]
    assert begins[0].second == begins[0].microsecond == 0
    assert before - timedelta(minutes=3) < begins[0] <= before
    ended = [minute for minute in history if minute.ran is not None]
    assert ended
    counts = [sum(getattr(minute, state) for minute in history) for state in END_STATES]
    assert counts == [3, 1, 1]
    for minute in ended:
        assert minute.waited is not None
        assert minute.ran is not None
        assert 0 <= minute.ran.median <= minute.ran.p95
        assert 0 <= minute.waited.median <= minute.waited.p95
    assert executor.records.history(1) == history[-1:]
    assert len(executor.records.history()) == 60
    assert json.loads(json.dumps([minute.as_dict() for minute in history]))


def test_the_percentiles_of_a_minute_are_those_of_its_jobs() -> None:
    times = [Times(60.0, 60.0 + number, 119.0) for number in range(1, 21)]
    set_back = Times(130.0, 120.0, 121.0)
    counts = [Ended(1, "succeeded", 20), Ended(2, "failed", 1)]

    first, second, third = minutes_of(Ends(counts, [*times, set_back]), 1, 3)

    assert first.begins_at == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    assert (first.succeeded, first.failed, first.cancelled) == (20, 0, 0)
    assert first.waited == Spread(10, 19)
    assert first.ran == Spread(48, 57)
    assert (second.failed, second.waited, second.ran) == (1, Spread(0, 0), Spread(1, 1))
    assert (third.succeeded, third.waited, third.ran) == (0, None, None)


@pytest.mark.parametrize(
    ("minutes", "error", "message"),
    [
        (0, ValueError, r"minutes is 0; expected an int above 0"),
        ("60", TypeError, r"minutes is a value of the type str; expected an int"),
        (1441, ValueError, r"minutes is 1441; expected at most 1440"),
    ],
)
def test_a_history_of_bad_minutes_is_refused(
    executor: Executor, minutes: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        executor.records.history(minutes)


# As dictionaries


def test_a_record_as_a_dict_is_json(executor: Executor) -> None:
    executor.submit_stored("rows", report, 3)
    executor.submit_stored("fails", fail, "the reason").exception(WAIT)
    finish(executor)
    record = record_of(executor, "rows")
    found = json.loads(json.dumps(record.as_dict(), allow_nan=False))

    assert found == record.as_dict()
    assert [found[name] for name in ("id", "key", "name")] == [record.id, "rows", "report"]
    assert (found["executor"], found["state"], found["attempt"]) == ("", "succeeded", 1)
    assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
    assert (found["result"], found["result_missing"], found["error"]) == (3, None, None)
    times = [found[name] for name in ("submitted_at", "started_at", "ended_at")]
    submitted_at, started_at, ended_at = map(datetime.fromisoformat, times)
    assert submitted_at.utcoffset() == timedelta(0)
    assert found["waited"] == max(0, (started_at - submitted_at).total_seconds())
    assert found["ran"] == max(0, (ended_at - started_at).total_seconds())
    assert found["progress"]["fraction"] == 1

    error = record_of(executor, "fails").as_dict()["error"]
    assert (error["type"], error["message"]) == ("ValueError", "the reason")
    assert "in fail" in error["traceback"]


def test_the_fields_of_a_dict_are_those_of_the_record_and_its_durations(executor: Executor) -> None:
    executor.submit_stored("power", pow, 2, 5)
    fields = {field.name for field in dataclasses.fields(JobRecord)}

    assert set(record_of(executor, "power").as_dict()) == fields | {"waited", "ran"}
    finish(executor)


def test_a_job_that_waits_has_no_durations(executor: Executor) -> None:
    executor.options(key="later", delay=3600).submit(pow, 2, 5)
    found = record_of(executor, "later").as_dict()
    executor.futures.cancel("later")

    assert [found[name] for name in ("started_at", "ended_at", "waited", "ran")] == [None] * 4


def test_a_result_that_is_not_json_is_missing_in_the_dict(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    results = {"object": object(), "nan": float("nan"), "nested": nested, "set": {1}}
    futures = [executor.submit_stored(key, results.get, key) for key in results]
    executor.drain(WAIT)

    for key in results:
        found = record_of(executor, key).as_dict()
        assert found["result"] is None
        assert found["result_missing"].startswith("it is not JSON: ")
    assert len(futures) == len(results)


def test_a_result_in_a_dict_is_what_the_provider_of_the_app_writes(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app)
    futures = [
        executor.submit_stored("date", datetime, 2026, 1, 2),
        executor.submit_stored("pair", lambda: (1, {2: None})),
    ]
    executor.drain(WAIT)

    assert record_of(executor, "pair").as_dict()["result"] == [1, {"2": None}]
    assert record_of(executor, "date").as_dict()["result_missing"] == "it is not JSON: TypeError"
    with app.app_context():
        date = record_of(executor, "date").as_dict()
    assert (date["result"], date["result_missing"]) == ("Fri, 02 Jan 2026 00:00:00 GMT", None)
    assert all(future.done() for future in futures)


class Shy:
    """A key that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError


def test_a_key_in_a_dict_is_text(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app)
    keys = {7: "7", ("a", 1): "('a', 1)", Shy(): "<Shy>", "a": "a"}
    for key in keys:
        executor.submit_stored(key, pow, 2, 5)
    executor.submit(pow, 2, 5)
    executor.drain(WAIT)

    for key, text in keys.items():
        assert record_of(executor, key).as_dict()["key"] == text


class Result:
    """What a job returns."""


def test_a_record_in_memory_keeps_no_result(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app)
    future = executor.submit_stored("result", Result)
    seen = weakref.ref(future.result(WAIT))
    executor.drain(WAIT)
    kept = record_of(executor, "result")
    id_ = future.id
    executor.futures.pop("result")
    assert kept.result is seen()
    del future, kept
    gc.collect()

    assert seen() is None
    record = executor.records.get(id_)
    assert record is not None
    assert record.result is None
    assert record.result_missing == "its future is not stored any more"


@pytest.mark.slow
def test_memory_keeps_the_records_of_the_last_10_000_jobs_that_have_ended(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="inline", store_records="all")

    first, second, *_ = [executor.submit(int).id for _ in range(10_001)]

    assert executor.records.get(first) is None
    assert executor.records.get(second) is not None
    assert executor.records.counts()["succeeded"] == 10_000


def test_a_forgotten_key_is_free(executor: Executor) -> None:
    executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    assert executor.records.forget("power") is True
    found = executor.futures.get("power")
    again = executor.submit_stored("power", pow, 3, 2)
    executor.drain(WAIT)

    assert found is None
    assert record_of(executor, "power").id == again.id
    assert executor.records.forget("power") is True
    assert "power" not in executor.futures


def test_a_key_that_another_process_has_freed_can_be_used_again(
    app: Flask, executors: MakeExecutor, tmp_path: Path
) -> None:
    app.config["EXECUTOR_STORE"] = f"sqlite:///{tmp_path / 'jobs.db'}"
    executor = executors(app)
    elsewhere = executors(Flask("app"), store=app.config["EXECUTOR_STORE"])  # as another process
    first = executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    with pytest.raises(DuplicateKey):
        executor.submit_stored("power", pow, 3, 2)
    same = executor.options(key="power", on_duplicate="return").submit(pow, 3, 2)
    other = elsewhere.futures.pop("power")
    elsewhere.records.counts()  # waits until the key is free
    second = executor.submit_stored("power", pow, 3, 2)

    assert same is first
    assert other.result(WAIT) == 32
    assert second.result(WAIT) == 9
    assert executor.futures.get("power") is second


def test_results_are_read_elsewhere_if_the_app_leaves_json_as_it_is(
    app: Flask, shared: Executor, elsewhere: Executor
) -> None:
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    result = {"\xe9": ["\u20ac", "\N{PARTY POPPER}", '"\\n\xfc', "\ud800"]}
    shared.submit_stored("result", lambda: result)
    finish(shared)

    record = record_of(elsewhere, "result")
    assert (record.result, record.result_missing) == (result, None)


class Report(str, enum.Enum):  # noqa: UP042 - the str() of a StrEnum is its value
    """The keys of reports, as many apps write them."""

    MAY = "may"


def test_the_member_of_an_enumeration_of_strings_is_a_key(
    shared: Executor, elsewhere: Executor
) -> None:
    shared.submit_stored(Report.MAY, pow, 2, 5)
    finish(shared)

    for executor in (shared, elsewhere):
        assert record_of(executor, Report.MAY).result == 32
        assert record_of(executor, "may").key == "may"
        assert executor.futures.result(Report.MAY, WAIT) == 32


def test_a_wait_for_a_job_elsewhere_that_is_too_short_says_so(
    shared: Executor, elsewhere: Executor, gate: Gate
) -> None:
    shared.submit_stored("waits", gate)
    gate.await_arrival()
    shared.records.counts()
    ask = elsewhere.futures

    for wait in (ask.result, ask.exception):
        with pytest.raises(WaitTimeout, match=r"the job '\w+' of the process \d+ on .+ has not"):
            wait("waits", 0)
        with pytest.raises(ValueError, match="timeout is nan"):
            wait("waits", float("nan"))
    gate.open()
    assert ask.result("waits", WAIT) is None


def test_a_callback_for_a_job_elsewhere_is_called_though_nobody_holds_its_future(
    shared: Executor, elsewhere: Executor, gate: Gate
) -> None:
    outcome: Future[Any] = Future()
    shared.submit_stored("waits", gate, "done")
    gate.await_arrival()

    elsewhere.futures.add_done_callback("waits", lambda each: outcome.set_result(each.result()))
    gc.collect()
    gate.open()

    assert outcome.result(WAIT) == "done"


def test_the_future_of_a_job_elsewhere_is_let_go_if_its_await_is_given_up(
    shared: Executor, elsewhere: Executor, gate: Gate
) -> None:
    async def give_up() -> weakref.ref[Any]:
        future = elsewhere.futures.get("waits")
        assert future is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await future
        return weakref.ref(future)

    shared.submit_stored("waits", gate)
    gate.await_arrival()
    given_up = asyncio.run(give_up())
    gc.collect()

    assert given_up() is None
    gate.open()


def test_a_popped_key_is_free_at_once(shared: Executor) -> None:
    for _ in range(20):
        shared.submit_stored("power", pow, 2, 5)
        assert shared.futures.pop("power").result(WAIT) == 32
        assert shared.futures.get("power") is None
        assert shared.futures.pop("power") is None


def test_a_pop_that_another_thread_overtakes_frees_the_key_of_the_next_job_here_too(
    app: Flask, shared: Executor, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.submit_stored("power", pow, 2, 5)
    finish(shared)
    store = inside.record_store(app)
    pop, replace = store.pop, shared.options(key="power", on_duplicate="replace").submit
    following: list[Any] = []

    def pop_late(key: str, own: Any) -> Any:
        following.append(replace(gate))  # as the other thread does
        return pop(key, own)

    monkeypatch.setattr(store, "pop", pop_late)

    assert shared.futures.pop("power") is following[0]
    assert "power" not in shared.futures
    assert shared.submit_stored("power", pow, 3, 2).result(WAIT) == 9


def test_a_key_that_was_popped_elsewhere_is_free_at_once(
    shared: Executor, elsewhere: Executor
) -> None:
    shared.submit_stored("power", pow, 2, 5)
    finish(shared)

    assert elsewhere.futures.pop("power").result(WAIT) == 32
    assert elsewhere.futures.get("power") is None
    assert elsewhere.records.get("power") is None


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_one_of_many_threads_that_pop_a_key_gets_the_future(
    shared: Executor, elsewhere: Executor, is_elsewhere: bool
) -> None:
    executor = elsewhere if is_elsewhere else shared
    for number in range(20):
        key = f"power-{number}"
        shared.submit_stored(key, pow, 2, 5)
        finish(shared)
        barrier = threading.Barrier(4)

        def pop(key: str = key, barrier: threading.Barrier = barrier) -> Any:
            barrier.wait(WAIT)
            return executor.futures.pop(key)

        with ThreadPoolExecutor(4) as pool:
            popped = [each.result(WAIT) for each in [pool.submit(pop) for _ in range(4)]]
        assert sum(each is not None for each in popped) == 1


def test_a_key_may_be_the_id_of_another_job(executor: Executor, gate: Gate) -> None:
    first = executor.submit_stored("first", gate)
    gate.await_arrival()
    second = executor.submit_stored(first.id, pow, 2, 5)
    second.result(WAIT)
    during = record_of(executor, first.id)
    gate.open()
    executor.drain(WAIT)

    assert during.id == record_of(executor, first.id).id == second.id
    executor.futures.pop(first.id)
    assert record_of(executor, first.id).id == first.id


class Signing(DefaultJSONProvider):
    """A JSON provider that needs an app context."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Write the app's name, too."""
        return super().dumps([current_app.name, obj], **kwargs)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Read what an app of this name has written."""
        name, value = super().loads(s, **kwargs)
        return value if name == current_app.name else None


def test_a_json_provider_runs_in_a_context_of_its_app(
    app: Flask, shared: Executor, elsewhere: Executor
) -> None:
    (other,) = elsewhere.apps
    app.json, other.json = Signing(app), Signing(other)
    shared.submit_stored("power", pow, 2, 5)
    finish(shared)

    for context in (nullcontext(), other.app_context()):
        with context:
            record = record_of(elsewhere, "power")
        assert (record.result, record.result_missing) == (32, None)


class Leaving(DefaultJSONProvider):
    """A JSON provider that cannot write anything."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Leave."""
        raise SystemExit


def test_a_json_provider_that_exits_stops_no_record(
    app: Flask, shared: Executor, elsewhere: Executor
) -> None:
    app.json = Leaving(app)
    shared.submit_stored("one", pow, 2, 5)
    finish(shared)
    shared.submit_stored("two", pow, 2, 5)
    finish(shared)

    for key in ("one", "two"):
        assert record_of(elsewhere, key).result_missing == "it is not JSON: SystemExit"


class Refusing(DefaultJSONProvider):
    """A JSON provider that cannot read anything."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Leave."""
        raise SystemExit


def test_a_json_provider_that_exits_ends_a_wait_for_a_record(
    shared: Executor, elsewhere: Executor
) -> None:
    (other,) = elsewhere.apps
    other.json = Refusing(other)
    shared.submit_stored("power", pow, 2, 5)
    finish(shared)

    async def wait() -> None:
        async with asyncio.timeout(WAIT):
            await elsewhere.records.wait("power")

    with pytest.raises(SystemExit):
        elsewhere.records.get("power")
    with pytest.raises(SystemExit):
        asyncio.run(wait())


def test_a_long_message_of_progress_is_cut_in_the_database(
    shared: Executor, elsewhere: Executor
) -> None:
    future = shared.submit_stored("talks", lambda: current_job.progress(1, 2, "x" * 2**20))
    finish(shared)

    assert future.progress is not None
    assert len(future.progress.message) == 2**20
    progress = record_of(elsewhere, "talks").progress
    assert progress is not None
    assert progress.message == "x" * 10_000


def test_a_key_that_was_replaced_elsewhere_is_that_of_the_new_job(
    shared: Executor, elsewhere: Executor
) -> None:
    shared.submit_stored("power", pow, 2, 5).result(WAIT)
    finish(shared)
    elsewhere.options(key="power", on_duplicate="replace").submit(pow, 3, 2)
    finish(elsewhere)

    assert shared.futures.result("power", WAIT) == 9
    assert shared.futures.pop("power").result(WAIT) == 9
    assert elsewhere.futures.get("power") is None
    assert shared.futures.get("power") is None


def test_a_future_that_is_stored_here_is_found_without_the_database(
    shared: Executor, tmp_path: Path
) -> None:
    future = shared.submit_stored("power", pow, 2, 5)
    finish(shared)
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / "jobs.db").mkdir()
    shared.shutdown()  # which closes the connections

    assert shared.futures.get("power") is future


def deep(depth: int) -> None:
    if depth:
        deep(depth - 1)
    else:
        raise ValueError("the reason")


def test_the_end_of_a_long_traceback_is_recorded(
    app: Flask, executors: MakeExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_executor.records.row._MAX_TRACEBACK", 1000)
    app.config["EXECUTOR_STORE"] = f"sqlite:///{tmp_path / 'jobs.db'}"
    executor = executors(app)
    elsewhere = executors(Flask("app"), store=app.config["EXECUTOR_STORE"])  # as another process
    executor.submit_stored("deep", deep, 50).exception(WAIT)
    executor.shutdown()
    error = record_of(elsewhere, "deep").error

    assert error is not None
    assert str(error.traceback).endswith("ValueError: the reason\n")


FILES = Path("/proc/self/fd")


def open_files() -> list[str]:
    """The names of the files that this process has open."""
    found = []
    for each in FILES.iterdir():
        with suppress(FileNotFoundError):  # It was closed meanwhile.
            found.append(str(each.readlink()))
    return found


@pytest.mark.skipif(not FILES.exists(), reason="the system does not show open files")
def test_records_can_be_read_after_shutdown_and_leave_nothing_open(
    app: Flask, executors: MakeExecutor, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.db"
    executor = executors(app, store=f"sqlite:///{file}")
    executor.submit_stored("power", pow, 2, 5)
    executor.shutdown()
    state = record_of(executor, "power").state
    opened = open_files()

    assert state == "succeeded"
    assert [name for name in opened if name.startswith(str(file))] == []

"""The messages that a worker process sends while it runs a call."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from flask_executor import WorkerDied
from flask_executor.backends.processes import ProcessPool
from flask_executor.remote.protocol import Reporter, reporter
from tests.remote_app import wait_at
from tests.support import WAIT, Door


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    pool = ProcessPool(2, "forkserver", None, lambda: int, "worker")
    yield pool
    pool.shutdown()


def test_a_call_reports_progress_before_its_result(pool: ProcessPool) -> None:
    reported: list[object] = []

    call = pool.call(report, ("one third", "two thirds"), {}, reported.append)

    assert call.result(WAIT) == "result"
    assert reported == ["one third", "two thirds"]


def test_progress_is_dropped_where_nobody_asks_for_it(pool: ProcessPool) -> None:
    assert pool.submit(report, 1, 2).result(WAIT) == "result"


def test_what_a_call_left_behind_does_not_report_to_the_next_call(pool: ProcessPool) -> None:
    reported: list[object] = []
    first = pool.submit(leave_reporter).result(WAIT)

    second = pool.call(report_as_the_call_before, (), {}, reported.append).result(WAIT)

    assert first == second != os.getpid(), "one process had both"
    assert reported == []


def test_a_worker_that_dies_after_progress_fails_its_call_alone(
    pool: ProcessPool, door: Door
) -> None:
    reported: list[object] = []
    neighbour = pool.submit(wait_at, door.address, "result")
    door.await_arrival()

    call = pool.call(report_and_die, (), {}, reported.append)

    with pytest.raises(WorkerDied, match=r"died \(exit code 9\) while it ran the job"):
        call.result(WAIT)
    assert reported == ["last words"]
    assert_others_go_on(pool, neighbour, door)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (("rubbish", 1), "a message with the tag 'rubbish'; expected 'progress' or 'done'"),
        (("ready", None), "a message with the tag 'ready'; expected 'progress' or 'done'"),
        (([], None), "a message with the tag a value of the type list; expected 'progress' or"),
        (("done",), "a value of the type tuple instead of a pair of a tag and a payload"),
        (17, "a value of the type int instead of a pair of a tag and a payload"),
    ],
)
def test_a_worker_that_sends_rubbish_is_killed_and_fails_its_call_alone(
    pool: ProcessPool, door: Door, message: object, told: str
) -> None:
    neighbour = pool.submit(wait_at, door.address, "result")
    door.await_arrival()

    with pytest.raises(WorkerDied) as caught:
        pool.submit(send_and_hang, message).result(WAIT)

    assert f"was killed while it ran the job, because it sent {told}" in str(caught.value)
    wait_for_processes(1)
    assert_others_go_on(pool, neighbour, door)


def test_a_worker_that_sends_no_pickle_is_killed_and_fails_its_call_alone(
    pool: ProcessPool, door: Door
) -> None:
    neighbour = pool.submit(wait_at, door.address, "result")
    door.await_arrival()

    error = pool.submit(send_bytes_and_hang, b"rubbish").exception(WAIT)

    assert isinstance(error, pickle.UnpicklingError)
    wait_for_processes(1)
    assert_others_go_on(pool, neighbour, door)


def test_a_callback_that_raises_ends_its_call_alone(pool: ProcessPool, door: Door) -> None:
    neighbour = pool.submit(wait_at, door.address, "result")
    door.await_arrival()

    call = pool.call(report, ("a",), {}, {}.__getitem__)

    assert isinstance(call.exception(WAIT), KeyError)
    assert_others_go_on(pool, neighbour, door)


def wait_for_processes(count: int) -> None:
    """Wait until that many worker processes are left."""
    pause = threading.Event()
    for _ in range(int(WAIT * 100)):
        if len(processes := multiprocessing.active_children()) == count:
            return
        pause.wait(0.01)
    raise AssertionError(f"{processes} are left")


def assert_others_go_on(pool: ProcessPool, neighbour: Future[object], door: Door) -> None:
    assert pool.submit(abs, -3).result(WAIT) == 3
    assert not neighbour.done()
    door.open()
    assert neighbour.result(WAIT) == "result"


# Calls


def report(*payloads: object) -> str:
    for payload in payloads:
        reporter.get().progress(payload)
    return "result"


def report_and_die() -> None:
    reporter.get().progress("last words")
    os._exit(9)


def send_and_hang(message: object) -> None:
    reporter.get()._connection.send(message)
    threading.Event().wait()


def send_bytes_and_hang(message: bytes) -> None:
    reporter.get()._connection.send_bytes(message)
    threading.Event().wait()


left: list[Reporter] = []


def leave_reporter() -> int:
    left.append(reporter.get())
    return os.getpid()


def report_as_the_call_before() -> int:
    left.pop().progress("late")
    return os.getpid()

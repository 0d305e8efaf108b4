from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
from flask import Flask

from flask_executor.threads.conditions import LightCondition, LightEvent, wait_for
from tests.support import WAIT, Gate, MakeExecutor


@pytest.fixture
def condition() -> LightCondition:
    return LightCondition()


def test_a_job_future_begins_with_all_that_a_stdlib_future_begins_with(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    future = executor.submit(int)

    stdlib = vars(Future())
    condition = stdlib.pop("_condition")
    assert {name: vars(future)[name] for name in stdlib} == stdlib
    assert isinstance(future._condition, type(condition))


def test_all_who_wait_are_woken(condition: LightCondition) -> None:
    is_woken: list[bool] = []
    waiting = threading.Semaphore(0)

    def wait() -> None:
        with condition:
            waiting.release()  # Whoever has the lock next finds this one waiting.
            is_woken.append(condition.wait(WAIT))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
        waiting.acquire()
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join()

    assert is_woken == [True, True, True]


def test_a_wait_lets_go_of_the_lock_however_often_it_is_held(condition: LightCondition) -> None:
    def notify() -> None:
        with condition:
            condition.notify_all()

    with condition, condition:
        thread = threading.Thread(target=notify)
        thread.start()
        is_notified = condition.wait(WAIT)
    thread.join()

    assert is_notified


def test_a_wait_that_takes_too_long_is_over(condition: LightCondition) -> None:
    with condition:
        assert not condition.wait(0)


def test_who_does_not_hold_the_lock_cannot_wait(condition: LightCondition) -> None:
    with pytest.raises(RuntimeError):
        condition.wait(0)


def test_it_can_be_acquired_and_released_as_a_lock(condition: LightCondition) -> None:
    taken_elsewhere: list[bool] = []

    def try_to_take() -> None:
        if condition.acquire(False):
            condition.release()
            taken_elsewhere.append(True)
        else:
            taken_elsewhere.append(False)

    def run(fn) -> None:
        thread = threading.Thread(target=fn)
        thread.start()
        thread.join()

    condition.acquire()
    run(try_to_take)
    condition.release()
    run(try_to_take)

    assert taken_elsewhere == [False, True]


def test_a_wait_for_a_light_event_clears_it() -> None:
    event = LightEvent()
    event.set()
    event.set()

    assert event.wait(0)
    assert not event.wait(0)


def test_a_wait_for_a_future_ends_with_it_and_raises_nothing() -> None:
    future: Future[None] = Future()
    is_over_before = wait_for(future, 0)
    thread = threading.Thread(target=future.set_exception, args=(TimeoutError(),))
    thread.start()
    is_over = wait_for(future, WAIT)
    thread.join()

    assert (is_over_before, is_over, wait_for(future, 0)) == (False, True, True)

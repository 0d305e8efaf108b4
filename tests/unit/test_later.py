"""Jobs that wait for an event, while they enter the queue."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_executor import Executor
from flask_executor.events.response import PendingResponse
from flask_executor.runners.later import Later
from flask_executor.threads.pool import run_apart
from tests.support import at_once


class Waiting:
    """Notes what becomes of it."""

    item: Any = None

    def __init__(self) -> None:
        self.ends: list[str] = []

    def start(self) -> None:
        self.ends.append("started")

    def cancel(self, why: str = "") -> None:
        self.ends.append(f"cancelled: {why}")


def test_a_response_that_another_thread_sends_meanwhile_is_not_missed() -> None:
    waiting, pending = Waiting(), PendingResponse(Waiting())

    pending.on_sent()
    pending.add(waiting)

    assert waiting.ends == ["started"]


def test_a_request_that_ends_meanwhile_without_a_response_cancels_the_job() -> None:
    waiting, pending = Waiting(), PendingResponse(Waiting())

    pending.on_torn_down()
    pending.add(waiting)

    assert waiting.ends == ["cancelled: its request ended without a response to wait for"]


def test_where_no_thread_can_be_started_a_finalizer_makes_its_call_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("flask_executor.threads.pool.start_thread", refuse)
    waiting = Waiting()

    run_apart(waiting.start)

    assert waiting.ends == ["started"]


@pytest.mark.slow
def test_of_an_event_and_an_entry_at_the_same_time_one_begins_the_job(
    app: Flask, executor: Executor, fast_switching: None
) -> None:
    host: Any = app.extensions["flask_executor."].host
    item: Any = None
    begun: list[int] = []

    for number in range(100):
        later = Later(host, item, lambda number=number: begun.append(number), lambda _: None)
        at_once(later.start, later.enter, later.start)

    assert begun == list(range(100))


def test_an_event_that_comes_twice_begins_the_job_once(app: Flask, executor: Executor) -> None:
    host: Any = app.extensions["flask_executor."].host
    item: Any = None
    begun: list[str] = []
    later = Later(host, item, lambda: begun.append("begun"), lambda _: None)

    later.enter()
    later.start()
    later.start()
    later.cancel()

    assert begun == ["begun"]

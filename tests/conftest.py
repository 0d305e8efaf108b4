"""An app, its executors, and the check that a test leaves nothing behind."""

from __future__ import annotations

import contextvars
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from flask_executor import Executor, JobFuture

# Long enough for a busy machine; a test that meets it has failed.
WAIT = 20.0

MakeExecutor = Callable[..., Executor]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Each thread and process that a test starts ends with the test."""
    threads = set(threading.enumerate())
    yield
    started = [*(set(threading.enumerate()) - threads), *multiprocessing.active_children()]
    for one in started:
        one.join(WAIT)

    assert [one for one in started if one.is_alive()] == []


@pytest.fixture
def app() -> Flask:
    """A fresh app."""
    app = Flask("app")
    app.testing = True
    return app


@pytest.fixture
def executors() -> Iterator[MakeExecutor]:
    """Makes executors, `executors(app, max_workers=1)`, and shuts them down after the test."""
    made: list[tuple[Executor, Flask]] = []

    def make(*apps: Flask, name: str = "", **settings: object) -> Executor:
        prefix = f"{name.upper()}_EXECUTOR_" if name else "EXECUTOR_"
        executor = Executor(name=name)
        for app in apps:
            app.config.update({prefix + key.upper(): value for key, value in settings.items()})
            executor.init_app(app)
            made.append((executor, app))
        return executor

    yield make
    for executor, _ in made:
        # Wherever a fixture has put us, this is for all its apps.
        contextvars.Context().run(executor.shutdown)


@pytest.fixture
def executor(app: Flask, executors: MakeExecutor) -> Executor:
    """The app's executor: a thread pool, as by default."""
    return executors(app)


@pytest.fixture
def gate(executors: MakeExecutor) -> Iterator[Gate]:
    """Where jobs wait until the test opens it; open at the end, before executors are shut down."""
    gate = Gate()
    yield gate
    gate.open()


class Gate:
    """Holds jobs up until it is opened."""

    def __init__(self) -> None:
        self._entered = threading.Semaphore(0)
        self._opened = threading.Event()

    def __call__(self, result: object = None) -> object:
        """Wait at the gate, then return *result*: the job to submit."""
        self._entered.release()
        assert self._opened.wait(WAIT)
        return result

    def occupy(self, executor: Executor, workers: int = 1) -> list[JobFuture[object]]:
        """Have that many workers wait at the gate."""
        futures = [executor.submit(self) for _ in range(workers)]
        for _ in futures:
            self.await_arrival()
        return futures

    def await_arrival(self) -> None:
        """Wait until one more job is at the gate."""
        assert self._entered.acquire(timeout=WAIT)

    def open(self) -> None:
        """Let those who wait through, and all who come later."""
        self._opened.set()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return or raise, each made in a thread of its own, all at the same time."""
    barrier = threading.Barrier(len(calls))

    def make(call: Callable[[], Any]) -> Any:
        barrier.wait(WAIT)
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def app_log(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged on the app's logger, which is all that was."""
    assert {record.name for record in caplog.records} <= {"app"}
    return caplog.records

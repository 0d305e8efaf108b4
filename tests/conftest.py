"""An app, its executors, and the check that a test leaves nothing behind."""

from __future__ import annotations

import contextvars
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from flask import Flask

from flask_executor import Executor
from tests.support import WAIT, Door, Gate, Interrupted, MakeExecutor, switching_every

# Eventlet warns of every fork. Its tests have processes of their own; Sentry's SDK would import it.
sys.modules["eventlet"] = None  # type: ignore[assignment]

# Most of the time that a worker process takes to start is for imports.
multiprocessing.set_forkserver_preload(
    ["flask_executor.remote.worker", "asyncio", "multiprocessing.pool"]
)


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_is_not_garbage(request: pytest.FixtureRequest) -> None:
    # Many tests ask for a garbage collection, which need not look at all of pytest and Dask. Nor
    # need the one here look at what is frozen already. But hypothesis asks the collector who refers
    # to an object, and that does not see what is frozen.
    gc.collect()
    homes = {getattr(value, "__module__", None) or "" for value in vars(request.module).values()}
    if any(home.partition(".")[0] == "hypothesis" for home in homes):
        gc.unfreeze()
    else:
        gc.freeze()


def pytest_configure() -> None:
    """Heed Ctrl-C, which a shell has background programs ignore, and all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Each thread and process that a test starts ends with the test."""
    threads = set(threading.enumerate())
    yield
    started = [*(set(threading.enumerate()) - threads), *multiprocessing.active_children()]
    # Dask has a thread that it keeps for all of the process.
    started = [one for one in started if not one.name.startswith("Dask-Offload")]
    for one in started:
        one.join(WAIT)

    assert [one for one in started if one.is_alive()] == []


@pytest.fixture
def app() -> Iterator[Flask]:
    """A fresh app."""
    app = Flask("app")
    app.testing = True
    app.config["EXECUTOR_APP"] = "tests.remote_app:app"  # what stands for it in worker processes
    yield app
    app.logger.disabled = False  # All apps of that name have the same logger.
    app.logger.setLevel(logging.NOTSET)  # Flask sets it in debug mode.


@pytest.fixture
def executors() -> Iterator[MakeExecutor]:
    """Makes executors, `executors(app, max_workers=1)`, and shuts them down after the test."""
    made: list[tuple[Executor, Flask]] = []

    def make(*apps: Flask, name: str = "", **settings: object) -> Executor:
        prefix = f"{name.upper()}_EXECUTOR_" if name else "EXECUTOR_"
        executor = Executor(name=name)
        for app in apps:
            if name:  # Another executor would read it.
                app.config.pop("EXECUTOR_APP", None)
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


@pytest.fixture
def no_gc(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have reference counts alone free what is dropped, and no log record hold it."""
    monkeypatch.setattr(app.logger, "disabled", True)
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Have threads interrupt each other as often as can be."""
    with switching_every(1e-6):
        yield


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """A call that makes the main thread, wherever it waits, raise Interrupted."""
    is_raised, sending = threading.Event(), threading.Lock()

    def handler(*_: object) -> None:
        if not is_raised.is_set():
            is_raised.set()
            raise Interrupted

    def interrupt() -> None:
        # A signal that comes just before the main thread begins to wait for a lock wakes nobody.
        while not is_raised.wait(0.01):
            with sending:
                if not is_raised.is_set():
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, handler)
    yield interrupt
    with sending:  # Without the handler, one more signal would end the process.
        signal.signal(signal.SIGUSR1, previous)


@pytest.fixture
def door(executors: MakeExecutor) -> Iterator[Door]:
    """Where jobs in other processes wait until the test opens it; open at the end."""
    door = Door()
    yield door
    door.open()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[IO[str]]:
    """A named pipe that keeps what is written into it, until it is read or the test ends."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    # Opened for both reading and writing, it does not wait for a reader.
    with open(path, "w", buffering=1, opener=lambda path, _: os.open(path, os.O_RDWR)) as pipe:
        yield pipe

"""An app, its executors, and the check that a test leaves nothing behind."""

from __future__ import annotations

import contextvars
import gc
import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import distributed
import pytest
from flask import Flask

from flask_executor import Executor, JobFuture

ROOT = Path(__file__).parent.parent

# Eventlet warns of every fork. Its tests have processes of their own; Sentry's SDK would import it.
sys.modules["eventlet"] = None  # type: ignore[assignment]

# Most of the time that a worker process takes to start is for imports.
multiprocessing.set_forkserver_preload(
    ["flask_executor.remote.worker", "asyncio", "multiprocessing.pool"]
)

# Long enough for a busy machine; a test that meets it has failed.
WAIT = 20.0

MakeExecutor = Callable[..., Executor]


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
def app() -> Flask:
    """A fresh app."""
    app = Flask("app")
    app.testing = True
    app.config["EXECUTOR_APP"] = "tests.remote_app:app"  # what stands for it in worker processes
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


@pytest.fixture
def no_gc(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have reference counts alone free what is dropped, and no log record hold it."""
    monkeypatch.setattr(app.logger, "disabled", True)
    gc.disable()
    yield
    gc.enable()


@contextmanager
def switching_every(seconds: float) -> Iterator[None]:
    """Have threads interrupt each other that often; by default it is every 5 milliseconds."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Have threads interrupt each other as often as can be."""
    with switching_every(1e-6):
        yield


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


class Door:
    """Holds up jobs that run in other processes."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(WAIT)
        self._waiting: list[socket.socket] = []
        self.address = self._server.getsockname()

    def await_arrival(self) -> None:
        """Wait until one more job is at the door."""
        self._waiting.append(self._server.accept()[0])

    def let_through(self) -> None:
        """Let those who have arrived through."""
        while self._waiting:
            connection = self._waiting.pop()
            # To close it is not enough: a process that was forked meanwhile has it, too.
            with suppress(OSError):  # its process may have been killed
                connection.sendall(b".")
            connection.close()

    def open(self) -> None:
        """Let those who have arrived through, and turn all others away."""
        self._server.close()
        self.let_through()


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


class Cluster:
    """A Dask scheduler and two workers, each a process of its own, as on machines of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.address = "tcp://{}:{}".format(*server.getsockname())
        self.start()

    def start(self) -> None:
        """Start it, or start it anew at the same address."""
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start(
            "scheduler", "--host=127.0.0.1", f"--port={port}", "--no-show", "--dashboard-address=:0"
        )
        self.workers = [self.start_worker(), self.start_worker()]
        with distributed.Client(self.address, timeout=WAIT, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=WAIT)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker, of one thread."""
        return self._start("worker", self.address, "--nthreads=1", "--no-nanny", "--no-dashboard")

    def stop(self) -> None:
        """End all of it."""
        for process in self._processes:
            process.kill()
            process.wait(WAIT)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        }
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                cwd=self._folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that tests share, and leave as it is."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


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

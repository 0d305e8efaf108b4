"""Meeting points for the threads and processes of a test, and what else tests import."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from flask_executor import Executor, JobFuture
from flask_executor.records import JobRecord

ROOT = Path(__file__).parent.parent

# Long enough for a busy machine; a test that meets it has failed.
WAIT = 60.0

MakeExecutor = Callable[..., Executor]


def errors_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a program has written on standard error.

    Without the line that it adds at its end if the machine is so busy that jobs take a second.
    """
    lines = done.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if "press Ctrl-C to stop waiting" not in line)


def job_record(submitted_at: datetime, **values: Any) -> JobRecord:
    """The record of a job that waits, but for *values*."""
    waiting: dict[str, Any] = {
        "id": "1",
        "key": None,
        "name": "report",
        "executor": "",
        "state": "pending",
        "attempt": 1,
        "submitted_at": submitted_at,
        "started_at": None,
        "ended_at": None,
        "progress": None,
        "result": None,
        "result_missing": None,
        "error": None,
        "host": "host",
        "pid": 7,
    }
    return JobRecord(**(waiting | values))


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


class Interrupted(Exception):
    """What a signal handler raises in the main thread."""


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


@contextmanager
def switching_every(seconds: float) -> Iterator[None]:
    """Have threads interrupt each other that often; by default it is every 5 milliseconds."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def app_log(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged on the app's logger, which is all that was."""
    assert {record.name for record in caplog.records} <= {"app"}
    return caplog.records

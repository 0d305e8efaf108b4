"""A program whose metrics are in multiprocess mode: it does what it is told, and prints them.

Its worker processes import this module, too.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry, multiprocess

from flask_executor import Executor, Retry, job_submitted
from flask_executor.metrics import instrument

app = Flask("app")
app.config.update(EXECUTOR_MAX_WORKERS=2, EXECUTOR_APP="metered_app:app")
if os.environ["WHAT"] == "nested":
    app.config["EXECUTOR_TYPE"] = "process"
executor = Executor(app)
mail = Executor(app, name="mail")  # not instrumented
instrument(executor)

registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)

started, go_on = threading.Semaphore(0), threading.Event()


def show() -> None:
    """Print how many jobs wait and run, and the number of workers."""
    labels = {"executor": "executor"}
    names = ("pending", "running", "workers")
    values = [registry.get_sample_value(f"flask_executor_{name}", labels) for name in names]
    print(*(f"{value:g}" for value in values))  # noqa: T201 - for the test


def hold() -> None:
    started.release()
    go_on.wait(20)


def fail() -> None:
    started.release()
    raise ValueError


def nest() -> int:
    """A job that submits one in its worker process, where it runs at once."""
    return executor.submit(pow, 2, 3).result()


def waiting() -> None:
    """Two jobs run, two wait, and of these one is cancelled."""
    for _ in range(2):
        executor.submit(hold)
        started.acquire()
    futures = [executor.submit(hold) for _ in range(2)]
    show()
    futures[0].cancel()
    show()
    go_on.set()


def cancelled_at_once() -> None:
    """A receiver that is called before, or after, that of the metrics cancels the job."""

    def cancel(_: Flask, future: Any, **__: Any) -> None:
        future.cancel()

    receivers = job_submitted.receivers
    with job_submitted.connected_to(cancel):
        executor.submit(pow, 2, 3)
        # Receivers are called in the order of this dict.
        first = next(iter(receivers))
        receivers[first] = receivers.pop(first)
        executor.submit(pow, 2, 3)
    show()
    executor.submit(pow, 2, 3).result()


def retried() -> None:
    """A job waits for its next attempt, and another has failed for good."""
    future = executor.options(retry=Retry(2, delay=60, jitter=False)).submit(fail)
    started.acquire()
    while executor.stats().running:
        time.sleep(0.01)
    executor.options(retry=Retry(2, delay=0)).submit(fail).exception()
    show()
    future.cancel()


def overdue() -> None:
    """A job runs on after its time was up."""
    executor.options(timeout=0.01).submit(hold).exception()
    show()
    go_on.set()


def others() -> None:
    """Jobs of an executor that is not instrumented, and a request."""
    show()
    mail.submit(hold)
    mail.options(delay=60).submit(hold).cancel()
    started.acquire()
    app.test_client().get("/")
    show()
    go_on.set()
    mail.drain()


def nested() -> None:
    """Jobs of jobs in another process."""
    executor.submit(nest).result()
    show()


def main() -> None:
    """Do the thing, and print the values once more."""
    globals()[os.environ["WHAT"]]()
    executor.drain()
    show()

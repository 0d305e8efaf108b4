"""The app of test_command.py: its commands, and a process with jobs for them to look at."""

from __future__ import annotations

import asyncio
import sys
import threading

from flask import Flask

from flask_executor import Executor, Retry, current_job

HOSTILE = "x\x1b[31m\x1b]0;mine\x07\r\n\N{RIGHT-TO-LEFT OVERRIDE}[red]\x9b2J"

is_over, next_step = threading.Event(), threading.Semaphore(0)


def create_app(*names: str, **config: object) -> Flask:
    """An app with an executor of each name, or one without a name."""
    app = Flask("shop")
    app.config.from_prefixed_env()
    app.config.update(config)
    for name in names or ("",):
        Executor(app, name)
    return app


def send(number: int) -> dict[str, int]:
    return {"number": number}


def charge() -> None:
    raise ValueError(f"{HOSTILE} {'long ' * 99}")


def report() -> None:
    """Make a step of ten for each line that the process reads."""
    for _ in current_job.track(range(10), message=f"{HOSTILE} pages"):
        next_step.acquire()


def until_cancelled() -> None:
    while True:
        current_job.check_cancelled()
        is_over.wait(0.01)


def hold() -> None:
    is_over.wait()


async def sleep() -> None:
    await asyncio.sleep(3600)


def try_twice() -> None:
    if current_job.attempt == 1:
        raise OSError
    is_over.wait()


def main() -> None:
    app = create_app()
    executor = app.extensions["executor"]
    with app.app_context():
        for number in range(3):
            executor.submit_stored(f"mail-{number}", send, number).result()
        executor.submit_stored(f"key {HOSTILE}", charge).exception()
        executor.submit_stored("report", report)
        executor.submit_stored("loop", until_cancelled)
        executor.submit_stored("sleep", sleep)
        executor.submit_stored("hold", hold)
        executor.options(key="again", retry=Retry(2, delay=0)).submit(try_twice)
        executor.options(key="later", delay=3600).submit(send, 9)
        while executor.records.counts()["running"] < 5 or executor.records.get("again").attempt < 2:
            is_over.wait(0.01)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            next_step.release()
        is_over.set()
        next_step.release(10)
        for key in ("loop", "sleep", "later"):
            executor.futures.cancel(key)
        executor.shutdown()


if __name__ == "__main__":
    main()

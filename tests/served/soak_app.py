"""The app that soak.py has served: its views submit jobs, and a journal tells what becomes of each.

A line of the journal is a word, a job's id, and the process id of the server's worker that has the
job. It is written by one call, so lines of several processes don't mix, and are there when one of
them is killed. The word "is:…" has the executor's own id of the job, which its record has, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from itertools import repeat
from typing import Any

from flask import Flask

from flask_executor import (
    Executor,
    ExecutorClosed,
    FlaskExecutorError,
    JobFuture,
    JobInfo,
    job_cancelled,
    job_failed,
    job_submitted,
    job_succeeded,
)

# Which process logs that its executor was shut down has to be known.
logging.basicConfig(format="[%(process)d] %(message)s")

app = Flask(__name__)
app.config.from_prefixed_env("SOAK")  # SOAK_EXECUTOR_TYPE and the like, and SOAK_JOURNAL
executor = Executor(app)

_journal = os.open(app.config["JOURNAL"], os.O_WRONLY | os.O_APPEND)
_ids: dict[str, tuple[str, int]] = {}  # by the executor's own id of a job: its id and pid here


class JobError(Exception):
    """What a job raises on purpose."""


def note(word: str, id_: str, pid: int) -> None:
    os.write(_journal, f"{word} {id_} {pid}\n".encode())


# Signals


@job_submitted.connect
def remember(_: Flask, job: JobInfo, args: tuple[Any, ...], **__: object) -> None:
    _ids[job.id] = args[:2]
    note(f"is:{job.id}", *args[:2])


@job_succeeded.connect
def forget(_: Flask, job: JobInfo, **__: object) -> None:
    _ids.pop(job.id)


@job_failed.connect
def note_failed(_: Flask, job: JobInfo, **__: object) -> None:
    note("failed", *_ids.pop(job.id))


@job_cancelled.connect
def note_cancelled(_: Flask, job: JobInfo, **__: object) -> None:
    note("cancelled", *_ids.pop(job.id))


# Jobs: the first two arguments are the job's id, and the pid of the server's worker


def work(id_: str, pid: int) -> str:
    note("started", id_, pid)
    time.sleep(random.uniform(0, 0.02))
    note("finished", id_, pid)
    return id_


async def work_async(id_: str, pid: int) -> str:
    note("started", id_, pid)
    await asyncio.sleep(random.uniform(0, 0.1))
    note("finished", id_, pid)
    return id_


def fail(id_: str, pid: int) -> None:
    note("started", id_, pid)
    raise JobError


def wait_for_another(id_: str, pid: int) -> str:
    note("started", id_, pid)
    _, future = submit(random.choice([work, work_async]), pid)
    future.result()
    note("finished", id_, pid)
    return id_


async def await_another(id_: str, pid: int) -> str:
    note("started", id_, pid)
    await submit_async(random.choice([work, work_async]), pid)
    note("finished", id_, pid)
    return id_


# Ways to submit


def submit(fn: Callable[[str, int], Any], pid: int) -> tuple[str, JobFuture[Any]]:
    id_ = uuid.uuid4().hex
    future = executor.submit(fn, id_, pid)
    note("accepted", id_, pid)
    return id_, future


async def submit_async(fn: Callable[[str, int], Any], pid: int) -> str:
    id_ = uuid.uuid4().hex
    future = executor.submit_async(fn, id_, pid)
    note("accepted", id_, pid)
    try:
        return await future
    except ExecutorClosed:  # It was still waiting for room.
        note("refused", id_, pid)
        raise
    except asyncio.CancelledError:
        if asyncio.current_task().cancelling():
            raise
        raise CancelledError from None  # It is the job that was: an error, to whoever waits for it.


def items(count: int, pid: int) -> Iterator[str]:
    """The ids of jobs to map over; each is asked for when the one before has been accepted."""
    for _ in range(count):
        id_ = uuid.uuid4().hex
        yield id_
        note("accepted", id_, pid)


# Views: each answers with its process id and with ids of jobs that it had accepted


@app.post("/<any(work, work_async, fail):name>")
def submit_and_forget(name: str) -> dict[str, Any]:
    pid = os.getpid()
    id_, _ = submit({"work": work, "work_async": work_async, "fail": fail}[name], pid)
    return {"pid": pid, "ids": [id_]}


@app.post("/cancel")
def submit_and_cancel() -> dict[str, Any]:
    pid = os.getpid()
    id_, future = submit(random.choice([work, work_async]), pid)
    note("unwanted", id_, pid)
    future.cancel()
    return {"pid": pid, "ids": [id_]}


@app.post("/wait")
def submit_and_wait() -> dict[str, Any]:
    pid = os.getpid()
    _, future = submit(random.choice([wait_for_another, await_another]), pid)
    return {"pid": pid, "ids": [future.result()]}


@app.post("/map")
def map_over_items() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "ids": list(executor.map(work, items(8, pid), repeat(pid)))}


@app.post("/await")
async def gather() -> dict[str, Any]:
    pid = os.getpid()
    jobs = [work, work_async, wait_for_another, await_another]
    return {"pid": pid, "ids": await asyncio.gather(*(submit_async(job, pid) for job in jobs))}


@app.post("/map-async")
async def map_over_items_async() -> dict[str, Any]:
    pid = os.getpid()
    results = executor.map_async(work_async, items(8, pid), repeat(pid))
    return {"pid": pid, "ids": [id_ async for id_ in results]}


@app.errorhandler(FlaskExecutorError)
@app.errorhandler(CancelledError)
def say_unavailable(error: BaseException) -> tuple[dict[str, Any], int]:
    """The executor is full, or is being shut down and takes no more or has cancelled a job."""
    return {"pid": os.getpid(), "error": repr(error)}, 503

"""The app that test_served_records.py has served by several processes, with one store for all.

Each view answers with the process id of its worker, which tells workers apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

from flask import Flask, request

from flask_executor import DuplicateKey, Executor, current_job
from flask_executor.exceptions import ResultNotStored, StoredError
from flask_executor.records import shared, writer

# No database is away here, only the machine may be busy.
shared._CATCH_UP = writer._SILENCE = 60.0

app = Flask(__name__)
app.config.from_prefixed_env()
# A server's log that has a traceback fails a test. This one is meant.
app.logger.addFilter(lambda record: not record.getMessage().startswith("Job fail"))
executor = Executor(app)

WAIT = 60.0


def note(line: str) -> None:
    """Add a line to the journal, at once: several processes write it."""
    journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, f"{line}\n".encode())
    os.close(journal)


def hold(key: str) -> int:
    """Wait until there is a line in the named pipe."""
    note(f"{key} started")
    current_job.progress(1, 4, "waits")
    with Path(os.environ["PIPE"]).open(encoding="utf-8") as lines:
        lines.readline()
    note(f"{key} ended")
    return os.getpid()


def until_cancelled(key: str) -> None:
    note(f"{key} started")
    while True:
        current_job.check_cancelled()
        time.sleep(0.01)


async def sleep_async(key: str) -> None:
    note(f"{key} started")
    await asyncio.sleep(3600)


def return_set(key: str) -> set[str]:
    return {key}


def return_much(key: str) -> str:
    return key + "x" * 1024 * 1024


def fail(key: str) -> None:
    raise ValueError(f"no {key}")


def fork(key: str) -> dict[str, Any]:
    """What a forked child reads of the job that has forked it, which runs."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            # Its start is written a moment later, by a thread of the parent.
            while (record := executor.records.get(key)).state == "pending":
                time.sleep(0.01)
            answer = [record.state, executor.futures.state(key), executor.futures.done(key)]
            executor.submit_stored(f"{key}-of-child", pow, 2, 5).result(WAIT)
            executor.shutdown()
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    return {"answer": answer, "child": child}


JOBS = {
    each.__name__: each
    for each in (hold, until_cancelled, sleep_async, return_set, return_much, fail, fork)
}


if "SUBMIT_EARLY" in os.environ:
    executor.submit_stored("early", hold, "early")


@app.post("/jobs/<key>")
def start(key: str) -> tuple[dict[str, Any], int]:
    options = executor.options(
        key=key,
        on_duplicate=request.args.get("on_duplicate", "raise"),
        delay=request.args.get("delay", type=float),
    )
    future = options.submit(JOBS[request.args.get("job", "hold")], key)
    if "wait" in request.args:
        wait([future], WAIT)
    return {"pid": os.getpid(), "id": future.id}, 202


@app.get("/pid")
def pid() -> dict[str, Any]:
    return {"pid": os.getpid()}


@app.get("/jobs/<key>")
def show(key: str) -> tuple[dict[str, Any], int]:
    state = executor.futures.state(key)
    progress = executor.futures.progress(key)
    done = None if progress is None else progress.done
    status = 404 if state is None else 200
    return {"pid": os.getpid(), "state": state, "progress": done}, status


@app.get("/jobs/<key>/result")
def result(key: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"pid": os.getpid()}
    try:
        value = executor.futures.result(key, WAIT)
    except ResultNotStored as error:
        return answer | {"missing": str(error)}
    except StoredError as error:
        stored = {"type": error.type, "message": error.message, "traceback": error.traceback}
        return answer | {"stored": stored}
    except ValueError as error:
        return answer | {"own": repr(error)}
    return answer | {"value": sorted(value) if isinstance(value, set) else value}


@app.get("/jobs/<key>/wait")
async def wait_async(key: str) -> dict[str, Any]:
    record = await executor.records.wait(key, WAIT)
    return {"pid": os.getpid(), "state": record.state, "owner": record.pid}


@app.get("/records/<id_>")
def record_of(id_: str) -> tuple[dict[str, Any], int]:
    record = executor.records.get(id_)
    if record is None:
        return {"state": None}, 404
    return {"state": record.state, "key": record.key, "owner": record.pid}, 200


@app.get("/counts")
def counts() -> dict[str, Any]:
    return executor.records.counts()


@app.post("/jobs/<key>/cancel")
def cancel(key: str) -> dict[str, Any]:
    return {"pid": os.getpid(), "cancelled": executor.futures.cancel(key)}


@app.post("/jobs/<key>/pop")
def pop(key: str) -> dict[str, Any]:
    state = executor.futures.state(key)
    if os.getpid() != int(request.args["not"]):
        executor.futures.pop(key)
    return {"pid": os.getpid(), "state": state}


@app.post("/fork/<key>")
def fork_plainly(key: str) -> dict[str, Any]:
    return fork(key)


@app.post("/kill/<int:pid>")
def kill(pid: int) -> dict[str, Any]:
    os.kill(pid, signal.SIGKILL)
    return {}


@app.errorhandler(DuplicateKey)
def say_taken(error: DuplicateKey) -> tuple[dict[str, Any], int]:
    return {"pid": os.getpid(), "error": str(error)}, 409

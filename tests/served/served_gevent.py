"""What test_gevent.py has served besides the views of served_app.py.

Here jobs wait at a door, a socket: to wait for a named pipe would hold up all of the process.
"""

from __future__ import annotations

import socket
from concurrent.futures import Future

from flask import g, request
from served_app import app, caller, executor

from flask_executor import Executor, JobFuture

app.config["ONE_EXECUTOR_MAX_WORKERS"] = 1
one_at_a_time = Executor(app, name="one")
ended: list[str] = []


def door() -> tuple[str, int]:
    return "127.0.0.1", int(request.args["door"])


def wait_at(door: tuple[str, int]) -> str:
    with socket.create_connection(door) as connection:
        connection.recv(1)
    return caller()


def note(future: JobFuture[str]) -> None:
    ended.append(f"{future.result()}, told to {g.user}")


@app.get("/threads")
def callers_in_threads() -> list[str]:
    return [future.result() for future in [executor.submit(caller) for _ in range(20)]]


@app.get("/await-at-door")
async def await_at_door() -> str:
    return await executor.submit_async(wait_at, door())


@app.post("/store/<key>")
def store(key: str) -> tuple[str, int]:
    executor.submit_stored(key, wait_at, door()).add_done_callback(note)
    return "OK", 202


@app.get("/ended")
def drain_and_show() -> list[str]:
    executor.drain(timeout=60)
    return ended


@app.post("/after-response")
def submit_after_response() -> str:
    return executor.options(key="after", after="response").submit(caller).state


@app.get("/await-stored")
async def await_stored_future() -> str:
    stored: Future[str] = Future()
    executor.futures.add("stored", stored)
    waiter = executor.options(key="stored", on_duplicate="return").submit_async(caller)
    executor.submit(stored.set_result, "of no job")
    return await waiter


@app.post("/one-at-a-time")
def cancel() -> dict[str, object]:
    running = one_at_a_time.submit(wait_at, door())
    waiting = one_at_a_time.submit_stored("waiting", ended.append, "a cancelled job")
    before = waiting.state
    waiting.cancel()
    return {"before": before, "after": waiting.state, "running": running.result()}


@app.post("/log")
def log_at_the_end() -> tuple[str, int]:
    executor.submit(wait_at, door()).add_done_callback(
        lambda future: app.logger.warning("ended: %s", future.result())
    )
    return "OK", 202

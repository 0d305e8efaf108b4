"""The app that test_servers.py has served: each view answers with what its jobs gave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from flask import Flask, Response, g, request

from flask_executor import Executor, JobFuture

app = Flask(__name__)
executor = Executor(app)
asgi_app = WsgiToAsgi(app)
a2wsgi_app = WSGIMiddleware(app)
sent: list[str] = []


@app.before_request
def load_user() -> None:
    g.user = request.args.get("user", "nobody")


@executor.job
def double(n: int) -> int:
    return 2 * n


def caller() -> str:
    return f"{g.user} at {request.path}"


def read(pipe: str) -> str:
    """Wait until there is a line in the named pipe."""
    with Path(pipe).open(encoding="utf-8") as lines:
        return lines.readline().strip()


def send(pipe: str) -> None:
    sent.append(f"{read(pipe)} for {caller()}")


@app.get("/result")
def result() -> str:
    return str(executor.submit(double, 5).result())


@app.get("/map")
def map_jobs() -> list[int]:
    return list(double.map(range(100)))


@app.get("/await")
async def await_function() -> str:
    return str(await executor.submit_async(double.fn, 5))


@app.get("/await-job")
async def await_job() -> str:
    return str(await double.submit_async(5))


@app.get("/gather")
async def gather() -> list[int]:
    return await asyncio.gather(*(double.submit_async(n) for n in range(100)))


@app.get("/map-async")
async def map_async() -> list[int]:
    return [value async for value in double.map_async(range(100))]


@app.get("/callers")
async def callers() -> list[str]:
    return await asyncio.gather(*(executor.submit_async(caller) for _ in range(20)))


@app.get("/stream")
def stream() -> Response:
    futures = [double.submit(n) for n in range(38)]
    futures.append(executor.submit(lambda pipe: int(read(pipe)), request.args["pipe"]))

    def generate() -> Iterator[str]:
        for future in as_completed(futures):
            yield f"{future.result()}\n"

    return Response(generate(), mimetype="text/plain")


@app.post("/forget")
def forget() -> tuple[str, int]:
    executor.submit(send, request.args["pipe"])
    return "OK", 202


@app.post("/after")
def after() -> Response:
    future = executor.options(key="after", after="response").submit(caller)

    def generate() -> Iterator[str]:
        yield f"{future.state}\n"
        yield f"{read(pipe)}: {future.state}\n"

    pipe = request.args["pipe"]
    return Response(generate(), mimetype="text/plain")


@app.get("/sent")
def show_sent() -> list[str]:
    executor.drain(timeout=10)
    return sent


@app.post("/jobs/<key>")
def start(key: str) -> tuple[str, int]:
    executor.submit_stored(key, read, request.args["pipe"])
    return "OK", 202


@app.get("/jobs/<key>/state")
def state(key: str) -> str:
    return executor.futures.state(key) or "unknown"


@app.get("/jobs/<key>/result")
async def await_stored(key: str) -> str:
    future = executor.futures.get(key)
    assert isinstance(future, JobFuture)
    return await future

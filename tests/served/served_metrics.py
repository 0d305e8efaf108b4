"""The app whose metrics test_served_metrics.py reads, from several processes."""

from __future__ import annotations

import os
import socket

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

from flask_executor import Executor, Retry, current_job
from flask_executor.metrics import instrument

app = Flask(__name__)
app.config["EXECUTOR_MAX_WORKERS"] = 2
executor = Executor(app)
instrument(executor)
instrument(executor)

if "SUBMIT_EARLY" in os.environ:  # with --preload, in the process that is forked
    executor.submit(pow, 2, 3).result()


def wait_at(host: str, port: int) -> None:
    with socket.create_connection((host, port), 60) as connection:
        connection.sendall(f"{os.getpid()}\n".encode())
        connection.recv(1)


def fail() -> None:
    raise ValueError("on purpose")


def fail_once() -> None:
    if current_job.attempt == 1:
        fail()


async def later() -> None:
    pass


JOBS = {each.__name__: each for each in (fail, fail_once, later, pow)}


@app.post("/jobs/<name>")
def submit(name: str) -> str:
    options = executor.options(retry=Retry(2, delay=0) if name == "fail_once" else None)
    args = (2, 3) if name == "pow" else ()
    options.submit(JOBS[name], *args).exception()
    return str(os.getpid())


@app.post("/held")
def submit_held() -> str:
    door = request.args["host"], int(request.args["port"])
    for _ in range(int(request.args["jobs"])):
        executor.submit(wait_at, *door)
    return str(os.getpid())


@app.get("/metrics")
def metrics() -> Response:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return Response(generate_latest(registry), mimetype="text/plain")

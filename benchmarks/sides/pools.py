"""Sides that run jobs in their own process or its children: ``pools.py SIDE WORK [NUMBER]``.

Each side opens a request, yields the round of a work and closes everything again.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from statistics import median
from typing import Any

import rounds
from flask import Flask
from rounds import WORKERS, Round, async_job, awaited, burst, gathered, job, mapped, repeated

IMPORT = "import asyncio, flask, time; begin = time.perf_counter(); import flask_executor"
CHUNKS = {"map": 100, "map-processes": 1_000, "map-processes-100": 100}
PROCESSES = {"EXECUTOR_TYPE": "process", "EXECUTOR_APP": "pools:our_app()"}
SERVED = {"ours": "pools:our_app(EXECUTOR_ASYNC_VIEWS=True)", "stock_flask": "pools:flask_app()"}


@contextmanager
def flask_executor(side: str, work: str, number: int) -> Generator[Round]:
    """Flask-Executor, ours or 1.0; the number is that of the workers or the futures kept."""
    config: dict[str, dict[str, Any]] = {
        "async-view": {"EXECUTOR_ASYNC_VIEWS": True},
        "burst": {"EXECUTOR_MAX_WORKERS": number},
        "map-processes": PROCESSES,
        "map-processes-100": PROCESSES,
        "stored": {"EXECUTOR_FUTURES_MAX_LENGTH": number},
    }
    app = our_app(**config.get(work, {}))
    executor = app.extensions["executor"]
    if (side, work) == ("ours", "metrics"):
        from flask_executor.metrics import instrument

        instrument(executor)
    submit, keys = executor.submit, count()
    stored = burst(lambda fn: executor.submit_stored(next(keys), fn))

    def total(jobs: int) -> int:
        return sum(future.result() for future in [submit(job) for _ in range(jobs)])

    def report(items: int) -> None:
        from flask_executor import current_job

        for done in range(items):
            rounds.item()
            current_job.progress(done, items)

    def track(items: int) -> None:
        from flask_executor import current_job

        for _ in current_job.track(range(items)):
            rounds.item()

    with app.test_request_context(), executor, asyncio.Runner() as runner:
        if work == "stored":
            stored(number)
        yield {
            "async-view": rounds.views(partial(request, app)),
            "burst": burst(submit),
            "coroutines": burst(submit, async_job),
            "gather": gathered(runner, lambda: executor.submit_async(job)),
            "import": import_flask_executor,
            "memory": rounds.memory(submit),
            "metrics": burst(submit),
            "one": repeated(lambda: submit(job).result()),
            "one-awaited": awaited(runner, lambda: executor.submit_async(job)),
            "progress": rounds.looped(submit, report),
            "read-back": rounds.read_back(total),
            "stored": stored,
            "track": rounds.looped(submit, track),
            **{name: mapped(executor.map, chunksize) for name, chunksize in CHUNKS.items()},
        }[work]


@contextmanager
def others(side: str, work: str, number: int) -> Generator[Round]:
    """Flask, asgiref, AnyIO and the standard library; the number is that of the threads."""
    from anyio import CapacityLimiter
    from anyio.to_thread import run_sync
    from asgiref.sync import async_to_sync, sync_to_async

    app = flask_app()
    with (
        app.test_request_context(),
        asyncio.Runner() as runner,
        ProcessPoolExecutor(WORKERS) as processes,
        ThreadPoolExecutor(number) as threads,
    ):
        loop = runner.get_loop()
        loop.set_default_executor(threads)

        def job_in_context() -> int:
            with app.app_context():
                return job()

        def run_in_loop(fn: Callable[[], Coroutine[Any, Any, int]]) -> Future[int]:
            return asyncio.run_coroutine_threadsafe(fn(), loop)

        start_asgiref = sync_to_async(job, thread_sensitive=False, executor=threads)
        start_anyio = partial(run_sync, job, limiter=CapacityLimiter(number))
        if (side, work) == ("pool", "coroutines"):
            threads.submit(loop.run_forever)
        yield {
            ("anyio", "gather"): gathered(runner, start_anyio),
            ("asgiref", "coroutines"): repeated(async_to_sync(async_job)),
            ("asgiref", "gather"): gathered(runner, start_asgiref),
            ("pool", "burst"): burst(threads.submit, job_in_context),
            ("pool", "coroutines"): burst(run_in_loop, async_job),
            ("pool", "gather"): gathered(runner, partial(loop.run_in_executor, threads, job)),
            ("pool", "map"): mapped(threads.map, CHUNKS["map"]),
            ("pool", "map-processes"): mapped(processes.map, CHUNKS["map-processes"]),
            ("pool", "map-processes-100"): mapped(processes.map, CHUNKS["map-processes-100"]),
            ("pool", "memory"): rounds.memory(threads.submit, job_in_context),
            ("pool", "progress"): rounds.looped(threads.submit, rounds.loop),
            ("pool", "track"): rounds.looped(threads.submit, rounds.loop),
            ("pool", "one"): repeated(lambda: threads.submit(job).result()),
            ("stock_flask", "async-view"): rounds.views(partial(request, app)),
            ("to_thread", "gather"): gathered(runner, partial(asyncio.to_thread, job)),
            ("to_thread", "one-awaited"): awaited(runner, partial(asyncio.to_thread, job)),
        }[side, work]
        if loop.is_running():
            loop.call_soon_threadsafe(loop.stop)


def import_flask_executor(times: int) -> float:
    """Import Flask-Executor in so many new processes; the median of the seconds."""
    # -E: with PYTHONDONTWRITEBYTECODE, each process would compile the package again.
    # -P: the package is that of the environment, not that of the current folder.
    command = [sys.executable, "-E", "-P", "-c", f"{IMPORT}; print(time.perf_counter() - begin)"]
    return median(float(subprocess.check_output(command)) for _ in range(times))


def request(app: Flask, path: str, times: int) -> None:
    """Request a path with Flask's test client."""
    client = app.test_client()
    for _ in range(times):
        client.get(path)


def our_app(**config: Any) -> Flask:
    """Make an app with an executor."""
    from flask_executor import Executor

    app = flask_app()
    app.config.update({"EXECUTOR_MAX_WORKERS": WORKERS} | config)
    Executor(app)
    return app


def flask_app() -> Flask:
    """Make an app with a sync view and an async view."""
    app = Flask(__name__)
    app.add_url_rule("/sync", "sync", lambda: "")

    @app.get("/async")
    async def async_view() -> str:
        return ""

    return app


if __name__ == "__main__":
    side, work, number = (*sys.argv[1:], WORKERS)[:3]
    if work == "async-view-served":
        chosen = rounds.served(SERVED[side])
    elif side in {"ours", "unmetered", "flask_executor_1"}:
        chosen = flask_executor(side, work, int(number))
    else:
        chosen = others(side, work, int(number))
    with chosen as take_round:
        rounds.serve(take_round)

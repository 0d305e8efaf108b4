"""A small app with jobs. Its page shows the code of each view and lets you call it.

``make run`` serves it on http://127.0.0.1:5000.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from contextlib import aclosing
from itertools import count
from time import sleep
from typing import Any

from flask import Flask, Response, abort, g, render_template, request, url_for

from flask_executor import DuplicateKey, Executor, JobFuture, current_job

app = Flask(__name__)
app.config["REPORTS_EXECUTOR_MAX_WORKERS"] = 1

executor = Executor(app)
# Slow jobs have an executor of their own: quick ones need not wait behind them.
reports = Executor(app, name="reports")

# What jobs share must be safe from any thread, as a deque's append and copy are.
outbox: deque[str] = deque(maxlen=5)


@app.before_request
def load_user() -> None:
    """Stand for a login: who asks is in the query."""
    g.user = request.args.get("user", "Ada")


@executor.job
def fib(n: int) -> int:
    """Called, it is the plain function; decorated, it can also submit itself."""
    sleep(0.05)
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def send_welcome() -> None:
    """A job reads g and request as its view does, even when the response has long gone."""
    sleep(1)
    home = url_for("index", _external=True)
    outbox.append(f"Welcome, {g.user}! Sign in at {home}")


@reports.job
def build_report(month: str) -> str:
    """A thread cannot be stopped from outside: a long job asks now and then whether it should."""
    for page in range(1, 11):
        if current_job.cancel_requested:
            raise RuntimeError(f"stopped before page {page}")
        sleep(0.5)
    return f"The report of {month}, 10 pages for {g.user}"


@app.post("/welcome")
def welcome() -> tuple[str, int]:
    """Submit and forget: the answer does not wait for the mail, which takes a second."""
    executor.submit(send_welcome)
    return "Your mail is on its way.", 202


@app.get("/outbox")
def show_outbox() -> list[str]:
    """What the jobs of the view above have done by now."""
    return list(outbox.copy())


@app.get("/result")
def result() -> str:
    """Wait for a job: submit returns a concurrent.futures.Future."""
    future = executor.submit(fib, 5)
    return str(future.result())


@app.get("/job")
def job() -> str:
    """Submit a decorated function, and wait a second at most."""
    future = fib.submit(5)
    value = future.result(timeout=1)
    return f"Job {future.id}, {future.name}(5), gave {value}"


@app.get("/stream")
def stream() -> Response:
    """Send each of 39 results as soon as it is there."""
    futures = [executor.submit(fib, n) for n in range(1, 40)]

    def generate() -> Iterator[str]:
        for future in as_completed(futures):
            yield f"{future.result()}\n"

    return Response(generate(), mimetype="text/plain")


@app.get("/map")
def map_jobs() -> list[int]:
    """One job for each item; the results are in the order of the items."""
    return list(fib.map(range(1, 13)))


@app.get("/await")
async def await_function() -> str:
    """Await a plain function, which runs in a thread, from an async view."""
    return str(await executor.submit_async(fib, 5))


@app.get("/await-job")
async def await_job() -> str:
    """Await a decorated function."""
    return str(await fib.submit_async(5))


@app.get("/gather")
async def gather() -> list[int]:
    """Await several jobs at once: each one starts when it is submitted."""
    futures = [fib.submit_async(n) for n in range(1, 13)]
    return await asyncio.gather(*futures)


@app.get("/map-async")
async def map_async() -> list[int]:
    """Take results one by one, also of endless items. The end of the block cancels what is left."""
    limit, small = 1000, []
    async with aclosing(fib.map_async(count(1))) as values:
        async for value in values:
            if value > limit:
                break
            small.append(value)
    return small


@app.get("/stats")
def stats() -> dict[str, Any]:
    """How the executors are doing."""
    return {
        "executor": executor.stats(),
        "reports": reports.stats(),
    }


@app.post("/reports/<month>")
def start_report(month: str) -> tuple[dict[str, str], int]:
    """Store the future under a key, for later requests to find. A key that is taken is refused."""
    try:
        reports.submit_stored(month, build_report, month)
    except DuplicateKey as error:
        return {"error": str(error)}, 409
    return show_report(month), 202


@app.get("/reports/<month>")
def show_report(month: str) -> dict[str, str]:
    """Look a job up by its key. A future lives in the process that made it, and ends with it."""
    future = reports.futures.get(month)
    if not isinstance(future, JobFuture):
        abort(404)
    state = future.state
    if state == "succeeded":
        return {"state": state, "result": future.result()}
    if state == "failed":
        return {"state": state, "error": str(future.exception())}
    return {"state": state}


@app.post("/reports/<month>/cancel")
def cancel_report(month: str) -> dict[str, str]:
    """Cancel a job that waits for a worker; ask one that runs to stop."""
    reports.futures.cancel(month)
    return show_report(month)


@app.delete("/reports/<month>")
def forget_report(month: str) -> tuple[str, int]:
    """Take the future out, so that its key is free again."""
    future = reports.futures.pop(month)
    if future is not None:
        future.cancel()
    return "", 204


@app.get("/")
def index() -> str:
    """Show the page: the functions above with their code, and a button for each view."""
    return render_template(
        "async_app.html",
        describe=describe,
        jobs=[fib, send_welcome, build_report],
        views=[welcome, show_outbox, result, job, stream, map_jobs],
        async_views=[await_function, await_job, gather, map_async],
        report_views=[start_report, show_report, cancel_report, forget_report],
        stats=stats,
    )


def describe(function: Callable[..., Any]) -> dict[str, str]:
    """Return what the page shows of a job or a view."""
    name, doc = function.__name__, function.__doc__ or ""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint == name]
    return {
        "doc": doc,
        "code": inspect.getsource(function).replace(f'    """{doc}"""\n', ""),
        "path": rules[0].rule if rules else "",
        "method": "POST" if rules and "POST" in (rules[0].methods or ()) else "GET",
    }

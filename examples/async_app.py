"""A small app with jobs. Its page shows the code of each view and lets you call it.

``make run`` serves it on http://127.0.0.1:5000. Without make::

    pip install '.[store]'
    flask --app examples/async_app run
"""

import asyncio
import inspect
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, wait
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import count
from math import isqrt
from pathlib import Path
from threading import BoundedSemaphore
from time import sleep
from typing import Any

from flask import Flask, Response, abort, g, render_template, request

from flask_executor import DuplicateKey, Executor, JobInfo, current_job, job_submitted
from flask_executor.board import board
from flask_executor.records import JobRecord

# Every server process finds every job in this database, also after a restart.
STORE = "sqlite:///jobs.db"  # in the instance folder

app = Flask(__name__)
app.config.update(
    SECRET_KEY="change me",  # signs the session, which protects the buttons of the board
    EXECUTOR_MAX_WORKERS=4,
    EXECUTOR_STORE=STORE,
    EXECUTOR_STORE_RECORDS="all",
    PROCESSES_EXECUTOR_TYPE="process",
    PROCESSES_EXECUTOR_MP_CONTEXT="spawn",
    PROCESSES_EXECUTOR_MAX_WORKERS=2,
    PROCESSES_EXECUTOR_STORE=STORE,
    PROCESSES_EXECUTOR_STORE_RECORDS="all",
    REPORTS_EXECUTOR_MAX_WORKERS=1,
    REPORTS_EXECUTOR_STORE=STORE,
    LOG_FILE="jobs.log",  # in the instance folder, too
)
app.config.from_prefixed_env()  # FLASK_EXECUTOR_MAX_WORKERS=8 sets another number

executor = Executor(app)
# The same jobs can run in other processes, which compute at the same time.
processes = Executor(app, name="processes")
# Slow jobs have an executor of their own: quick ones need not wait behind them.
reports = Executor(app, name="reports")

# What jobs share must be safe from any thread, as a deque's append and copy are.
outbox: deque[str] = deque(maxlen=5)

# An open stream keeps a thread of the server, which may have no more than two.
streams = BoundedSemaphore(1)

# All processes of the server write this file, so that each one can show it.
log_file = Path(app.instance_path, app.config["LOG_FILE"])
log_file.parent.mkdir(parents=True, exist_ok=True)
app.logger.addHandler(logging.FileHandler(log_file, encoding="utf-8"))


def may_see_jobs() -> bool:
    """Allow all to look at the board, to cancel and to forget. An app with users asks who it is."""
    return True


# A page with all jobs, their times and errors.
app.register_blueprint(
    board(executor, processes, reports, authorize=may_see_jobs), url_prefix="/jobs"
)


@app.before_request
def load_user() -> None:
    """Stand for a login: who asks is in the query."""
    g.user = request.args.get("user", "Ada")


def chosen_executor() -> Executor:
    """Do what the switch of the page says: /gather?on=processes."""
    return processes if request.args.get("on") == "processes" else executor


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
    home = request.url_root
    outbox.append(f"Welcome, {g.user}! Sign in at {home}")


def send_newsletter() -> None:
    """A job that fails. Nobody waits for it, so the log says it."""
    sleep(0.2)
    raise ConnectionError("The mail server does not answer.")


def count_primes(start: int, stop: int) -> int:
    """A job that computes. Threads of Python take turns at that; processes do not."""
    numbers = range(start, stop)
    return sum(all(n % d for d in range(2, isqrt(n) + 1)) for n in numbers)


@reports.job
def build_report(month: str) -> str:
    """A long job says how far it is, and stops itself: nobody can stop a thread from outside."""
    for _ in current_job.track(range(10), message="pages drawn"):
        current_job.check_cancelled()
        sleep(0.5)
    return f"The report of {month}, 10 pages for {g.user}"


@app.post("/welcome")
def welcome() -> tuple[str, int]:
    """Submit and forget: the answer does not wait for the mail, which takes a second."""
    chosen_executor().submit(send_welcome)
    return "Your mail is on its way.", 202


@app.get("/outbox")
def show_outbox() -> list[str]:
    """What the jobs of the view above have done by now."""
    return list(outbox.copy())


@app.post("/newsletter")
def newsletter() -> tuple[str, int]:
    """Submit a job that fails: the answer is there before, and the log says what happened."""
    chosen_executor().submit(send_newsletter)
    return "The newsletter is on its way.", 202


@app.get("/log")
def show_log() -> list[str]:
    """The last lines of the log."""
    with log_file.open(encoding="utf-8") as lines:
        return list(deque(lines, maxlen=100))


@app.get("/result")
def result() -> str:
    """Wait for a job: submit returns a concurrent.futures.Future."""
    future = chosen_executor().submit(fib, 5)
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
    futures = [chosen_executor().submit(fib, n) for n in range(1, 40)]

    def generate() -> Iterator[str]:
        for future in as_completed(futures):
            yield f"{future.result()}\n"

    return Response(generate(), mimetype="text/plain")


@app.get("/map")
def map_jobs() -> list[int]:
    """One job for each item; the results are in the order of the items."""
    return list(chosen_executor().map(fib, range(1, 13)))


@app.get("/primes")
def primes() -> str:
    """Compute in four jobs. Compare the time of threads with that of processes."""
    starts = range(2, 80_000, 20_000)
    stops = [start + 20_000 for start in starts]
    found = chosen_executor().map(count_primes, starts, stops)
    return f"{sum(found)} primes"


@app.get("/await")
async def await_function() -> str:
    """Await a plain function, which runs in a thread, from an async view."""
    return str(await chosen_executor().submit_async(fib, 5))


@app.get("/await-job")
async def await_job() -> str:
    """Await a decorated function."""
    return str(await fib.submit_async(5))


@app.get("/gather")
async def gather() -> list[int]:
    """Await several jobs at once: each one starts when it is submitted."""
    futures = [chosen_executor().submit_async(fib, n) for n in range(1, 13)]
    return await asyncio.gather(*futures)


@app.get("/map-async")
async def map_async() -> list[int]:
    """Take results one by one, also of endless items. The end of the block cancels what is left."""
    limit, small = 1000, []
    async with aclosing(chosen_executor().map_async(fib, count(1))) as values:
        async for value in values:
            if value > limit:
                break
            small.append(value)
    return small


@app.get("/stats")
def stats() -> dict[str, Any]:
    """How the executors of this process are doing."""
    return {
        "executor": executor.stats(),
        "processes": processes.stats(),
        "reports": reports.stats(),
    }


@app.get("/counts")
def counts() -> dict[str, int]:
    """How many jobs all processes of the server have had, in each state, since yesterday."""
    total: Counter[str] = Counter()
    for one in (executor, processes, reports):
        total.update(one.records.counts())
    return total


@app.post("/reports/<month>")
def start_report(month: str) -> tuple[dict[str, Any], int]:
    """Submit a job with a key. No two processes build the same report at the same time."""
    options = reports.options(key=month, on_duplicate="replace")
    try:
        options.submit(build_report, month)
    except DuplicateKey:
        return {"error": "This report is being built already."}, 409
    return show_report(month), 202


@app.get("/reports")
def list_reports() -> list[dict[str, Any]]:
    """List the jobs of all processes. The page asks again while a report is being built."""
    return [as_json(record) for record in reports.records.list(limit=20)]


@app.get("/reports/<key_or_id>")
def show_report(key_or_id: str) -> dict[str, Any]:
    """Look a job up, whichever process runs it."""
    record = reports.records.get(key_or_id)
    if record is None:
        abort(404)
    return as_json(record)


@app.post("/reports/<key_or_id>/cancel")
def cancel_report(key_or_id: str) -> dict[str, Any]:
    """Cancel a job that waits for a worker; ask one that runs to stop."""
    reports.records.cancel(key_or_id)
    return show_report(key_or_id)


@app.delete("/reports/<key_or_id>")
def forget_report(key_or_id: str) -> tuple[str | dict[str, str], int]:
    """Delete the record of a job that has ended."""
    if reports.records.forget(key_or_id) is False:
        return {"error": "This report is being built. Cancel it first."}, 409
    return "", 204


def as_json(record: JobRecord) -> dict[str, Any]:
    """Choose what the page may know of a job."""
    return {
        "id": record.id,
        "month": record.key,
        "state": record.state,
        "progress": record.progress and record.progress.as_dict(),
        "result": record.result,
        "error": record.error and record.error.message,
    }


@app.get("/reports/<month>/events")
def report_events(month: str) -> Response:
    """Push how far a report is until it has ended, for ten seconds at most; then ask again."""
    future = reports.futures.get(month)
    if future is None:
        abort(404)
    if not has_threads() or not streams.acquire(blocking=False):
        abort(503, "There is no thread for a stream. Poll instead.")

    def events() -> Iterator[str]:
        for _ in range(20):
            record = reports.records.get(month)
            if record is None:
                return
            yield f"data: {app.json.dumps(as_json(record))}\n\n"
            if record.is_ended:
                return
            wait([future], timeout=0.5)

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    response = Response(events(), mimetype="text/event-stream", headers=headers)
    response.call_on_close(streams.release)
    return response


def has_threads() -> bool:
    """Whether the server can answer other requests while it streams.

    asgiref's WsgiToAsgi cannot, though it says so. Unlike servers, it does not give its name.
    """
    return request.environ["wsgi.multithread"] and "SERVER_SOFTWARE" in request.environ


@job_submitted.connect_via(app)
def note_job(_sender: Flask, job: JobInfo, **_values: Any) -> None:
    """Remember which jobs a request has submitted. Signals follow all jobs of the app."""
    g.setdefault("job_ids", []).append(job.id)


@app.after_request
def name_jobs(response: Response) -> Response:
    """Tell the page the ids of these jobs, for the picture below the button."""
    if "job_ids" in g:
        response.headers["X-Jobs"] = " ".join(g.job_ids)
    return response


@app.post("/timeline")
def timeline() -> list[dict[str, Any]]:
    """Tell when each job ran. The ids are a form: as a query, they would fill the log."""
    records = [find_record(job_id) for job_id in request.form.getlist("job")]
    return [as_bar(record) for record in records if record is not None]


def find_record(job_id: str) -> JobRecord | None:
    """Look a job up: its record is there for every process of the server."""
    return executor.records.get(job_id) or processes.records.get(job_id)


def as_bar(record: JobRecord) -> dict[str, Any]:
    """Choose what the page draws of a job. A job that runs has run until now."""
    ended = record.ended_at or datetime.now(UTC)
    return {
        "id": record.id,
        "name": record.name,
        "state": record.state,
        "submitted": record.submitted_at.timestamp(),
        "started": record.started_at and record.started_at.timestamp(),
        "ended": ended.timestamp(),
        "error": record.error and record.error.type,
    }


@app.get("/")
def index() -> str:
    """Show the page: a button for each view, beside it the code of the view and of its job."""
    return render_template(
        "async_app.html",
        describe=describe,
        fan_out=(gather, fib),
        failing=[(newsletter, send_newsletter), (show_log, None)],
        computing=[(primes, count_primes)],
        views=[
            (welcome, send_welcome),
            (show_outbox, None),
            (result, fib),
            (job, fib),
            (stream, fib),
            (map_jobs, fib),
        ],
        async_views=[(await_function, fib), (await_job, fib), (map_async, fib)],
        build_report=build_report,
        report_functions=[
            start_report,
            list_reports,
            show_report,
            cancel_report,
            forget_report,
            as_json,
            report_events,
            has_threads,
        ],
        page_functions=[chosen_executor, note_job, name_jobs, timeline, find_record, as_bar],
        count_views=[(stats, None), (counts, None)],
    )


def describe(function: Callable[..., Any]) -> dict[str, str]:
    """Return what the page shows of a job or a view."""
    name, doc = function.__name__, function.__doc__ or ""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint == name]
    return {
        "name": name,
        "doc": doc,
        "code": re.sub(r' +""".*?"""\n+', "", inspect.getsource(function), flags=re.DOTALL),
        "path": rules[0].rule if rules else "",
        "method": "POST" if rules and "POST" in (rules[0].methods or ()) else "GET",
    }

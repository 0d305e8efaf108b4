"""An app with a board, and a store that has the records of a busy hour. None of its jobs has run.

``BUSY_HOUR_STORE=sqlite:////tmp/jobs.db flask --app busy_hour run`` serves it.
"""

from __future__ import annotations

import json
import os
import random
import time
from datetime import UTC, datetime
from typing import Any

from flask import Flask
from sqlalchemy import create_engine, insert

from flask_executor import Executor
from flask_executor.board import board
from flask_executor.jobs.ids import id_of
from flask_executor.jobs.progress import Progress
from flask_executor.records.schema import JOBS, PROCESSES

HOUR = 3600.0
ALIVE = 365 * 24 * HOUR  # The processes of this hour never look gone.

# Names of jobs, each with the seconds that it runs in the median, and how often there is one.
WORKS = {
    "": [("import_rows", 22.0, 3), ("make_thumbnail", 1.2, 6), ("rebuild_search_index", 70.0, 1)],
    "mail": [("send_welcome", 2.5, 6), ("send_invoice", 6.0, 3)],
    "reports": [("build_report", 35.0, 3), ("close_month", 120.0, 1)],
}
# Workers of each process, and the pause between two jobs in the mean.
WORKERS = {"": 2, "mail": 1, "reports": 1}
PAUSES = {"": 9.0, "mail": 5.0, "reports": 14.0}
PLACES = [("web-1", 4711), ("web-1", 4712), ("web-2", 388)]

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/jobs.py", line 41, in send_invoice
    server.send_message(message)
  File "/usr/lib/python3.13/smtplib.py", line 978, in send_message
    return self.sendmail(from_addr, to_addrs, flatmsg, mail_options, rcpt_options)
  File "/usr/lib/python3.13/smtplib.py", line 887, in sendmail
    raise SMTPRecipientsRefused(senderrs)
"""
ERRORS = [
    ("ConnectionRefusedError", "[Errno 111] Connection refused"),
    ("ValueError", "line 1,204: 'n/a' is no price"),
    ("TimeoutError", "the mail server did not answer within 30 s"),
]
LONG_KEY = "tenants/northern-warehouse/reports/2026/quarterly/inventory-and-returns/" + "part-" * 9
HOSTILE_NAME = "<script>alert('job')</script>"
HOSTILE_KEY = "exports/\N{RIGHT-TO-LEFT OVERRIDE}fdp.exe"


def make_app() -> Flask:
    """Return the app; its records are made if the store has none."""
    app = Flask("busy_hour")
    app.secret_key = "a secret"
    store = os.environ["BUSY_HOUR_STORE"]
    app.config |= {f"{name}_EXECUTOR_STORE".lstrip("_").upper(): store for name in WORKS}
    first, *others = (Executor(app, name=name) for name in WORKS)
    app.register_blueprint(board(first, *others, authorize=lambda: True), url_prefix="/jobs")
    with app.app_context():
        if not any(executor.records.list(limit=1) for executor in (first, *others)):
            write(store, records_of(time.time()))
    return app


def records_of(now: float) -> list[dict[str, Any]]:
    """Make the rows of all jobs that were submitted in the hour before *now*."""
    chance = random.Random(7)
    rows: list[dict[str, Any]] = []
    for host, pid in PLACES:
        for executor, workers in WORKERS.items():
            for _ in range(workers):
                rows += _of_worker(chance, executor, host, pid, now)
    rows += [_waiting(chance, number, now) for number in range(5)]
    rows.append(_lost(now))
    rows[-8]["key"] = json.dumps(LONG_KEY)
    rows[-9] |= {"name": HOSTILE_NAME, "key": json.dumps(HOSTILE_KEY)}
    for number, row in enumerate(rows):
        row["id"] = id_of(int(row["submitted_at"] * 1e9), number * 16)
    return rows


def write(url: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows, and the processes that have the jobs, into a store that has its tables."""
    engine = create_engine(url)
    seen_at = time.time() + ALIVE
    processes = [
        {"process": f"{host}:{pid}", "host": host, "pid": pid, "seen_at": seen_at}
        for host, pid in PLACES
    ]
    with engine.begin() as connection:
        connection.execute(insert(JOBS), rows)
        connection.execute(insert(PROCESSES), processes)
    engine.dispose()


def _row(executor: str, name: str, host: str, pid: int, submitted_at: float) -> dict[str, Any]:
    columns = {column.name: None for column in JOBS.columns}
    return columns | {
        "app": "busy_hour",
        "executor": executor,
        "name": name,
        "key": json.dumps(f"{name.rpartition('_')[2]}/{int(submitted_at * 10) % 100_000}"),
        "state": "pending",
        "attempt": 1,
        "submitted_at": submitted_at,
        "host": host,
        "pid": pid,
        "process": f"{host}:{pid}",
    }


def _of_worker(
    chance: random.Random, executor: str, host: str, pid: int, now: float
) -> list[dict[str, Any]]:
    """The jobs that one worker ran, one after the other; it runs the last one now."""
    rows = []
    names, medians, weights = zip(*WORKS[executor], strict=True)
    at = now - HOUR
    while at < now:
        [(name, typical)] = chance.choices(list(zip(names, medians, strict=True)), weights)
        is_rush = 1500 < now - at < 2400  # noqa: PLR2004 - some minutes in the middle
        waited = chance.expovariate(1.5) * (6 if is_rush else 1)
        started = at + chance.expovariate(1 / PAUSES[executor])
        ended = started + typical * chance.lognormvariate(0, 0.5)
        if started >= now:
            break
        row = _row(executor, name, host, pid, started - waited)
        row["started_at"] = started
        rows.append(row)
        if ended < now:
            row |= _outcome(chance, name, ended)
        else:
            row["state"] = "running"
            row["progress"] = _progress(chance, name, started, now)
        at = ended
    return rows


def _outcome(chance: random.Random, name: str, ended: float) -> dict[str, Any]:
    state = chance.choices(["succeeded", "failed", "cancelled"], [91, 7, 2])[0]
    found: dict[str, Any] = {"state": state, "ended_at": ended}
    if state == "succeeded":
        found["result"] = json.dumps({"job": name, "rows": chance.randrange(9000), "warnings": []})
    if state == "failed":
        type_, message = chance.choice(ERRORS)
        found |= {
            "error_type": type_,
            "error_message": message,
            "error_traceback": f"{TRACEBACK}{type_}: {message}\n",
            "attempt": chance.choice([1, 1, 3]),
        }
    return found


def _progress(chance: random.Random, name: str, started: float, now: float) -> str | None:
    if name.startswith("send"):
        return None
    done = chance.randrange(900, 8000)
    total = None if name == "rebuild_search_index" else 9000
    return _report(done, total, started, now)


def _waiting(chance: random.Random, number: int, now: float) -> dict[str, Any]:
    host, pid = PLACES[number % 3]
    return _row("reports", "build_report", host, pid, now - chance.uniform(5, 90))


def _lost(now: float) -> dict[str, Any]:
    """A job whose process has been killed."""
    return _row("", "import_rows", "web-2", 301, now - 420) | {
        "state": "running",
        "started_at": now - 410,
        "progress": _report(310, 9000, now - 410, now - 290),
    }


def _report(done: int, total: int | None, started: float, updated: float) -> str:
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (started, updated))
    rate = done / max(1.0, updated - started)
    report = Progress(done, total, "rows", started_at=begin, updated_at=end, rate=rate)
    return json.dumps(report.as_dict())

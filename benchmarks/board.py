"""How long the page of all jobs takes, with many records in SQLite; prints some tables.

The last one says when a browser, Chromium, shows something of the page, and of one with a word.

Run it in the environment of the tests: ``.venv/bin/python benchmarks/board.py``.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import click
from flask import Flask
from playwright.sync_api import sync_playwright
from sqlalchemy import create_engine, insert
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_executor import Executor
from flask_executor.board import board
from flask_executor.jobs.ids import id_of
from flask_executor.records.schema import JOBS

PATHS = ["", "?state=failed", "?key=report-5", "?key=none", "?name=report", "api/jobs", "api/stats"]
ROUNDS, AT_ONCE = 20, 5000
FIRST_PAINT = """
new Promise(resolve => new PerformanceObserver(entries => {
  for (const entry of entries.getEntriesByName("first-contentful-paint")) resolve(entry.startTime);
}).observe({ type: "paint", buffered: true }))
"""


@click.command(help=__doc__)
@click.option("--rows", default=100_000, help="Jobs that have ended within the last hour.")
def main(*, rows: int) -> None:
    """Measure and print it."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/jobs.db"
        app = Flask("board")
        app.config.update(EXECUTOR_STORE=url, SECRET_KEY="secret")
        executor = Executor(app)
        app.register_blueprint(board(executor, authorize=lambda: True), url_prefix="/jobs")
        app.add_url_rule("/word", view_func=lambda: "<!doctype html><p>Jobs</p>")
        executor.records.counts()  # makes the tables
        fill(url, rows)
        client = app.test_client()
        print("| first page of the process | ms | CPU ms |\n|---|---|---|")
        first = measure(client, "")
        print(f"| /jobs/ | {first[0]:.0f} | {first[1]:.0f} |\n")
        print("| median of the next | ms | CPU ms |\n|---|---|---|")
        for path in PATHS:
            taken = [measure(client, path) for _ in range(ROUNDS)]
            wall, cpu = (median(each) for each in zip(*taken, strict=True))
            print(f"| /jobs/{path} | {wall:.0f} | {cpu:.0f} |")
        with served(app) as address:
            paints = {path: first_paints(f"{address}{path}") for path in ("/word", "/jobs/")}
        print(f"\n| first paint, {ROUNDS} times | least, ms | median, ms |\n|---|---|---|")
        for path, times in paints.items():
            print(f"| {path} | {min(times):.0f} | {median(times):.0f} |")


class Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log_request(self, *_: object) -> None:
        """Do nothing."""


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an app in a thread of this process; gives its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()


def first_paints(url: str) -> list[float]:
    """Milliseconds until a browser with an empty cache shows something, each time."""
    paints = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"))
        for _ in range(ROUNDS):
            with browser.new_context() as context:
                page = context.new_page()
                page.goto(url)
                paints.append(page.evaluate(FIRST_PAINT))
                page.goto("about:blank")  # ends the stream
        browser.close()
    return paints


def fill(url: str, rows: int) -> None:
    """Write the records of jobs that were submitted evenly over the last hour."""
    now = time.time()
    found: list[dict[str, Any]] = []
    for number in range(rows):
        submitted_at = now - 3500 * (1 - number / rows)
        started_at = submitted_at + random.expovariate(1)
        found.append(
            {
                "id": id_of(int(submitted_at * 1e9), number * 16),
                "app": "board",
                "executor": "",
                "key": f'"report-{number}"',
                "name": random.choice(["report", "mail", "thumbnail"]),
                "state": random.choices(["succeeded", "failed", "cancelled"], [90, 8, 2])[0],
                "attempt": 1,
                "submitted_at": submitted_at,
                "started_at": started_at,
                "ended_at": started_at + random.expovariate(0.5),
                "result": '"done"',
                "host": "host",
                "pid": number % 4,
                "process": "none",
            }
        )
    engine = create_engine(url)
    with engine.begin() as connection:
        for start in range(0, rows, AT_ONCE):
            connection.execute(insert(JOBS), found[start : start + AT_ONCE])
    engine.dispose()


def measure(client: Any, path: str) -> tuple[float, float]:
    """Milliseconds that a request takes, and those of the processor."""
    begin, cpu = time.perf_counter(), time.process_time()
    response = client.get(f"/jobs/{path}")
    taken = 1000 * (time.perf_counter() - begin), 1000 * (time.process_time() - cpu)
    if response.status != "200 OK":
        raise click.ClickException(response.text)
    return taken


if __name__ == "__main__":
    main()

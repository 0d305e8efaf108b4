"""What the records of jobs cost; prints one table.

Run it in the environment of the tests: ``.venv/bin/python benchmarks/records.py [URL ...]``. Each
URL is a database to compare, such as ``postgresql://user:password@host/name``; SQLite always is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
import uuid
from statistics import median
from typing import Any

import click
from flask import Flask
from sqlalchemy import create_engine, text

from flask_executor import Executor
from flask_executor.records.engine import make_engine

ROUNDS, JOBS = 7, 300


@click.command(help=__doc__)
@click.option("--rows", default=1_000_000, help="Records in the table that look-ups are made in.")
@click.option("--away", default=60, help="Seconds that the database is away.")
@click.argument("urls", nargs=-1)
def main(*, rows: int, away: int, urls: tuple[str, ...]) -> None:
    """Measure everything and print it."""
    with tempfile.TemporaryDirectory() as folder:
        sqlite = f"sqlite:///{folder}/jobs.db"
        print("submit_stored, one job after the other: median µs; how much more than without a")
        print("store; and what the driver alone takes for an INSERT and its commit")
        stored(None, *(url for url in (sqlite, *urls)))
        recorded(sqlite)
        look_up(f"sqlite:///{folder}/many.db", rows)
        memory(f"{folder}/away.db", away)


def job() -> int:
    """Do nothing."""
    return 1


def made(**config: Any) -> tuple[Flask, Executor]:
    """Make an app with an executor."""
    app = Flask("records")
    app.config.update({f"EXECUTOR_{key.upper()}": value for key, value in config.items()})
    return app, Executor(app)


def stored(*urls: str | None) -> None:
    """Compare the cost of `submit_stored`; the databases take turns."""
    executors = [made(store=url)[1] for url in urls]
    costs: list[list[float]] = [[] for _ in urls]
    floors: list[list[float]] = [[] for _ in urls]
    for _ in range(ROUNDS):
        for url, executor, its_costs, its_floors in zip(
            urls, executors, costs, floors, strict=True
        ):
            begin = time.perf_counter()
            for _ in range(JOBS):
                executor.submit_stored(uuid.uuid4().hex, job)
            its_costs.append((time.perf_counter() - begin) / JOBS * 1e6)
            executor.drain()
            if url is not None:
                its_floors.extend(bare(url))
    base = median(costs[0])
    for url, its_costs, its_floors in zip(urls, costs, floors, strict=True):
        name = "no store" if url is None else url.partition(":")[0]
        floor = f"{median(its_floors):8.0f}" if its_floors else ""
        print(f"  {name:12}{median(its_costs):8.0f}{median(its_costs) - base:+8.0f}{floor}")


def bare(url: str) -> list[float]:
    """Time inserts into a table with two indexes by the driver alone, each in its transaction."""
    engine = make_engine(url, "")
    mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
    columns = "id VARCHAR(36) PRIMARY KEY, claim VARCHAR(64) UNIQUE"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE IF NOT EXISTS bare ({columns})"))
    costs = []
    connection = engine.raw_connection()
    cursor = connection.cursor()
    for _ in range(JOBS):
        values = (uuid.uuid4().hex, uuid.uuid4().hex)
        begin = time.perf_counter()
        cursor.execute(f"INSERT INTO bare VALUES ({mark}, {mark})", values)
        connection.commit()
        costs.append((time.perf_counter() - begin) * 1e6)
    connection.close()
    engine.dispose()
    return costs


def recorded(url: str, jobs: int = 50_000) -> None:
    """Record every job of a burst, and count the records."""
    _, executor = made(store=url, store_records="all")
    begin = time.perf_counter()
    for _ in range(jobs):
        executor.submit(job)
    executor.drain()
    drained = time.perf_counter() - begin
    while executor.records.counts()["succeeded"] < jobs:
        time.sleep(0.01)
    written = time.perf_counter() - begin
    print(f"{jobs:,} jobs, all recorded: {jobs / drained:,.0f} run a second, ", end="")
    print(f"{jobs / written:,.0f} written a second")


def look_up(url: str, rows: int) -> None:
    """Look records up in a table of so many rows."""
    _, executor = made(store=url, futures_max_length=1)
    for number in range(200):
        executor.submit_stored(f"key-{number}", job)
    executor.drain()
    executor.records.counts()
    with create_engine(url).begin() as connection:
        columns = [
            row[1] for row in connection.execute(text("PRAGMA table_info(flask_executor_jobs)"))
        ]
        copied = ", ".join(
            {"id": "printf('%08x-%s', n, id)", "claim": "NULL"}.get(each, each) for each in columns
        )
        connection.execute(
            text(
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
                f"WHERE n < {rows // 200}) INSERT INTO flask_executor_jobs ({', '.join(columns)}) "
                f"SELECT {copied} FROM flask_executor_jobs, numbers"
            )
        )
    begin = time.perf_counter()
    for number in range(200):
        assert executor.records.get(f"key-{number}") is not None
    print(f"records.get with {rows:,} rows: {(time.perf_counter() - begin) / 200 * 1e6:.0f} µs")


def memory(path: str, seconds: int) -> None:
    """Submit jobs with keys while SQLite is locked, and see how memory grows."""
    _, executor = made(store=f"sqlite:///{path}", futures_max_length=50)
    executor.submit_stored("first", job)
    executor.drain()
    executor.records.counts()
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN EXCLUSIVE'); print(1, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    tracemalloc.start()
    jobs, sizes = 0, []
    ends = time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        executor.submit_stored(uuid.uuid4().hex, job)
        jobs += 1
        if jobs % 1_000 == 0:
            sizes.append((round(seconds - (ends - now)), tracemalloc.get_traced_memory()[0]))
        time.sleep(0.001)
    executor.drain()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    holder.communicate()
    while executor.records.counts()["succeeded"] < jobs + 1:
        time.sleep(0.1)
    print(
        f"database away for {seconds} s: {jobs:,} jobs with keys ran, {size / 1e6:.1f} MB more "
        f"memory, {size / jobs:.0f} bytes a job; all of them were recorded in the end"
    )
    print(json.dumps(sizes[:: max(1, len(sizes) // 10)]))


if __name__ == "__main__":
    main()

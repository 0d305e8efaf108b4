"""An SQLite connection in `g`, closed at teardown, as in Flask's tutorial."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g

from tests.integrations.support import N_JOBS, Failed, Many, in_view
from tests.support import WAIT, MakeExecutor


def get_db() -> sqlite3.Connection:
    if "db" not in g:
        g.db = sqlite3.connect(current_app.config["DATABASE"], timeout=WAIT)
        g.db.execute("PRAGMA synchronous = OFF")
    return g.db


@pytest.fixture
def closed(app: Flask, tmp_path: Path) -> list[sqlite3.Connection]:
    """The connections that a teardown has closed; the jobs get none from their view."""
    app.config["DATABASE"] = str(tmp_path / "test.sqlite")
    app.config["EXECUTOR_COPY_G"] = ["user"]
    closed: list[sqlite3.Connection] = []

    @app.teardown_appcontext
    def close_db(exc: BaseException | None) -> None:
        db = g.pop("db", None)
        if db is not None:
            db.close()
            closed.append(db)

    with app.app_context():
        get_db().execute("CREATE TABLE numbers (n INTEGER)")
        get_db().commit()
    closed.clear()
    return closed


@pytest.mark.parametrize("many", ["submit", "map", "async views"], indirect=True)
def test_a_thousand_jobs_open_and_close_a_connection_each(
    app: Flask, closed: list[sqlite3.Connection], many: Many
) -> None:
    opened: list[sqlite3.Connection] = []

    def job(n: int) -> None:
        opened.append(get_db())
        get_db().execute("INSERT INTO numbers VALUES (?)", [n])
        if n % 2:
            raise Failed
        get_db().commit()

    many(job)

    assert len(set(map(id, opened))) == N_JOBS
    assert set(map(id, closed)) == set(map(id, opened))
    with app.app_context():
        rows = get_db().execute("SELECT n FROM numbers ORDER BY n").fetchall()
    assert rows == [(n,) for n in range(0, N_JOBS, 2)]


def test_a_job_sees_what_its_view_has_committed_and_leaves_the_connection_open(
    app: Flask, closed: list[sqlite3.Connection], executors: MakeExecutor
) -> None:
    executor = executors(app)

    def job() -> tuple[list[Any], str]:
        return get_db().execute("SELECT n FROM numbers").fetchall(), g.user

    def view() -> None:
        g.user = "ada"
        get_db().execute("INSERT INTO numbers VALUES (1)")
        get_db().commit()
        get_db().execute("INSERT INTO numbers VALUES (2)")
        assert executor.submit(job).result(WAIT) == ([(1,)], "ada")
        assert get_db().execute("SELECT count(*) FROM numbers").fetchone() == (2,)

    in_view(app, view)

    assert len(closed) == 2, "that of the job, and that of the view"


def test_a_job_that_is_given_the_views_connection_is_told_that_it_is_of_another_thread(
    app: Flask, closed: list[sqlite3.Connection], executors: MakeExecutor
) -> None:
    executor = executors(app, copy_g=True)

    def view() -> BaseException | None:
        get_db()
        return executor.submit(lambda: get_db().execute("SELECT 1")).exception(WAIT)

    assert isinstance(in_view(app, view), sqlite3.ProgrammingError)


def test_a_coroutine_job_uses_the_connection_in_a_thread_of_its_own(
    app: Flask, closed: list[sqlite3.Connection], executors: MakeExecutor
) -> None:
    from asgiref.sync import sync_to_async

    executor = executors(app)

    def count() -> int:
        return get_db().execute("SELECT count(*) FROM numbers").fetchone()[0]

    def close() -> None:
        g.pop("db").close()

    async def job() -> list[int]:
        counts = [await sync_to_async(count)() for _ in range(2)]
        await sync_to_async(close)()  # The teardown runs in another thread.
        return counts

    assert executor.submit(job).result(WAIT) == [0, 0]

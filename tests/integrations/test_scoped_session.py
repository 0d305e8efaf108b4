"""SQLAlchemy's `scoped_session`, removed at teardown: by threads, and by app contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, g
from sqlalchemy import orm

from flask_executor import Executor
from tests.integrations.support import N_JOBS, Failed, Many, in_view
from tests.support import WAIT


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """A table with a number in it."""
    url = f"sqlite:///{tmp_path / 'test.sqlite'}"
    engine = sa.create_engine(url, connect_args={"timeout": WAIT})
    sa.event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA synchronous = OFF"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE numbers (n INTEGER)"))
    yield engine
    engine.dispose()


@pytest.fixture
def by_thread(app: Flask, engine: sa.Engine) -> orm.scoped_session[orm.Session]:
    """A session for each thread, as in Flask's pattern for SQLAlchemy."""
    session = orm.scoped_session(orm.sessionmaker(engine))
    app.teardown_appcontext(lambda exc: session.remove())
    return session


@pytest.fixture
def by_context(app: Flask, engine: sa.Engine) -> orm.scoped_session[orm.Session]:
    """A session for each app context."""
    session = orm.scoped_session(orm.sessionmaker(engine), lambda: id(g._get_current_object()))
    app.teardown_appcontext(lambda exc: session.remove())
    return session


def work(session: orm.scoped_session[orm.Session], many: Many) -> Callable[[int], None]:
    """A job that writes its number; it fails before the commit if the number is odd."""

    def job(n: int) -> None:
        assert "job" not in session().info, "the session of another job"
        session().info["job"] = n
        session.execute(sa.text("SELECT 1"))
        if n % 2 and many.is_on_loop:  # What it wrote would hold up all writers, and so the loop.
            raise Failed
        session.execute(sa.text("INSERT INTO numbers VALUES (:n)"), {"n": n})
        if n % 2:
            raise Failed
        session.commit()

    return job


def numbers(engine: sa.Engine) -> list[int]:
    """The numbers that are committed."""
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT n FROM numbers ORDER BY n")))


def test_a_thousand_jobs_have_a_session_each_and_hold_no_connection(
    by_context: orm.scoped_session[orm.Session], engine: sa.Engine, many: Many
) -> None:
    many(work(by_context, many))

    assert engine.pool.checkedout() == 0
    assert numbers(engine) == list(range(0, N_JOBS, 2))


@pytest.mark.parametrize("many", ["submit", "map", "async views"], indirect=True)
def test_a_thousand_jobs_in_threads_have_a_session_of_their_thread(
    by_thread: orm.scoped_session[orm.Session], engine: sa.Engine, many: Many
) -> None:
    many(work(by_thread, many))

    assert engine.pool.checkedout() == 0
    assert numbers(engine) == list(range(0, N_JOBS, 2))


def test_a_job_that_waits_for_another_one_keeps_its_session_of_the_thread(
    by_thread: orm.scoped_session[orm.Session], executors: Any, app: Flask
) -> None:
    executor: Executor = executors(app, max_workers=1)

    def inner() -> orm.Session:
        return by_thread()

    def outer() -> tuple[orm.Session, orm.Session, orm.Session]:
        before = by_thread()
        return before, executor.submit(inner).result(WAIT), by_thread()

    before, of_inner, after = executor.submit(outer).result(WAIT)

    assert before is after is not of_inner
    assert executor.submit(inner).result(WAIT) is not before


def test_a_job_leaves_the_views_session_open(
    app: Flask,
    by_thread: orm.scoped_session[orm.Session],
    engine: sa.Engine,
    executor: Executor,
) -> None:
    def query() -> orm.Session:
        by_thread.execute(sa.text("SELECT 1"))
        return by_thread()

    def view() -> None:
        by_thread.execute(sa.text("INSERT INTO numbers VALUES (1)"))
        session = by_thread()
        assert executor.submit(query).result(WAIT) is not session
        assert by_thread() is session
        assert engine.pool.checkedout() == 1, "that of the view"
        by_thread.commit()

    in_view(app, view)

    assert numbers(engine) == [1]

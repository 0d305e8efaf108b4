"""Flask-SQLAlchemy: each job has a database session of its own, which ends with the job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm

from flask_executor import Executor
from tests.integrations.support import N_JOBS, Many, find_after_commit, in_view, write_in_jobs
from tests.support import WAIT, MakeExecutor


@pytest.fixture
def db(app: Flask, tmp_path: Path) -> Iterator[SQLAlchemy]:
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'test.sqlite'}"
    # SQLite has one writer at a time; the others wait.
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": {"timeout": WAIT}}
    db = SQLAlchemy(app)
    with app.app_context():
        engine = db.engine
        sa.event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA synchronous = OFF"))
    yield db
    engine.dispose()


@pytest.fixture
def note(app: Flask, db: SQLAlchemy) -> type[Any]:
    """A model, and one row of it."""

    class Note(db.Model):
        id = sa.Column(sa.Integer, primary_key=True)
        text = sa.Column(sa.String, nullable=False)

    with app.app_context():
        db.create_all()
        db.session.add(Note(text="kept"))
        db.session.commit()
    return Note


def texts(app: Flask, db: SQLAlchemy, note: type[Any]) -> list[str]:
    """The rows that are committed."""
    with app.app_context():
        return list(db.session.scalars(sa.select(note.text).order_by(note.id)))


def test_a_thousand_jobs_have_a_session_each_and_hold_no_connection(
    app: Flask, db: SQLAlchemy, note: type[Any], many: Many
) -> None:
    sessions = write_in_jobs(many, db, note, db.session)

    with app.app_context():
        assert db.engine.pool.checkedout() == 0
    assert len(set(map(id, sessions))) == N_JOBS
    written = [str(n) for n in range(0, N_JOBS, 2)]
    assert sorted(texts(app, db, note)) == sorted([*written, "kept"])


def test_a_job_neither_sees_nor_ends_the_transaction_of_its_view(
    app: Flask, db: SQLAlchemy, note: type[Any], run: Callable[..., Any]
) -> None:
    def job() -> tuple[orm.Session, str]:
        return db.session(), db.session.scalars(sa.select(note.text)).one()

    def view() -> None:
        kept = db.session.get(note, 1)
        kept.text = "changed"
        db.session.flush()
        seen_session, seen = run(job)

        assert seen_session is not db.session()
        assert seen == "kept", "the job does not see what the view has not committed"
        assert kept in db.session, "nobody has closed the view's session"
        db.session.commit()

    in_view(app, view)

    assert texts(app, db, note) == ["changed"]


def test_what_a_job_commits_is_seen_by_the_view_that_waits_for_it(
    app: Flask, db: SQLAlchemy, note: type[Any], run: Callable[..., Any]
) -> None:
    def job() -> int:
        written = note(text="of the job")
        db.session.add(written)
        db.session.commit()
        return written.id

    assert in_view(app, lambda: db.session.get(note, run(job)).text) == "of the job"


def test_an_async_view_on_the_loop_keeps_its_session_while_jobs_have_theirs(
    app: Flask, db: SQLAlchemy, note: type[Any], executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=2, async_views=True)
    sessions: list[orm.Session] = []

    def job(text: str) -> None:
        sessions.append(db.session())
        db.session.add(note(text=text))
        db.session.commit()

    async def coroutine_job(text: str) -> None:
        job(text)

    @app.get("/write")
    async def write() -> str:
        mine = note(text="of the view")
        db.session.add(mine)  # It is flushed by the commit.
        sessions.append(db.session())
        await executor.submit_async(job, "of a thread")
        await executor.submit_async(coroutine_job, "of a coroutine")
        assert db.session() is sessions[0]
        assert mine in db.session
        db.session.commit()
        return ""

    assert app.test_client().get("/write").status_code == 200
    assert len(set(map(id, sessions))) == 3
    assert texts(app, db, note) == ["kept", "of a thread", "of a coroutine", "of the view"]


def test_a_job_after_the_commit_finds_the_row_of_its_view(
    app: Flask, db: SQLAlchemy, note: type[Any], executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=1)

    found = in_view(app, lambda: find_after_commit(executor, db, note))

    assert found == "of the view"


def test_a_job_after_a_commit_that_never_comes_is_cancelled(
    app: Flask, db: SQLAlchemy, note: type[Any], executor: Executor
) -> None:
    def view() -> Any:
        db.session.add(note(text=None))
        future = executor.options(after=db.session).submit(pytest.fail, "the job has run")
        with pytest.raises(sa.exc.IntegrityError):
            db.session.commit()
        db.session.rollback()
        return future

    with pytest.raises(CancelledError):
        in_view(app, view).result(WAIT)

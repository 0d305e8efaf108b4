"""Flask-SQLAlchemy-Lite: sessions, and async sessions, belong to one job each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy_lite import SQLAlchemy
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession

from flask_executor import Executor
from tests.integrations.support import (
    N_JOBS,
    Failed,
    Many,
    find_after_commit,
    in_view,
    write_in_jobs,
)
from tests.support import WAIT, MakeExecutor


class Base(orm.DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    text: orm.Mapped[str]


@pytest.fixture
def db(app: Flask, tmp_path: Path) -> Iterator[SQLAlchemy]:
    app.config["SQLALCHEMY_ENGINES"] = {"default": f"sqlite:///{tmp_path / 'test.sqlite'}"}
    # SQLite has one writer at a time; the others wait.
    db = SQLAlchemy(app, engine_options={"connect_args": {"timeout": WAIT}})
    with app.app_context():
        engine = db.engine
        sa.event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA synchronous = OFF"))
        Base.metadata.create_all(engine)
        db.session.add(Note(text="kept"))
        db.session.commit()
    yield db
    engine.dispose()


def test_a_job_has_a_database_session_of_its_own_and_leaves_the_views_open(
    app: Flask, db: SQLAlchemy, run: Callable[..., Any]
) -> None:
    def job() -> tuple[orm.Session, str]:
        return db.session, db.session.scalars(sa.select(Note.text)).one()

    def view() -> None:
        session, note = db.session, db.session.get(Note, 1)
        with session.begin_nested():
            note.text = "changed"
            session.flush()
            seen_session, seen = run(job)

        assert seen_session is not session
        assert seen == "kept", "the job does not see what the view has not committed"
        assert note in session, "nobody has closed the view's session"
        session.commit()

    in_view(app, view)

    with app.app_context():
        assert db.session.scalars(sa.select(Note.text)).one() == "changed"


def test_a_thousand_jobs_have_a_session_each_and_hold_no_connection(
    app: Flask, db: SQLAlchemy, many: Many
) -> None:
    sessions = write_in_jobs(many, db, Note, lambda: db.session)

    with app.app_context():
        assert db.engine.pool.checkedout() == 0
        texts = db.session.scalars(sa.select(Note.text)).all()
    assert len(set(map(id, sessions))) == N_JOBS
    assert sorted(texts) == sorted([*(str(n) for n in range(0, N_JOBS, 2)), "kept"])


def test_a_job_after_the_commit_finds_the_row_of_its_view(
    app: Flask, db: SQLAlchemy, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=1)

    found = in_view(app, lambda: find_after_commit(executor, db, Note))

    assert found == "of the view"


# Async sessions


@pytest.fixture(params=["aiosqlite", "asyncpg"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with an async driver."""
    if request.param == "aiosqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'async.sqlite'}"
    url = request.getfixturevalue("postgresql")
    return url.replace("postgresql:", "postgresql+asyncpg:")


@pytest.fixture(params=[False, True], ids=["views on any loop", "views on one loop"])
def executor(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Executor:
    return executors(app, async_views=request.param, max_workers=2)


@pytest.fixture
def async_db(app: Flask, executor: Executor, url: str) -> Iterator[SQLAlchemy]:
    """An empty table; connections belong to the executor's loop."""
    app.config["SQLALCHEMY_ASYNC_ENGINES"] = {"default": url}
    db = SQLAlchemy(app)

    async def change(change: Callable[..., None]) -> None:
        async with db.async_engine.begin() as connection:
            await connection.run_sync(change)

    async def dispose() -> None:
        await db.async_engine.dispose()

    executor.submit(change, Base.metadata.create_all).result(WAIT)
    yield db
    executor.submit(change, Base.metadata.drop_all).result(WAIT)
    executor.submit(dispose).result(WAIT)


def all_texts(db: SQLAlchemy, executor: Executor) -> set[str]:
    """The rows that are committed."""

    async def read() -> set[str]:
        return set(await db.async_session.scalars(sa.select(Note.text)))

    return executor.submit(read).result(WAIT)


def test_many_coroutine_jobs_have_an_async_session_each_and_hold_no_connection(
    app: Flask, async_db: SQLAlchemy, executor: Executor, url: str
) -> None:
    sessions: list[AsyncSession] = []

    async def job(n: int) -> None:
        sessions.append(async_db.async_session)
        async_db.async_session.add(Note(text=str(n)))
        await async_db.async_session.flush()
        if n % 2:
            raise Failed
        await async_db.async_session.commit()

    # SQLite has one writer at a time, so many jobs take long.
    n_jobs = 100 if url.startswith("sqlite") or app.config["EXECUTOR_ASYNC_VIEWS"] else N_JOBS
    errors: list[BaseException | None] = []
    for start in range(0, n_jobs, 10):
        jobs = [executor.submit(job, n) for n in range(start, start + 10)]
        errors += [each.exception(WAIT) for each in jobs]

    assert [error and type(error) for error in errors] == [None, Failed] * (n_jobs // 2)
    with app.app_context():
        assert async_db.async_engine.pool.checkedout() == 0
    assert len(set(map(id, sessions))) == n_jobs
    assert all_texts(async_db, executor) == {str(n) for n in range(0, n_jobs, 2)}


def test_coroutine_jobs_that_run_together_do_not_share_an_async_session(
    app: Flask, async_db: SQLAlchemy, executor: Executor
) -> None:
    n_here, all_here = iter(range(5)), asyncio.Event()

    async def job() -> AsyncSession:
        session = async_db.async_session
        await session.scalar(sa.select(1))
        if next(n_here) == 4:
            all_here.set()
        await all_here.wait()
        assert async_db.async_session is session
        return session

    sessions = [each.result(WAIT) for each in [executor.submit(job) for _ in range(5)]]

    assert len(set(map(id, sessions))) == 5


@pytest.mark.parametrize("executor", [True], indirect=True, ids=["views on one loop"])
def test_async_views_on_the_one_loop_share_connections_and_no_session_with_jobs(
    app: Flask, async_db: SQLAlchemy, executor: Executor
) -> None:
    sessions: list[AsyncSession] = []

    async def job(view: int) -> list[str]:
        sessions.append(async_db.async_session)
        return [*await async_db.async_session.scalars(sa.select(Note.text))]

    @app.get("/<int:n>")
    async def view(n: int) -> list[str]:
        session = async_db.async_session
        sessions.append(session)
        session.add(Note(text=f"{n}"))
        seen = await executor.submit_async(job, n)
        assert async_db.async_session is session
        await session.commit()
        return seen

    client = app.test_client()

    assert client.get("/1").json == []
    assert client.get("/2").json == ["1"], "of a view that has ended, whose connection is reused"
    assert len(set(map(id, sessions))) == 4
    with app.app_context():
        assert async_db.async_engine.pool.checkedout() == 0


@pytest.mark.parametrize("executor", [True], indirect=True, ids=["views on one loop"])
def test_a_job_after_the_commit_of_an_async_session_finds_the_row(
    app: Flask, async_db: SQLAlchemy, executor: Executor
) -> None:
    async def job() -> list[str]:
        return [*await async_db.async_session.scalars(sa.select(Note.text))]

    @app.get("/")
    async def view() -> list[str]:
        session = async_db.async_session
        session.add(Note(text="of the view"))
        future = executor.options(after=session).submit(job)
        assert await executor.submit_async(job) == []
        assert future.state == "pending"
        await session.commit()
        return await future

    assert app.test_client().get("/").json == ["of the view"]

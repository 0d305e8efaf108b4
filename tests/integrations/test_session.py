"""Flask-Session: a job reads the session that the server keeps, and does not write it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cachelib
import pytest
from flask import Flask, session
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy

from flask_executor import Executor
from tests.support import WAIT, Gate


@pytest.fixture(params=["cachelib", "sqlalchemy"])
def kept(app: Flask, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Sessions that the server keeps, as files or in a database."""
    app.config["SESSION_TYPE"] = request.param
    if request.param == "cachelib":
        app.config["SESSION_CACHELIB"] = cachelib.FileSystemCache(str(tmp_path))
        Session(app)
        yield
        return
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'test.sqlite'}"
    app.config["SESSION_SQLALCHEMY"] = db = SQLAlchemy(app)
    Session(app)
    with app.app_context():
        db.create_all()
        engine = db.engine
    yield
    engine.dispose()


@pytest.mark.parametrize("is_on_loop", [False, True], ids=["thread", "loop"])
def test_a_job_reads_the_session_of_its_request(
    app: Flask, kept: None, executor: Executor, is_on_loop: bool
) -> None:
    def job() -> tuple[str, str]:
        return session["name"], session.sid

    async def coroutine_job() -> tuple[str, str]:
        return job()

    app.add_url_rule("/login/<name>", view_func=lambda name: session.update(name=name) or "")

    @app.get("/")
    def view() -> list[bool]:
        name, sid = executor.submit(coroutine_job if is_on_loop else job).result(WAIT)
        return [name == "ada", sid == session.sid]

    client = app.test_client()
    client.get("/login/ada")

    assert client.get("/").json == [True, True]


def test_a_job_reads_the_session_after_the_response_and_writes_nothing_back(
    app: Flask, kept: None, executor: Executor, gate: Gate
) -> None:
    def job() -> str:
        gate()
        name = session["name"]
        session["name"] = "of the job"
        return name

    @app.get("/")
    def view() -> str:
        session["name"] = "ada"
        executor.submit_stored("job", job)
        return ""

    app.add_url_rule("/name", view_func=lambda: session["name"])
    client = app.test_client()
    client.get("/")
    gate.open()

    assert executor.futures.pop("job").result(WAIT) == "ada"
    assert client.get("/name").text == "ada"


def test_a_thousand_jobs_of_one_request_write_its_session_once(
    app: Flask, kept: None, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    save = app.session_interface.save_session
    monkeypatch.setattr(
        app.session_interface,
        "save_session",
        lambda app, session, response: saved.append(session.sid) or save(app, session, response),
    )

    @app.get("/")
    def view() -> list[str]:
        session["name"] = "ada"
        return sorted(set(executor.map(lambda _: session["name"], range(1000))))

    assert app.test_client().get("/").json == ["ada"]
    assert len(saved) == 1

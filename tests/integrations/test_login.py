"""Flask-Login: a job of a request knows its user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import flask_login
import pytest
from flask import Flask

from flask_executor import Executor
from tests.integrations.support import in_view
from tests.support import WAIT, Gate, MakeExecutor, at_once


@pytest.fixture
def loaded(app: Flask) -> list[str]:
    """The ids that users were loaded by."""
    app.secret_key = "secret"
    loaded: list[str] = []

    class User(flask_login.UserMixin):
        def __init__(self, id_: str) -> None:
            self.id = id_

    @flask_login.LoginManager(app).user_loader
    def load(id_: str) -> User:
        loaded.append(id_)
        return User(id_)

    @app.post("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(User(name))
        return ""

    return loaded


def test_a_job_loads_the_user_of_its_request_for_itself(
    app: Flask, loaded: list[str], run: Callable[..., Any]
) -> None:
    @app.get("/")
    @flask_login.login_required
    def view() -> str:
        user = run(flask_login.current_user._get_current_object)
        assert user is not flask_login.current_user._get_current_object()
        return user.id

    client = app.test_client()
    client.post("/login/ada")

    assert client.get("/").text == "ada"
    assert loaded == ["ada", "ada"], "once in the view, and once in the job"


def test_a_job_of_the_view_that_logs_in_knows_the_user(
    app: Flask, loaded: list[str], run: Callable[..., Any]
) -> None:
    @app.post("/")
    def view() -> str:
        app.view_functions["login"]("grace")
        return run(lambda: flask_login.current_user.id)

    assert app.test_client().post("/").text == "grace"


def test_a_job_of_nobody_has_an_anonymous_user(
    app: Flask, loaded: list[str], run: Callable[..., Any]
) -> None:
    view = lambda: run(lambda: flask_login.current_user.is_anonymous)  # noqa: E731

    assert in_view(app, view) is True


@pytest.mark.parametrize("async_views", [False, True])
def test_the_jobs_of_users_who_ask_at_the_same_time_know_theirs(
    app: Flask, loaded: list[str], executors: MakeExecutor, async_views: bool
) -> None:
    executor = executors(app, max_workers=4, async_views=async_views)

    def name(n: int) -> str:
        return flask_login.current_user.id

    async def name_on_loop() -> str:
        await asyncio.sleep(0)
        return flask_login.current_user.id

    @app.get("/")
    @flask_login.login_required
    async def view() -> list[str]:
        names = {each async for each in executor.map_async(name, range(50))}
        jobs = [executor.submit_async(name_on_loop) for _ in range(50)]
        return sorted(names.union(await asyncio.gather(*jobs)))

    def visit(name: str) -> list[str]:
        client = app.test_client()
        client.post(f"/login/{name}")
        return client.get("/").json

    assert at_once(*(lambda n=n: visit(n) for n in ("ada", "grace"))) == [["ada"], ["grace"]]


def test_a_job_that_runs_after_the_response_knows_the_user(
    app: Flask, loaded: list[str], executor: Executor, gate: Gate
) -> None:
    def job() -> str:
        gate()
        return flask_login.current_user.id

    app.add_url_rule("/", view_func=lambda: executor.submit_stored("job", job) and "")
    client = app.test_client()
    client.post("/login/ada")
    client.get("/")
    client.post("/login/grace")
    gate.open()

    assert executor.futures.pop("job").result(WAIT) == "ada"

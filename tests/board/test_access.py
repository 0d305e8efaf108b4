"""Who may see a board, and which requests may change something."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, abort, redirect
from flask.testing import FlaskClient
from flask_login import FlaskLoginClient, LoginManager, UserMixin, current_user

from flask_executor import Executor
from flask_executor.board import board
from tests.board.support import Page, form_of, headers_of, token_of
from tests.support import WAIT, Gate, MakeExecutor

PAGES = ["/jobs/", "/jobs/api/jobs", "/jobs/api/stats", "/jobs/api/openapi.json", "/jobs/events"]


class User(UserMixin):
    """A user by name."""

    def __init__(self, name: str) -> None:
        self.id = name


def with_board(app: Flask, executor: Executor, **options: Any) -> FlaskClient:
    app.secret_key = "a secret"
    app.register_blueprint(board(executor, **options), url_prefix="/jobs")
    return app.test_client()


def a_job(executor: Executor, key: str = "power") -> str:
    future = executor.submit_stored(key, pow, 2, 5)
    executor.drain(WAIT)
    return future.id


def test_without_authorize_nobody_sees_anything_outside_of_debug_mode(app, executors):
    client = with_board(app, executors(app))

    for path in (*PAGES, "/jobs/job/x", "/jobs/static/board.js"):
        assert client.get(path).status_code == 403
    assert client.delete("/jobs/api/jobs/x").status_code == 403
    assert "board(executor, authorize=…)" in client.get("/jobs/").text
    assert client.get("/jobs/api/jobs").json["error"] == "Nobody may see this page yet"


def test_without_authorize_all_is_allowed_in_debug_mode(app, executors):
    app.debug = True
    executor = executors(app)
    client = with_board(app, executor)
    a_job(executor)

    assert client.get("/jobs/").status_code == 200
    done = client.delete("/jobs/api/jobs/power", headers=headers_of(client))
    assert done.status_code == 200


def test_authorize_knows_the_user_of_flask_login(app, executors):
    app.test_client_class = FlaskLoginClient
    manager = LoginManager(app)
    manager.user_loader(User)
    executor = executors(app)

    def may_see_jobs() -> bool | str:
        if not current_user.is_authenticated:
            return False
        return True if current_user.id == "ada" else "read"

    with_board(app, executor, authorize=may_see_jobs)
    a_job(executor)
    nobody = app.test_client()
    bob, ada = (app.test_client(user=User(name)) for name in ("bob", "ada"))

    assert nobody.get("/jobs/").status_code == 403
    assert bob.get("/jobs/").status_code == 200
    assert bob.delete("/jobs/api/jobs/power", headers=headers_of(bob)).status_code == 403
    assert ada.delete("/jobs/api/jobs/power", headers=headers_of(ada)).status_code == 200


def test_those_who_may_read_get_neither_buttons_nor_a_token(app, executors):
    executor = executors(app)
    client = with_board(app, executor, authorize=lambda: "read")
    id_ = a_job(executor)

    for path in ("/jobs/", f"/jobs/job/{id_}", f"/jobs/job/{id_}/forget"):
        response = client.get(path)
        page = Page(response.text)
        assert response.status_code == 200
        assert not [each for each in page.all("a") if "data-confirm" in each]
        assert not [each for each in page.all("form") if each["method"] == "post"]
        assert token_of(client, path) == ""
        assert "Set-Cookie" not in response.headers
    assert client.post(f"/jobs/job/{id_}/forget").status_code == 403
    assert executor.records.get(id_) is not None


def test_authorize_may_be_a_coroutine_function(app, executors):
    async def may_see_jobs() -> bool:
        return True

    client = with_board(app, executors(app), authorize=may_see_jobs)

    assert client.get("/jobs/").status_code == 200


def test_authorize_may_answer_by_itself(app, executors):
    answers = [401, redirect("/login")]
    client = with_board(app, executors(app), authorize=lambda: abort(answers.pop(0)))

    assert client.get("/jobs/").status_code == 401
    assert client.get("/jobs/").location == "/login"


@pytest.mark.parametrize("answer", [None, 1, "write", "True", object()])
def test_another_answer_of_authorize_is_a_mistake(app, executors, answer):
    client = with_board(app, executors(app), authorize=lambda: answer)

    with pytest.raises(TypeError, match=r"authorize returned .*; expected True, False or 'read'"):
        client.get("/jobs/")


# Actions


def actions(id_: str) -> list[tuple[str, str]]:
    """Each request that changes something."""
    return [
        ("POST", f"/jobs/job/{id_}/cancel"),
        ("POST", f"/jobs/job/{id_}/forget"),
        ("POST", f"/jobs/api/jobs/{id_}/cancel"),
        ("POST", f"/jobs/api/jobs/{id_}/forget"),
        ("DELETE", f"/jobs/api/jobs/{id_}"),
    ]


def test_an_action_needs_the_token_of_its_session(executor, client, app):
    id_ = a_job(executor)
    token, other = token_of(client), token_of(app.test_client())

    for method, path in actions(id_):
        for wrong in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "ä"}, {"X-CSRF-Token": other}):
            assert client.open(path, method=method, headers=wrong).status_code == 400
        form = client.open(path, method=method, data={"csrf_token": other})
        assert form.status_code == 400
        stranger = app.test_client().open(path, method=method, headers={"X-CSRF-Token": token})
        assert stranger.status_code == 400
    assert token != other
    assert executor.records.get(id_) is not None


SAME = [{}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}]
OTHERS = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "http://elsewhere.example"},
    {"Origin": "http://localhost:81"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("origin", OTHERS)
def test_an_action_of_another_origin_is_refused(executor, client, origin):
    id_ = a_job(executor)
    headers = {"X-CSRF-Token": token_of(client)} | origin

    for method, path in actions(id_):
        assert client.open(path, method=method, headers=headers).status_code == 403
    assert executor.records.get(id_) is not None


@pytest.mark.parametrize("origin", SAME)
def test_an_action_of_the_same_origin_is_done(executor, client, origin):
    id_ = a_job(executor)

    done = client.delete(
        f"/jobs/api/jobs/{id_}", headers={"X-CSRF-Token": token_of(client)} | origin
    )

    assert (done.status_code, done.json) == (200, {"id": id_})
    assert executor.records.get(id_) is None


def test_to_get_changes_nothing(executor, client, gate: Gate):
    future = executor.submit_stored("waits", gate)
    gate.await_arrival()
    id_ = future.id
    headers = headers_of(client)

    for _, path in actions(id_):
        for method in ("GET", "HEAD", "OPTIONS"):
            client.open(path, method=method, headers=headers)
    record = executor.records.get("waits")

    assert record.state == "running"
    assert not future.job.cancel_requested


def test_without_a_secret_key_all_can_be_seen_and_nothing_be_changed(app, executors):
    executor = executors(app)
    app.register_blueprint(board(executor, authorize=lambda: True), url_prefix="/jobs")
    client = app.test_client()
    id_ = a_job(executor)

    page = client.get("/jobs/")
    assert page.status_code == 200
    assert "SECRET_KEY" in page.text
    assert "data-confirm" not in page.text
    refused = client.delete(f"/jobs/api/jobs/{id_}")
    assert (refused.status_code, refused.json["error"]) == (400, "Nothing can be changed here")


def test_all_works_without_scripts(executor, client, gate: Gate):
    executor.submit_stored("waits", gate)
    gate.await_arrival()
    executor.options(key="later", delay=3600).submit(pow, 2, 5)
    id_ = executor.records.get("later").id

    link = Page(client.get("/jobs/").text).with_id(f"cancel-{id_}")["href"]
    page = Page(client.get(link).text)
    done = client.post(page.all("form")[0]["action"], data=form_of(page))
    assert (done.status_code, done.location) == (303, f"/jobs/job/{id_}")
    assert executor.records.get(id_).state == "cancelled"

    link = Page(client.get(done.location).text).with_id(f"forget-{id_}")["href"]
    page = Page(client.get(link).text)
    done = client.post(page.all("form")[0]["action"], data=form_of(page))
    assert (done.status_code, done.location) == (303, "/jobs/")
    assert executor.records.get(id_) is None


def test_every_response_has_a_strict_policy_and_is_not_stored(executor, client):
    id_ = a_job(executor)
    paths = [*PAGES, f"/jobs/job/{id_}", "/jobs/job/none", "/jobs/?state=none", "/jobs/api/jobs/no"]

    for path in paths:
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
    with client.get("/jobs/static/board.js") as script:
        assert script.status_code == 200
        assert "Content-Security-Policy" in script.headers


# Mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: board("executor"), r"board\(\) was given a value of the type str; expected one"),
        (lambda executor: board(executor, lambda: True), r"authorize by keyword"),
        (lambda executor: board(executor, authorize=True), r"authorize is .*; expected a function"),
    ],
)
def test_what_cannot_be_a_board_is_refused(app, executors, make, message):
    with pytest.raises(TypeError, match=message):
        make(executors(app))


def test_two_executors_of_the_same_name_are_refused(app, executors: MakeExecutor):
    with pytest.raises(ValueError, match=r"two executors named ''; .* a board of its own"):
        board(executors(app), executors(Flask("other")))


def test_an_executor_of_another_app_is_named_at_the_first_request(app, executors):
    client = with_board(app, executors(Flask("other")), authorize=lambda: True)

    with pytest.raises(RuntimeError, match=r"<Executor of other> is not initialised for the app"):
        client.get("/jobs/")


def test_an_executor_without_an_app_is_named_at_the_first_request(app):
    client = with_board(app, Executor(), authorize=lambda: True)

    with pytest.raises(RuntimeError, match=r"call executor\.init_app\(app\)"):
        client.get("/jobs/")


def test_a_board_can_be_registered_before_its_executor(app, executors):
    executor = Executor()
    client = with_board(app, executor, authorize=lambda: True)
    executor.init_app(app)

    assert client.get("/jobs/").status_code == 200


def test_two_boards_of_an_app_have_names(app, executors):
    executor = executors(app)
    client = with_board(app, executor, authorize=lambda: True)
    with pytest.raises(ValueError, match=r"Use 'name='"):
        app.register_blueprint(board(executor), url_prefix="/more")
    app.register_blueprint(board(executor, authorize=lambda: "read"), url_prefix="/more", name="b")

    assert 'href="/more/static/board.css"' in client.get("/more/").text
    assert client.get("/more/api/jobs").json == {"jobs": [], "next": None}

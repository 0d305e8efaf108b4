"""What other extensions keep in `g` is the view's; a job has its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_babel
import flask_login
import pytest
import sqlalchemy as sa
from flask import Flask, g, request
from flask_sqlalchemy_lite import SQLAlchemy
from sqlalchemy import orm

from flask_executor import Executor
from tests.support import WAIT, MakeExecutor

View = Callable[[], Any]


@pytest.fixture(params=["thread", "inline", "coroutine"])
def run(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a function as a job, and returns what it returns."""
    is_coroutine = request.param == "coroutine"
    executor = executors(app, type="thread" if is_coroutine else request.param, max_workers=2)

    def run(fn: Callable[..., Any], *args: Any) -> Any:
        async def coroutine_job() -> Any:
            return fn(*args)

        job = executor.submit(coroutine_job) if is_coroutine else executor.submit(fn, *args)
        return job.result(WAIT)

    return run


def in_view(app: Flask, view: View, *, path: str = "/", **sent: Any) -> Any:
    """Call *view* as a view, and return what it returns."""
    returned: list[Any] = []
    app.add_url_rule(path, view_func=lambda: returned.append(view()) or "", endpoint=path)
    assert app.test_client().get(path, **sent).status_code == 200
    return returned.pop()


# Flask-SQLAlchemy-Lite: sessions by name


class Base(orm.DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    text: orm.Mapped[str]


@pytest.fixture
def db(app: Flask, tmp_path: Path) -> Iterator[SQLAlchemy]:
    app.config["SQLALCHEMY_ENGINES"] = {"default": f"sqlite:///{tmp_path / 'test.sqlite'}"}
    db = SQLAlchemy(app)
    with app.app_context():
        Base.metadata.create_all(db.engine)
        db.session.add(Note(text="kept"))
        db.session.commit()
    yield db
    with app.app_context():
        db.engine.dispose()


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


# Flask-Babel: the locale


@pytest.fixture
def babel(app: Flask) -> flask_babel.Babel:
    return flask_babel.Babel(app, locale_selector=lambda: request.args["lang"])


def test_jobs_that_force_a_locale_change_it_for_nobody_else(
    app: Flask, babel: flask_babel.Babel, executors: MakeExecutor
) -> None:
    languages = ["de", "fr", "it", "es"]
    executor = executors(app, max_workers=4)
    all_forced = threading.Barrier(4, timeout=WAIT)

    def job(language: str) -> str:
        with flask_babel.force_locale(language):
            all_forced.wait()
            seen = str(flask_babel.get_locale())
            all_forced.wait()  # Nobody leaves before all have looked.
        return seen

    def view() -> tuple[str, list[str], str]:
        before = str(flask_babel.get_locale())
        seen = list(executor.map(job, languages))
        return before, seen, str(flask_babel.get_locale())

    assert in_view(app, view, query_string="lang=en") == ("en", languages, "en")


def test_a_job_has_the_locale_of_its_request(
    app: Flask, babel: flask_babel.Babel, run: Callable[..., Any]
) -> None:
    def view() -> str:
        with flask_babel.force_locale("de"):
            return run(lambda: str(flask_babel.get_locale()))

    assert in_view(app, view, query_string="lang=fr") == "fr"


# Flask-Login: the user


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


# Any other


@pytest.mark.parametrize(
    ("copy_g", "seen"),
    [
        (True, {"user": 1}),
        (False, {}),
        (("_private", "absent"), {"_private": 2}),
        ("user,_private", {"user": 1, "_private": 2}),
    ],
)
def test_a_private_name_of_g_is_carried_only_if_it_is_named(
    app: Flask, executors: MakeExecutor, copy_g: Any, seen: dict[str, int]
) -> None:
    executor: Executor = executors(app, copy_g=copy_g)

    def view() -> dict[str, int]:
        g.user, g._private = 1, 2
        return executor.submit(lambda: vars(g).copy()).result(WAIT)

    assert in_view(app, view) == seen


def test_each_item_of_a_map_has_a_private_state_of_its_own(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=2)

    def item(n: int) -> list[int]:
        items = g.setdefault("_items", [])
        items.append(n)
        return items

    def view() -> list[list[int]]:
        g._items = [-1]
        return [*executor.map(item, range(4), chunksize=2), g._items]

    assert in_view(app, view) == [[0], [1], [2], [3], [-1]]

"""Flask-Babel: the locale of a request travels to its jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import flask_babel
import pytest
from flask import Flask, request

from tests.integrations.support import in_view
from tests.support import WAIT, MakeExecutor, at_once


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


def test_jobs_write_numbers_and_dates_as_their_request_does(
    app: Flask, babel: flask_babel.Babel, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=4)

    @app.get("/")
    def view() -> list[str]:
        return sorted(set(executor.map(flask_babel.format_decimal, [1.5] * 100)))

    get = lambda lang: app.test_client().get("/", query_string={"lang": lang}).json  # noqa: E731
    written = at_once(*(lambda lang=lang: get(lang) for lang in ("de", "en", "fr")))

    assert written == [["1,5"], ["1.5"], ["1,5"]]

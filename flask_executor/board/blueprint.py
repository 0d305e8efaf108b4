"""The blueprint of the board: its views, and the rules that apply to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, g, request

from ..exceptions import StoreUnavailable
from ..executor import Executor
from ..messages.shown import kind_of
from .access import access_of, check_action, check_authorize
from .api import CONVERTER, Api, KeyConverter, as_json
from .events import Events
from .jobs import Jobs
from .problems import Problem
from .views import Views, render_problem

if TYPE_CHECKING:
    from flask.blueprints import BlueprintSetupState

    from .access import Authorize

_HEADERS = {
    # Nothing from other hosts, and neither scripts nor styles inside the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With less, browsers would not say which page has sent a form.
    "Referrer-Policy": "same-origin",
}


def board(executor: Executor, *others: Executor, authorize: Authorize | None = None) -> Blueprint:
    """Return a blueprint that shows the jobs of executors, as a page and as JSON.

    Register it under a prefix::

        app.register_blueprint(board(executor, authorize=may_see_jobs), url_prefix="/jobs")

    It shows the records of jobs, so the same in each process that shares ``EXECUTOR_STORE``.

    :param authorize: called without arguments in each request; returns True, or ``"read"`` for
        users who may see the jobs and change nothing, or False. It may be a coroutine function.
        Without it, the board answers 403 outside of debug mode
    :raises TypeError: if an executor is no `Executor`, or *authorize* cannot be called
    :raises ValueError: if two executors have the same name
    """
    executors = [executor, *others]
    _check(executors)
    check_authorize(authorize)
    jobs = Jobs(executors)
    blueprint = Blueprint("executor_board", __name__, static_folder="static")
    blueprint.record(_add_converter)
    blueprint.before_request(lambda: _admit(jobs, authorize))
    blueprint.after_request(_finish)
    blueprint.register_error_handler(Problem, _on_problem)
    blueprint.register_error_handler(StoreUnavailable, _on_unavailable)
    Views(jobs, _may_act).add_to(blueprint)
    Api(jobs).add_to(blueprint)
    blueprint.add_url_rule("/events", "events", Events(jobs).respond)
    return blueprint


def _check(executors: list[Executor]) -> None:
    names: set[str] = set()
    for each in executors:
        if not isinstance(each, Executor):
            raise TypeError(
                f"board() was given {kind_of(each)}; expected one Executor or more, and authorize "
                "by keyword: board(executor, authorize=may_see_jobs)"
            )
        if each.name in names:
            raise ValueError(
                f"board() was given two executors named {each.name!r}; it shows those of one app, "
                "whose names differ. Give each app a board of its own"
            )
        names.add(each.name)


def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters[CONVERTER] = KeyConverter


def _admit(jobs: Jobs, authorize: Authorize | None) -> None:
    """Refuse a request that its user may not make."""
    access = access_of(authorize)
    g.executor_board_may_act = access == "all"
    jobs.check()
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    if not _may_act():
        raise Problem(403, "You may not change anything", "You may look at the jobs.")
    check_action()


def _may_act() -> bool:
    return bool(g.executor_board_may_act)


def _finish(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if request.endpoint is None or not request.endpoint.endswith(".static"):
        response.headers["Cache-Control"] = "no-store"
    return response


def _on_problem(problem: Problem) -> Response:
    endpoint = (request.endpoint or "").rpartition(".")[2]
    if endpoint.startswith("api_"):
        return as_json(problem.as_dict(), problem.code)
    return render_problem(problem)


def _on_unavailable(_: StoreUnavailable) -> Response:
    response = _on_problem(
        Problem(
            503,
            "The records cannot be read now",
            "Their database does not answer. Jobs go on, and are recorded once it does.",
        )
    )
    response.headers["Retry-After"] = "2"
    return response

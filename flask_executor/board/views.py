"""The pages of the board, for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from flask import Response, redirect, request, url_for
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..records.record import STATES, time_left, time_running
from . import plots, shown, timeline
from .access import FIELD, HEADER, csrf_token
from .filters import Filters, filters_of
from .jobs import cancel, forget

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint
    from werkzeug.wrappers import Response as BaseResponse

    from ..records import JobRecord
    from .jobs import Jobs
    from .problems import Problem

_PAGE = 50  # jobs in the list
_RUNNING = 50  # bars


@cache
def _environment() -> Environment:
    """Templates of our own: an app may have set up its own as it likes, also without escaping."""
    environment = Environment(
        loader=PackageLoader("flask_executor.board"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "ago": shown.ago,
        "label": shown.label,
        "line": shown.line,
        "lines": shown.lines,
        "moment": shown.moment,
        "name": shown.name,
        "number": shown.number,
        "percent": shown.percent,
        "progress_text": shown.progress_text,
        "seconds": shown.seconds,
        "time_left": time_left,
        "time_running": time_running,
    }
    environment.filters.update(filters)
    return environment


def render(template: str, status: int = 200, *, may_act: bool, **values: Any) -> Response:
    """A page.

    :param may_act: whether it has buttons that change something
    """
    token = csrf_token() if may_act else ""
    text = (
        _environment()
        .get_template(template)
        .render(
            url_for=url_for,
            may_act=may_act and bool(token),
            needs_secret_key=may_act and not token,
            token=token,
            token_field=FIELD,
            token_header=HEADER,
            now=datetime.now(UTC),
            **values,
        )
    )
    return Response(text, status, mimetype="text/html")


def render_problem(problem: Problem) -> Response:
    """A page that says why there is no other one."""
    return render("problem.html", problem.code, may_act=False, problem=problem)


class Views:
    """The views that answer with pages.

    :param may_act: says whether the user of the request may change something
    """

    def __init__(self, jobs: Jobs, may_act: Callable[[], bool]) -> None:
        self._jobs = jobs
        self._may_act = may_act

    def add_to(self, blueprint: Blueprint) -> None:
        """Add the views."""
        blueprint.add_url_rule("/", "page", self.page)
        blueprint.add_url_rule("/job/<id>", "job", self.job)
        for name, view in (("cancel", self.cancel), ("forget", self.forget)):
            blueprint.add_url_rule(f"/job/<id>/{name}", name, view, methods=["GET", "POST"])

    def page(self) -> Response:
        """All that is known, on one page."""
        filters = filters_of(request.args, self._jobs.names, limit=_PAGE)
        now = datetime.now(UTC)
        found, following = self._jobs.page(filters)
        running = self._jobs.in_state("running", timeline.MOST_BARS)
        newest, older = self._jobs.page(_newest(filters))
        return render(
            "page.html",
            may_act=self._may_act(),
            counts=self._jobs.counts(),
            executors=self._jobs.names,
            filters=filters,
            first_page=url_for(".page", **filters.as_query()) + "#jobs",
            found=found,
            next_page=_next_page(filters, following),
            plots=[plots.plots_of(*each) for each in self._jobs.history().items()],
            plot_height=plots.HEIGHT,
            plot_width=plots.WIDTH,
            running=running[:_RUNNING],
            states=STATES,
            timeline=timeline.timeline_of(newest, now, others=running, has_more=older is not None),
            timeline_width=timeline.WIDTH,
        )

    def job(self, id: str) -> Response:  # noqa: A002 - as the record's field
        """All that is known of one job."""
        _, record = self._jobs.with_id(id)
        values = record.as_dict()
        result = None
        if record.state == "succeeded" and values["result_missing"] is None:
            result = json.dumps(values["result"], ensure_ascii=False, indent=2)
        return render(
            "job.html",
            may_act=self._may_act(),
            record=record,
            result=result,
            result_missing=values["result_missing"],
        )

    def cancel(self, id: str) -> BaseResponse:  # noqa: A002 - as the record's field
        """Ask whether to cancel a job, or cancel it."""
        records, record = self._jobs.with_id(id)
        if request.method != "POST":
            return self._confirm("cancel", record)
        cancel(records, record)
        return redirect(url_for(".job", id=record.id), 303)

    def forget(self, id: str) -> BaseResponse:  # noqa: A002 - as the record's field
        """Ask whether to delete the record of a job, or delete it."""
        records, record = self._jobs.with_id(id)
        if request.method != "POST":
            return self._confirm("forget", record)
        forget(records, record)
        return redirect(url_for(".page"), 303)

    def _confirm(self, action: str, record: JobRecord) -> Response:
        return render("confirm.html", may_act=self._may_act(), action=action, record=record)


def _newest(filters: Filters) -> Filters:
    return Filters(None, None, None, filters.executor, None, timeline.MOST_BARS)


def _next_page(filters: Filters, before: str | None) -> str | None:
    if before is None:
        return None
    return url_for(".page", **filters.as_query(), before=before) + "#jobs"

"""The JSON of the board."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask import Response, request, url_for
from werkzeug.routing import BaseConverter

from .filters import filters_of
from .jobs import added_up, cancel, forget
from .openapi import document

if TYPE_CHECKING:
    from flask import Blueprint

    from ..records import JobRecord
    from ..records.face import Records
    from .jobs import Jobs

CONVERTER = "flask_executor_key"


class KeyConverter(BaseConverter):
    """A key in the path of a URL, which may have slashes and line breaks anywhere."""

    regex = r"[\s\S]+?"
    part_isolating = False


def as_json(value: Any, status: int = 200) -> Response:
    """A response of ASCII characters, by the JSON module of Python: `as_dict` has plain values."""
    text = json.dumps(value, allow_nan=False)
    return Response(text + "\n", status, mimetype="application/json")


class Api:
    """The views that answer with JSON."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def add_to(self, blueprint: Blueprint) -> None:
        """Add the views; the endpoint of each begins with "api"."""
        job = f"/api/jobs/<{CONVERTER}:id_or_key>"
        # A key may have two slashes in a row.
        options: Any = {"merge_slashes": False}
        add = blueprint.add_url_rule
        add("/api/jobs", "api_jobs", self.list)
        add(job, "api_job", self.show, **options)
        add(job, "api_delete", self.forget, methods=["DELETE"], **options)
        add(f"{job}/cancel", "api_cancel", self.cancel, methods=["POST"], **options)
        add(f"{job}/forget", "api_forget", self.forget, methods=["POST"], **options)
        add("/api/stats", "api_stats", self.stats)
        add("/api/openapi.json", "api_openapi", self.openapi)

    def list(self) -> Response:
        """A page of jobs."""
        found, following = self._jobs.page(filters_of(request.args, self._jobs.names))
        return as_json({"jobs": [record.as_dict() for record in found], "next": following})

    def show(self, id_or_key: str) -> Response:
        """One job."""
        _, record = self._find(id_or_key)
        return as_json(record.as_dict())

    def cancel(self, id_or_key: str) -> Response:
        """Cancel a job; answers with the job as it is then."""
        records, record = self._find(id_or_key)
        cancel(records, record)
        return as_json((records.get(record.id) or record).as_dict())

    def forget(self, id_or_key: str) -> Response:
        """Delete the record of a job."""
        records, record = self._find(id_or_key)
        forget(records, record)
        return as_json({"id": record.id})

    def stats(self) -> Response:
        """Counts, and the last hour."""
        history, counts = self._jobs.history(), self._jobs.counts_of_each()
        executors = [
            {
                "name": name,
                "counts": counts[name],
                "history": [minute.as_dict() for minute in minutes],
            }
            for name, minutes in history.items()
        ]
        return as_json({"counts": added_up(counts), "executors": executors})

    def openapi(self) -> Response:
        """The description of all this."""
        return as_json(document(url_for(".api_jobs").removesuffix("/jobs")))

    def _find(self, id_or_key: str) -> tuple[Records, JobRecord]:
        filters = filters_of(request.args, self._jobs.names)
        return self._jobs.find(id_or_key, filters.executor)

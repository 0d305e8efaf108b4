"""The description of the JSON, in the format of OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from ..records.record import STATES
from .access import HEADER

_ERRORS = {
    400: "A value of the query cannot be, or the token is missing or wrong",
    403: "The user may not see the jobs, or not change them",
    404: "There is no such job",
    409: "The state of the job does not allow it",
    503: "The database of the records does not answer",
}


def _nullable(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}


_TIME = {"type": "string", "format": "date-time"}
_NO_TIME = _nullable("string", format="date-time")
_COUNT = {"type": "integer", "minimum": 0}
_SECONDS = {"type": "number", "minimum": 0}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "null"}]}


_SCHEMAS = {
    "State": {"type": "string", "enum": list(STATES)},
    "Progress": _object(
        done={"type": "number"},
        total=_nullable("number"),
        message={"type": "string"},
        fraction=_nullable("number", minimum=0, maximum=1),
        rate=_nullable("number"),
        time_left=_nullable("number", description="seconds"),
        started_at=_TIME,
        updated_at=_TIME,
    ),
    "Error": _object(
        type={"type": "string"}, message=_nullable("string"), traceback=_nullable("string")
    ),
    "Job": _object(
        id={"type": "string"},
        key=_nullable("string"),
        name={"type": "string"},
        executor={"type": "string", "description": "empty for the executor without a name"},
        state=_ref("State"),
        attempt={"type": "integer", "minimum": 1},
        submitted_at=_TIME,
        started_at=_NO_TIME,
        ended_at=_NO_TIME,
        waited=_nullable("number", minimum=0, description="seconds"),
        ran=_nullable("number", minimum=0, description="seconds"),
        progress=_or_null(_ref("Progress")),
        result={"description": "any JSON; null if there is none"},
        result_missing=_nullable("string", description="why there is no result"),
        error=_or_null(_ref("Error")),
        host={"type": "string"},
        pid={"type": "integer"},
    ),
    "Jobs": _object(
        jobs={"type": "array", "items": _ref("Job")},
        next=_nullable("string", description="the value of 'before' for the next page"),
    ),
    "Counts": _object(**dict.fromkeys(STATES, _COUNT)),
    "Spread": _object(median=_SECONDS, p95=_SECONDS),
    "Minute": _object(
        begins_at=_TIME,
        succeeded=_COUNT,
        failed=_COUNT,
        cancelled=_COUNT,
        waited=_or_null(_ref("Spread")),
        ran=_or_null(_ref("Spread")),
    ),
    "Stats": _object(
        counts=_ref("Counts"),
        executors={
            "type": "array",
            "items": _object(
                name={"type": "string"},
                counts=_ref("Counts"),
                history={"type": "array", "items": _ref("Minute")},
            ),
        },
    ),
    "Forgotten": _object(id={"type": "string"}),
    "Problem": _object(error={"type": "string"}, description={"type": "string"}),
}


def _parameter(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


_TEXT = {"type": "string"}
_EXECUTOR = _parameter("executor", _TEXT, "the name of the executor; - for that without a name")
_FILTERS = [
    _parameter("state", _ref("State"), "only jobs in this state"),
    _parameter("name", _TEXT, "only jobs whose function has this name"),
    _parameter("key", _TEXT, "only jobs whose key begins with this text"),
    _EXECUTOR,
    _parameter("before", _TEXT, "the 'next' of the last page"),
    _parameter("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "100 by default"),
]
_JOB = [
    {
        "name": "id_or_key",
        "in": "path",
        "required": True,
        "schema": _TEXT,
        "description": "the id of the job, or its key, quoted; a key may have slashes",
    },
    _EXECUTOR,
]
_TOKEN = {
    "name": HEADER,
    "in": "header",
    "required": True,
    "schema": _TEXT,
    "description": "the token of the session: the meta element csrf-token of the page",
}


def _operation(
    name: str, text: str, status: int, schema: str, parameters: list[Any], *errors: int
) -> dict[str, Any]:
    def content(of: str) -> dict[str, Any]:
        return {"application/json": {"schema": _ref(of)}}

    answers: dict[str, Any] = {str(status): {"description": text, "content": content(schema)}}
    for code in (403, *errors, 503):
        answers[str(code)] = {"description": _ERRORS[code], "content": content("Problem")}
    return {
        "operationId": name,
        "summary": text,
        "parameters": parameters,
        "responses": answers,
    }


def document(server: str) -> dict[str, Any]:
    """The description of the JSON.

    :param server: the URL that the paths begin with
    """
    acting = [*_JOB, _TOKEN]
    forget = ("Delete the record of a job that has ended", 200, "Forgotten", acting, 400, 404, 409)
    cancel = ("Cancel a job, or ask it to stop", 200, "Job", acting, 400, 404, 409)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Jobs of Flask-Executor", "version": "1"},
        "servers": [{"url": server}],
        "paths": {
            "/jobs": {
                "get": _operation(
                    "listJobs", "Jobs, the last submitted first", 200, "Jobs", _FILTERS, 400
                )
            },
            "/jobs/{id_or_key}": {
                "get": _operation("getJob", "One job", 200, "Job", _JOB, 400, 404),
                "delete": _operation("deleteJob", *forget),
            },
            "/jobs/{id_or_key}/cancel": {"post": _operation("cancelJob", *cancel)},
            "/jobs/{id_or_key}/forget": {"post": _operation("forgetJob", *forget)},
            "/stats": {
                "get": _operation("getStats", "Counts, and the last hour", 200, "Stats", [])
            },
        },
        "components": {"schemas": _SCHEMAS},
    }

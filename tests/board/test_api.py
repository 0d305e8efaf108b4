"""The JSON of a board, and its description."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

from flask_executor import current_job
from tests.board.support import headers_of
from tests.support import WAIT, Gate

KEYS = [
    "a/b",
    "/a",
    "a/",
    "//",
    "a//b",
    "x/cancel",
    "?a=1&b",
    "#",
    "%2F",
    "ä 🎉",
    "a+b c",
    "<b>",
    "a\nb",
]


def fail() -> None:
    raise ValueError("the reason")


def check(client, response, path: str, method: str = "get") -> None:
    """That the description has the response."""
    document = client.get("/jobs/api/openapi.json").json
    answer = document["paths"][path][method]["responses"][str(response.status_code)]
    schema = answer["content"]["application/json"]["schema"]
    validator = Draft202012Validator(
        schema | {"components": document["components"]}, format_checker=FormatChecker()
    )
    validator.validate(response.json)


def test_the_description_is_that_of_an_api(executor, client):
    validate(client.get("/jobs/api/openapi.json").json)


def test_every_response_is_as_described(executor, client, gate: Gate, app):
    app.logger.disabled = True

    def wait() -> None:
        current_job.progress(1, 4, "drawn")
        gate()

    executor.submit_stored("ends", lambda: {"rows": [1, None]})
    executor.submit_stored("missing", lambda: {1})
    executor.submit_stored("fails", fail).exception(WAIT)
    executor.drain(WAIT)
    executor.submit_stored("runs", wait)
    gate.await_arrival()
    executor.options(key="later", delay=3600).submit(pow, 2, 5)
    headers = headers_of(client)
    job, cancel, forget = (
        "/jobs/{id_or_key}",
        "/jobs/{id_or_key}/cancel",
        "/jobs/{id_or_key}/forget",
    )
    root = "/jobs/api"

    jobs = client.get(f"{root}/jobs")
    check(client, jobs, "/jobs")
    assert {each["key"] for each in jobs.json["jobs"]} == {
        "ends",
        "missing",
        "fails",
        "runs",
        "later",
    }
    check(client, client.get(f"{root}/jobs?limit=1"), "/jobs")
    check(client, client.get(f"{root}/jobs?limit=0"), "/jobs")
    check(client, client.get(f"{root}/stats"), "/stats")
    for key in ("ends", "missing", "fails", "runs", "later", "none"):
        check(client, client.get(f"{root}/jobs/{key}"), job)

    refused = client.post(f"{root}/jobs/later/forget", headers=headers)
    assert refused.status_code == 409
    check(client, refused, forget, "post")
    for status in (200, 409):
        done = client.post(f"{root}/jobs/later/cancel", headers=headers)
        assert done.status_code == status
        check(client, done, cancel, "post")
    assert executor.records.get("later").state == "cancelled"
    done = client.delete(f"{root}/jobs/later", headers=headers)
    assert done.status_code == 200
    check(client, done, job, "delete")
    for path, method in ((job, "delete"), (cancel, "post"), (forget, "post")):
        url = root + path.format(id_or_key="later")
        done = client.open(url, method=method, headers=headers)
        assert done.status_code == 404
        check(client, done, path, method)
        refused = client.open(url, method=method)
        assert refused.status_code == 400
        check(client, refused, path, method)
        refused = client.open(url, method=method, headers={"Sec-Fetch-Site": "cross-site"})
        assert refused.status_code == 403
        check(client, refused, path, method)


def test_a_running_job_is_asked_to_stop(executor, client, gate: Gate):
    future = executor.submit_stored("runs", gate)
    gate.await_arrival()

    done = client.post("/jobs/api/jobs/runs/cancel", headers=headers_of(client))

    assert (done.status_code, done.json["state"]) == (200, "running")
    assert future.job.cancel_requested


@pytest.mark.parametrize("key", KEYS)
def test_a_key_may_have_any_characters(executor, client, key):
    future = executor.submit_stored(key, pow, 2, 5)
    executor.drain(WAIT)
    path = f"/jobs/api/jobs/{quote(key, safe='')}"

    assert client.get(path).json["id"] == future.id
    assert client.get(f"/jobs/api/jobs/{future.id}").json["key"] == key
    refused = client.post(f"{path}/cancel", headers=headers_of(client))
    assert refused.status_code == 409
    assert client.post(f"{path}/forget", headers=headers_of(client)).json == {"id": future.id}
    assert client.get(path).status_code == 404


def test_the_json_has_all_results_as_ascii(executor, client):
    executor.submit_stored("text", lambda: "ä 🎉 \ud800")
    executor.drain(WAIT)

    response = client.get("/jobs/api/jobs/text")

    assert response.data.isascii()
    assert json.loads(response.data)["result"] == "ä 🎉 \ud800"


def test_the_pages_of_the_list_have_each_job_once(executor, client):
    for number in range(7):
        executor.submit_stored(f"power-{number}", pow, 2, number)
    executor.drain(WAIT)
    found, before = [], ""
    while before is not None:
        page = client.get("/jobs/api/jobs", query_string={"limit": 3, "before": before}).json
        found += [each["key"] for each in page["jobs"]]
        before = page["next"]

    assert found == [f"power-{number}" for number in range(6, -1, -1)]

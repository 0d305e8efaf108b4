"""The pages of a board."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from flask import Flask

from flask_executor import Executor, current_job
from flask_executor.board import board
from flask_executor.board.filters import STATES
from flask_executor.board.jobs import cancel, forget
from flask_executor.board.problems import Problem
from tests.board.support import Page
from tests.support import WAIT, Gate, MakeExecutor

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raise %}",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    "שלום עולם",
    "👩‍👩‍👧‍👦 🎉",
    "a\0b\x1b[31mc\x85d",
    "line\nline\r\n\u2028line",
    "\ud800 half",
    "x" * 1_000_000,
]


def fail(text: str) -> None:
    raise ValueError(text)


def name_of(text: str):
    def job() -> str:
        current_job.progress(1, 2, text)
        return text

    job.__name__ = text
    return job


def check_harmless(text: str) -> None:
    """That the page has no element, attribute or character that came from a job."""
    page = Page(text)
    assert {each["src"] for each in page.all("script")} == {"/jobs/static/board.js"}
    assert not page.all("img")
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert not page.all("style")
    for character in "\0\x1b\x85\u2028\u202e\ud800":
        assert character not in text
    assert len(text) < 100_000


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_harmlessly(executor, client, app, text):
    app.jinja_options = {"autoescape": False}
    app.logger.disabled = True
    key = text[:200]
    executor.submit_stored(f"{key} named", name_of(text))
    executor.submit_stored(f"{key} fails", fail, text).exception(WAIT)
    executor.drain(WAIT)

    for path in ("/jobs/", "/jobs/?name=" + key.encode("utf-8", "replace").decode()):
        check_harmless(client.get(path).text)
    for record in executor.records.list():
        for path in ("", "/forget"):
            response = client.get(f"/jobs/job/{record.id}{path}")
            assert response.status_code == 200
            check_harmless(response.text)
        for each in (record.id, ""):
            assert client.get(f"/jobs/api/jobs/{each}".rstrip("/")).status_code == 200


def test_the_page_shows_jobs_in_all_states(executor, client, gate: Gate, app):
    app.logger.disabled = True

    def wait() -> None:
        current_job.progress(1, 4, "drawn")
        gate()

    executor.submit_stored("ends", pow, 2, 5)
    executor.submit_stored("fails", fail, "the reason").exception(WAIT)
    executor.drain(WAIT)
    executor.submit_stored("runs", wait)
    gate.await_arrival()
    executor.options(key="later", delay=3600).submit(pow, 2, 5)
    page = Page(client.get("/jobs/").text)
    ids = {key: executor.records.get(key).id for key in ("ends", "fails", "runs", "later")}

    assert page.with_id(f"progress-{ids['runs']}")["value"] == "0.25"
    assert "1 of 4 drawn" in page.text
    for key, id_ in ids.items():
        assert page.with_id(f"link-{id_}")["href"] == f"/jobs/job/{id_}"
        bar = page.with_id(f"bar-{id_}")
        assert executor.records.get(key).state in bar["class"]
        assert key in bar["aria-label"]
    assert "the reason" in page.text
    executor.futures.cancel("later")


def test_the_page_of_a_job_tells_all_of_it(executor, client, app):
    app.logger.disabled = True
    executor.submit_stored("ends", lambda: {"rows": [1, 2]})
    executor.submit_stored("fails", fail, "the reason").exception(WAIT)
    executor.drain(WAIT)
    ended, failed = (
        Page(client.get(f"/jobs/job/{executor.records.get(key).id}").text)
        for key in ("ends", "fails")
    )

    assert '"rows": [' in ended.text
    record = executor.records.get("ends")
    for text in (str(record.pid), record.host, record.id, "ends", "<lambda>", "succeeded"):
        assert text in ended.text
    assert "ValueError" in failed.text
    assert "the reason" in failed.text
    assert "in fail" in failed.text
    assert "open" not in failed.with_id("traceback")


def test_a_result_that_cannot_be_shown_is_explained(executor, client):
    future = executor.submit_stored("set", lambda: {1})
    executor.drain(WAIT)
    page = Page(client.get(f"/jobs/job/{future.id}").text)

    assert "It cannot be shown: it is not JSON: TypeError" in page.text


def test_the_list_has_filters_and_pages(executor, client, app):
    app.logger.disabled = True
    for number in range(60):
        executor.submit_stored(f"power-{number:02}", pow, 2, number)
    executor.submit_stored("fails", fail, "no").exception(WAIT)
    executor.drain(WAIT)

    def keys(page: Page) -> int:
        return len([each for _, each in page.elements if (each.get("id") or "").startswith("job-")])

    first = Page(client.get("/jobs/?key=power&state=succeeded&name=pow").text)
    second = Page(client.get(first.with_id("next-page")["href"]).text)

    assert (keys(first), keys(second)) == (50, 10)
    assert "next-page" not in [each.get("id") for _, each in second.elements]
    back = second.with_id("first-page")["href"]
    assert keys(Page(client.get(back).text)) == 50
    assert keys(Page(client.get("/jobs/?state=failed").text)) == 1
    assert keys(Page(client.get("/jobs/?state=&name=&key=").text)) == 50
    assert keys(Page(client.get("/jobs/?key=power-1").text)) == 10
    assert {each.get("value") for each in first.all("input")} == {"pow", "power"}


def test_a_page_without_jobs_says_how_to_record_them(executor, client):
    empty = Page(client.get("/jobs/").text).text
    executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    other = Page(client.get("/jobs/").text).text

    for text in ("EXECUTOR_STORE_RECORDS", "submit_stored", "No job has a record yet"):
        assert text in empty
        assert text not in other
    assert "No job has run or waited" in empty
    assert "No job has ended in the last hour" in empty
    assert "EXECUTOR_STORE_TTL" in client.get("/jobs/?key=none").text


def test_the_page_says_how_many_more_jobs_run(executor, client, monkeypatch, gate: Gate):
    monkeypatch.setattr("flask_executor.board.views._RUNNING", 1)
    for key in ("first", "second", "third"):
        executor.submit_stored(key, gate)
        gate.await_arrival()

    page = Page(client.get("/jobs/").text)

    assert "2 more run: list them" in page.text
    assert page.with_id("all-running")["href"] == "/jobs/?state=running#jobs"


def test_states_have_signs(executor, client):
    executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    page = Page(client.get("/jobs/").text)

    signs = {each["href"] for each in page.all("use")}
    assert signs == {f"#icon-{state}" for state in STATES}
    assert {sign["id"] for sign in page.all("symbol")} == {sign[1:] for sign in signs}


@pytest.mark.parametrize("query", ["state=done", "before=%00", "limit=no", "executor=mail"])
def test_a_filter_that_cannot_be_is_named(executor, client, query):
    page = client.get(f"/jobs/?{query}")
    answer = client.get(f"/jobs/api/jobs?{query}")

    name = query.partition("=")[0]
    assert (page.status_code, answer.status_code) == (400, 400)
    assert f"{name} is " in page.text
    assert answer.json["description"].startswith(f"{name} is ")


def test_an_unknown_job_is_not_found(executor, client):
    for path in ("job/none", "job/none/cancel", "api/jobs/none"):
        assert client.get(f"/jobs/{path}").status_code == 404
    assert "There is no such job" in client.get("/jobs/job/none").text


def test_the_key_of_a_job_is_not_taken_for_the_id_of_another(executor, client):
    first = executor.submit_stored("first", pow, 2, 5)
    second = executor.submit_stored(first.id, pow, 2, 6)
    executor.drain(WAIT)

    assert client.get(f"/jobs/job/{first.id}").status_code == 404
    assert client.get(f"/jobs/job/{second.id}").status_code == 200


@pytest.mark.parametrize("action", [cancel, forget])
def test_a_job_that_goes_meanwhile_is_not_found(executor, action):
    executor.submit_stored("power", pow, 2, 5)
    executor.drain(WAIT)
    record = executor.records.get("power")
    executor.records.forget("power")

    with pytest.raises(Problem, match="There is no such job"):
        action(executor.records, record)


def test_several_executors_are_one_list(app, executors: MakeExecutor):
    app.secret_key = "a secret"
    first, mail = executors(app), executors(app, name="mail")
    app.register_blueprint(board(first, mail, authorize=lambda: True), url_prefix="/jobs")
    client = app.test_client()
    for number in range(3):
        for executor in (first, mail):
            executor.submit_stored(f"{executor.name}{number}", pow, 2, number)
            executor.drain(WAIT)

    def keys(query: str = "") -> list[str]:
        return [each["key"] for each in client.get(f"/jobs/api/jobs{query}").json["jobs"]]

    assert keys() == ["mail2", "2", "mail1", "1", "mail0", "0"]
    assert keys("?executor=mail") == ["mail2", "mail1", "mail0"]
    assert keys("?executor=-") == ["2", "1", "0"]
    page = client.get("/jobs/api/jobs?limit=4").json
    assert len(page["jobs"]) == 4
    assert keys(f"?before={page['next']}") == ["mail0", "0"]
    stats = client.get("/jobs/api/stats").json
    assert stats["counts"]["succeeded"] == 6
    assert [each["name"] for each in stats["executors"]] == ["", "mail"]
    assert client.get("/jobs/?executor=mail").status_code == 200


def test_a_database_that_is_away_is_named(app: Flask, executors: MakeExecutor, tmp_path):
    app.logger.disabled = True
    executor = executors(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    app.register_blueprint(board(executor, authorize=lambda: True), url_prefix="/jobs")
    (tmp_path / "jobs.db").mkdir()
    client = app.test_client()

    page, answer = client.get("/jobs/"), client.get("/jobs/api/jobs")

    assert (page.status_code, answer.status_code) == (503, 503)
    assert "The records cannot be read now" in page.text
    assert answer.json["error"] == "The records cannot be read now"
    assert page.headers["Retry-After"] == "2"


def test_the_page_is_the_same_from_another_process(app, executors: MakeExecutor, tmp_path):
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    clients = []
    for each in (app, Flask("app")):
        executor = executors(each, store=url)
        each.register_blueprint(board(executor, authorize=lambda: "read"), url_prefix="/jobs")
        clients.append(each.test_client())
        executor.submit_stored(each.import_name + str(len(clients)), pow, 2, 5)
        executor.drain(WAIT)
        executor.records.counts()

    first, second = (client.get("/jobs/api/jobs").json for client in clients)

    assert first == second
    assert len(first["jobs"]) == 2
    assert datetime.fromisoformat(first["jobs"][0]["ended_at"]) <= datetime.now(UTC)


def test_the_page_survives_template_settings_of_the_app(app: Flask, executors: MakeExecutor):
    app.jinja_options = {"variable_start_string": "[[", "variable_end_string": "]]"}
    executor: Executor = executors(app)
    app.register_blueprint(board(executor, authorize=lambda: True), url_prefix="/jobs")

    assert "{{" not in app.test_client().get("/jobs/").text

"""Flask-Mailman: a job sends mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask_mailman
import pytest
from flask import Flask, g, render_template_string, url_for

from flask_executor import Executor
from tests.integrations.support import in_view
from tests.support import WAIT


@pytest.fixture
def mail(app: Flask) -> flask_mailman.Mail:
    app.config["MAIL_BACKEND"] = "locmem"
    app.config["MAIL_DEFAULT_SENDER"] = "shop@example.org"
    return flask_mailman.Mail(app)


def outbox(app: Flask) -> list[flask_mailman.EmailMessage]:
    return app.extensions["mailman"].outbox


def send(address: str) -> int:
    body = render_template_string("Hello {{ g.user }}: {{ url_for('order', n=7) }}")
    return flask_mailman.EmailMessage("Your order", body, to=[address]).send()


def test_a_job_sends_a_mail_with_a_template_and_a_url_of_its_request(
    app: Flask, mail: flask_mailman.Mail, run: Callable[..., Any]
) -> None:
    app.add_url_rule("/orders/<int:n>", endpoint="order")

    def view() -> int:
        g.user = "Ada"
        return run(send, "ada@example.org")

    assert in_view(app, view, base_url="https://shop.example") == 1
    [sent] = outbox(app)
    assert sent.to == ["ada@example.org"]
    assert sent.from_email == "shop@example.org"
    assert sent.body == "Hello Ada: /orders/7"


def test_jobs_without_a_request_send_mail_too(
    app: Flask, mail: flask_mailman.Mail, executor: Executor
) -> None:
    def send_link(n: int) -> int:
        body = url_for("order", n=n)
        return mail.send_mail("Your order", body, None, [f"{n}@example.org"])

    app.config["SERVER_NAME"] = "shop.example"
    app.add_url_rule("/orders/<int:n>", endpoint="order")

    assert list(executor.map(send_link, range(20))) == [1] * 20
    assert sorted(each.body for each in outbox(app)) == sorted(
        f"http://shop.example/orders/{n}" for n in range(20)
    )


def test_a_mail_that_is_sent_after_the_response_is_not_sent_if_the_view_fails(
    app: Flask, mail: flask_mailman.Mail, executor: Executor
) -> None:
    app.testing = False
    app.add_url_rule("/orders/<int:n>", endpoint="order")

    @app.post("/<int:n>")
    def view(n: int) -> str:
        g.user = "Ada"
        executor.options(after="response").submit(send, f"{n}@example.org")
        if n == 2:
            raise LookupError
        return ""

    client = app.test_client()
    assert [client.post(f"/{n}").status_code for n in (1, 2, 3)] == [200, 500, 200]
    executor.drain(WAIT)

    assert sorted(each.to for each in outbox(app)) == [["1@example.org"], ["3@example.org"]]

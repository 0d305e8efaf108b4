"""The example of a shop: each option of a job in a view that needs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, WAIT, Gate, at_once


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Load a new copy of the example, with a database of its own."""
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", f"sqlite:///{tmp_path}/shop.sqlite")
    monkeypatch.syspath_prepend(ROOT / "examples")
    shop = importlib.import_module("shop")
    shop.app.testing = True
    yield shop
    shop.executor.shutdown()
    with shop.app.app_context():
        shop.db.engine.dispose()
    del sys.modules["shop"]


def test_an_order_sends_its_mail_and_tells_the_hook_until_it_answers(shop: Any) -> None:
    answer = shop.app.test_client().post("/orders", data={"item": "tea"})
    shop.executor.drain(WAIT)

    assert (answer.status_code, answer.json) == (201, {"order": 1})
    assert shop.outbox == ["Your order 1: tea"]
    assert shop.hook_calls == [1]
    assert shop.failures_to_come == []


def test_an_order_that_is_rolled_back_sends_no_mail(shop: Any) -> None:
    answer = shop.app.test_client().post("/orders", data={"item": "boat"})
    shop.executor.drain(WAIT)

    assert answer.status_code == 400
    assert shop.outbox == shop.hook_calls == []


def test_prices_are_asked_for_at_the_same_time(shop: Any) -> None:
    client = shop.app.test_client()

    assert client.get("/prices?item=tea&item=cake").json == {"tea": 3, "cake": 5}
    assert client.get("/prices?item=tea&item=boat").status_code == 404


def test_an_import_does_not_run_twice_at_the_same_time(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    def start() -> int:
        return int(shop.app.test_client().post("/imports/catalogue").status_code)

    with monkeypatch.context() as patch:
        patch.setattr(shop, "import_catalogue", gate)
        assert sorted(at_once(*[start] * 8)) == [202, *[409] * 7]
        gate.open()
        shop.executor.drain(WAIT)
    assert start() == 202
    shop.executor.drain(WAIT)

    assert shop.executor.stats().submitted == 2
    assert shop.app.test_client().get("/imports/catalogue").json == {"state": "succeeded"}
    assert shop.app.test_client().get("/imports/other").status_code == 404

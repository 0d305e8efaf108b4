"""An app with a board, and a client that may act."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_executor import Executor
from flask_executor.board import board
from tests.browsing import chromium
from tests.support import MakeExecutor


@pytest.fixture(params=["memory", "sqlite"])
def executor(
    request: pytest.FixtureRequest, app: Flask, executors: MakeExecutor, tmp_path: Path
) -> Executor:
    """The executor of an app with a board, whose users may do all."""
    app.secret_key = "a secret"
    if request.param == "sqlite":
        app.config["EXECUTOR_STORE"] = f"sqlite:///{tmp_path / 'jobs.db'}"
    executor = executors(app)
    app.register_blueprint(board(executor, authorize=lambda: True), url_prefix="/jobs")
    return executor


@pytest.fixture
def client(executor: Executor, app: Flask) -> FlaskClient:
    """A browser of such a user."""
    return app.test_client()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    with chromium() as browser:
        yield browser

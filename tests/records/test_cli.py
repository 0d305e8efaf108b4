"""The command `flask executor` on jobs of this process; test_command.py has other processes."""

from __future__ import annotations

import re
import threading
import tomllib
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.utils import import_string

from flask_executor import Executor, current_job
from flask_executor.cli import commands
from tests.records.stores import Store
from tests.support import ROOT, Gate, MakeExecutor


def run(app: Flask, *arguments: str) -> tuple[int, str]:
    """The exit code of the command, and its output."""
    result = app.test_cli_runner().invoke(commands, ["create-store", *arguments])
    return result.exit_code, result.output


def make_app(folder: Path, name: str = "", **config: object) -> Flask:
    app = Flask("app", instance_path=str(folder))
    app.config.update(config)
    Executor(app, name=name)
    return app


def test_create_store_makes_the_tables_once(fresh: Store) -> None:
    app = make_app(fresh.folder, EXECUTOR_STORE=fresh.url)

    code, output = run(app)
    assert code == 0
    assert "made the table flask_executor_jobs\n" in output
    assert fresh.execute("SELECT version FROM flask_executor_store") == [(1,)]

    assert run(app) == (0, "there was nothing to make: all tables are there\n")


def test_create_store_makes_the_tables_of_a_named_executor(file: Store) -> None:
    app = make_app(file.folder, "mail", MAIL_EXECUTOR_STORE=file.url)

    code, output = run(app)
    assert code == 2
    assert "has no executor without a name; choose one of: --name mail" in output
    code, output = run(app, "--name", "post")
    assert code == 2
    assert "has no executor named 'post'" in output
    assert run(app, "--name", "mail")[0] == 0
    assert (file.folder / "jobs.db").exists()


def test_create_store_without_a_store_says_what_to_set(tmp_path: Path) -> None:
    code, output = run(make_app(tmp_path))

    assert code == 2
    assert "EXECUTOR_STORE is not set" in output
    assert "EXECUTOR_STORE = 'sqlite:///jobs.db'" in output


def test_create_store_says_why_the_tables_cannot_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "jobs.db"
    folder.mkdir()

    code, output = run(make_app(tmp_path, EXECUTOR_STORE="sqlite:///jobs.db"))

    assert (code, output) == (1, "Error: the tables cannot be made: unable to open database file\n")


def test_create_store_says_what_to_do_with_tables_of_a_newer_version(file: Store) -> None:
    app = make_app(file.folder, EXECUTOR_STORE=file.url)
    run(app)
    file.execute("UPDATE flask_executor_store SET version = 2")

    code, output = run(app)

    assert code == 1
    assert re.match("Error: the tables in EXECUTOR_STORE have version 2, .*; install ", output)


@pytest.mark.parametrize(
    "group",
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "flask.commands"
    ].items(),
)
def test_flask_finds_the_commands(group: tuple[str, str]) -> None:
    name, path = group

    assert import_string(path).name == name


@pytest.fixture
def stored(app: Flask, executors: MakeExecutor, tmp_path: Path) -> Executor:
    """An executor with a database."""
    return executors(app, store=f"sqlite:///{tmp_path}/jobs.db")


def test_cancel_tells_of_a_job_that_has_stopped_by_itself(
    app: Flask, stored: Executor, gate: Gate
) -> None:
    is_over = threading.Event()

    def job() -> None:
        gate()
        while not current_job.cancel_requested:
            is_over.wait(0.001)

    stored.submit_stored("stops", job)
    gate.await_arrival()
    gate.open()
    result = app.test_cli_runner().invoke(commands, ["cancel", "stops"])

    assert result.exit_code == 0
    assert result.output == "stops was asked to stop, and has ended: it has succeeded.\n"


def test_without_unended_jobs_there_are_no_workers(app: Flask, stored: Executor) -> None:
    stored.submit_stored("power", pow, 2, 5)
    stored.drain()
    result = app.test_cli_runner().invoke(commands, ["workers"])

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No process has jobs that have not ended.\n"

"""Which URLs can be `EXECUTOR_STORE`, and what is said of those that cannot."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from flask import Flask

from flask_executor import Executor, InvalidSetting
from flask_executor.records.urls import check_url, file_of, in_folder, parse_url

SECRET = f"hunter-{2}"  # a traceback shows lines of the source: it must be in none of them


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///jobs.db", "sqlite"),
        ("sqlite:////var/jobs.db", "sqlite"),
        ("sqlite+pysqlite:///jobs.db", "sqlite+pysqlite"),
        ("postgres://host/name", "postgresql+psycopg"),
        ("postgresql://me:secret@host:5432/name", "postgresql+psycopg"),
        ("mysql://host/name", "mysql+pymysql"),
        ("mariadb://host/name", "mariadb+pymysql"),
        ("mysql+pymysql://host/name", "mysql+pymysql"),
    ],
)
def test_a_url_without_a_driver_gets_one(url: str, driver: str) -> None:
    check_url(url)

    assert parse_url(url).drivername == driver


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (SECRET, "is not the URL of a database; expected 'sqlite:///jobs.db', 'postgresql://"),
        (f"postgresql//me:{SECRET}@host/name", "is not the URL of a database"),
        (f"postgresql://me:{SECRET}@host:{SECRET}/name", "is not the URL of a database"),
        (f"oracle://me:{SECRET}@host/name", "is the URL of a database that is not supported"),
        (f"{SECRET}://me@host/name", "is not the URL of a database"),
        (f"postgresql+nothing://me:{SECRET}@host/name", "a driver that SQLAlchemy does not know"),
        (f"postgresql+asyncpg://me:{SECRET}@host/name", "names asyncpg, a driver for asyncio"),
        ("sqlite://", "is a database in memory, which other processes cannot see"),
        ("sqlite:///:memory:", "is a database in memory"),
        ("sqlite:///file::memory:?uri=true", "is a database in memory"),
        ("sqlite:///file:jobs?mode=memory&uri=true", "is a database in memory"),
    ],
    ids=str,
)
def test_a_url_that_cannot_be_a_store_is_refused_by_init_app_and_not_shown(
    url: str, complaint: str
) -> None:
    app = Flask("app")
    app.config["MAIL_EXECUTOR_STORE"] = url

    with pytest.raises(InvalidSetting, match=r"^MAIL_EXECUTOR_STORE ") as refused:
        Executor(app, name="mail")

    assert complaint in str(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_missing_sqlalchemy_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ImportError, match=r"pip install 'flask-executor\[store\]'"):
        check_url("sqlite:///jobs.db")


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("postgresql://host/name", "psycopg", r"psycopg\[binary\]"),
        ("mysql://host/name", "pymysql", "PyMySQL"),
        ("postgresql+pg8000://host/name", "pg8000", "pg8000"),
    ],
)
def test_a_missing_driver_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ImportError, match=f"needs the driver {module}, .* pip install '{package}'"):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", "/instance/jobs.db"),
        ("sqlite:///data/jobs.db", "/instance/data/jobs.db"),
        ("sqlite:////var/jobs.db", "/var/jobs.db"),
        ("sqlite:///file:jobs.db?mode=ro&uri=true", "/instance/jobs.db"),
    ],
)
def test_the_path_of_a_file_is_relative_to_the_instance_folder(url: str, path: str) -> None:
    assert file_of(in_folder(parse_url(url), "/instance")) == Path(path)


def test_the_name_of_a_database_on_a_server_is_no_file() -> None:
    url = parse_url("postgresql://host/name")

    assert in_folder(url, "/instance") == url
    assert file_of(url) is None


@pytest.mark.slow
def test_an_app_without_a_store_does_not_import_sqlalchemy() -> None:
    code = (
        "import sys, flask, flask_executor\n"
        "flask_executor.Executor(flask.Flask('app')).submit(int).result()\n"
        "assert 'sqlalchemy' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)

    assert (done.returncode, done.stderr) == (0, b"")

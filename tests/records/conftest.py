"""Databases: a file, and one on each server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.records.servers import Mariadb, Postgresql, Server
from tests.records.stores import Store


class Databases:
    """Makes databases of one kind.

    :param make: returns the URL of a new one
    """

    def __init__(self, make: Callable[[], str]) -> None:
        self.make = make
        self._shared = ""

    def shared(self) -> str:
        """The URL of one that many tests use, each of which leaves it empty."""
        self._shared = self._shared or self.make()
        return self._shared


def served(kind: type[Server], package: str) -> Iterator[Databases]:
    """Makes databases on a server of that kind."""
    try:
        server = kind()
    except FileNotFoundError as error:
        pytest.skip(f"the machine does not have {error}: apt-get install {package}")
    numbers = itertools.count(1)
    yield Databases(lambda: server.database(f"jobs_{next(numbers)}"))
    server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Databases]:
    """Databases on a server that the tests share."""
    yield from served(Postgresql, "postgresql")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Databases]:
    """Databases on a server that the tests share."""
    yield from served(Mariadb, "mariadb-server")


@pytest.fixture
def sqlite() -> Databases:
    """A file in the folder of the test."""
    return Databases(lambda: "sqlite:///jobs.db")


KINDS = ["sqlite", "postgresql", "mariadb"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A database of each kind, without records."""
    store = Store(request.getfixturevalue(request.param).shared(), tmp_path / "instance")
    yield store
    store.delete_all()
    store.close()


@pytest.fixture(params=KINDS)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A database of each kind, without tables."""
    store = Store(request.getfixturevalue(request.param).make(), tmp_path / "instance")
    yield store
    store.close()


@pytest.fixture(params=KINDS[1:])
def on_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A database of each kind that has a server, without tables."""
    store = Store(request.getfixturevalue(request.param).make(), tmp_path / "instance")
    yield store
    store.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Store]:
    """A SQLite file that is not there yet."""
    store = Store("sqlite:///jobs.db", tmp_path / "instance")
    yield store
    store.close()

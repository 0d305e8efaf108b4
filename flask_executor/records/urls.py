"""The URL of the database that keeps the records: what is accepted, and what is made of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ..exceptions import InvalidSetting

if TYPE_CHECKING:
    from sqlalchemy import URL


_EXPECTED = (
    "expected 'sqlite:///jobs.db', 'postgresql://user:password@host/database' or "
    "'mysql://user:password@host/database'"
)

# The drivers of URLs that name none.
_SCHEMES = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}

_BACKENDS = frozenset({"sqlite", "postgresql", "mysql", "mariadb"})

# The names under which pip knows drivers, where they are not the names in the URL.
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pymysql": "PyMySQL",
    "mysqldb": "mysqlclient",
}


def check_url(url: str, key: str = "EXECUTOR_STORE") -> None:
    """Refuse a URL of which no store can be made. Connects to nothing; shows no part of the URL.

    :param key: the config key that has the URL
    :raises InvalidSetting: if it is no URL of a database that can be a store
    :raises ImportError: if SQLAlchemy or the driver of the database is not installed
    """
    if importlib.util.find_spec("sqlalchemy") is None:
        raise ImportError(
            f"{key} needs the package SQLAlchemy; pip install 'flask-executor[store]'"
        )
    import sqlalchemy.exc  # noqa: PLC0415 - slow to import, and only a store needs it

    try:
        parsed = parse_url(url)
    # The text of a ValueError, for a port that is no number, has a part of the URL.
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise InvalidSetting(f"{key} is not the URL of a database; {_EXPECTED}") from None
    if parsed.get_backend_name() not in _BACKENDS:
        raise InvalidSetting(f"{key} is the URL of a database that is not supported; {_EXPECTED}")
    if _is_in_memory(parsed):
        raise InvalidSetting(
            f"{key} is a database in memory, which other processes cannot see; expected a file, "
            "such as 'sqlite:///jobs.db', or None for records of this process in memory"
        )
    _check_driver(parsed, key)


def parse_url(url: str) -> URL:
    """The parts of *url*, with a driver."""
    from sqlalchemy import make_url  # noqa: PLC0415 - slow to import, and only a store needs it

    parsed = make_url(url)
    return parsed.set(drivername=_SCHEMES.get(parsed.drivername, parsed.drivername))


def in_folder(url: URL, folder: str) -> URL:
    """The URL with the whole path of the file, if it is that of a SQLite file.

    :param folder: the folder of files whose paths are relative
    """
    name = url.database
    if url.get_backend_name() != "sqlite" or name is None:
        return url
    scheme = "file:" if name.startswith("file:") else ""
    return url.set(database=f"{scheme}{Path(folder, name.removeprefix(scheme))}")


def file_of(url: URL) -> Path | None:
    """The SQLite file of a URL from `in_folder`; None for other databases."""
    if url.get_backend_name() != "sqlite" or url.database is None:
        return None
    return Path(url.database.removeprefix("file:"))


def _is_in_memory(url: URL) -> bool:
    if url.get_backend_name() != "sqlite":
        return False
    name = (url.database or "").removeprefix("file:")
    return name in {"", ":memory:"} or url.query.get("mode") == "memory"


def _check_driver(url: URL, key: str) -> None:
    import sqlalchemy.exc  # noqa: PLC0415 - slow to import, and only a store needs it

    try:
        dialect = url.get_dialect()
    except sqlalchemy.exc.NoSuchModuleError:
        raise InvalidSetting(f"{key} names a driver that SQLAlchemy does not know") from None
    if dialect.is_async:
        raise InvalidSetting(
            f"{key} names {dialect.driver}, a driver for asyncio; expected none, or another driver"
        )
    try:
        dialect.import_dbapi()
    except ImportError as error:
        package = _PACKAGES.get(dialect.driver, dialect.driver)
        raise ImportError(
            f"{key} needs the driver {dialect.driver}, which cannot be imported ({error}); "
            f"pip install '{package}'"
        ) from error

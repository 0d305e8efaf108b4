"""The records of one executor of one app, in a database, by SQLAlchemy Core."""

from __future__ import annotations

from .changes import SqlChanges
from .connections import Connections
from .queries import SqlQueries
from .selecting import Owner


class SqlDatabase:
    """The records of one executor of one app, in a database; see `Database`.

    Opens nothing before the first query or change, which makes the tables if they are missing.

    :param url: as `check_url` accepts it
    :param setting: the config key that has the URL
    :param process: names this process in the rows of its jobs; unique across machines
    :param ttl: seconds that the record of an ended job is kept
    :param instance_path: the folder of SQLite files whose paths are relative
    """

    def __init__(
        self,
        url: str,
        *,
        setting: str,
        app: str,
        executor: str,
        process: str,
        host: str,
        pid: int,
        ttl: float,
        instance_path: str,
    ) -> None:
        self._connections = connections = Connections(url, instance_path, setting)
        owner = Owner(app, executor)
        self.queries = SqlQueries(connections, owner)
        self.changes = SqlChanges(connections, owner, process=process, host=host, pid=pid, ttl=ttl)

    @property
    def answered_at(self) -> float:
        """The time of its last answer as its tables were looked for, or made; see `Database`."""
        return self._connections.answers.last_at

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

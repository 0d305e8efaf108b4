"""Records in a database, which every process sees: with ``EXECUTOR_STORE``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..exceptions import StoreUnavailable
from ..jobs.collection import duplicate
from ..jobs.ids import is_id
from ..messages.shown import kind_of
from .app_json import AppJson
from .lookup import Lookup
from .outages import OutageNotices
from .readers import READ, Readers
from .row import claim_of, row_of
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from concurrent.futures import Future

    from flask import Flask

    from ..jobs.collection import FutureCollection
    from ..jobs.item import WorkItem
    from ..jobs.options import OnDuplicate
    from .database import Database
    from .entry import Entry
    from .history import Ends
    from .process import ProcessRecord
    from .record import JobRecord, RecordState
    from .row import Row
    from .store import Wanted

# All in seconds.
_CATCH_UP = 1.0  # How long a reader waits until what this process has done is written.
_CLOSE = 2.0  # How long the end of the process waits until all is written.

_MAX_KEY = 255  # characters


class SharedStore:
    """The records of one executor of one app, in a database.

    :param app: the app's name
    :param executor: the executor's name
    :param process: names this process among all that use the database
    :param setting: the config key, for messages
    :param find_app: returns the app, which this must not keep alive; None if it is gone
    :param cancel: cancels a job of this process; it may run code of the user's
    """

    is_shared = True

    def __init__(
        self,
        database: Database,
        *,
        app: str,
        executor: str,
        process: str,
        setting: str,
        find_app: Callable[[], Flask | None],
        cancel: Callable[[WorkItem], None],
    ) -> None:
        self._database = database
        self._queries = database.queries
        self._changes = database.changes
        self._claim_of: Callable[[str], str] = partial(claim_of, app, executor)
        self._setting = setting
        self._cancel = cancel
        self._outages = OutageNotices(find_app, setting)
        json = AppJson(find_app)
        self._writer = Writer(
            database,
            partial(_rows_of, json, app=app, process=process),
            self._outages,
            on_cancel=self._on_cancel,
        )
        self._backlog = self._writer.backlog
        self._readers = Readers(database, setting)
        self._lookup = Lookup(
            self._queries, self._readers, self._backlog, loads=json.loads, cancel=self.cancel
        )

    def attach(self, futures: FutureCollection) -> None:
        """Do nothing: the database decides which job has a key."""

    def put(self, entry: Entry) -> None:
        """Take in a new job of this process, or a change of it."""
        self._writer.put(entry)

    def check_key(self, key: Hashable) -> None:
        """Refuse a key that cannot be kept in a database.

        :raises TypeError: if *key* is no str
        :raises ValueError: if it is too long
        """
        if not isinstance(key, str):
            raise TypeError(
                f"the key is {kind_of(key)}; with {self._setting} a key is a str, so that other "
                "processes can find it"
            )
        if len(key) > _MAX_KEY:
            raise ValueError(
                f"the key has {len(key)} characters; with {self._setting} it has at most {_MAX_KEY}"
            )

    def claim(
        self, entry: Entry, on_duplicate: OnDuplicate, *, needs_answer: bool
    ) -> Future[Any] | None:
        """Keep the key of a new job for it, in all processes; or return the future to use instead.

        If the database does not answer within a second, the key is unique in this process only.

        :param needs_answer: whether the job is not to run if nobody knows whether the key is free
        :raises DuplicateKey: if another job has the key, as *on_duplicate* says
        :raises StoreUnavailable: if an answer is needed, and the database gives none
        """
        is_away = self._writer.is_away()
        claim = self._claim_of(str.__str__(cast("str", entry.key)))
        answer = self._writer.claim(entry, claim, replaces=on_duplicate == "replace")
        if not is_away:
            error = answer.exception() if self._writer.has_answered(answer) else TimeoutError()
            is_away = error is not None
            if error is not None:
                self._writer.warn_away(error)
        if is_away:
            if needs_answer and answer.cancel():  # Else it is being written, or was.
                self._backlog.live.pop(entry.id, None)
            if needs_answer:
                raise StoreUnavailable(f"the database of {self._setting} is away")
            return None
        found = answer.result()
        if found is None:
            return None
        self._backlog.live.pop(entry.id, None)
        if on_duplicate == "return":
            return self._lookup.future(found)
        record = self._lookup.record(found)
        raise duplicate(
            entry.key,
            f"that of the job {record.name!r}, in the state {record.state!r}, of the process "
            f"{record.pid} on {record.host}",
            on_duplicate,
        )

    def release(self, id: str) -> None:  # noqa: A002 - as the record's field
        """Free the key of a job; its record stays."""
        self._backlog.release(id)

    def future(self, key: Hashable, own: Future[Any] | None) -> Future[Any] | None:
        """A future of the job that has the key; *own* if that job has it, or nobody knows."""
        if not isinstance(key, str):
            return own
        id_ = getattr(own, "id", None)
        if own is not None and (id_ is None or id_ in self._backlog.live or self._writer.is_away()):
            return own
        try:
            found = self._lookup.holder(self._claim_of(key), READ if own is None else _CATCH_UP)
        except StoreUnavailable:
            if own is None:
                raise
            return own
        if found is not None and found.row["id"] == id_:
            return own
        return None if found is None else self._lookup.future(found)

    def pop(self, key: Hashable, own: Future[Any] | None) -> Future[Any] | None:
        """Do as `future` does, and free the key; of several callers, one gets the future."""
        id_ = getattr(own, "id", None)
        if not isinstance(key, str) or (own is not None and id_ is None):
            return own
        try:
            found = self._lookup.holder(self._claim_of(key))
            is_freed = found is not None and self._readers.ask(
                self._changes.release, found.row["id"]
            )
        except StoreUnavailable:
            if id_ is None:
                raise
            self._backlog.release(id_)
            return own
        if found is None:  # Another process has freed the key of a job that had ended.
            return None if own is None or own.done() else own
        if not is_freed:
            return None
        return own if found.row["id"] == id_ else self._lookup.future(found)

    def get(self, key_or_id: Hashable) -> JobRecord | None:
        """The record of the job that has the key, or the id."""
        if not isinstance(key_or_id, str):
            return None
        by_id = self._backlog.live.get(key_or_id)
        if self._writer.is_away():
            entry = self._backlog.live_with_key(key_or_id) or by_id
            if entry is not None:
                return entry.record()
        self._writer.catch_up(_CATCH_UP)
        # A key first, also if it is the id of another job.
        found = self._lookup.holder(self._claim_of(key_or_id))
        if found is None and by_id is not None:
            return by_id.record()
        if found is None and is_id(key_or_id):  # A database may refuse to compare other texts.
            found = self._readers.ask(self._queries.by_id, key_or_id)
        return None if found is None else self._lookup.record(found)

    def processes(self) -> list[ProcessRecord]:
        """The processes that have jobs which have not ended, by host and pid."""
        self._writer.catch_up(_CATCH_UP)
        return self._readers.ask(self._queries.processes)

    def list(self, wanted: Wanted) -> list[JobRecord]:
        """Records, those submitted last first."""
        self._writer.catch_up(_CATCH_UP)
        return [
            self._lookup.record(found) for found in self._readers.ask(self._queries.list, wanted)
        ]

    def counts(self) -> dict[RecordState, int]:
        """How many jobs are in each state."""
        self._writer.catch_up(_CATCH_UP)
        return self._readers.ask(self._queries.counts)

    def ends(self, since: float) -> Ends:
        """The jobs that have ended since then, counted; if there are many, only some have times."""
        self._writer.catch_up(_CATCH_UP)
        return self._readers.ask(self._queries.ends, since)

    def cancel(self, record: JobRecord) -> bool:
        """Cancel a job, or have its process cancel it; False if it has ended."""
        item = self._backlog.item_of(record.id)
        if item is not None:
            item.cancel()
            return True
        if record.is_ended or record.state == "lost":
            return False
        self._readers.ask(self._changes.request_cancel, record.id)
        return True

    def forget(self, record: JobRecord) -> bool:
        """Delete the record of a job that has ended; False if it has not."""
        self._writer.catch_up(_CATCH_UP)
        return self._readers.ask(self._changes.forget, record.id)

    def close(self) -> None:
        """Write all that is to be written, and end the threads; wait for a bounded time."""
        unwritten = self._writer.close(_CLOSE)
        if unwritten:
            self._outages.unwritten(unwritten)
        self._readers.close()
        if not self._writer.is_running():  # Otherwise the writer closes its own connections.
            self._database.close()

    def _on_cancel(self, ids: Sequence[str]) -> None:
        for each in ids:
            item = self._backlog.item_of(each)
            if item is not None:
                self._cancel(item)


def _rows_of(json: AppJson, entries: Sequence[Entry], *, app: str, process: str) -> list[Row]:
    rows = (row_of(entry, app=app, process=process, dumps=json.dumps) for entry in entries)
    # To enter an app context takes longer than to write most results.
    return json.call(list, rows) if len(entries) > 1 else list(rows)

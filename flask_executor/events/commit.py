"""Jobs that start once a SQLAlchemy session has committed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from ..threads.conditions import RLock
from ..threads.pool import run_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from .waiting import Waiting


# Where a session keeps its `Commits`.
_KEY = "flask_executor.commits"

# Where SQLAlchemy has the classes of sessions; whoever has a session has imported its module.
_CLASSES = {
    "sqlalchemy.orm": ("Session", "scoped_session"),
    "sqlalchemy.ext.asyncio": ("AsyncSession", "async_scoped_session"),
}


class Commits:
    """Follows the transactions of one session, for the jobs that wait for a commit.

    It listens as long as the session lives: SQLAlchemy cannot remove a listener from within an
    event. It does not keep the session alive.
    """

    def __init__(self, session: Any) -> None:
        from sqlalchemy import event  # noqa: PLC0415 - optional, and imported by now

        self._lock = RLock()
        # The jobs that wait, each with the transactions that it depends on: the outermost, and the
        # savepoints around its `submit`. Guarded by _lock.
        self._waiting: dict[Waiting, WeakSet[Any]] = {}
        self._is_committed = False
        # First, as a listener of the app may raise.
        event.listen(session, "after_commit", self._on_commit, insert=True)
        event.listen(session, "after_soft_rollback", self._on_rollback)
        event.listen(session, "after_transaction_end", self._on_end)
        # A session that is dropped is not closed.
        finalize(session, self._on_dropped).atexit = False

    def add(self, session: Any, waiting: Waiting) -> None:
        """Have *waiting* start at the end of the session's transaction, if that is a commit."""
        if session.get_transaction() is None:
            session.begin()  # Else no event would tell that the session is closed.
        transactions: WeakSet[Any] = WeakSet()
        transaction = session.get_nested_transaction() or session.get_transaction()
        while transaction is not None:
            transactions.add(transaction)
            transaction = transaction.parent
        with self._lock:
            self._waiting[waiting] = transactions

    def _on_commit(self, session: Any) -> None:
        if session.get_nested_transaction() is None:  # It is not the release of a savepoint.
            self._is_committed = True

    def _on_rollback(self, _: Any, transaction: Any) -> None:
        for waiting in self._take(lambda transactions: transaction in transactions):
            waiting.cancel()

    def _on_end(self, _: Any, transaction: Any) -> None:
        # Not in `_on_commit`: until the end of the transaction, nobody can use the session.
        if transaction.parent is None:
            self._end()

    def _on_dropped(self) -> None:
        if self._waiting:  # Apart, as a garbage collection may run where a lock is held.
            run_apart(self._end)

    def _end(self) -> None:
        """Start the jobs that wait, after a commit; else cancel them."""
        is_committed, self._is_committed = self._is_committed, False
        for waiting in self._take(lambda _: True):
            if is_committed:
                waiting.start()
            else:
                waiting.cancel()

    def _take(self, is_wanted: Callable[[WeakSet[Any]], bool]) -> list[Waiting]:
        with self._lock:
            taken = [each for each, on in self._waiting.items() if is_wanted(on)]
            for each in taken:
                del self._waiting[each]
        return taken


class NextCommit:
    """The next commit of *session*, as an `Event`."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def add(self, waiting: Waiting) -> None:
        """Have *waiting* started, or cancelled."""
        info = self._session.info
        commits: Commits = info.get(_KEY) or info.setdefault(_KEY, Commits(self._session))
        commits.add(self._session, waiting)


def is_session(value: object) -> bool:
    """Whether *value* is a session of SQLAlchemy, or stands for one; imports nothing."""
    for module, names in _CLASSES.items():
        found = sys.modules.get(module)
        if found is not None and isinstance(value, tuple(getattr(found, each) for each in names)):
            return True
    return False


def next_commit(session: Any) -> NextCommit:
    """The next commit of *session*, for which `is_session` is true, or of the one it stands for."""
    if hasattr(session, "registry"):  # It is scoped: there is one for each app context, say.
        session = session.registry()
    return NextCommit(getattr(session, "sync_session", session))

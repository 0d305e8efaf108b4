"""Jobs that start once a SQLAlchemy session has committed."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize, ref

from ..threads.conditions import RLock
from ..threads.pool import run_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from .waiting import Waiting


# The key under which a session keeps its `Commits`.
_KEY = "flask_executor.commits"

# The reason in the log for a job that does not start although nobody decided so. A view may have
# forgotten the commit, or may have committed before it submitted the job.
_FORGOTTEN = "the session that it waited for was closed without a commit"

# The modules of SQLAlchemy's session classes. Code that has a session has imported its module.
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

        self._session = ref(session)
        self._lock = RLock()
        # The jobs that wait, each with the transactions that it depends on: the outermost, and the
        # savepoints around its `submit`. Guarded by _lock.
        self._waiting: dict[Waiting, WeakSet[Any]] = {}
        self._committed: WeakSet[Any] = WeakSet()  # transactions, also released savepoints
        self._rolled_back: WeakSet[Any] = WeakSet()  # transactions, not those that were closed
        # First, as a listener of the app may raise.
        event.listen(session, "after_commit", self._on_commit, insert=True)
        event.listen(session, "after_rollback", self._on_rollback, insert=True)
        event.listen(session, "after_transaction_end", self._on_end)
        # A session that is dropped is not closed.
        finalize(session, self._on_dropped).atexit = False

    def is_of(self, session: object) -> bool:
        """Whether it follows *session*."""
        return self._session() is session

    def add(self, session: Any, waiting: Waiting) -> None:
        """Have *waiting* start at the end of the session's transaction, if that is a commit."""
        if session.get_transaction() is None:
            session.begin()  # Else no event would tell that the session is closed.
        transactions: WeakSet[Any] = WeakSet()
        transaction = _innermost(session)
        while transaction is not None:
            transactions.add(transaction)
            transaction = transaction.parent
        with self._lock:
            self._waiting[waiting] = transactions

    def _on_commit(self, session: Any) -> None:
        self._committed.add(_innermost(session))

    def _on_rollback(self, session: Any) -> None:
        self._rolled_back.add(_innermost(session))

    def _on_end(self, _: Any, transaction: Any) -> None:
        # Not in `_on_commit`: until the end of the transaction, nobody can use the session. And no
        # event names each savepoint that is rolled back: not that of a flush that fails.
        is_committed, is_outermost = transaction in self._committed, transaction.parent is None
        if is_outermost:
            why = "" if transaction in self._rolled_back else _FORGOTTEN
            self._end(is_committed=is_committed, why=why)
        elif transaction.nested and not is_committed:
            for waiting in self._take(lambda transactions: transaction in transactions):
                waiting.cancel()

    def _on_dropped(self) -> None:
        if self._waiting:  # Apart, as a garbage collection may run where a lock is held.
            run_apart(partial(self._end, is_committed=False, why=_FORGOTTEN))

    def _end(self, *, is_committed: bool, why: str) -> None:
        """Start the jobs that wait, after a commit; else cancel them, and log *why*, if not ""."""
        for waiting in self._take(lambda _: True):
            if is_committed:
                waiting.start()
            else:
                waiting.cancel(why)

    def _take(self, is_wanted: Callable[[WeakSet[Any]], bool]) -> list[Waiting]:
        with self._lock:
            taken = [each for each, on in self._waiting.items() if is_wanted(on)]
            for each in taken:
                del self._waiting[each]
        return taken


def _innermost(session: Any) -> Any:
    """The transaction of *session*, or the innermost of its savepoints; None if there is none."""
    return session.get_nested_transaction() or session.get_transaction()


class NextCommit:
    """The next commit of *session*, as an `Event`."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def add(self, waiting: Waiting) -> None:
        """Have *waiting* started, or cancelled."""
        session, info = self._session, self._session.info
        commits: Commits | None = info.get(_KEY)
        if commits is None or not commits.is_of(session):  # An app may copy the info of another.
            info[_KEY] = commits = Commits(session)
        commits.add(session, waiting)


def is_session(value: object) -> bool:
    """Whether *value* is a session of SQLAlchemy, or stands for one; imports nothing."""
    for module, names in _CLASSES.items():
        found = sys.modules.get(module)
        if found is not None and isinstance(value, tuple(getattr(found, each) for each in names)):
            return True
    return False


def next_commit(session: Any) -> NextCommit:
    """The next commit of *session*, for which `is_session` is true, or of the one it stands for.

    :raises RuntimeError: if its transaction is over, and only its end is to come
    """
    if hasattr(session, "registry"):  # It is scoped: there may be one for each app context.
        session = session.registry()
    session = getattr(session, "sync_session", session)
    if not session.is_active:  # In a listener of its commit, nobody can add one: that would raise.
        raise RuntimeError(
            "after=session is too late: the session is being committed, or has to be rolled back; "
            "submit before that, or without 'after'"
        )
    return NextCommit(session)

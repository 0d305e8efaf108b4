"""The thread that writes records, in batches, so that no job waits for a database."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..threads.conditions import LightEvent, LightFuture, RLock, wait_for
from ..threads.pool import start_thread
from ..threads.unjoined import UnjoinedThread
from .backlog import Backlog
from .batch_writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from .database import Database, Found
    from .entry import Entry
    from .outages import OutageNotices
    from .row import Row


# All in seconds.
_LINGER = 0.02  # A short job is written once, and not three times.
_SILENCE = 1.0  # After that time without an answer, the database is taken to be away.
_FIRST = 5.0  # How long a job waits for its key while the first use of the database gets answers.
_BEAT = 0.5  # How often it says that this process lives, and looks for requests to cancel.
_BACKLOG = 8.0  # How much longer the end of the process waits if the database is only slow.
_IDLE = 2.0  # After that time without work, the thread ends.
_RETRY, _MAX_RETRY = 0.25, 5.0  # after a failure
_EXPIRE = 10.0  # How often expired records are deleted.

# So many entries may wait with their results while the database is away; further ones without.
_MOST_RESULTS = 1_000
# So many entries may wait in all; new jobs have no record then.
_MOST = 100_000

AWAY = "the database did not answer when the job ended"


class Writer:
    """Writes the changes of records in batches, in a thread that ends when there is no more work.

    :param rows_of: makes the rows of entries
    :param outages: told when the database fails, and when it answers again
    :param on_cancel: called with the ids of jobs that another process asks to cancel
    """

    def __init__(
        self,
        database: Database,
        rows_of: Callable[[Sequence[Entry]], Sequence[Row]],
        outages: OutageNotices,
        *,
        on_cancel: Callable[[Sequence[str]], None],
    ) -> None:
        self._database = database
        self._outages = outages
        self._on_cancel = on_cancel
        self.backlog: Backlog = Backlog(self._on_work, self._wake)
        self._lock = RLock()  # guards _thread and _lost
        self._batches = BatchWriter(
            self.backlog, database.changes, rows_of, on_give_up=self._count_lost
        )
        self._thread: threading.Thread | None = None
        self._lost = 0
        self._told = 0  # the unwritten jobs that `close` has returned while the thread cannot end
        self._has_work = LightEvent()
        self._is_closing = threading.Event()
        self._is_closed = False  # Jobs that end later are still written.
        self._is_warned = False  # of the database that is away
        # This and all below are changed by the thread only.
        self._is_lingering = False
        self._worked_at = time.monotonic()
        self._began: float | None = None  # when the transaction began that is under way
        self._is_failing = False  # whether the last one has failed
        self._retry = _RETRY
        self._beaten_at = self._expired_at = time.monotonic()

    def put(self, entry: Entry) -> None:
        """Have a change written soon."""
        if entry.is_ended and len(self.backlog) > _MOST_RESULTS and self.is_away():
            entry.drop_result(AWAY)
            self.warn_away(None)
        # The end of a job that has a row is never given up: the row would say "running" for ever.
        if not (entry.is_known or entry.is_dirty or entry.is_final) and self._is_full():
            entry.is_final = True
            return
        self.backlog.put(entry)

    def claim(self, entry: Entry, claim: str, *, replaces: bool) -> Future[Found | None]:
        """Have a key claimed as soon as can be; the result is the job that has it, or None."""
        if self._is_full():
            entry.is_final = True
            answer: Future[Found | None] = LightFuture()
            answer.set_result(None)
            return answer
        return self.backlog.claim(entry, claim, replaces=replaces)

    def is_away(self) -> bool:
        """Whether the database fails, or has not answered for some seconds."""
        began = self._began
        if began is not None:
            began = max(began, self._database.answered_at)
        is_silent = began is not None and time.monotonic() - began > _SILENCE
        # Warned: a caller that has begun to wait earlier than the thread has found it silent.
        return self._is_failing or self._is_warned or is_silent

    def has_answered(self, answer: Future[Any]) -> bool:
        """Wait for the answer to a claim; return whether there is one."""
        end = time.monotonic() + _FIRST
        while not wait_for(answer, _SILENCE):
            # The first use asks many questions, which takes longer on a machine that is busy.
            now = time.monotonic()
            is_silent = now - self._database.answered_at > _SILENCE
            if is_silent or self.is_away() or now > end:
                return False
        return True

    def flush(self, timeout: float, backlog: float = 0.0) -> bool:
        """Wait until all is written that is to be written now; False if that takes too long.

        :param backlog: seconds to wait longer, as long as the database answers
        """
        passed = self.backlog.mark()
        wait_for(passed, timeout)
        end = time.monotonic() + backlog
        while not (passed.done() or self.is_away()) and time.monotonic() < end:
            wait_for(passed, _SILENCE)
        return passed.done()

    def catch_up(self, timeout: float) -> None:
        """Have a reader see what this process has done, if the database answers in time."""
        if not self.is_away() and (self.backlog or not self._batches.batch.is_empty()):
            self.flush(timeout)

    def close(self, timeout: float) -> int:
        """Write all, and say that this process has ended; or give up when the time is up.

        A shutdown closes, and the end of the interpreter does so again: if the thread still has no
        answer then, it is not waited for once more.

        :returns: how many jobs have a change that is not written, without those returned before
        """
        self._is_closed = True
        if self._thread is None and not self.backlog:
            return 0
        is_waited_for = not self._is_closing.is_set()
        is_written = self.flush(timeout if is_waited_for else 0, _BACKLOG)
        with self._lock:
            thread = self._thread
        unwritten = 0
        if not is_written:
            unwritten = self.backlog.count_unwritten(self._batches.batch) + self._lost
        self._is_closing.set()
        self._has_work.set()
        # Without an answer of the database, the thread cannot be ended.
        if thread is not None and (is_written or self._is_failing):
            thread.join(timeout)
        told, self._told = 0 if is_waited_for else self._told, unwritten
        return max(unwritten - told, 0)

    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None

    def _is_full(self) -> bool:
        """Whether a new job can have no record, as too many wait to be written; counts that job."""
        if len(self.backlog) < _MOST or not self.is_away():
            return False
        self._count_lost()
        return True

    def _count_lost(self) -> None:
        """Count a job that has no record."""
        with self._lock:
            self._lost += 1

    def _on_work(self) -> None:
        # A thread that lingers takes the work in any case: this looks after the work is there.
        if not self._is_lingering:
            self._wake()

    def _wake(self) -> None:
        self._has_work.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._thread = thread = UnjoinedThread(self._run, (), name="flask_executor-records")
        try:
            start_thread(thread)
        except (RuntimeError, MemoryError):  # as the interpreter ends
            self._thread = None

    def _run(self) -> None:
        while not self._is_over():
            self._wait()
            self._step()

    def _wait(self) -> None:
        """Wait for work, or for the time to show a sign of life, or to try again."""
        if self._is_failing:
            self._is_closing.wait(self._retry)
            return
        # The last batch may have left some.
        self._has_work.wait(0 if self.backlog else _BEAT if self.backlog.live else _IDLE)
        if self.backlog.may_linger():
            self._is_lingering = True
            self._has_work.wait(_LINGER)
            self._is_lingering = False

    def _is_over(self) -> bool:
        """Whether the thread is to end; another one may have begun then."""
        is_closing = self._is_closing.is_set()
        is_idle = not (self.backlog or self.backlog.live) and self._batches.batch.is_empty()
        idle = 0.0 if self._is_closed else _IDLE
        if not is_closing and (not is_idle or time.monotonic() - self._worked_at < idle):
            return False
        if is_closing:
            self._is_closing.clear()
            self._leave()
        elif self._is_closed:  # Nobody else closes the connections that were opened since.
            self._database.close()
        self._thread = None
        # Work may have come from a thread that has not seen that this one ends.
        return not self.backlog or not self._take_over()

    def _leave(self) -> None:
        if self._is_failing or not self._batches.batch.is_empty():  # What is left is given up.
            self._batches.clear()
            self._database.close()
            return
        with suppress(Exception):
            self._database.changes.leave()

    def _take_over(self) -> bool:
        """Have this thread be the writer's, if none is."""
        with self._lock:
            is_free = self._thread is None
            if is_free:
                self._thread = threading.current_thread()
            return is_free

    def _step(self) -> None:
        now = self._began = time.monotonic()
        try:
            if self._batches.write():
                self._worked_at = now
            if self.backlog.live and now - self._beaten_at >= _BEAT:
                self._beat()
            if now - self._expired_at >= _EXPIRE and not self._database.changes.expire():
                self._expired_at = now
        except Exception as error:
            self._note_failure(error)
        else:
            self._note_success()
        finally:
            self._began = None

    def _note_failure(self, error: Exception) -> None:
        is_again = self._is_failing
        self._retry = min(self._retry * 2, _MAX_RETRY) if is_again else _RETRY
        self._is_failing = True
        self.warn_away(error)
        if is_again and self._is_alive():
            self._batches.write_singly(self._is_alive)

    def _note_success(self) -> None:
        self._is_failing = False
        if self._is_warned:
            self._is_warned, lost, self._lost = False, self._lost, 0
            self._outages.back(lost)

    def warn_away(self, error: BaseException | None) -> None:
        """Warn, once until it answers again, that the database fails or does not answer."""
        if not self._is_warned:
            self._is_warned = True
            self._outages.away(error or TimeoutError())

    def _is_alive(self) -> bool:
        """Whether the database answers, so that the rows are to blame for a failure."""
        try:
            self._beat()
        except Exception:
            return False
        return True

    def _beat(self) -> None:
        cancelled = self._database.changes.beat()
        self._beaten_at = time.monotonic()
        if cancelled:
            self._on_cancel(cancelled)

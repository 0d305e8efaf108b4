"""Writing batches of changes, and telling those who wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .backlog import Batch
from .conflicts import is_outage
from .database import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .backlog import Backlog
    from .database import Changes, Found
    from .entry import Entry
    from .row import Row


class BatchWriter:
    """Takes batches out of a backlog and writes them, each in one transaction.

    The writer's thread calls all methods.

    :param rows_of: makes the rows of entries
    :param on_give_up: called for each job whose record the database refuses
    """

    def __init__(
        self,
        backlog: Backlog,
        changes: Changes,
        rows_of: Callable[[Sequence[Entry]], Sequence[Row]],
        *,
        on_give_up: Callable[[], None],
    ) -> None:
        self._backlog = backlog
        self._changes = changes
        self._rows_of = rows_of
        self._on_give_up = on_give_up
        self.batch = Batch()
        """The batch that is being written, or was not written as the database failed."""

    def write(self) -> bool:
        """Write the batch, or a new one; return whether there was anything to write."""
        batch = self.batch
        if batch.is_empty():
            self._backlog.take(batch)
            if batch.is_empty():
                return False
        self._write(batch)
        return True

    def write_singly(self, is_alive: Callable[[], bool]) -> None:
        """Write a batch that fails piece by piece, and give up the pieces that are to blame.

        :param is_alive: returns whether the database answers
        """
        left = Batch()
        left.marks = self.batch.marks
        pieces = self.batch.pieces()
        for piece in pieces:
            error = self._try(piece)
            if is_outage(error):
                if not is_alive():
                    left.add(piece)
                    break
                error = self._try(piece)  # It may have been away for a moment only.
            if error is None or self._is_written_in_short(piece, error):
                continue
            if is_outage(error):
                left.add(piece)
            else:
                self._give_up(piece, error)
        for piece in pieces:
            left.add(piece)
        self.batch = left

    def clear(self) -> None:
        """Give up everything, here and in the backlog."""
        self._backlog.clear()
        self.batch = Batch()

    def _write(self, batch: Batch) -> None:
        wishes = list(batch.wishes.values())
        entries = [entry for entry in batch.entries.values() if not entry.is_final]
        rows = self._rows_of(entries)
        wanted = zip(wishes, self._rows_of([each.entry for each in wishes]), strict=True)
        claims = [Claim(each.claim, row, each.replaces) for each, row in wanted]
        holders: list[Found | None] = []
        if rows or claims or batch.released:
            holders = self._changes.write(rows, batch.released, claims)
        if batch is self.batch:  # before anybody is told that it is written
            self.batch = Batch()
        self._backlog.end(batch)
        for entry, row in zip(entries, rows, strict=True):
            self._note_written(entry, row)
        for wish, claim, holder in zip(wishes, claims, holders, strict=True):
            if holder is None:
                self._note_written(wish.entry, claim.row)
            elif wish.entry.id in batch.with_wishes:  # Another job has the key, but not the record.
                self._backlog.put(wish.entry)
            wish.answer.set_result(holder)
        for mark in batch.marks:
            mark.passed.set_result(None)

    def _try(self, batch: Batch) -> Exception | None:
        """Write *batch*, and return the error if that fails."""
        try:
            self._write(batch)
        except Exception as error:
            return error
        return None

    def _is_written_in_short(self, piece: Batch, error: Exception) -> bool:
        """Write *piece* without results and texts of errors; return whether that was possible."""
        # The server may not take so much at once: MySQL then closes the connection, as if it were
        # away. Or its encoding may lack a character.
        entries = [entry for entry in piece.recorded() if entry.result is not None or entry.error]
        if not entries:
            return False
        kept = [(entry.result, entry.result_missing, entry.error) for entry in entries]
        for entry in entries:
            entry.shorten(f"the database has refused it: {type(error).__name__}")
        if self._try(piece) is None:
            return True
        for entry, contents in zip(entries, kept, strict=True):
            entry.result, entry.result_missing, entry.error = contents
        return False

    def _note_written(self, entry: Entry, row: Row) -> None:
        # Not the entry's own state: the job may have ended since.
        if row["ended_at"] is not None:
            self._backlog.drop(entry)

    def _give_up(self, piece: Batch, error: Exception) -> None:
        self._backlog.end(piece)
        for entry in piece.entries.values():
            self._drop(entry)
        for wish in piece.wishes.values():
            self._drop(wish.entry)
            wish.answer.set_exception(error)

    def _drop(self, entry: Entry) -> None:
        self._on_give_up()
        self._backlog.drop(entry)

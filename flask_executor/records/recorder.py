"""Follows the jobs of one app that are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exceptions import DuplicateKey, StoreUnavailable
from .entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ..jobs.item import WorkItem
    from ..jobs.options import OnDuplicate
    from ..jobs.outcome import Outcome
    from ..settings import Settings
    from .store import RecordStore


class Recorder:
    """Follows the jobs of one app that are recorded, and puts each change into the store.

    :param on_begin: called before the first job is recorded
    """

    def __init__(
        self, store: RecordStore, settings: Settings, *, on_begin: Callable[[], None]
    ) -> None:
        self.store = store
        self._on_begin: Callable[[], None] | None = on_begin  # None once it was called
        self._executor = settings.name
        self._only_types = settings.store_errors == "type"
        # Jobs that have not ended. Each change is one step, which needs no lock.
        self._entries: dict[WorkItem, Entry] = {}

    def claim(
        self, item: WorkItem, on_duplicate: OnDuplicate, *, needs_answer: bool
    ) -> Future[Any] | None:
        """Keep the key of a job that is being submitted; or return the future to use instead.

        :param needs_answer: whether the job is not to run if nobody knows whether the key is free
        :raises DuplicateKey: if a job of another process has the key, as *on_duplicate* says
        :raises StoreUnavailable: if an answer is needed, and the database gives none
        """
        self._entries[item] = entry = self._entry(item)
        try:
            found = self.store.claim(entry, on_duplicate, needs_answer=needs_answer)
        except (DuplicateKey, StoreUnavailable):
            self._entries.pop(item, None)  # It is gone if the job was cancelled meanwhile.
            raise
        if found is not None:
            self._entries.pop(item, None)
        return found

    def note(self, item: WorkItem, old: str | None, new: str, outcome: Outcome | None) -> None:
        """Note that *item* goes from *old* to *new*; see `runners.transitions.on_transition`."""
        entry = self._entries.get(item)
        if entry is None:
            if old is not None:  # It was overdue, and its end has been noted.
                return
            entry = self._entries[item] = self._entry(item)
        if new == "running":
            entry.begin(item.attempt)
        elif new == "retrying":
            entry.wait_again()
        elif new != "pending":
            del self._entries[item]
            entry.end("failed" if new == "overdue" else new, outcome)  # type: ignore[arg-type]
        self.store.put(entry)

    def drop(self, item: WorkItem) -> None:
        """Note that a job whose key was claimed was not submitted after all."""
        self.note(item, "pending", "cancelled", None)

    def note_progress(self, item: WorkItem) -> None:
        """Note that *item* has come further."""
        entry = self._entries.get(item)
        if entry is not None:
            self.store.put(entry)

    def _entry(self, item: WorkItem) -> Entry:
        begin, self._on_begin = self._on_begin, None
        if begin is not None:
            begin()
        return Entry(item, self._executor, only_types=self._only_types)

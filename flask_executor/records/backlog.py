"""The changes of records that are to be written, in their order, and the jobs that they are of."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from ..threads.conditions import LightFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from concurrent.futures import Future

    from ..jobs.item import WorkItem
    from .database import Found
    from .entry import Entry


_MAX_BATCH = 2_000

# Seconds that changes wait while claims come one after the other.
_PATIENCE = 0.1


class Wish(NamedTuple):
    """A key that a job wants; *answer* tells who has it, or None."""

    entry: Entry
    claim: str
    replaces: bool
    answer: Future[Found | None]


class Release(NamedTuple):
    """A key to be freed: that of the job with this id."""

    id: str


class Mark(NamedTuple):
    """A place in the queue; *passed* is done when all before it is written."""

    passed: Future[None]


class Batch:
    """Work for one transaction. The database does the rows first, then releases, then claims."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.released: list[str] = []
        self.wishes: dict[str, Wish] = {}
        self.with_wishes: dict[str, Entry] = {}
        """Changes of jobs whose keys are claimed here: a claim writes the whole record."""
        self.marks: list[Mark] = []

    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.entries or self.released or self.wishes or self.marks)

    def recorded(self) -> list[Entry]:
        """The jobs whose records are to be written."""
        return [*self.entries.values(), *(wish.entry for wish in self.wishes.values())]

    def take_claims(self, claims: deque[Wish]) -> None:
        """Take claims that need not wait for other work."""
        while claims and len(self.wishes) < _MAX_BATCH:
            self._take_claim(claims.popleft())

    def take_from(self, work: deque[Any]) -> None:
        """Take work, up to the first key to be freed that is claimed in this batch."""
        while work and len(self.entries) + len(self.wishes) < _MAX_BATCH:
            piece = work[0]
            if isinstance(piece, Mark):
                self.marks.append(piece)
            elif isinstance(piece, Wish):
                self._take_claim(piece)
            elif isinstance(piece, Release):
                if piece.id in self.wishes:
                    return
                self.released.append(piece.id)
            else:
                piece.is_dirty = False  # From here on, a change puts it into the queue again.
                piece.is_known = True
                (self.with_wishes if piece.id in self.wishes else self.entries)[piece.id] = piece
            work.popleft()

    def pieces(self) -> Iterator[Batch]:
        """Split all but the marks into batches of one change, one key to be freed or one claim."""
        for id_, entry in self.entries.items():
            piece = Batch()
            piece.entries[id_] = entry
            yield piece
        for id_ in self.released:
            piece = Batch()
            piece.released.append(id_)
            yield piece
        for id_, wish in self.wishes.items():
            piece = Batch()
            piece.wishes[id_] = wish
            if id_ in self.with_wishes:
                piece.with_wishes[id_] = self.with_wishes[id_]
            yield piece

    def add(self, other: Batch) -> None:
        """Take in the work of another batch."""
        self.entries |= other.entries
        self.released += other.released
        self.wishes |= other.wishes
        self.with_wishes |= other.with_wishes
        self.marks += other.marks

    def _take_claim(self, wish: Wish) -> None:
        if wish.answer.set_running_or_notify_cancel():
            self.wishes[wish.entry.id] = wish


class Backlog:
    """The changes of records that are to be written.

    Any thread puts work in; the writer's thread takes batches out.

    :param on_work: called without arguments when work has come, in the thread that brings it
    :param on_urgent_work: the same, for work that somebody waits for
    """

    def __init__(self, on_work: Callable[[], None], on_urgent_work: Callable[[], None]) -> None:
        self._on_work = on_work
        self._on_urgent_work = on_urgent_work
        self.live: dict[str, Entry] = {}
        """By id, the jobs that have not ended, or whose end is not written yet."""
        self._live_by_key: dict[Hashable, Entry] = {}
        # A claim goes before all other work, as its submitter waits, but for one that has to come
        # after some of that.
        self._claims: deque[Wish] = deque()
        self._work: deque[Any] = deque()  # entries, releases, marks, and those claims
        self._releases: set[str] = set()  # the ids in releases that are not done
        self._awaited: set[Future[Any]] = set()  # what somebody waits for, in `_work`
        self._taken_at = time.monotonic()  # when a batch was last filled from `_work`

    def __len__(self) -> int:
        return len(self._claims) + len(self._work)

    def put(self, entry: Entry) -> None:
        """Take in a job that has changed, unless it is in already."""
        if entry.is_dirty or entry.is_final:
            return
        self.live[entry.id] = entry
        entry.is_dirty = True
        self._work.append(entry)
        self._on_work()

    def claim(self, entry: Entry, claim: str, *, replaces: bool) -> Future[Found | None]:
        """Take in a key that a job wants; the result is the job that has it, or None."""
        answer: Future[Found | None] = LightFuture()
        must_wait = self._releases or self.live_with_key(entry.key) is not None
        self.live[entry.id] = self._live_by_key[entry.key] = entry
        entry.is_known = True
        wish = Wish(entry, claim, replaces, answer)
        if must_wait:
            self._awaited.add(answer)
            self._work.append(wish)
        else:
            self._claims.append(wish)
        self._on_urgent_work()
        return answer

    def release(self, id: str) -> None:  # noqa: A002 - as the record's field
        """Take in a key that is free: that of the job with this id."""
        self._releases.add(id)
        self._work.append(Release(id))
        self._on_work()

    def mark(self) -> Future[None]:
        """Return a future that is done when all that is here now is written."""
        mark = Mark(LightFuture())
        self._awaited.add(mark.passed)
        self._work.append(mark)
        self._on_urgent_work()
        return mark.passed

    def released(self) -> set[str]:
        """The ids of jobs whose keys are free, which the database does not know yet."""
        return set(self._releases)

    def live_with_key(self, key: Hashable) -> Entry | None:
        """The job of this process that has *key*, and has not ended or is not written."""
        entry = self._live_by_key.get(key)
        return entry if entry is not None and entry.id in self.live else None

    def item_of(self, id: str) -> WorkItem | None:  # noqa: A002 - as the record's field
        """The job of this process with this id, if it has not ended."""
        entry = self.live.get(id)
        return None if entry is None else entry.item

    def may_linger(self) -> bool:
        """Whether there is work, and nobody waits for it."""
        return bool(self._work) and not (self._claims or self._awaited)

    def take(self, batch: Batch) -> None:
        """Fill an empty *batch*: with claims, or else with other work.

        Work that has waited for a while comes with the claims: these may never end.
        """
        batch.take_claims(self._claims)
        now = time.monotonic()
        if batch.is_empty() or now - self._taken_at > _PATIENCE:
            self._taken_at = now
            batch.take_from(self._work)

    def end(self, batch: Batch) -> None:
        """Note that *batch* is written, or given up."""
        self._releases.difference_update(batch.released)
        self._awaited.difference_update(mark.passed for mark in batch.marks)
        self._awaited.difference_update(wish.answer for wish in batch.wishes.values())

    def drop(self, entry: Entry) -> None:
        """Let go of a job that is not written any more."""
        entry.is_final = True
        entry.result = None
        self.live.pop(entry.id, None)
        if self._live_by_key.get(entry.key) is entry:
            del self._live_by_key[entry.key]

    def count_unwritten(self, batch: Batch) -> int:
        """How many jobs have a change that is here, or in *batch*."""
        dirty = {entry.id for entry in list(self.live.values()) if entry.is_dirty}
        return len(dirty.union(list(batch.entries), list(batch.wishes)))

    def clear(self) -> None:
        """Give up everything."""
        for each in (
            self._claims,
            self._work,
            self._awaited,
            self._releases,
            self.live,
            self._live_by_key,
        ):
            each.clear()

"""Reading the records again and again, for ``flask executor watch``."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from ..exceptions import StoreUnavailable
from .chosen import why_away

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..records.face import Records
    from ..records.process import ProcessRecord
    from ..records.record import JobRecord, RecordState

# How many records are read; more have no place in a terminal. Those of ended jobs are read for each
# state.
_RUNNING, _ENDED = 100, 20

_OVER: tuple[RecordState, ...] = ("succeeded", "failed", "cancelled", "lost")


@dataclass(frozen=True, eq=False)
class Look:
    """The records that were read at one moment.

    :param ended: the jobs that have ended or are lost, those that ended last first
    """

    at: datetime
    counts: dict[RecordState, int]
    processes: list[ProcessRecord]
    running: list[JobRecord]
    ended: list[JobRecord]


@dataclass(frozen=True, eq=False)
class Seen:
    """The last look, and the trouble since then.

    :param look: the last look that has succeeded; None before the first one
    :param trouble: the reason why a later one has failed; None if none has
    """

    look: Look | None
    trouble: str | None


class Looks:
    """Reads the records again and again in a thread: a database that is away answers late."""

    def __init__(self, records: Records, interval: float) -> None:
        self.last = Seen(None, None)
        self._records = records
        self._interval = interval
        self._is_over = threading.Event()
        # Nobody waits for it: it may wait for the database.
        self._thread = threading.Thread(target=self._look, name="flask_executor-watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read no more."""
        self._is_over.set()

    def _look(self) -> None:
        while not self._is_over.is_set():
            try:
                self.last = Seen(look_at(self._records), None)
            except StoreUnavailable as error:
                self.last = Seen(self.last.look, why_away(error))
            except Exception as error:  # which would end the thread, and the view would stand still
                self.last = Seen(self.last.look, f"{type(error).__name__} while reading")
            self._is_over.wait(self._interval)


def look_at(records: Records) -> Look:
    """Read the records that `watch` shows."""
    return Look(
        at=datetime.now(UTC),
        counts=records.counts(),
        processes=records.processes(),
        running=records.list("running", limit=_RUNNING, results=False),
        ended=sorted(_over(records), key=_end_of, reverse=True),
    )


def _over(records: Records) -> Iterator[JobRecord]:
    for state in _OVER:
        yield from records.list(state, limit=_ENDED, results=False)


def _end_of(record: JobRecord) -> datetime:
    return record.ended_at or record.started_at or record.submitted_at

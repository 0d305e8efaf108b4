"""The stores of records, as the executor sees them, and the choice of records for a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable
    from concurrent.futures import Future
    from typing import Any

    from ..jobs.collection import FutureCollection
    from ..jobs.options import OnDuplicate
    from .entry import Entry
    from .history import Ends
    from .process import ProcessRecord
    from .record import JobRecord, RecordState


class Wanted(NamedTuple):
    """The records that a list is to have; None stands for all.

    :param name: that of the job's function
    :param limit: how many records at most: those of the jobs that were submitted last
    :param before: an id; only jobs that were submitted before that one
    :param key: only jobs whose key is a str that begins with this text
    :param results: whether to read results and tracebacks, which may be large
    """

    state: RecordState | None
    name: str | None
    limit: int
    before: str | None
    key: str | None = None
    results: bool = True


class RecordStore(Protocol):
    """The records of one executor of one app: in memory, or in a database.

    The methods that a job calls, `put` and `release`, never block and never raise. All may be
    called from any thread.
    """

    is_shared: bool
    """Whether other processes see these records, too."""

    def attach(self, futures: FutureCollection) -> None:
        """Note the collection that has the futures of this process by key."""

    def put(self, entry: Entry) -> None:
        """Take in a new job of this process, or a change of it."""

    def check_key(self, key: Hashable) -> None:
        """Refuse a key that cannot be kept.

        :raises TypeError: if *key* has a wrong type
        :raises ValueError: if it is too long
        """

    def claim(
        self, entry: Entry, on_duplicate: OnDuplicate, *, needs_answer: bool
    ) -> Future[Any] | None:
        """Keep the key of a new job for it, in all processes; or return the future to use instead.

        :param needs_answer: whether the job is not to run if nobody knows whether the key is free
        :raises StoreUnavailable: if an answer is needed, and there is none
        :raises DuplicateKey: if another job has the key, as *on_duplicate* says
        """
        ...

    def release(self, id: str) -> None:  # noqa: A002 - as the record's field
        """Free the key of a job soon; its record stays."""

    def future(self, key: Hashable, own: Future[Any] | None) -> Future[Any] | None:
        """A future of the job that has the key.

        :param own: that of the job of this process that had it last; it is returned if that job
            still has it, or nobody knows
        """
        ...

    def pop(self, key: Hashable, own: Future[Any] | None) -> Future[Any] | None:
        """Do as `future` does, and free the key; of several callers, one gets the future."""
        ...

    def get(self, key_or_id: Hashable) -> JobRecord | None:
        """The record of the job that has the key, or the id."""
        ...

    def processes(self) -> list[ProcessRecord]:
        """The processes that have jobs which have not ended, by host and pid."""
        ...

    def list(self, wanted: Wanted) -> list[JobRecord]:
        """Records, those submitted last first."""
        ...

    def counts(self) -> dict[RecordState, int]:
        """How many jobs are in each state."""
        ...

    def ends(self, since: float) -> Ends:
        """The jobs that have ended since then, counted; if there are many, only some have times.

        :param since: the beginning of a minute, in seconds since the epoch
        """
        ...

    def cancel(self, record: JobRecord) -> bool:
        """Cancel a job, or have its process cancel it; False if it has ended."""
        ...

    def forget(self, record: JobRecord) -> bool:
        """Delete the record of a job that has ended; False if it has not."""
        ...

    def close(self) -> None:
        """Write all that is to be written, and end the threads; wait for a bounded time."""

"""A database of records, as a store sees it: queries, and changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .history import Ends
    from .process import ProcessRecord
    from .record import RecordState
    from .row import Row
    from .store import Wanted


class Claim(NamedTuple):
    """The wish to keep a key for one job.

    :param claim: see `row.claim_of`
    :param row: the record of the job that wants the key
    :param replaces: whether it takes the key from a job that has ended, or is lost
    """

    claim: str
    row: Row
    replaces: bool


class Found(NamedTuple):
    """A row that was read.

    :param is_alive: whether its process has given a sign of life in the last 8 seconds
    """

    row: Row
    is_alive: bool


class Queries(Protocol):
    """Reads the records of one executor of one app.

    All methods block, and raise what SQLAlchemy raises. Any thread may call any method.
    """

    def by_claim(self, claim: str) -> Found | None:
        """The job that has a key."""
        ...

    def by_id(self, id: str) -> Found | None:  # noqa: A002 - as the column
        """The job with this id, if it is of this app and executor."""
        ...

    def by_ids(self, ids: Sequence[str]) -> list[Found]:
        """Those of the jobs that are there."""
        ...

    def processes(self) -> list[ProcessRecord]:
        """The processes that have jobs which have not ended, by host and pid."""
        ...

    def list(self, wanted: Wanted) -> list[Found]:
        """Records, those submitted last first."""
        ...

    def counts(self) -> dict[RecordState, int]:
        """How many jobs are in each state; states without jobs are left out."""
        ...

    def ends(self, since: float) -> Ends:
        """The jobs that have ended since then, counted; if there are many, only some have times.

        :param since: the beginning of a minute, in seconds since the epoch
        """
        ...


class Changes(Protocol):
    """Changes the records of one executor of one app; each method is one short transaction.

    All methods block, and raise what SQLAlchemy raises. Any thread may call any method.
    """

    def write(
        self, rows: Sequence[Row], released: Sequence[str], claims: Sequence[Claim]
    ) -> list[Found | None]:
        """Say that this process lives; save *rows*; free keys; then claim keys. One transaction.

        A row that is there is replaced but for its claim. A claim saves its row.

        :param released: the ids of jobs whose keys are to be free; keys they do not have stay
        :returns: for each claim the job that has the key; None if the claim has succeeded
        """
        ...

    def beat(self) -> list[str]:
        """Say that this process lives; return the ids of its jobs that somebody asked to cancel.

        Each request is returned once.
        """
        ...

    def release(self, id: str) -> bool:  # noqa: A002 - as the column
        """Free the key of a job; whether it had one."""
        ...

    def request_cancel(self, id: str) -> None:  # noqa: A002 - as the column
        """Have the process of a job find a request to cancel it at its next `beat`."""

    def forget(self, id: str) -> bool:  # noqa: A002 - as the column
        """Delete the record of a job that has ended or is lost; whether there was one."""
        ...

    def expire(self) -> int:
        """Delete a small number of expired records, and return that number."""
        ...

    def leave(self) -> None:
        """Say that this process has ended: its jobs that have not, are lost from now on."""


class Database(Protocol):
    """The records of one executor of one app."""

    @property
    def queries(self) -> Queries:
        """Reads them."""
        ...

    @property
    def changes(self) -> Changes:
        """Changes them."""
        ...

    @property
    def answered_at(self) -> float:
        """The time of its last answer as its tables were looked for, or made.

        By the monotonic clock; -inf if it never has.
        """
        ...

    def close(self) -> None:
        """Close the connections, which the next query or change opens again."""

"""The jobs that ended in each of the last minutes, counted, and their durations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .record import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from ..stats import End

SAMPLE = 5_000
"""Of more ended jobs than that, the durations of about so many are looked at."""

_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Spread:
    """The durations of the jobs of a minute.

    :param median: seconds, as `p95`
    :param p95: 95 of 100 jobs took no longer
    """

    median: float
    p95: float

    def as_dict(self) -> dict[str, float]:
        """All of it, for JSON."""
        return {"median": self.median, "p95": self.p95}


@dataclass(frozen=True, slots=True)
class Minute:
    """The jobs that ended within one minute; a lost job has not ended.

    :param begins_at: the beginning of the minute, aware, in UTC
    :param succeeded: how many jobs succeeded in it
    :param failed: how many failed
    :param cancelled: how many were cancelled
    :param waited: how long they had waited before their last start; None if none has started
    :param ran: how long their last attempts took; None as for *waited*
    """

    begins_at: datetime
    succeeded: int
    failed: int
    cancelled: int
    waited: Spread | None
    ran: Spread | None

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON; the time is a text in the format of ISO 8601."""
        return {
            "begins_at": self.begins_at.isoformat(),
            "succeeded": self.succeeded,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "waited": None if self.waited is None else self.waited.as_dict(),
            "ran": None if self.ran is None else self.ran.as_dict(),
        }


class Ended(NamedTuple):
    """How many jobs ended in a state, in a minute since the epoch."""

    minute: int
    state: End
    jobs: int


class Times(NamedTuple):
    """The times when a job was submitted, started and ended, in seconds since the epoch."""

    submitted_at: float
    started_at: float
    ended_at: float


class Ends(NamedTuple):
    """The jobs that have ended, counted; if there are many, only some have times."""

    counts: Sequence[Ended]
    times: Sequence[Times]


def minute_at(seconds: float) -> int:
    """The minute of a time; both are counted from the epoch."""
    return int(seconds // _MINUTE)


def seconds_of(minute: int) -> float:
    """The beginning of that minute, in seconds since the epoch."""
    return float(minute * _MINUTE)


def minutes_of(ends: Ends, first: int, minutes: int) -> list[Minute]:
    """A `Minute` for each minute from *first* on, also for those in which no job ended."""
    counts = {(minute, state): jobs for minute, state, jobs in ends.counts}
    waited: dict[int, list[float]] = {}
    ran: dict[int, list[float]] = {}
    for times in ends.times:
        minute = minute_at(times.ended_at)
        # A clock may have been set back.
        waited.setdefault(minute, []).append(max(0.0, times.started_at - times.submitted_at))
        ran.setdefault(minute, []).append(max(0.0, times.ended_at - times.started_at))
    return [
        Minute(
            begins_at=moment(seconds_of(minute)),
            succeeded=counts.get((minute, "succeeded"), 0),
            failed=counts.get((minute, "failed"), 0),
            cancelled=counts.get((minute, "cancelled"), 0),
            waited=_spread(waited.get(minute, ())),
            ran=_spread(ran.get(minute, ())),
        )
        for minute in range(first, first + minutes)
    ]


def _spread(seconds: Iterable[float]) -> Spread | None:
    ordered = sorted(seconds)
    return Spread(_rank(ordered, 0.5), _rank(ordered, 0.95)) if ordered else None


def _rank(ordered: Sequence[float], part: float) -> float:
    """The percentile by the nearest rank: a value that is there."""
    return ordered[math.ceil(part * len(ordered)) - 1]

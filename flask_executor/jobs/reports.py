"""The reports of a running job about its progress."""

from __future__ import annotations

import math
import operator
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from typing import Any, cast

from ..messages.shown import kind_of, shown_number
from .progress import Progress

# At most 10 reports a second are published; after a pause, 10 more at once. The formula is that of
# the generic cell rate algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
_INTERVAL = 0.1
_AT_ONCE = 10 * _INTERVAL

MOST = 2**63 - 1
"""The greatest number in a report; it fits into the integers of databases."""

# The first report that another one is compared with: how much was done, on which clock time, and
# the seconds since the epoch.
First = tuple[float, float, float]

# A report: done, total, message, its time on this machine's monotonic clock, and the first report.
Report = tuple[float, float | None, str, float, First]

_NO_REPORT = (math.inf, None, "", 0.0, (0.0, 0.0, 0.0))


class Reports:
    """The last report of a job's attempt, and when reports are published.

    A report is one tuple, so that readers in other threads see all of it or nothing. To publish it
    is the business of the caller.
    """

    __slots__ = ("_is_closed", "_published", "due", "latest")

    def __init__(self) -> None:
        self.latest: Report = _NO_REPORT
        """The last report."""
        self.due = -math.inf
        """No report before this time is published, but for that which says that all is done."""
        self._published: Report = _NO_REPORT
        self._is_closed = False

    def note(self, done: float, total: float | None, message: str) -> bool:
        """Keep a report; return whether to publish it now, as for the first one.

        :raises TypeError: if a value has the wrong type
        :raises ValueError: if a number is out of range
        """
        now = monotonic()
        last_done, *_, first = self.latest
        done = _checked("done", done)
        if total is not None:
            total = _checked("total", total)
        if not isinstance(message, str):
            raise TypeError(f"message is {kind_of(message)}; expected a str")
        if self._is_closed:
            return False
        if done < last_done:
            first = (done, now, time())
        self.latest = (done, total, message, now, first)
        if now < self.due and (done != total or self._is_complete_published()):
            return False
        self.due = max(now, self.due + _AT_ONCE) + _INTERVAL - _AT_ONCE
        self._published = self.latest
        return True

    def take(self, report: Any) -> bool:
        """Keep a report that came from another process; return whether to publish it."""
        if self._is_closed:
            return False
        done, total, message, at, (first_done, first_at, begun) = report
        latest: Report = (done, total, message, at, (first_done, first_at, begun))
        if latest == self._published:
            return False
        self.latest = self._published = latest
        return True

    def take_unpublished(self) -> bool:
        """Whether the last report was not published; the caller does that now."""
        if self._published is self.latest:
            return False
        self._published = self.latest
        return True

    def close(self) -> None:
        """Take no more reports, as the attempt has ended."""
        self._is_closed = True
        self.due = -math.inf

    def read(self) -> Progress:
        """The last report."""
        return _read(self.latest)

    def _is_complete_published(self) -> bool:
        done, total, *_ = self._published
        return done == total


class GroupReports:
    """The reports of a group's jobs, added up; the caller holds a lock.

    A job that has reported nothing counts as 0 of 1. A job that has ended is complete, however it
    has ended.
    """

    __slots__ = ("_done", "_first", "_updated")

    def __init__(self) -> None:
        self._updated = monotonic()
        self._first: First = (0, self._updated, time())
        self._done: float = 0  # by the jobs that have ended

    def add_ended(self, reports: Reports | None) -> None:
        """Add a job that has ended."""
        self._updated = monotonic()
        if reports is None:
            self._done += 1
        else:
            done, total, *_ = reports.latest
            self._done += max(done, total or 0)

    def read(self, unfinished: list[Reports | None]) -> Progress:
        """The sum with the jobs that have not ended."""
        done = self._done
        total: float | None = done
        for reports in unfinished:
            its_done, its_total, *_ = (0, 1) if reports is None else reports.latest
            done += its_done
            total = None if total is None or its_total is None else total + max(its_done, its_total)
        at = monotonic() if unfinished else self._updated
        return _read((done, total, "", at, self._first))


def _read(report: Report) -> Progress:
    done, total, message, at, (first_done, first_at, begun) = report
    seconds = at - first_at
    started_at = datetime.fromtimestamp(begun, UTC)
    return Progress(
        done,
        total,
        message,
        started_at=started_at,
        updated_at=started_at + timedelta(seconds=seconds),
        rate=(done - first_done) / seconds if seconds > 0 else None,
    )


def _checked(name: str, value: object) -> float:
    """The number that *value* is; NumPy's integers are no `int`."""
    number = value
    if not isinstance(value, (int, float)) and hasattr(value, "__index__"):
        number = operator.index(cast("Any", value))
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} is {kind_of(value)}; expected a number")
    if not 0 <= number <= MOST:  # true of nan, too
        raise ValueError(f"{name} is {shown_number(number)}; expected a number from 0 to 2**63 - 1")
    return int(number) if isinstance(number, int) else float(number)

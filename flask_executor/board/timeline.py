"""The jobs of the last minutes as bars, in a lane for each worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..records import JobRecord

MINUTES = 10
"""The part of the past that is drawn, in minutes."""

WIDTH = 100.0
"""The right end of the timeline, which is now; the left end is 0. So places are in percent."""

MOST_BARS = 300
MOST_LANES = 40

_LEAST_WAITING = 10  # So many lanes are for jobs that wait, if there are as many.
_LEAST = 0.3  # the width of the shortest bar, which must be seen
_LEAST_FOR_NAME = 4.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One job: it waits from *waited_from* to *x*, and runs from there.

    :param width: 0 of a job that has not started
    """

    record: JobRecord
    waited_from: float
    x: float
    width: float

    @property
    def has_room(self) -> bool:
        """Whether the name of the job can be read in the bar."""
        return self.width >= _LEAST_FOR_NAME


@dataclass(slots=True)
class Lane:
    """Jobs of one process that did not run at the same time, as one worker may have run them.

    :param number: counts the lanes of the process, from 1; 0 for the jobs that wait
    """

    host: str
    pid: int
    number: int
    bars: list[Bar] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawing of a timeline.

    :param waiting: lanes of jobs that have not started, each with one job
    :param left_out: how many of the given jobs were not drawn, as there are too many
    :param is_cut: whether jobs are missing that were submitted before the others
    """

    begins_at: datetime
    ends_at: datetime
    lanes: list[Lane]
    waiting: list[Lane]
    left_out: int
    is_cut: bool


def timeline_of(
    newest: Sequence[JobRecord],
    now: datetime,
    *,
    others: Iterable[JobRecord] = (),
    has_more: bool = False,
) -> Timeline:
    """Draw the jobs that ran or waited in the last minutes.

    :param newest: the jobs that were submitted last, the last one first
    :param others: more jobs that run
    :param has_more: whether jobs were submitted before the newest
    """
    begin = now - timedelta(minutes=MINUTES)
    records = [*newest, *others]
    seen = {each.id: each for each in records if _ends_at(each, now) >= begin}
    shown = sorted(seen.values(), key=_importance, reverse=True)[:MOST_BARS]
    scale = _Scale(begin, now)
    waiting = [each for each in shown if not _has_started(each)]
    started = (each for each in shown if _has_started(each))
    lanes = _most_important(_lanes(started, scale), MOST_LANES - min(len(waiting), _LEAST_WAITING))
    waiting = waiting[: MOST_LANES - len(lanes)]
    return Timeline(
        begins_at=begin,
        ends_at=now,
        lanes=lanes,
        waiting=[Lane(each.host, each.pid, 0, [scale.bar(each)]) for each in waiting],
        left_out=len(seen) - len(waiting) - sum(len(lane.bars) for lane in lanes),
        is_cut=has_more and newest[-1].submitted_at > begin,
    )


class _Scale:
    """The place of a time on the timeline."""

    def __init__(self, begin: datetime, now: datetime) -> None:
        self._begin, self._now = begin, now

    def bar(self, record: JobRecord) -> Bar:
        """The bar of a job."""
        waited_from = self._at(record.submitted_at)
        if not _has_started(record):
            end = self._at(_ends_at(record, self._now))
            return Bar(record, waited_from, max(end, waited_from + _LEAST), 0)
        x = self._at(record.started_at or self._begin)
        end = self._at(_ends_at(record, self._now))
        return Bar(record, min(waited_from, x), x, max(round(end - x, 2), _LEAST))

    def _at(self, time: datetime) -> float:
        part = (time - self._begin) / (self._now - self._begin)
        return round(WIDTH * min(max(part, 0.0), 1.0), 2)


def _importance(record: JobRecord) -> tuple[bool, str]:
    """Sorts the jobs that run, and those that were submitted last, to the end."""
    return record.state == "running", record.id


def _most_important(lanes: list[Lane], most: int) -> list[Lane]:
    """At most so many lanes, in the same order; a job that runs is the last one of its lane."""
    ranked = sorted(lanes, key=lambda lane: _importance(lane.bars[-1].record), reverse=True)
    kept = {(lane.host, lane.pid, lane.number) for lane in ranked[:most]}
    return [lane for lane in lanes if (lane.host, lane.pid, lane.number) in kept]


def _lanes(records: Iterable[JobRecord], scale: _Scale) -> list[Lane]:
    lanes: list[Lane] = []
    ordered = sorted(records, key=lambda each: (each.host, each.pid, each.started_at, each.id))
    for (host, pid), jobs in groupby(ordered, key=attrgetter("host", "pid")):
        own: list[Lane] = []
        for record in jobs:
            bar = scale.bar(record)
            lane = next((lane for lane in own if _is_free(lane, record)), None)
            if lane is None:
                lane = Lane(host, pid, len(own) + 1)
                own.append(lane)
            lane.bars.append(bar)
        lanes += own
    return lanes


def _is_free(lane: Lane, record: JobRecord) -> bool:
    last = lane.bars[-1].record
    if last.state == "running" or record.started_at is None:
        return False
    return _ends_at(last, record.started_at) <= record.started_at


def _has_started(record: JobRecord) -> bool:
    # A job that waits for its next attempt has started before.
    return record.started_at is not None and record.state != "pending"


def _ends_at(record: JobRecord, now: datetime) -> datetime:
    """The end of the bar; that of a lost job is at its last report."""
    if record.ended_at is not None:
        return record.ended_at
    if record.state != "lost":
        return now
    if record.progress is not None:
        return record.progress.updated_at
    return record.started_at or record.submitted_at

"""The value that says how far a job is, and the reports that it is made of."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flask_executor import Progress
from flask_executor.jobs.reports import Reports

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=10)


def progress(*args: Any, **kwargs: Any) -> Progress:
    return Progress(*args, **({"started_at": NOON, "updated_at": LATER} | kwargs))


def received(done: float, total: float | None, first: float = 0) -> Progress:
    """What is read of a report that was made 10 seconds after the first one."""
    reports = Reports()
    reports.take([done, total, "text", 110.0, [first, 100.0, NOON.timestamp()]])
    return reports.read()


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [
        (0, 10, 0),
        (5, 10, 0.5),
        (0.5, 2, 0.25),
        (10, 10, 1),
        (11, 10, 1),
        (0, 0, 1),
        (5, None, None),
    ],
)
def test_the_fraction_is_the_part_that_is_done(
    done: float, total: float | None, fraction: float | None
) -> None:
    assert progress(done, total).fraction == fraction


@pytest.mark.parametrize(
    ("done", "total", "rate", "time_left"),
    [
        (20, 100, 2.0, 40),
        (100, 100, 2.0, 0),
        (101, 100, None, 0),
        (20, None, 2.0, None),
        (20, 100, None, None),
        (20, 100, 0.0, None),
        (20, 100, 1e-320, None),
    ],
)
def test_the_time_left_is_what_the_rate_says(
    done: float, total: float | None, rate: float | None, time_left: float | None
) -> None:
    assert progress(done, total, rate=rate).time_left == time_left


def test_the_rate_counts_from_the_first_report() -> None:
    resumed = received(done=5020, total=6000, first=5000)

    assert (resumed.rate, resumed.time_left) == (2.0, 490.0)
    assert (resumed.started_at, resumed.updated_at) == (NOON, LATER)
    assert resumed.message == "text"


def test_one_report_alone_has_no_rate() -> None:
    reports = Reports()
    reports.note(3, 10, "")

    first = reports.read()
    assert first.started_at == first.updated_at
    assert (first.rate, first.time_left) == (None, None)


def test_smaller_counts_than_before_begin_anew() -> None:
    reports = Reports()
    reports.take([5, 10, "", 110.0, [0, 100.0, NOON.timestamp()]])

    reports.note(1, 10, "")

    begun = reports.read()
    assert begun.started_at == begun.updated_at > LATER
    assert begun.rate is None


def test_a_progress_does_not_change() -> None:
    value = progress(1)

    with pytest.raises(AttributeError, match="'done' cannot be set: a Progress does not change"):
        value.done = 2
    assert value.done == 1


def test_a_progress_equals_one_of_the_same_values() -> None:
    assert progress(1, 2) == progress(1, 2)
    assert progress(1, 2) != progress(1, 3)
    assert progress(1, 2) != (1, 2)
    assert len({progress(1, 2), progress(1, 2)}) == 1
    assert pickle.loads(pickle.dumps(progress(1, 2))) == progress(1, 2)


def test_a_progress_shows_its_values() -> None:
    assert repr(progress(1, 2, "text")).startswith("Progress(done=1, total=2, message='text', star")


def test_a_progress_goes_into_json() -> None:
    assert json.loads(json.dumps(progress(5, 10, "text", rate=0.5).as_dict())) == {
        "done": 5,
        "total": 10,
        "message": "text",
        "fraction": 0.5,
        "rate": 0.5,
        "time_left": 10,
        "started_at": "2026-01-01T12:00:00+00:00",
        "updated_at": "2026-01-01T12:00:10+00:00",
    }


def test_a_report_that_was_published_is_not_published_again() -> None:
    reports = Reports()
    report = [1, 2, "", 1.0, [0, 0.0, 0.0]]

    assert [reports.take(report), reports.take(report)] == [True, False]
    assert not reports.take_unpublished()


def test_closed_reports_take_no_more() -> None:
    reports = Reports()
    reports.note(1, 2, "")
    reports.close()

    assert not reports.note(2, 2, "")
    assert not reports.take([2, 2, "", 1.0, [0, 0.0, 0.0]])
    assert reports.read().done == 1


def test_the_end_is_published_at_once_and_only_once() -> None:
    reports = Reports()
    while reports.note(1, 2, ""):
        pass  # as many as are allowed at once

    assert [reports.note(2, 2, ""), reports.note(2, 2, ""), reports.note(1, 2, "")] == [
        True,
        False,
        False,
    ]

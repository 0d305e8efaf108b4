"""All that the command shows of a job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from flask_executor import Progress
from flask_executor.cli.details import details_of
from flask_executor.records import JobRecord, RecordedError
from tests.support import job_record

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

PENDING = job_record(NOW)
RUNNING = replace(PENDING, state="running", started_at=NOW)
ENDED = replace(RUNNING, ended_at=NOW + timedelta(seconds=1))


def details(record: JobRecord) -> dict[str, list[str]]:
    return {name: list(lines) for name, lines in details_of(record, NOW + timedelta(seconds=2))}


def test_a_job_that_waits_has_no_times_but_that_of_its_submission() -> None:
    assert details(PENDING) == {
        "state": ["pending"],
        "job": ["report"],
        "key": ["none"],
        "id": ["1"],
        "executor": ["the one without a name"],
        "process": ["7 on host"],
        "attempt": ["1"],
        "submitted": ["2026-01-01 12:00:00 UTC, 2 s ago"],
    }


def test_a_job_that_runs_tells_how_far_it_is_and_the_time_that_is_left() -> None:
    progress = Progress(2, 10, "page", started_at=NOW, updated_at=NOW, rate=1.0)
    without_rate = Progress(2, 10, started_at=NOW, updated_at=NOW)
    shown = details(replace(RUNNING, progress=progress, key="k", executor="mail"))

    assert (shown["key"], shown["executor"]) == (["k"], ["mail"])
    assert (shown["waited"], shown["ran"]) == (["0 ms"], ["2.0 s"])
    assert shown["progress"] == ["20 %, 2 of 10: page"]
    assert shown["left"] == ["about 6.0 s"]
    assert "left" not in details(replace(RUNNING, progress=without_rate))


def test_a_job_that_has_failed_shows_what_is_recorded_of_its_error() -> None:
    error = RecordedError("ValueError", "a\nb", "Traceback:\n  line\n")
    failed = replace(ENDED, state="failed", error=error)
    only_type = replace(failed, error=RecordedError("ValueError", None, None))
    shown = details(failed)

    assert (shown["error"], shown["message"]) == (["ValueError"], ["a", "b"])
    assert shown["traceback"] == ["Traceback:", "  line"]
    assert "result" not in shown
    assert details(only_type)["error"] == ["ValueError"]
    assert {"message", "traceback"}.isdisjoint(details(only_type))


def test_a_job_that_has_succeeded_shows_its_result_or_why_there_is_none() -> None:
    succeeded = replace(ENDED, state="succeeded", result=["sch\xf6n", "\x9b", None])
    missing = replace(ENDED, state="succeeded", result_missing="it is not JSON: TypeError")

    assert details(succeeded)["result"] == ["[", '  "sch\xf6n",', r'  "\x9b",', "  null", "]"]
    assert details(succeeded)["ran"] == ["1.0 s"]
    assert details(missing)["result"] == ["not here: it is not JSON: TypeError"]

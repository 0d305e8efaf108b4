"""How the command shows texts, times and numbers."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flask_executor import Progress
from flask_executor.cli.words import (
    ago,
    duration,
    fate_of,
    how_far,
    how_much,
    note_on,
    visible,
    visible_lines,
    width_of,
)
from flask_executor.records import RecordedError
from flask_executor.records.record import time_left, time_running
from tests.support import job_record

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

RECORD = job_record(NOW, key="k", state="running", started_at=NOW)


def progress(done: float, total: float | None = None, message: str = "") -> Progress:
    return Progress(done, total, message, started_at=NOW, updated_at=NOW, rate=2.0)


def test_no_character_does_anything_to_a_terminal() -> None:
    for character in map(chr, [*range(0x10000), *range(0xE0000, 0xE0200)]):
        shown = visible(character, 9)

        assert shown.isprintable()
        assert (shown == character) == character.isprintable()
        assert unicodedata.bidirectional(shown[0]) not in {"LRE", "RLE", "LRO", "RLO", "PDF"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("schön 🎉 \\n", "schön 🎉 \\n"),
        ("a\nb\r\0\x1b[2J", r"a\nb\r\x00\x1b[2J"),
        ("\u202e\u2066\ud800\u2028", r"\u202e\u2066\ud800\u2028"),
        ("x" * 20, "x" * 20),
        ("x" * 21, "x" * 20 + "…"),
        ("\0" * 1_000_000, r"\x00" * 20 + "…"),
    ],
)
def test_a_text_is_made_visible_on_one_line(text: str, shown: str) -> None:
    assert visible(text, 20) == shown


def test_lines_are_kept_and_the_rest_is_counted() -> None:
    assert visible_lines("a\n\x1b\nb", 9) == ["a", r"\x1b", "b"]
    assert visible_lines("a\n" * 5000, 4) == [
        "a",
        "a",
        "",
        "… (10,000 characters; --json has all of them)",
    ]


@pytest.mark.parametrize(
    ("text", "cells"),
    [("abc", 3), ("schön", 5), ("報告", 4), ("🎉", 2), ("e\N{COMBINING TILDE}", 1)],
)
def test_the_width_of_a_text_is_that_in_a_terminal(text: str, cells: int) -> None:
    assert width_of(text) == cells


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (0.9, "just now"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (7199, "1 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_an_age_has_one_unit(seconds: float, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.9999, "999 ms"),
        (59.99, "59.9 s"),
        (61.5, "1 min 1 s"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_has_the_units_that_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_is_told_with_and_without_a_total() -> None:
    assert (how_far(progress(1, 3)), how_far(progress(2.5))) == ("33 %", "2.50 done")
    assert how_much(progress(1, 3, "a\n")) == r"33 %, 1 of 3: a\n"
    assert how_much(progress(1e6)) == "1,000,000 done"
    assert time_left(progress(1), NOW) is None
    assert time_left(progress(1, 5), NOW + timedelta(seconds=1)) == 1
    assert time_left(progress(1, 5), NOW + timedelta(seconds=9)) == 0


def test_a_note_says_how_far_a_job_is_or_why_it_has_failed() -> None:
    failed = replace(RECORD, state="failed", error=RecordedError("KeyError", "'\n'", None))
    only_type = replace(failed, error=RecordedError("KeyError", None, None))

    assert note_on(RECORD) == ""
    assert note_on(replace(RECORD, attempt=3)) == "attempt 3"
    assert note_on(replace(RECORD, progress=progress(1, 2, "page"))) == "50 % page"
    assert note_on(replace(RECORD, progress=progress(1, 2))) == "50 %"
    assert note_on(replace(RECORD, state="succeeded", progress=progress(1, 2))) == ""
    assert note_on(replace(RECORD, state="lost")) == "process 7 on host is gone"
    assert note_on(failed) == r"KeyError: '\n'"
    assert note_on(only_type) == "KeyError"


def test_a_running_job_has_run_until_now() -> None:
    later = NOW + timedelta(seconds=3)
    ended = replace(RECORD, state="failed", ended_at=NOW + timedelta(seconds=1))

    assert time_running(RECORD, later) == 3
    assert time_running(RECORD, NOW - timedelta(seconds=3)) == 0
    assert time_running(ended, later) == 1
    assert time_running(replace(RECORD, state="pending", started_at=None), later) is None


def test_a_state_ends_a_sentence() -> None:
    fates = [fate_of(replace(RECORD, state=state)) for state in ("failed", "cancelled", "lost")]

    assert fates == ["it has failed", "it was cancelled", "it is lost"]

"""What the timeline and the plots draw, and how texts and durations are shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flask_executor.board import shown
from flask_executor.board.plots import HEIGHT, WIDTH, plots_of
from flask_executor.board.timeline import MINUTES, MOST_BARS, MOST_LANES, timeline_of
from flask_executor.board.views import _environment
from flask_executor.jobs.progress import Progress
from flask_executor.records import JobRecord, Minute, RecordedError, Spread
from tests.support import job_record

NOW = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def record(
    number: int,
    submitted: float,
    started: float | None = None,
    ended: float | None = None,
    **values: Any,
) -> JobRecord:
    """A record whose times are seconds from NOW."""
    state = "pending" if started is None else "running" if ended is None else "succeeded"
    found: dict[str, Any] = {
        "id": f"{number:036}",
        "state": state,
        "started_at": None if started is None else at(started),
        "ended_at": None if ended is None else at(ended),
    }
    return job_record(at(submitted), **(found | values))


def lanes(*records: JobRecord) -> list[list[int]]:
    drawn = timeline_of(records, NOW)
    return [[int(bar.record.id) for bar in lane.bars] for lane in drawn.lanes]


def test_jobs_that_ran_one_after_the_other_share_a_lane() -> None:
    assert lanes(
        record(1, -60, -60, -40),
        record(2, -60, -50, -30),
        record(3, -60, -40, -10),
        record(4, -60, -30),
        record(5, -60, -5, -1),
    ) == [[1, 3, 5], [2, 4]]
    assert lanes(record(1, -60, -60), record(2, -50, -50, -40)) == [[1], [2]]


def test_processes_have_lanes_of_their_own() -> None:
    drawn = timeline_of(
        [record(1, -9, -9, -8), record(2, -7, -7, -6, pid=8), record(3, -5, -5, -4, host="b")], NOW
    )

    assert {(lane.host, lane.pid, lane.number) for lane in drawn.lanes} == {
        ("host", 7, 1),
        ("host", 8, 1),
        ("b", 7, 1),
    }


def test_a_bar_shows_when_a_job_waited_and_ran() -> None:
    minute = 100 / MINUTES
    [lane] = timeline_of([record(1, -180, -120, -60)], NOW).lanes
    [bar] = lane.bars

    assert bar.waited_from == pytest.approx(100 - 3 * minute)
    assert bar.x == pytest.approx(100 - 2 * minute)
    assert bar.width == pytest.approx(minute)


def test_jobs_that_wait_are_drawn_apart() -> None:
    again = record(2, -60, -50, state="pending")
    drawn = timeline_of([record(1, -60), again, record(3, -9, -8)], NOW)

    assert [[bar.record.id for bar in lane.bars] for lane in drawn.waiting] == [
        [again.id],
        [record(1, 0).id],
    ]
    assert [bar.width for lane in drawn.waiting for bar in lane.bars] == [0, 0]
    assert len(drawn.lanes) == 1


def test_a_lost_job_ends_with_its_last_report() -> None:
    progress = Progress(1, 2, started_at=at(-99), updated_at=at(-60))
    lost = record(1, -120, -120, state="lost", progress=progress)
    silent = record(2, -120, -120, state="lost")
    drawn = timeline_of([lost, silent, record(3, -50, -50, -40)], NOW)

    assert sum(len(lane.bars) for lane in drawn.lanes) == 3
    widths = {bar.record.id: bar.width for lane in drawn.lanes for bar in lane.bars}
    assert widths[lost.id] == pytest.approx(100 / MINUTES)
    assert widths[silent.id] < 1


def test_what_is_over_is_not_drawn_and_what_is_long_is_cut() -> None:
    drawn = timeline_of([record(1, -9000, -8000, -7000), record(2, -9000, -8000, -60)], NOW)

    [[bar]] = [lane.bars for lane in drawn.lanes]
    assert (bar.waited_from, bar.x, bar.record.id) == (0, 0, record(2, 0).id)


def test_a_timeline_says_how_many_jobs_it_leaves_out() -> None:
    many = [record(number, -60, -59, -58) for number in range(MOST_BARS + 50)]
    waiting = [record(1000 + number, -60) for number in range(100)]
    sequence = [
        record(number, -60 + number * 0.1, -60 + number * 0.1, -60 + number * 0.1 + 0.1)
        for number in range(MOST_BARS + 50)
    ]

    for records in (many, waiting, sequence, [*waiting, *many]):
        drawn = timeline_of([*records, *records], NOW)
        bars = sum(len(lane.bars) for lane in (*drawn.lanes, *drawn.waiting))
        assert len(drawn.lanes) + len(drawn.waiting) <= MOST_LANES
        assert bars <= MOST_BARS
        assert drawn.left_out == len(records) - bars


def test_jobs_that_run_are_drawn_before_those_that_have_ended() -> None:
    runs = record(0, -500, -500)
    newest = [record(number, -60, -59, -58) for number in range(MOST_BARS, 0, -1)]
    drawn = timeline_of(newest, NOW, others=[runs])

    assert runs.id in {bar.record.id for lane in drawn.lanes for bar in lane.bars}


def test_lanes_of_running_jobs_and_the_latest_ones_are_drawn_in_their_order() -> None:
    ended = [record(number, -60, -59, -58, host=f"a{number:03}") for number in range(1, 101)]
    runs = record(0, -500, -500, host="b")
    waiting = [record(1000 + number, -9) for number in range(30)]
    drawn = timeline_of([*waiting, *ended], NOW, others=[runs])

    assert [lane.host for lane in drawn.lanes] == [
        *(f"a{number:03}" for number in range(72, 101)),
        "b",
    ]
    assert len(drawn.waiting) == MOST_LANES - len(drawn.lanes) == 10
    assert drawn.left_out == 20 + 71


def test_a_timeline_says_that_earlier_jobs_are_missing() -> None:
    newest = [record(2, -60, -59, -58), record(1, -90, -80, -70)]
    old = [*newest, record(0, -9000, -8000, -7000)]

    assert timeline_of(newest, NOW, has_more=True).is_cut
    assert not timeline_of(newest, NOW).is_cut
    assert not timeline_of(old, NOW, has_more=True).is_cut


def test_long_bars_have_room_for_the_name_of_the_job() -> None:
    drawn = timeline_of([record(2, -9, -9, -8), record(1, -90, -80, -20)], NOW)

    bars = [bar for lane in drawn.lanes for bar in lane.bars]
    assert {int(bar.record.id): bar.has_room for bar in bars} == {1: True, 2: False}


def minute(number: int, succeeded: int = 0, failed: int = 0, ran: float | None = None) -> Minute:
    spread = None if ran is None else Spread(ran / 2, ran)
    return Minute(NOW + timedelta(minutes=number), succeeded, failed, 0, None, spread)


def test_the_plots_have_a_column_for_each_state_and_lines_with_gaps() -> None:
    history = [minute(0, 3, 1, ran=2.0), minute(1, 2, ran=4.0), minute(2), minute(3, 1, ran=1.0)]
    drawn = plots_of("mail", history)

    assert (drawn.throughput.most, drawn.throughput.total, drawn.throughput.failed) == (4, 7, 1)
    columns = [(each.state, each.y, each.height) for each in drawn.throughput.columns]
    assert columns == [
        ("failed", 90, 30),
        ("succeeded", 0, 90),
        ("succeeded", 60, 60),
        ("succeeded", 90, 30),
    ]
    waiting, running = drawn.durations
    assert (waiting.median, waiting.text) == ([], "no job has ended")
    assert running.most == 4
    assert running.p95 == ["75.0,60.0 225.0,0.0", "450.0,90.0 600.0,90.0"]
    assert "median 500 ms" in running.text


def test_the_plots_of_an_hour_without_jobs_are_empty() -> None:
    drawn = plots_of("", [minute(number) for number in range(60)])

    assert drawn.throughput.columns == []
    assert [line.p95 for line in drawn.durations] == [[], []]
    assert [drawn.throughput.most, *(line.most for line in drawn.durations)] == [1, 1, 1]


def test_each_minute_of_a_plot_tells_its_values() -> None:
    drawn = plots_of("", [minute(0, 1_000, 2, ran=2.0), minute(1), minute(2, 3)])

    assert [slot.text for slot in drawn.throughput.slots] == [
        "2 min ago: 1,000 succeeded, 2 failed",
        "1 min ago: 0 succeeded",
        "this minute: 3 succeeded",
    ]
    _, running = drawn.durations
    assert [slot.text for slot in running.slots] == [
        "2 min ago: median 1.0 s, 95th percentile 2.0 s",
        "1 min ago: no job has ended",
        "this minute: no job has ended",
    ]
    assert [(slot.x, slot.width) for slot in running.slots] == [(0, 200), (200, 200), (400, 200)]


@pytest.mark.parametrize(
    ("longest", "end"),
    [(0.0, 1), (0.003, 0.004), (0.3, 0.4), (1, 1), (7, 10), (59, 60), (61, 120), (4000, 7200)],
)
def test_an_axis_ends_with_a_round_number(longest: float, end: float) -> None:
    _, running = plots_of("", [minute(0, 1, ran=longest)]).durations

    assert running.most == pytest.approx(end)


def test_jobs_that_take_no_time_have_a_line_at_the_bottom() -> None:
    _, running = plots_of("", [minute(0, 1, ran=0.0)]).durations

    assert running.median == [f"0.0,{HEIGHT:.1f} {WIDTH:.1f},{HEIGHT:.1f}"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0 µs"),
        (0.0000321, "32 µs"),
        (0.0015, "1.5 ms"),
        (0.05, "50 ms"),
        (1, "1.0 s"),
        (5.5, "5.5 s"),
        (0.9999, "999 ms"),
        (9.99, "9.9 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3700, "1 h 1 min"),
        (200_000, "2.3 days"),
    ],
)
def test_durations_are_short(value: float | None, text: str) -> None:
    assert shown.seconds(value) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain ä 🎉 👩‍👩‍👧", "plain ä 🎉 👩‍👩‍👧"),
        ("a\0b\x1bc\nd\te", "a␀b␛c␊d␉e"),
        ("a\x7fb\x85c", "a<U+007F>b<U+0085>c"),
        ("\u202etxt\u2066\u200b\ufeff", "<U+202E>txt<U+2066><U+200B><U+FEFF>"),
        ("\ud800 \U000e0041", "<U+D800> <U+E0041>"),
        ("x" * 201, "x" * 200 + "… (201 characters)"),
        (7, "7"),
    ],
)
def test_texts_show_what_is_hidden(text: object, line: str) -> None:
    assert shown.line(text) == line


def test_names_without_a_visible_character_are_in_quotes() -> None:
    assert [shown.name(text) for text in ("a b", "", " \xa0", "\u3164")] == [
        "a b",
        '""',
        '" \xa0"',
        "<U+3164>",
    ]
    assert shown.label(record(1, -9, key="", name=" "), NOW) == '" ", key "", pending'


def test_texts_of_several_lines_keep_them() -> None:
    assert shown.lines("a\n\tb\r\u2028c") == "a\n\tb␍<U+2028>c"
    assert shown.lines("x" * 10_001).endswith("x… (10,001 characters)")


def test_times_are_told_from_now() -> None:
    assert shown.ago(at(-0.5), NOW) == "now"
    assert shown.ago(at(-2), NOW) == "2 s ago"
    assert shown.ago(at(-59.9), NOW) == "59 s ago"
    assert shown.ago(at(-90.2), NOW) == "1 min 30 s ago"
    assert shown.ago(None, NOW) == shown.moment(None) == "-"
    assert shown.moment(NOW) == "2026-01-02 03:00:00 UTC"


def test_the_label_of_a_bar_tells_how_long_its_job_took() -> None:
    ended, running = record(1, -9, -8, -6, key="k\n"), record(2, -9, -8)

    assert shown.label(ended, NOW) == "report, key k␊, succeeded, waited 1.0 s, ran 2.0 s"
    assert shown.label(running, NOW) == "report, running, waited 1.0 s, has run for 8.0 s"
    assert shown.label(record(3, -9), NOW) == "report, pending"
    error = RecordedError("ValueError", "the reason", None)
    failed = record(4, -9, -8, -6, state="failed", error=error)
    assert shown.label(failed, NOW) == "report, failed, ValueError, waited 1.0 s, ran 2.0 s"


def test_only_all_of_it_is_a_hundred_percent() -> None:
    assert [shown.percent(part) for part in (0, 0.5, 0.999, 1)] == ["0 %", "50 %", "99 %", "100 %"]


def test_the_time_left_counts_from_the_last_report() -> None:
    show = _environment().get_template("macros.html").module.progress
    progress = Progress(1, 4, started_at=at(-9), updated_at=at(-8), rate=0.2)
    runs = record(1, -9, -9, progress=progress)

    assert "7.0 s left" in show(runs, NOW)
    assert "left" not in show(runs, at(8))  # It takes longer than its rate has told.
    assert "left" not in show(replace(runs, state="lost"), NOW)


def test_progress_is_told_in_words() -> None:
    times = {"started_at": NOW, "updated_at": NOW}

    assert shown.progress_text(Progress(1000, 4000, "rows", **times)) == "1,000 of 4,000 rows"
    assert shown.progress_text(Progress(0.5, **times)) == "0.50"

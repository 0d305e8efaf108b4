"""The records of jobs in SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import event

from flask_executor.records.database import Found
from flask_executor.records.history import SAMPLE
from flask_executor.records.record import RecordState
from flask_executor.records.row import MAX_NAME, Row, text_for_column
from tests.records.stores import TTL, Opened, Store, claim, key_of, row_of
from tests.support import WAIT

HOUR = 3600.0


def ids(found: list[Found]) -> list[str]:
    return [each.row["id"] for each in found]


def test_a_saved_row_is_found_as_it_is(store: Store) -> None:
    database = store.open()
    row = row_of(
        "failed",
        key=json.dumps("k"),
        progress="[1, 2]",
        result='"a" * 9',
        result_missing="too large",
        error_type="ValueError",
        error_message="schön 🎉 %s :name \\ ' \"",
        error_traceback="line\n" * 100_000,
        started_at=1_700_000_000.123456,
        attempt=3,
        pid=2**40,
    )

    database.write([row], [], [])

    assert database.by_id(row["id"]) == Found(row, is_alive=True)
    assert database.by_ids([row["id"], "other"]) == [Found(row, is_alive=True)]


def test_a_result_may_be_as_large_as_a_mebibyte(store: Store) -> None:
    database = store.open()
    row = row_of("succeeded", result=json.dumps("x" * 2**20))

    database.write([row], [], [])

    assert database.by_id(row["id"]).row == row


def test_a_row_that_is_there_is_replaced_and_keeps_its_key(store: Store) -> None:
    database = store.open()
    row = row_of()
    assert database.write([row], [], [claim(row)]) == [None]

    changed = row | {"state": "succeeded", "ended_at": 5.0, "result": "7", "attempt": 2}
    database.write([changed], [], [])

    assert database.by_claim(key_of()).row == changed


def test_the_last_of_several_rows_of_one_job_counts(store: Store) -> None:
    database = store.open()
    row = row_of()

    database.write([row, row | {"state": "running"}, row | {"state": "failed"}], [], [])

    assert database.by_id(row["id"]).row["state"] == "failed"


def test_many_rows_are_saved_and_found_at_once(store: Store) -> None:
    database = store.open()
    rows = [row_of(name=f"job {number}") for number in range(1201)]

    database.write(rows, [], [])

    found = database.by_ids([row["id"] for row in rows])
    assert sorted(each.row["name"] for each in found) == sorted(row["name"] for row in rows)


def test_nothing_is_found_of_another_app_or_executor(store: Store) -> None:
    mine, other_app, other_executor = (
        store.open(),
        store.open(app="App"),
        store.open(executor="mail"),
    )
    row = row_of()
    assert mine.write([], [], [claim(row)]) == [None]

    for other in (other_app, other_executor):
        assert other.by_id(row["id"]) is None
        assert other.by_ids([row["id"]]) == []
        assert other.list(None, None, 9, None) == []
        assert other.counts() == {}
        assert not other.forget(row["id"])
        other.write([], [row["id"]], [])
        other.request_cancel(row["id"])
    assert mine.by_claim(key_of()).row == row
    assert mine.beat() == []


def test_two_executors_have_keys_of_their_own(store: Store) -> None:
    rows = [row_of(app=app, executor=name) for app in ("app", "b") for name in ("", "mail")]

    for row in rows:
        database = store.open(app=row["app"], executor=row["executor"])
        assert database.write([], [], [claim(row)]) == [None]

    for row in rows:
        assert database.by_claim(key_of("k", row["app"], row["executor"])).row == row


# Keys


def test_a_key_is_for_one_job_until_it_is_released(store: Store) -> None:
    database, other = store.open(), store.open("p2")
    first, second = row_of(key='"k"'), row_of(process="p2", key='"k"')

    assert database.write([], [], [claim(first)]) == [None]
    assert other.write([], [], [claim(second)]) == [Found(first, is_alive=True)]
    assert other.by_id(second["id"]) is None
    other.write([], [second["id"]], [])  # releases what it does not have
    assert other.by_claim(key_of()).row == first
    database.write([], [first["id"]], [])
    assert other.by_claim(key_of()) is None
    assert other.write([], [], [claim(second)]) == [None]

    assert database.by_claim(key_of()).row == second
    assert database.by_id(first["id"]).row == first


def test_a_key_that_is_free_is_claimed_without_a_transaction(store: Store) -> None:
    database, other = store.open(), store.open("p2")
    database.beat()
    database.write([], [], [claim(row_of(), "first")])
    began: list[object] = []
    event.listen(database._connections.engine, "begin", began.append)
    row = row_of()

    assert database.write([], [], [claim(row)]) == [None]
    assert began == []
    assert database.write([], [], [claim(row_of())]) == [Found(row, is_alive=True)]
    assert len(began) == 1

    assert other.by_claim(key_of()).row == row


def test_a_key_is_released_once(store: Store) -> None:
    database, other = store.open(), store.open(executor="other")
    row = row_of()
    database.write([row], [], [claim(row)])

    assert other.release(row["id"]) is False
    assert database.release(row["id"]) is True
    assert database.release(row["id"]) is False
    assert database.by_claim(key_of()) is None


def test_a_write_saves_then_releases_then_claims(store: Store) -> None:
    database = store.open()
    first, second = row_of(), row_of()
    database.write([], [], [claim(first)])

    ended = first | {"state": "succeeded", "ended_at": time.time()}
    assert database.write([ended], [first["id"]], [claim(second)]) == [None]

    assert database.by_id(first["id"]).row == ended


def test_claims_of_one_write_are_answered_in_their_order(store: Store) -> None:
    database = store.open()
    held = row_of()
    database.write([], [], [claim(held, "b")])
    rows = [row_of() for _ in "abcba"]

    found = database.write(
        [], [], [claim(row, key) for row, key in zip(rows, "abcba", strict=True)]
    )

    b, a = Found(held, is_alive=True), Found(rows[0], is_alive=True)
    assert found == [None, b, None, b, a]


def test_a_job_that_was_saved_can_claim_a_key_later(store: Store) -> None:
    database = store.open()
    row = row_of()
    database.write([row], [], [])

    running = row | {"state": "running"}
    assert database.write([], [], [claim(running)]) == [None]

    assert database.by_claim(key_of()).row == running


def test_a_job_that_has_the_key_can_claim_it_again(store: Store) -> None:
    database = store.open()
    row = row_of()
    database.write([], [], [claim(row)])

    running = row | {"state": "running"}
    assert database.write([], [], [claim(running)]) == [None]

    assert database.by_claim(key_of()).row == running


@pytest.mark.parametrize("is_saved", [True, False])
@pytest.mark.parametrize(
    ("state", "ago", "seen", "replaces", "is_free"),
    [
        ("succeeded", 0, 0, False, False),
        ("succeeded", TTL - 60, 0, False, False),
        ("succeeded", TTL + 60, 0, False, True),
        ("failed", 0, 0, True, True),
        ("running", 0, 0, True, False),
        ("running", 2 * TTL, 0, False, False),
        ("running", 2 * TTL, 0, True, False),
        ("running", 0, 60, False, False),
        ("running", 0, 60, True, True),
        ("pending", TTL + 60, 60, False, True),
    ],
)
def test_a_key_is_free_when_its_job_has_expired_or_may_be_replaced(
    store: Store, state: str, ago: float, seen: float, replaces: bool, is_free: bool, is_saved: bool
) -> None:
    database, other = store.open(), store.open("p2")
    held, row = row_of(state, ago=ago), row_of(process="p2")
    database.write([], [], [claim(held)])
    store.age("p1", seen)
    if is_saved:
        other.write([row], [], [])

    (found,) = other.write([], [], [claim(row, replaces=replaces)])

    if is_free:
        assert found is None
        assert other.by_claim(key_of()).row == row
    else:
        assert found == Found(held, is_alive=not seen)
    assert other.by_id(held["id"]).row == held


HOSTILE = [
    "k",
    "K",
    "k ",
    " k",
    "k\0",
    "",
    " ",
    "ß",
    "ss",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "🎉",
    "🎊",
    "\udc80",
    "\ud83c",
    "%s",
    "'; --",
    "k" * 255,
    "k" * 254 + "K",
    "🎉" * 255,
]


def test_no_two_keys_are_taken_for_the_same(store: Store) -> None:
    database = store.open()
    rows = [row_of(key=json.dumps(key)) for key in HOSTILE]

    claims = [claim(row, key) for row, key in zip(rows, HOSTILE, strict=True)]
    assert database.write([], [], claims) == [None] * len(HOSTILE)

    found = [database.by_claim(key_of(key)).row["key"] for key in HOSTILE]
    assert [json.loads(key) for key in found] == HOSTILE


# Lost jobs


def test_a_job_is_lost_when_its_process_is_silent_and_found_again_when_it_is_not(
    store: Store,
) -> None:
    database, other = store.open(), store.open("p2")
    row = row_of("running")
    database.write([row], [], [])

    assert other.by_id(row["id"]).is_alive
    store.age("p1", 7)
    assert other.by_id(row["id"]).is_alive
    store.age("p1", 2)
    assert not other.by_id(row["id"]).is_alive
    database.beat()
    assert other.by_id(row["id"]).is_alive


def test_a_write_says_that_the_process_lives_if_it_has_not_said_so_lately(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = store.open()
    row = row_of("running")
    database.write([row], [], [])
    store.age("p1", 60)

    database.write([row], [], [])
    assert not database.by_id(row["id"]).is_alive
    now = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: now)
    database.write([row], [], [])

    assert database.by_id(row["id"]).is_alive


def test_a_write_of_nothing_says_that_the_process_lives(store: Store) -> None:
    store.open().write([], [], [])

    assert store.execute("SELECT process, host, pid FROM flask_executor_processes") == [
        ("p1", "host", 7)
    ]


def test_the_jobs_of_a_process_that_leaves_are_lost_until_it_comes_back(store: Store) -> None:
    database, other = store.open(), store.open("p2")
    row = row_of("running")
    database.write([row], [], [])

    database.leave()
    assert not other.by_id(row["id"]).is_alive
    assert other.counts() == {"lost": 1}
    database.write([row], [], [])

    assert other.by_id(row["id"]).is_alive


def test_the_late_outcome_of_a_lost_job_is_recorded(store: Store) -> None:
    database, other = store.open(), store.open("p2")
    row = row_of("running")
    database.write([row], [], [])
    store.age("p1", 60)
    assert other.counts() == {"lost": 1}

    database.write([row | {"state": "succeeded", "ended_at": 5.0}], [], [])

    assert other.counts() == {"succeeded": 1}


def test_the_clock_of_a_machine_does_not_say_who_lives(store: Store) -> None:
    database = store.open()
    rows = [row_of("running", ago=-HOUR), row_of("running", ago=HOUR)]
    database.write(rows, [], [])

    assert database.counts() == {"running": 2}
    store.age("p1", 60)
    assert database.counts() == {"lost": 2}


def test_the_time_of_the_database_is_that_of_all_clocks(store: Store) -> None:
    before = time.time()
    store.open().beat()
    after = time.time()

    ((seen_at,),) = store.execute("SELECT seen_at FROM flask_executor_processes")
    assert before - 0.01 <= seen_at <= after + 0.01


# Lists and counts


def test_a_list_has_pages_the_last_submitted_first(store: Store) -> None:
    database = store.open()
    rows = [row_of(ago=100 - number) for number in range(7)]
    database.write(rows[::-1], [], [])
    expected = [row["id"] for row in rows[::-1]]

    assert ids(database.list(None, None, 100, None)) == expected
    first = ids(database.list(None, None, 3, None))
    second = ids(database.list(None, None, 3, first[-1]))
    third = ids(database.list(None, None, 3, second[-1]))

    assert [first, second, third] == [expected[:3], expected[3:6], expected[6:]]
    assert database.list(None, None, 3, third[-1]) == []


@pytest.fixture
def states(store: Store) -> dict[str, list[str]]:
    """Two jobs in each state; of each, the name of the second is "other"."""
    names = ["pending", "running", "succeeded", "failed", "cancelled"]
    alive = [row_of(state, name=name) for state in names for name in ("report", "other")]
    lost = [
        row_of(state, name=name, process="gone")
        for state, name in (("pending", "report"), ("running", "other"))
    ]
    # A job that has ended is not lost, whatever became of its process.
    ended = [row_of("succeeded", name="old", process="gone")]
    store.open().write([*alive, *lost, *ended], [], [])
    found: dict[str, list[str]] = {name: [] for name in names}
    for row in (*alive, *ended):
        found[row["state"]].insert(0, row["id"])
    return found | {"lost": [row["id"] for row in lost[::-1]]}


def test_a_list_has_the_jobs_in_a_state(store: Store, states: dict[str, list[str]]) -> None:
    database = store.open()

    assert {state: ids(database.list(state, None, 9, None)) for state in states} == states
    assert {state: ids(database.list(state, None, 1, None)) for state in states} == {
        state: found[:1] for state, found in states.items()
    }
    for state, found in states.items():
        assert ids(database.list(state, None, 9, found[0])) == found[1:]


def test_a_list_has_the_jobs_of_a_name(store: Store, states: dict[str, list[str]]) -> None:
    database = store.open()

    assert len(database.list(None, "other", 9, None)) == 6
    assert ids(database.list("lost", "other", 9, None)) == states["lost"][:1]
    assert ids(database.list("failed", "other", 9, None)) == states["failed"][:1]
    assert database.list(None, "Other", 9, None) == []


def test_a_list_has_the_jobs_whose_keys_begin_with_a_text(store: Store) -> None:
    database = store.open()
    keys = ["a", "A", "ab", "a%", "a_b", 'a"', "a\\", "ä🎉", "b"]
    rows = [row_of(key=json.dumps(key)) for key in keys]
    database.write([*rows, row_of()], [], [])

    def begin(text: str, state: RecordState | None = None) -> list[str]:
        found = database.list(state, None, 99, None, text)
        return [json.loads(each.row["key"]) for each in reversed(found)]

    assert begin("") == keys
    assert begin("a") == ["a", "ab", "a%", "a_b", 'a"', "a\\"]
    assert begin("a", "pending") == begin("a")
    for key in ("A", "a%", "a_", 'a"', "a\\", "ä", "ä🎉"):
        assert begin(key) == [each for each in keys if each.startswith(key)]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "🎉", "long" * 100])
def test_a_list_finds_a_name_that_was_changed_to_fit(store: Store, name: str) -> None:
    database = store.open()
    row = row_of(name=text_for_column(name, MAX_NAME))
    database.write([row], [], [])

    assert ids(database.list(None, name, 9, None)) == [row["id"]]


@pytest.mark.parametrize("before", ["", "a\0", "\ud800", "é", "🎉"])
def test_a_list_can_be_asked_for_what_comes_before_any_text(store: Store, before: str) -> None:
    database = store.open()
    row = row_of()
    database.write([row], [], [])

    assert ids(database.list(None, None, 9, before)) in ([], [row["id"]])


def test_a_list_may_leave_out_what_is_large(store: Store) -> None:
    database = store.open()
    row = row_of("failed", result='"large"', error_type="E", error_traceback="long")
    database.write([row], [], [])

    [found] = database.list(None, None, 9, None, results=False)

    assert found.row == row | {"result": None, "error_traceback": None}


def test_counts_tell_how_many_jobs_are_in_each_state(
    store: Store, states: dict[str, list[str]]
) -> None:
    assert store.open().counts() == {state: len(found) for state, found in states.items()}


def test_the_ends_of_jobs_are_counted_by_the_minute_and_state(store: Store) -> None:
    database = store.open()
    begin = time.time() // 60 * 60 - 120
    ends = [("succeeded", 0.0), ("succeeded", 59.9), ("failed", 60.0), ("cancelled", -0.1)]
    rows = [
        row_of(state, submitted_at=begin - 9, started_at=begin - 8, ended_at=begin + seconds)
        for state, seconds in ends
    ]
    not_started = row_of("cancelled", started_at=None, ended_at=begin + 61)
    elsewhere = row_of("succeeded", app="other", ended_at=begin)
    database.write([*rows, not_started, elsewhere, row_of("running")], [], [])
    first = int(begin // 60)

    found = database.ends(begin)

    assert sorted(found.counts) == [
        (first, "succeeded", 2),
        (first + 1, "cancelled", 1),
        (first + 1, "failed", 1),
    ]
    assert sorted(found.times) == [
        (begin - 9, begin - 8, begin + seconds) for seconds in (0.0, 59.9, 60.0)
    ]
    assert all(isinstance(each.minute, int) for each in found.counts)


def test_of_many_ends_all_are_counted_and_some_have_times(store: Store) -> None:
    database = store.open()
    ended = 3 * SAMPLE
    ends = [1e9 + number * 0.0371 for number in range(ended)]
    database.write([row_of("succeeded", ended_at=end) for end in ends], [], [])

    found = database.ends(0)

    assert sum(each.jobs for each in found.counts) == ended
    assert 0.9 * SAMPLE < len(found.times) < 1.1 * SAMPLE


def test_the_processes_with_unended_jobs_are_counted(store: Store) -> None:
    for process, host, pid, states in [
        ("p1", "b", 7, ["running", "running", "pending", "failed"]),
        ("p2", "a", 9, ["pending", "running"]),
        ("p3", "a", 8, ["running"]),
        ("p4", "c", 1, ["succeeded"]),
    ]:
        rows = [row_of(state, process=process, host=host, pid=pid) for state in states]
        store.open(process, host=host, pid=pid).write(rows, [], [])
    store.age("p2", 60)
    store.open("p3").leave()
    now = time.time()

    gone, old, lives = store.open("p9").processes()

    assert (gone.host, gone.pid, gone.seen_at) == ("a", 8, None)
    assert (gone.is_alive, gone.running, gone.pending, gone.lost) == (False, 0, 0, 1)
    assert (old.host, old.pid) == ("a", 9)
    assert (old.is_alive, old.running, old.pending, old.lost) == (False, 0, 0, 2)
    assert abs(now - 60 - old.seen_at.timestamp()) < WAIT
    assert (lives.host, lives.pid) == ("b", 7)
    assert (lives.is_alive, lives.running, lives.pending, lives.lost) == (True, 2, 1, 0)
    assert abs(now - lives.seen_at.timestamp()) < WAIT
    assert lives.seen_at.utcoffset() == timedelta(0)
    assert store.open(executor="mail").processes() == []


def test_an_empty_store_has_nothing(store: Store) -> None:
    database = store.open()

    assert database.by_id("x") is None
    assert database.by_claim("x") is None
    assert database.by_ids([]) == []
    assert database.list(None, None, 9, None) == []
    assert database.counts() == {}
    assert database.ends(0) == ([], [])
    assert database.processes() == []
    assert database.beat() == []
    assert database.expire() == 0
    database.leave()


# Requests to cancel


def test_a_request_to_cancel_reaches_the_process_of_the_job_once(store: Store) -> None:
    database, other = store.open(), store.open("p2")
    rows = [row_of("running"), row_of("pending"), row_of("succeeded")]
    database.write(rows, [], [])

    for row in rows:
        other.request_cancel(row["id"])
        other.request_cancel(row["id"])
    other.request_cancel("no such job")

    assert other.beat() == []
    assert sorted(database.beat()) == sorted(row["id"] for row in rows[:2])
    assert database.beat() == []


# What is forgotten


@pytest.mark.parametrize(
    ("state", "process", "is_forgotten"),
    [
        ("succeeded", "p1", True),
        ("running", "p1", False),
        ("pending", "p1", False),
        ("running", "gone", True),
    ],
)
def test_a_job_that_has_ended_or_is_lost_can_be_forgotten(
    store: Store, state: str, process: str, is_forgotten: bool
) -> None:
    database = store.open()
    row = row_of(state, process=process)
    database.write([], [], [claim(row)])

    assert database.forget(row["id"]) is is_forgotten
    assert (database.by_id(row["id"]) is None) is is_forgotten
    assert (database.by_claim(key_of()) is None) is is_forgotten
    assert not database.forget("no such job")


def test_records_expire_when_they_have_ended_long_ago(store: Store) -> None:
    database, other = store.open(), store.open(executor="mail")
    old, young = TTL + 60, TTL - 60
    gone: list[Row] = [
        row_of("succeeded", ago=old),
        row_of("failed", ago=old),
        row_of("running", ago=old, process="gone"),
    ]
    kept: list[Row] = [
        row_of("succeeded", ago=young),
        row_of("succeeded", ago=old, ended_at=time.time() - young),
        row_of("running", ago=old),
        row_of("pending", ago=old),
        row_of("running", ago=young, process="gone"),
    ]
    foreign = row_of("succeeded", ago=old, executor="mail")
    database.write([*gone, *kept], [], [])
    other.write([foreign], [], [])

    assert database.expire() == len(gone)
    assert database.expire() == 0

    assert set(ids(database.list(None, None, 99, None))) == {row["id"] for row in kept}
    assert ids(other.list(None, None, 99, None)) == [foreign["id"]]


def test_a_small_number_of_records_expires_at_once_the_oldest_first(store: Store) -> None:
    database = store.open()
    rows = [row_of("succeeded", ago=TTL + 600 - number / 10) for number in range(1100)]
    database.write(rows, [], [])

    assert database.expire() == 500
    assert len(database.list(None, None, 2000, None)) == 600
    assert database.by_id(rows[0]["id"]) is None
    assert database.by_id(rows[-1]["id"]) is not None
    assert [database.expire() for _ in range(3)] == [500, 100, 0]


def test_nothing_expires_with_a_ttl_that_reaches_before_the_epoch(store: Store) -> None:
    database = store.open(ttl=1e10)
    database.write([row_of("succeeded", ago=HOUR * 1000)], [], [])

    assert database.expire() == 0


def test_processes_that_are_gone_for_a_day_and_their_requests_are_forgotten(store: Store) -> None:
    database, gone, silent = store.open(), store.open("gone"), store.open("silent")
    row, running = row_of("running", process="gone"), row_of("running")
    gone.write([row], [], [])
    database.write([running], [], [])
    silent.beat()
    database.request_cancel(row["id"])
    database.request_cancel(running["id"])
    store.age("gone", 24 * HOUR + 60)
    store.age("silent", 23 * HOUR)
    assert database.forget(row["id"])

    assert database.expire() == 0

    found = store.execute("SELECT process FROM flask_executor_processes")
    assert sorted(process for (process,) in found) == ["p1", "silent"]
    assert store.execute("SELECT job FROM flask_executor_cancels") == [(running["id"],)]


def test_a_closed_store_opens_again(store: Store) -> None:
    database = store.open()
    row = row_of()
    database.write([row], [], [])

    database.close()

    assert database.by_id(row["id"]).row == row


def each_call() -> list[Callable[[Store], object]]:
    row = row_of()
    calls = [
        ("by_claim", "x"),
        ("by_id", "x"),
        ("list", None, None, 9, None),
        ("counts",),
        ("processes",),
        ("beat",),
        ("write", [], [], [claim(row)]),
        ("expire",),
    ]
    return [
        partial(lambda call, store: getattr(store.open(), call[0])(*call[1:]), call)
        for call in calls
    ]


@pytest.mark.parametrize("call", each_call())
def test_each_call_makes_the_tables_if_it_is_the_first(
    file: Store, call: Callable[[Store], object]
) -> None:
    assert not file.folder.exists()
    file.open()
    assert not file.folder.exists()

    call(file)

    assert file.execute("SELECT version FROM flask_executor_store") == [(1,)]


# Connections


@pytest.mark.parametrize("use", [Opened.counts, Opened.beat])
def test_a_connection_that_is_in_use_as_all_are_closed_is_closed_after_its_use(
    store: Store, use: Callable[[Opened], object]
) -> None:
    database = store.open()
    database.beat()
    database.close()
    opened: list[object] = []
    closed: list[object] = []
    is_in_use, is_closed = threading.Event(), threading.Event()

    engine = database._connections.engine

    @event.listens_for(engine, "connect")
    def note_opened(connection: object, _: object) -> None:
        opened.append(connection)

    @event.listens_for(engine, "close")
    def note_closed(connection: object, _: object) -> None:
        closed.append(connection)

    @event.listens_for(engine, "begin")
    def wait_for_close(_: object) -> None:
        is_in_use.set()
        is_closed.wait(1)  # The connection that writes to SQLite is closed after its use.

    user = threading.Thread(target=use, args=[database])
    user.start()
    assert is_in_use.wait(WAIT)
    database.close()
    is_closed.set()
    user.join(WAIT)

    assert opened
    assert closed == opened

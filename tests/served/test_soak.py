"""The soak test itself: that it runs, and that it sees what it is there to see."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served.soak import Load, check_records, count, read_records
from tests.support import ROOT


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_load_and_a_few_kills_leave_no_job_unaccounted_for(kind: str) -> None:
    command = f"tests/served/soak.py --kills 5 --kill-every 0.5 --clients 4 --type {kind}"

    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )

    table = dict(re.findall(r"^ *(\D+?) +(\d+)$", done.stdout, re.MULTILINE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(table["accepted"]) > 0
    assert int(table["workers sent SIGTERM"]) + int(table["workers sent SIGKILL"]) == 5
    assert (table["unaccounted for"], table["run twice"]) == ("0", "0")
    assert table["wrong in the records"] == "0"
    recorded = int(table["in the records"]) + int(table["without a record, killed"])
    assert recorded == int(table["accepted"])


@pytest.mark.parametrize(
    ("journal", "end"),
    [
        ("accepted started finished", "finished"),
        ("started accepted failed", "failed"),
        ("accepted unwanted cancelled", "cancelled"),
        ("accepted cancelled", "cancelled at shutdown"),
        ("accepted started", "unaccounted"),
        ("accepted", "unaccounted"),
    ],
)
def test_the_journal_tells_how_a_job_ended(journal: str, end: str) -> None:
    tally = count([f"{word} a 1" for word in journal.split()], Load(), log="")

    assert tally.rows == {"accepted": 1, end: 1}
    assert tally.is_sound() == (end != "unaccounted")


def test_a_job_may_be_lost_with_a_worker_that_was_killed() -> None:
    tally = count(["accepted a 1", "started a 1"], Load(killed={1}), log="")

    assert tally.rows["killed"] == 1
    assert tally.is_sound()


def test_a_worker_that_says_what_it_gave_up_answers_for_as_many_jobs_as_it_says() -> None:
    journal = [f"accepted {id_} 1" for id_ in "abc"]
    log = "[1] Shut down after 10 s: 1 running jobs left to run on (work), 1 pending jobs cancelled"

    tally = count(journal, Load(), log)

    assert tally.rows == {"accepted": 3, "left running at shutdown": 2, "unaccounted": 1}


def test_a_job_that_ran_twice_is_seen() -> None:
    tally = count(["accepted a 1", "started a 1", "started a 1", "finished a 1"], Load(), log="")

    assert tally.run_twice == ["a"]
    assert not tally.is_sound()


def test_a_job_that_a_client_was_told_of_has_to_be_in_the_journal() -> None:
    tally = count(["accepted a 1", "finished a 1"], Load(promised={"a", "b"}), log="")

    assert tally.unaccounted == ["b"]


def test_a_job_that_was_refused_is_not_accounted_for() -> None:
    tally = count(["accepted a 1", "refused a 1", "accepted b 1", "finished b 1"], Load(), log="")

    assert tally.rows == {"accepted": 1, "finished": 1}
    assert tally.is_sound()


@pytest.mark.parametrize(
    ("journal", "state", "killed", "is_right"),
    [
        ("accepted started finished", "succeeded", False, True),
        ("accepted started finished", "running", False, False),
        ("accepted started finished", "lost", False, False),
        ("accepted started finished", "lost", True, True),
        ("accepted started", "none", True, True),
        ("accepted started", "succeeded", True, False),
        ("accepted started failed", "succeeded", False, False),
    ],
)
def test_the_records_have_to_agree_with_the_journal(
    journal: str, state: str, killed: bool, is_right: bool
) -> None:
    lines = ["is:job a 1", *(f"{word} a 1" for word in journal.split())]
    load = Load(killed={1} if killed else set())

    found = check_records(lines, {"job": state}, load.killed, count(lines, load, log=""))

    assert found.states == {state: 1}
    assert (not found.wrong) == is_right


def test_a_worker_that_is_killed_at_once_may_leave_a_database_without_tables(
    tmp_path: Path,
) -> None:
    assert read_records(tmp_path / "jobs.db") == {}

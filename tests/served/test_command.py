"""The command `flask executor`, which looks at the jobs of another process."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask

from flask_executor.cli import commands
from flask_executor.records.record import STATES
from tests.served.commanded_app import HOSTILE, create_app
from tests.served.terminals import Tmux, run_in_terminal
from tests.support import ROOT, WAIT

# Seconds. A busy machine starts a process late.
TIMEOUT = 180
pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

FLASK = ["-m", "flask", "--app", "tests.served.commanded_app:create_app", "executor"]
KEYS = ["later", "again", "hold", "sleep", "loop", "report", f"key {HOSTILE}"]
KEYS += ["mail-2", "mail-1", "mail-0"]


class Done(NamedTuple):
    status: int
    output: str
    errors: str


class Live:
    """A process with jobs, and the database of their records.

    :param folder: a new one
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "jobs.db"
        self.url = f"sqlite:///{self.file}"
        self.environment = {
            "FLASK_EXECUTOR_STORE": self.url,
            "FLASK_EXECUTOR_MAX_WORKERS": "4",
            "PYTHONPATH": str(ROOT),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.served.commanded_app"],
            cwd=ROOT,
            env=os.environ | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            self.close()
            pytest.fail("the process has ended")

    def run(self, *arguments: str, names: Sequence[str] = (), **config: object) -> Done:
        """Run a command in this process, on an app of its own."""
        config = {"EXECUTOR_STORE": self.url} | config
        app = create_app(*names, **config)
        result = app.test_cli_runner().invoke(commands, arguments)
        for name in names or ("",):
            app.extensions[f"{name}executor"].shutdown()
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Done(result.exit_code, result.stdout, result.stderr)

    def run_apart(self, *arguments: str, **environment: str) -> Done:
        """Run a command in a process of its own, as a script does."""
        done = subprocess.run(
            [sys.executable, *FLASK, *arguments],
            cwd=ROOT,
            env=os.environ | self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def in_terminal(self, *arguments: str, columns: int = 80, **environment: str) -> Done:
        given = self.environment | environment
        command = [*FLASK, *arguments]
        status, shown = run_in_terminal(command, ROOT, columns=columns, environment=given)
        return Done(status, shown, "")

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert (done.status, done.errors) == (0, "")
        return json.loads(done.output)

    def execute(self, statement: str) -> None:
        """Do something to the database that no app does."""
        with closing(sqlite3.connect(self.file, timeout=WAIT)) as connection, connection:
            connection.execute(statement)

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Have a table that no process can use, or make anew."""
        self.execute("ALTER TABLE flask_executor_jobs RENAME TO other")
        self.execute("CREATE TABLE flask_executor_jobs (id TEXT)")
        yield
        self.execute("DROP TABLE flask_executor_jobs")
        self.execute("ALTER TABLE other RENAME TO flask_executor_jobs")

    def step(self) -> None:
        """Have the job "report" go on by a tenth."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self) -> None:
        try:
            self.process.communicate(timeout=WAIT)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """For tests that only look."""
    live = Live(tmp_path_factory.mktemp("live"))
    yield live
    live.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Live]:
    """For tests that change something."""
    own = Live(tmp_path)
    yield own
    own.close()


def without_rich(folder: Path) -> str:
    """A PYTHONPATH on which rich is not installed."""
    (folder / "rich").mkdir()
    (folder / "rich/__init__.py").write_text("raise ImportError('not installed')")
    return f"{folder}{os.pathsep}{ROOT}"


def is_harmless(text: str) -> bool:
    """Whether a text does nothing to a terminal but to fill its lines."""
    return text.replace("\n", "").isprintable()


def test_status_counts_jobs_and_processes(live: Live) -> None:
    done = live.run_apart("status")

    assert (done.status, done.errors) == (0, "")
    assert done.output.splitlines()[0] == "app shop"
    assert dict(line.split(maxsplit=1) for line in done.output.splitlines()[1:]) == {
        "pending": "1",
        "running": "5",
        "succeeded": "3",
        "failed": "1",
        "cancelled": "0",
        "lost": "0",
        "processes": "1 with jobs",
    }


def test_status_is_json_for_scripts(live: Live) -> None:
    done = live.run_apart("status", "--json")

    assert (done.status, done.errors) == (0, "")
    assert json.loads(done.output) == {
        "executor": "",
        "app": "shop",
        "counts": {
            "pending": 1,
            "running": 5,
            "succeeded": 3,
            "failed": 1,
            "cancelled": 0,
            "lost": 0,
        },
        "processes": 1,
        "processes_gone": 0,
    }


def test_list_has_a_line_for_each_job_the_last_one_first(live: Live) -> None:
    done = live.run_apart("list")

    assert (done.status, done.errors) == (0, "")
    assert is_harmless(done.output)
    heading, *lines = done.output.splitlines()
    assert heading.split() == ["STATE", "JOB", "KEY", "SUBMITTED", "RAN", "NOTE", "ID"]
    words = [line.split() for line in lines]
    assert [line[:2] for line in words] == [
        ["pending", "send"],
        ["running", "try_twice"],
        ["running", "hold"],
        ["running", "sleep"],
        ["running", "until_cancelled"],
        ["running", "report"],
        ["failed", "charge"],
        *[["succeeded", "send"]] * 3,
    ]
    assert "attempt 2" in lines[1]
    assert "0 % x\\x1b[31m" in lines[5]
    assert r"key x\x1b[31m\x1b]0;mine\x07\r\n\u202e[red]\x9b2J" in lines[6]
    assert r"ValueError: x\x1b[31m" in lines[6]
    for title in ("JOB", "KEY", "NOTE", "ID"):
        start = heading.index(title)
        assert {line[start - 1 : start] for line in lines} <= {" ", ""}, "it is not aligned"


def test_list_gives_pages_and_filters_as_json(live: Live) -> None:
    first = live.json("list", "--limit", "6")
    second = live.json("list", "--limit", "6", "--before", first["next"])

    assert set(first) == {"jobs", "next"}
    assert first["next"] == first["jobs"][-1]["id"]
    assert second["next"] is None
    assert [job["key"] for job in first["jobs"] + second["jobs"]] == KEYS
    job = first["jobs"][5]
    submitted_at = datetime.fromisoformat(job["submitted_at"])
    assert abs(datetime.now(UTC) - submitted_at) < timedelta(hours=1)
    assert (job["name"], job["state"], job["executor"]) == ("report", "running", "")
    assert job["progress"]["total"] == 10
    assert job["pid"] == live.process.pid
    for arguments, keys in [
        (("--state", "failed"), KEYS[6:7]),
        (("--job", "send"), ["later", *KEYS[7:]]),
        (("--key", "mail"), KEYS[7:]),
        (("--key", "mail-_"), []),
        (("--job", "send", "--state", "pending"), ["later"]),
    ]:
        assert [job["key"] for job in live.json("list", *arguments)["jobs"]] == keys


def test_list_says_how_to_see_more(live: Live) -> None:
    done = live.run("list", "--limit", "2")
    more = live.run("list", *done.errors.split()[-2:], "--limit", "1")
    none = live.run("list", "--state", "lost")

    assert len(done.output.splitlines()) == 3
    assert done.errors.startswith("There are more: add --before ")
    assert " hold " in more.output
    assert (none.status, none.output) == (0, "")
    assert none.errors == "There are no such jobs.\n"


def test_show_tells_all_of_a_job_by_its_key_or_its_id(live: Live) -> None:
    found = live.json("show", KEYS[6])
    shown = live.run("show", found["id"])
    succeeded = live.run("show", "mail-1").output
    running = live.run("show", "report").output

    [listed] = live.json("list", "--state", "failed")["jobs"]
    assert found.keys() == listed.keys()
    assert {name for name in found if found[name] != listed[name]} <= {"result_missing", "error"}
    assert found["error"]["message"].startswith(HOSTILE)
    assert shown.status == 0
    assert is_harmless(shown.output)
    assert re.search(r"^state +failed$", shown.output, re.MULTILINE)
    assert re.search(r"^key +key x\\x1b", shown.output, re.MULTILINE)
    assert f"{live.process.pid} on " in shown.output
    assert "in charge" in shown.output
    assert re.search(r'^ +"number": 1$', succeeded, re.MULTILINE)
    assert re.search(r"^progress +0 %, 0 of 10: x\\x1b", running, re.MULTILINE)


def test_workers_lists_the_processes_with_jobs(live: Live) -> None:
    heading, line = live.run("workers").output.splitlines()
    [process] = live.json("workers")["processes"]

    assert heading.split() == ["HOST", "PID", "STATE", "SEEN", "RUNNING", "PENDING", "LOST"]
    assert line.split()[1:3] == [str(live.process.pid), "alive"]
    assert line.split()[-3:] == ["5", "1", "0"]
    assert (process["pid"], process["is_alive"], process["running"]) == (live.process.pid, True, 5)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["show", "nope"], 1, "app shop has no record of a job with the key or the id 'nope'"),
        (["cancel", "no\x1b[31m"], 1, r"or the id 'no\x1b[31m'"),
        (["forget", "nope"], 1, "has no record"),
        (["cancel", "mail-1"], 1, "the job 'mail-1' has ended already: it has succeeded"),
        (["forget", "hold"], 1, "has not ended: it is running; cancel it first"),
        (["list", "--state", "done"], 2, "'done' is not one of 'pending', 'running'"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--before", "mail\x1b"], 2, r"'mail\x1b' is not the id of a job"),
        (["show"], 2, "Missing argument 'KEY'"),
        (["status", "--name", "mail"], 2, "no executor named 'mail'"),
        (["watch"], 2, "the output of watch is no terminal; use `flask executor list`"),
    ],
)
def test_a_refusal_has_its_status_and_its_reason_on_stderr(
    live: Live, arguments: list[str], status: int, message: str
) -> None:
    done = live.run(*arguments)

    assert (done.status, done.output) == (status, "")
    assert message in done.errors
    assert is_harmless(done.errors)


def test_a_script_gets_the_same_status_and_reason(live: Live) -> None:
    absent = live.run_apart("show", "nope", "--json")
    without_store = live.run_apart("list", "--json", FLASK_EXECUTOR_STORE="null")

    assert (absent.status, absent.output) == (1, "")
    assert absent.errors.startswith("Error: app shop has no record")
    assert (without_store.status, without_store.output) == (2, "")
    assert "EXECUTOR_STORE is not set" in without_store.errors


@pytest.mark.parametrize(
    "arguments",
    [
        *([command] for command in ("status", "list", "workers", "watch", "create-store")),
        *([command, "mail-1"] for command in ("show", "cancel", "forget")),
    ],
)
def test_without_a_store_a_command_says_what_to_set(live: Live, arguments: list[str]) -> None:
    done = live.run(*arguments, EXECUTOR_STORE=None)

    assert (done.status, done.output) == (2, "")
    assert "EXECUTOR_STORE is not set" in done.errors
    assert "EXECUTOR_STORE = 'sqlite:///jobs.db'" in done.errors


def test_an_executor_is_chosen_by_its_name(live: Live) -> None:
    given: Any = {"names": ("mail", "post"), "MAIL_EXECUTOR_STORE": live.url}
    status = live.run("status", "--name", "mail", **given)
    nameless = live.run("status", **given)
    without_store = live.run("status", "--name", "post", **given)
    without_executor = Flask("bare").test_cli_runner().invoke(commands, ["status"])

    assert status.output.splitlines()[0] == "app shop, executor mail"
    assert "running    0" in status.output
    assert nameless.status == 2
    assert "no executor without a name; choose one of: --name mail, --name post" in nameless.errors
    assert without_store.status == 2
    assert "POST_EXECUTOR_STORE is not set" in without_store.errors
    assert without_executor.exit_code == 2
    assert "the app 'bare' has no executor; call executor.init_app(app)" in without_executor.stderr


def test_cancel_tells_what_has_become_of_the_job(own: Live) -> None:
    waiting = own.run_apart("cancel", "later")
    coroutine, loop, held = (own.run("cancel", key) for key in ("sleep", "loop", "hold"))

    assert waiting == (0, "later is cancelled; it has not run.\n", "")
    assert coroutine == (0, "sleep is cancelled; it was running.\n", "")
    assert loop.status == 0
    assert loop.output.startswith("loop ")
    assert "it runs until" not in loop.output
    assert held.status == 0
    assert held.output.startswith("hold was asked to stop; it runs until its code looks at ")
    assert own.json("show", "later")["state"] == "cancelled"
    assert own.json("show", "hold")["state"] == "running"


def test_cancel_and_forget_give_the_job_as_json(own: Live) -> None:
    cancelled = own.json("cancel", "later")
    forgotten = own.json("forget", "later")

    assert (cancelled["key"], cancelled["state"]) == ("later", "cancelled")
    assert forgotten == cancelled
    assert own.run("show", "later").status == 1
    assert own.run("forget", "mail-0") == (0, "The record of mail-0 is deleted.\n", "")


def test_jobs_of_a_process_that_is_gone_are_shown_as_lost(own: Live) -> None:
    own.process.kill()
    own.process.wait(WAIT)
    own.execute("UPDATE flask_executor_processes SET seen_at = seen_at - 60")
    listed = own.run("list", "--state", "lost").output
    status = own.run("status").output
    [process] = own.json("workers")["processes"]
    refused = own.run("cancel", "hold")

    assert f"process {own.process.pid} on " in listed
    assert "0 with jobs, 1 gone" in status
    assert (process["is_alive"], process["lost"]) == (False, 6)
    assert refused.status == 1
    assert "the job 'hold' has ended already: it is lost" in refused.errors


def test_a_database_that_fails_is_told_with_its_reason(own: Live) -> None:
    with own.broken():
        done = own.run("list")

    assert (done.status, done.output) == (1, "")
    assert done.errors.startswith("Error: the database of EXECUTOR_STORE fails (InvalidSetting)")
    assert "has no column" in done.errors


def test_a_terminal_shows_tables_by_rich(live: Live) -> None:
    narrow = live.in_terminal("list")
    wide = live.in_terminal("list", columns=240)
    plain = live.in_terminal("list", columns=160, NO_COLOR="1", PYTHONIOENCODING="ascii")

    for done in (narrow, wide):
        assert done.status == 0
        assert "\x1b[1mSTATE" in done.output
        assert "\x1b[31mfailed" in done.output
        text = re.sub(r"\x1b\[[0-9;]*m", "", done.output).replace("\r\n", "\n")
        assert is_harmless(text)
        assert len(text.splitlines()) == 1 + len(KEYS)
        assert r"[red]\x9b2J" in text or done is narrow
    assert " ID" not in narrow.output
    assert re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", wide.output)
    assert "\x1b" not in plain.output
    assert plain.output.isascii()


def test_a_very_narrow_terminal_shows_the_columns_that_can_be_read(live: Live) -> None:
    listed = live.in_terminal("list", columns=36)
    titles, *rows = re.sub(r"\x1b\[[0-9;]*m", "", listed.output).splitlines()

    assert titles.split() == ["STATE", "JOB", "KEY"]
    assert all(row.split()[0] in STATES for row in rows)


def test_without_rich_a_terminal_shows_plain_tables(live: Live, tmp_path: Path) -> None:
    path = without_rich(tmp_path)
    listed = live.in_terminal("list", PYTHONPATH=path)
    watched = live.in_terminal("watch", PYTHONPATH=path)

    assert listed.status == 0
    assert "STATE      JOB" in listed.output
    assert "\x1b" not in listed.output
    assert watched.status == 1
    assert "watch needs the package rich; pip install 'flask-executor[cli]'" in watched.output


def test_watch_refuses_a_terminal_that_cannot_move_its_cursor(live: Live) -> None:
    done = live.in_terminal("watch", TERM="dumb")

    assert done.status == 2
    assert "use `flask executor list`" in done.output


@pytest.fixture
def shell(own: Live) -> Iterator[Tmux]:
    """A terminal whose state is in the file "before"."""
    shell = Tmux(ROOT, own.environment | {"LC_ALL": "C.UTF-8"})
    shell.type("PS1='$ '; stty -echo; clear")
    shell.type(f"echo still there; stty -g > {own.folder}/before")
    shell.until(lambda shown: "still there" in shown)
    yield shell
    shell.close()


def start_watch(shell: Tmux) -> None:
    shell.type(f"{sys.executable} {' '.join(FLASK)} watch --interval 0.1; echo status $?")


@pytest.fixture
def tmux(shell: Tmux) -> Tmux:
    """A terminal in which `watch` shows jobs."""
    start_watch(shell)
    shell.until(lambda shown: "q quits" in shown and "report" in shown)
    return shell


def check_restored(tmux: Tmux, own: Live, status: int) -> None:
    shown = tmux.until(lambda shown: f"status {status}" in shown)
    tmux.type(f"stty -g > {own.folder}/after; echo written")
    tmux.until(lambda shown: "written" in shown)
    assert "still there" in shown
    assert "q quits" not in shown
    assert "Traceback" not in shown
    assert (own.folder / "after").read_text() == (own.folder / "before").read_text()
    assert (tmux.ask("alternate_on"), tmux.ask("cursor_flag")) == ("0", "1")


def test_watch_shows_bars_that_move_and_quits_with_q(own: Live, tmux: Tmux) -> None:
    shown = tmux.shown()
    own.step()
    own.step()
    moved = tmux.until(lambda shown: "20 %" in shown)
    tmux.resize(70, 12)
    small = tmux.until(lambda shown: "and 3 more" in shown)
    tmux.press("x")
    tmux.press("C-z")
    tmux.press("q")

    assert "app shop" in shown
    assert "running 5" in shown
    assert "0 %" in shown
    assert r"x\x1b[31m" in shown
    assert re.search(r"^charge +key x.* failed ", shown, re.MULTILINE)
    assert re.search(r"^report +report +━━━━.* 20 %", moved, re.MULTILINE)
    assert len(small.rstrip().splitlines()) <= 12
    assert "q quits" in small
    check_restored(tmux, own, 0)


def test_watch_quits_with_ctrl_c(own: Live, tmux: Tmux) -> None:
    tmux.press("C-c")

    check_restored(tmux, own, 0)


def test_watch_restores_the_terminal_on_sigterm(own: Live, tmux: Tmux) -> None:
    children = tmux.ask("pane_pid")
    subprocess.run(["pkill", "-TERM", "-P", children, "-f", "watch"], check=True)

    check_restored(tmux, own, 143)


def test_watch_goes_on_while_the_database_is_away(own: Live, tmux: Tmux) -> None:
    with own.broken():
        away = tmux.until(lambda shown: "database of EXECUTOR_STORE fails" in shown)
    back = tmux.until(lambda shown: "EXECUTOR_STORE" not in shown)
    own.execute("UPDATE flask_executor_jobs SET key = '{' WHERE name = 'hold'")
    broken = tmux.until(lambda shown: "JSONDecodeError" in shown)
    tmux.press("Q")

    for shown in (away, back, broken):
        assert re.search(r"^report +report ", shown, re.MULTILINE), shown
    check_restored(tmux, own, 0)


def test_watch_begins_without_the_database(own: Live, shell: Tmux) -> None:
    with own.broken():
        start_watch(shell)
        away = shell.until(lambda shown: "database of EXECUTOR_STORE fails" in shown)
    shell.until(lambda shown: re.search(r"^report +report ", shown, re.MULTILINE))
    shell.press("q")

    assert "RUNNING" not in away
    check_restored(shell, own, 0)

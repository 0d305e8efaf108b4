"""A database that is stopped, killed, full, locked, read-only or missing: jobs run undisturbed."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_executor import Executor
from flask_executor.exceptions import StoreUnavailable
from flask_executor.records import RecordedError
from tests.records.servers import Mariadb, Postgresql, Server
from tests.support import ROOT, WAIT, Gate, MakeExecutor, app_log

AWAY = "The database of EXECUTOR_STORE "
_numbers = itertools.count(1)

SILENT = f"{AWAY}does not answer (TimeoutError)"
BACK = f"{AWAY}answers again; no record is lost"


def fail() -> None:
    raise ValueError("the reason")


def until(is_met: Callable[[], object], wait: float = WAIT) -> None:
    end = time.monotonic() + wait
    while not is_met():
        assert time.monotonic() < end
        time.sleep(0.02)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the database."""
    texts = [record.getMessage() for record in app_log(caplog)]
    return [text for text in texts if not text.startswith("Job fail")]


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The same, without the seconds in which a busy machine kept the database from answering."""
    found: list[str] = []
    for text in lines(caplog):
        if text == BACK and found and found[-1].startswith(SILENT):
            found.pop()
        else:
            found.append(text)
    return found


def flood(executor: Executor, count: int, name: str) -> list[str]:
    """Run so many jobs, some of which fail, and return the ids; each must have its outcome."""
    futures = [
        executor.submit_stored(f"{name}-{n}", fail if n % 7 == 0 else abs, *([n] if n % 7 else []))
        for n in range(count)
    ]
    for n, future in enumerate(futures):
        if n % 7:
            assert future.result(WAIT) == n
        else:
            assert isinstance(future.exception(WAIT), ValueError)
    return [future.id for future in futures]


def check_states(executor: Executor, names: list[str], count: int) -> None:
    for name in names:
        for n in range(0, count, 10):
            record = executor.records.get(f"{name}-{n}")
            assert record is not None
            assert record.state == ("succeeded" if n % 7 else "failed")
            assert record.result == (n if n % 7 else None)


class Outage:
    """Stops a server with all its processes, and has them go on."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.server.process.pid}/task").glob("*/children")
        found = [int(pid) for each in children for pid in each.read_text("utf-8").split()]
        return [self.server.process.pid, *found]

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a server that gets SIGSTOP has stopped when this returns."""
        pids = self.pids()
        for pid in pids:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            # The kernel stops thread by thread, and a thread may answer once more meanwhile.
            until(lambda: all(state == "T" for pid in pids for state in thread_states(pid)))


def thread_states(pid: int) -> list[str]:
    stats = [task / "stat" for task in Path(f"/proc/{pid}/task").iterdir()]
    return [stat.read_text("utf-8").rpartition(")")[2].split()[0] for stat in stats]


@pytest.fixture(scope="module", params=[Postgresql, Mariadb])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of its own: others must not wait when it is stopped."""
    try:
        server = request.param()
    except FileNotFoundError as error:
        pytest.skip(f"the machine does not have {error}: apt-get install postgresql mariadb-server")
    yield server
    server.stop()


@pytest.fixture
def outage(server: Server) -> Outage:
    return Outage(server)


@pytest.fixture
def url(server: Server) -> str:
    """That of a new database."""
    return server.database(f"jobs_{next(_numbers)}")


@pytest.fixture
def on_server(app: Flask, executors: MakeExecutor, url: str) -> Executor:
    return executors(app, store=url, futures_max_length=None)


@pytest.mark.slow
def test_jobs_run_and_records_catch_up_while_the_server_is_stopped(
    on_server: Executor, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    flood(on_server, 100, "before")
    outage.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        on_server.submit_stored("waits", abs, 1).result(WAIT)
        first = time.monotonic() - began
        flood(on_server, 300, "meanwhile")
        rest = time.monotonic() - began - first
        with pytest.raises(StoreUnavailable, match="records of other processes cannot be read now"):
            on_server.records.get("no such key")
        own = on_server.records.get("meanwhile-1")
    finally:
        outage.send(signal.SIGCONT)
    flood(on_server, 100, "after")
    until(lambda: on_server.records.counts()["succeeded"] == 85 + 1 + 257 + 85)
    until(lambda: lines(caplog)[-1:] == [BACK])

    assert first >= 1
    assert rest < 150  # 300 claims that waited would take 300 seconds.
    assert own.state == "succeeded"
    assert faults(caplog) == []
    check_states(on_server, ["before", "meanwhile", "after"], 100)


@pytest.mark.slow
def test_jobs_run_and_records_catch_up_while_the_server_is_killed(
    on_server: Executor, outage: Outage, caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    held = on_server.submit_stored("held", gate, 1)
    flood(on_server, 100, "before")
    outage.send(signal.SIGKILL)
    outage.server.process.wait(WAIT)
    flood(on_server, 100, "meanwhile")
    gate.open()
    assert held.result(WAIT) == 1
    with pytest.raises(StoreUnavailable):
        on_server.records.get("no such key")
    outage.server.start()
    until(lambda: faults(caplog)[1:] == [BACK])
    flood(on_server, 100, "after")
    on_server.drain(WAIT)

    until(lambda: on_server.records.counts()["succeeded"] == 3 * 85 + 1)
    assert faults(caplog)[0].startswith(f"{AWAY}fails (")
    assert on_server.records.get("held").state == "succeeded"
    check_states(on_server, ["before", "meanwhile", "after"], 100)


@pytest.mark.slow
def test_a_server_is_restarted_without_a_word(
    on_server: Executor, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    flood(on_server, 10, "before")
    on_server.drain(WAIT)
    assert on_server.records.counts()["succeeded"] == 8
    outage.server.end()
    outage.server.start()
    flood(on_server, 10, "after")
    on_server.drain(WAIT)

    until(lambda: on_server.records.counts()["succeeded"] == 16)
    assert faults(caplog)[1:] in ([], [BACK])


@pytest.mark.slow
def test_a_shutdown_without_the_server_is_bounded_and_says_what_is_lost(
    on_server: Executor, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    flood(on_server, 10, "before")
    on_server.drain(WAIT)
    on_server.records.counts()
    outage.send(signal.SIGSTOP)
    try:
        flood(on_server, 20, "meanwhile")
        on_server.shutdown()
        on_server.shutdown()  # as the end of the interpreter does
        said = faults(caplog)  # before the database answers again
    finally:
        outage.send(signal.SIGCONT)

    assert len(said) == 2
    assert said[1] == (
        "Shut down before the database of EXECUTOR_STORE had taken all records: 20 jobs have a "
        "record that is not up to date, or none"
    )


SCRIPT = """
import sys
from flask import Flask
from flask_executor import Executor

app = Flask("app")
app.config["EXECUTOR_STORE"] = sys.argv[1]
executor = Executor(app)
with app.app_context():
    executor.submit_stored("before", abs, 1).result(60)
    executor.drain(60)
    print("ready", flush=True)
    sys.stdin.readline()
    futures = [executor.submit_stored(f"job-{n}", abs, n) for n in range(20)]
    print(sum(future.result(60) for future in futures), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGSTOP, signal.SIGKILL])
def test_the_end_of_a_process_without_the_server_is_bounded(
    outage: Outage, url: str, stop: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    outage.send(stop)
    try:
        output, errors = process.communicate("go on\n", timeout=WAIT)
    finally:
        process.kill()
        if stop == signal.SIGSTOP:
            outage.send(signal.SIGCONT)
        else:
            outage.server.process.wait(WAIT)
            outage.server.start()

    assert (output, process.returncode) == ("190\n", 0)
    # The end of the first job may have been unwritten, too.
    assert re.search("2[01] jobs have a record that is not up to date", errors)
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("server", [Postgresql], indirect=True)
def test_a_wrong_password_is_in_no_message(
    app: Flask,
    executors: MakeExecutor,
    caplog: pytest.LogCaptureFixture,
    server: Postgresql,
    url: str,
) -> None:
    hba = server.folder / "data" / "pg_hba.conf"
    trusting = hba.read_text("utf-8")
    server.execute("ALTER ROLE postgres PASSWORD 'secret'")
    hba.write_text(trusting.replace("trust", "scram-sha-256"), "utf-8")
    server.execute("SELECT pg_reload_conf()")
    url = url.replace("secret", "pa55word")
    try:
        executor = executors(app, store=url)
        executor.submit_stored("report", abs, 1).result(WAIT)
        with pytest.raises(StoreUnavailable) as caught:
            executor.records.get("other")
        executor.shutdown()
    finally:
        hba.write_text(trusting, "utf-8")
        os.kill(server.process.pid, signal.SIGHUP)

    error: BaseException | None = caught.value
    while error is not None:
        assert "pa55word" not in str(error)
        error = error.__cause__ or error.__context__
    assert "pa55word" not in repr(app.extensions["executor"])
    assert lines(caplog)[0].startswith(f"{AWAY}fails (OperationalError)")
    assert "pa55word" not in caplog.text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small disk."""
    folder = Path(tempfile.mkdtemp(prefix="flask-executor-"))
    options = ["-t", "tmpfs", "-o", "size=16m"]
    command = ["mount", *options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("this user may not mount a disk")
    yield folder
    # Lazily: executors are shut down later.
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture
def on_file(app: Flask, executors: MakeExecutor, path: Path) -> Executor:
    executor = executors(app, store=f"sqlite:///{path}", futures_max_length=None)
    assert executor.records.list() == []
    return executor


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.mark.slow
def test_a_file_that_another_process_has_locked_delays_no_job(
    on_file: Executor, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    flood(on_file, 200, "meanwhile")
    took = time.monotonic() - began
    threading.Event().wait(max(0, 3 - took))
    connection.execute("COMMIT")
    connection.close()
    until(lambda: on_file.records.counts()["succeeded"] == 171)
    until(lambda: lines(caplog)[-1:] == [BACK])

    assert faults(caplog)[1:] in ([], [BACK])
    check_states(on_file, ["meanwhile"], 200)


@pytest.mark.slow
def test_records_catch_up_when_a_full_disk_has_room_again(
    app: Flask, executors: MakeExecutor, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = executors(app, store=f"sqlite:///{disk / 'jobs.db'}", futures_max_length=None)
    flood(executor, 10, "before")
    executor.drain(WAIT)
    assert executor.records.counts()["succeeded"] == 8
    fill(disk / "filler")
    flood(executor, 200, "meanwhile")
    until(lambda: faults(caplog))
    (disk / "filler").unlink()
    until(lambda: executor.records.counts()["succeeded"] == 8 + 171)
    until(lambda: len(faults(caplog)) == 2)

    assert faults(caplog)[0].startswith(f"{AWAY}fails (OperationalError)")
    assert faults(caplog)[1] == BACK
    check_states(executor, ["before"], 10)
    check_states(executor, ["meanwhile"], 200)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


UNUSABLE = {
    "a folder": lambda path: path.mkdir(),
    "no database": lambda path: path.write_bytes(b"no database" * 1000),
    "in a file": lambda path: path.parent.joinpath("file").write_bytes(b""),
    "newer": lambda path: [
        execute(path, "CREATE TABLE flask_executor_store (version INTEGER PRIMARY KEY)"),
        execute(path, "INSERT INTO flask_executor_store VALUES (99)"),
    ],
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_jobs_run_with_a_file_that_cannot_be_used(
    app: Flask, executors: MakeExecutor, path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    UNUSABLE[case](path)
    if case == "in a file":
        path = path.parent / "file" / "jobs.db"
    executor = executors(app, store=f"sqlite:///{path}")
    futures = [executor.submit_stored(f"job-{n}", abs, n) for n in range(20)]
    assert [future.result(WAIT) for future in futures] == list(range(20))
    with pytest.raises(StoreUnavailable):
        executor.records.list()
    executor.shutdown()

    away, lost = faults(caplog)
    assert away.startswith(f"{AWAY}fails (")
    assert lost.endswith(
        " taken all records: 20 jobs have a record that is not up to date, or none"
    )
    if case == "newer":
        assert "version 99" in away
        assert "give this app another database" in away


@pytest.mark.slow
@pytest.mark.parametrize("what", ["file", "disk"])
def test_jobs_run_if_the_file_may_not_be_written(
    app: Flask,
    executors: MakeExecutor,
    disk: Path,
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = disk / "jobs.db"
    before = executors(app, store=f"sqlite:///{path}")
    before.submit_stored("before", abs, 1).result(WAIT)
    before.shutdown()
    if what == "disk":
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    uri = f"file:{path}?mode=ro&uri=true" if what == "file" else path
    executor = executors(Flask("app"), store=f"sqlite:///{uri}")
    futures = [executor.submit_stored(f"job-{n}", abs, n) for n in range(20)]
    assert [future.result(WAIT) for future in futures] == list(range(20))
    executor.shutdown()

    away, lost = faults(caplog)
    assert away.startswith(f"{AWAY}fails (OperationalError)")
    assert lost.endswith(
        " taken all records: 20 jobs have a record that is not up to date, or none"
    )


@pytest.mark.slow
def test_a_row_that_the_database_refuses_costs_no_other_job_its_record(
    on_file: Executor, path: Path, caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    execute(
        path,
        "CREATE TRIGGER refuse BEFORE INSERT ON flask_executor_jobs WHEN NEW.name = 'fail'"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    running = on_file.submit_stored("runs", gate, 1)
    good = [on_file.submit_stored(f"good-{n}", abs, n) for n in range(50)]
    bad = on_file.submit_stored("bad", fail)
    more = [on_file.submit_stored(f"more-{n}", abs, n) for n in range(50)]
    assert isinstance(bad.exception(WAIT), ValueError)
    assert len([future.result(WAIT) for future in (*good, *more)]) == 100
    until(lambda: len(faults(caplog)) == 2)
    until(lambda: on_file.records.counts()["succeeded"] == 100)
    counts = on_file.records.counts()
    gate.open()
    running.result(WAIT)
    on_file.drain(WAIT)

    assert (counts["succeeded"], counts["running"], counts["failed"]) == (100, 1, 0)
    assert faults(caplog)[1] == f"{AWAY}answers again; 1 job has no record"
    assert on_file.records.get("runs").state == "succeeded"


@pytest.fixture
def small_packets(server: Server) -> Iterator[None]:
    """A server that takes no more than a mebibyte at once, as others do by default."""
    server.execute("SET GLOBAL max_allowed_packet = 1048576")
    yield
    server.execute("SET GLOBAL max_allowed_packet = 16777216")


@pytest.mark.slow
@pytest.mark.parametrize("server", [Mariadb], indirect=True)
@pytest.mark.usefixtures("small_packets")
def test_a_result_that_the_server_does_not_take_costs_nothing_but_itself(
    on_server: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    def backslashes(count: int) -> str:
        return "\\" * count  # Each is two in JSON, and four in a statement.

    large = on_server.submit_stored("large", backslashes, 500_000)
    assert len(large.result(WAIT)) == 500_000
    small = on_server.submit_stored("small", backslashes, 2)
    small.result(WAIT)
    until(lambda: on_server.records.counts()["succeeded"] == 2)
    until(lambda: len(lines(caplog)) >= 2 and lines(caplog)[-1] == BACK)
    found = on_server.records.get("large")

    assert found is not None
    assert found.result is None
    assert found.result_missing == "the database has refused it: OperationalError"
    assert on_server.records.get("small").result == "\\\\"


@pytest.mark.slow
def test_a_result_that_cannot_be_written_costs_nothing_but_itself(
    on_file: Executor, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for change in ("INSERT", "UPDATE"):
        execute(
            path,
            f"CREATE TRIGGER refuse_{change} BEFORE {change} ON flask_executor_jobs"
            " WHEN NEW.result = '1' BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
    futures = [on_file.submit_stored(f"job-{n}", abs, n) for n in range(3)]
    assert [future.result(WAIT) for future in futures] == [0, 1, 2]
    until(lambda: on_file.records.counts()["succeeded"] == 3)
    until(lambda: lines(caplog)[-1:] == [BACK])
    found = [on_file.records.get(f"job-{n}") for n in range(3)]

    assert [record.result for record in found] == [0, None, 2]
    assert found[1].result_missing == "the database has refused it: IntegrityError"


@pytest.mark.slow
@pytest.mark.parametrize("server", [Postgresql], indirect=True)
@pytest.mark.parametrize(
    ("encoding", "message"), [("SQL_ASCII", "\N{CJK UNIFIED IDEOGRAPH-8BEF}"), ("LATIN1", None)]
)
def test_a_database_with_another_encoding_has_all_records(
    server: Server, app: Flask, executors: MakeExecutor, encoding: str, message: str | None
) -> None:
    def fail_in_chinese() -> None:
        raise ValueError("\N{CJK UNIFIED IDEOGRAPH-8BEF}")

    name = f"jobs_{next(_numbers)}"
    server.execute(
        f"CREATE DATABASE {name} ENCODING {encoding} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    executor = executors(app, store=f"{server.url}/{name}")
    executor.submit_stored("fails", fail_in_chinese).exception(WAIT)
    executor.submit_stored("succeeds", str, "\N{CJK UNIFIED IDEOGRAPH-8BEF}").result(WAIT)
    until(lambda: executor.records.counts()["failed"] == 1)
    until(lambda: executor.records.counts()["succeeded"] == 1)
    failed, succeeded = (executor.records.get(key) for key in ("fails", "succeeds"))

    assert failed.error == RecordedError("ValueError", message, failed.error.traceback)
    assert succeeded.result == "\N{CJK UNIFIED IDEOGRAPH-8BEF}"

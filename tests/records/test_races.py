"""What processes and threads do to one database at the same time."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from flask_executor.records.schema import JOBS
from tests.records.stores import Store, claim, key_of, row_of
from tests.support import ROOT, WAIT, at_once

# The other threads of this process hold no lock that a forked child would need.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

CLAIMER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.inside import wait_long_for_databases
from tests.records.stores import Store, claim, row_of

wait_long_for_databases()
url, folder, process = sys.argv[1:]
store = Store(url, Path(folder))
database = store.open(process)
barrier = threading.Barrier(51)

def ask(number):
    claims = [claim(row_of(process=process), key) for key in "abc"]
    barrier.wait()
    return [database.write([], [], [each])[0] for each in claims]

with ThreadPoolExecutor(50) as threads:
    asked = [threads.submit(ask, number) for number in range(50)]
    print(flush=True)
    input()
    barrier.wait()
    answers = [future.result() for future in asked]
print(*(sum(answer is None for answer in column) for column in zip(*answers)))
store.close()
"""


@pytest.mark.slow
def test_of_200_threads_in_4_processes_one_gets_the_key(store: Store) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, store.url, str(store.folder), f"p{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        )
        for number in range(4)
    ]

    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    done = [process.communicate(timeout=2 * WAIT) for process in processes]

    assert [errors for _, errors in done] == [""] * 4
    won = [list(map(int, output.split())) for output, _ in done]
    assert [sum(column) for column in zip(*won, strict=True)] == [1, 1, 1]
    # They read as lost if the race has taken long: nobody beats here.
    assert sum(store.open().counts().values()) == 3


def test_one_of_many_replaces_an_ended_job(store: Store) -> None:
    database = store.open()
    database.write([], [], [claim(row_of("succeeded"))])
    claims = [claim(row_of(), replaces=True) for _ in range(16)]

    found = at_once(*(partial(database.write, [], [], [each]) for each in claims))

    winners = [each for each, (holder,) in zip(claims, found, strict=True) if holder is None]
    assert len(winners) == 1
    assert database.by_claim(key_of()).row == winners[0].row


def test_one_of_many_jobs_that_were_saved_gets_the_key(store: Store) -> None:
    database = store.open()
    rows = [row_of() for _ in range(16)]
    database.write(rows, [], [])

    found = at_once(*(partial(database.write, [], [], [claim(row)]) for row in rows))

    winners = [row for row, (holder,) in zip(rows, found, strict=True) if holder is None]
    assert [database.by_claim(key_of()).row] == winners


def test_transactions_that_want_the_same_keys_and_rows_do_not_fail(store: Store) -> None:
    databases = [store.open(f"p{number}") for number in range(4)]
    rows = [row_of("succeeded") for _ in range(5)]
    databases[0].write(rows, [], [])

    def write(number: int) -> None:
        turned = rows[number:] + rows[:number]
        for _ in range(5):
            mine = [row_of("succeeded", process=f"p{number}") for _ in rows]
            names = [row["id"] for row in turned]
            claims = [
                claim(row, name, replaces=True) for row, name in zip(mine, names, strict=True)
            ]
            databases[number].write(turned, names[:2], claims)
            databases[number].beat()
            databases[number].expire()

    assert at_once(*(partial(write, number) for number in range(4))) == [None] * 4


def test_of_two_transactions_in_a_deadlock_one_is_tried_again(on_server: Store) -> None:
    database = on_server.open()
    ids = [row["id"] for row in (row_of(), row_of())]
    database.write([row_of(id=each) for each in ids], [], [])
    barrier = threading.Barrier(2)
    tried: list[list[str]] = []

    def lock(order: list[str]) -> None:
        is_first = [True]

        def work(connection: Connection) -> None:
            tried.append(order)
            connection.execute(update(JOBS).where(JOBS.c.id == order[0]).values(attempt=2))
            if is_first:
                is_first.clear()
                barrier.wait(WAIT)
            connection.execute(update(JOBS).where(JOBS.c.id == order[1]).values(attempt=3))

        database._connections.write(work)

    assert at_once(partial(lock, ids), partial(lock, ids[::-1])) == [None, None]

    assert len(tried) >= 3  # It may meet the other one once more.


def close_connections(on_server: Store) -> None:
    """Have the server close all connections but the one that asks for it."""
    if on_server.engine.dialect.name == "postgresql":
        on_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return
    ((own,),) = on_server.execute("SELECT connection_id()")
    for (number,) in on_server.execute(
        "SELECT id FROM information_schema.processlist WHERE db = database()"
    ):
        if number != own:
            on_server.execute(f"KILL {number}")


def test_connections_that_the_server_has_closed_are_not_used(on_server: Store) -> None:
    database = on_server.open()
    row = row_of()
    database.write([row], [], [])
    at_once(*[partial(database.by_id, row["id"])] * 4)
    close_connections(on_server)

    assert at_once(*[partial(database.by_id, row["id"])] * 4) == [database.by_id(row["id"])] * 4
    database.write([row], [], [])


def test_a_key_is_claimed_when_the_server_has_closed_the_connection(
    on_server: Store, caplog: pytest.LogCaptureFixture
) -> None:
    database = on_server.open()
    rows = [row_of() for _ in "abc"]
    database.beat()
    database.write([], [], [claim(rows[0], "a")])
    close_connections(on_server)

    assert database.write([], [], [claim(rows[1], "b")]) == [None]
    assert database.write([], [], [claim(rows[2], "c")]) == [None]

    assert [database.by_claim(key_of(key)).row for key in "abc"] == rows
    assert caplog.text == ""


def test_a_conflict_that_does_not_end_is_raised(store: Store) -> None:
    database = store.open()
    tried = []

    def fail(connection: Connection) -> None:
        tried.append(1)
        connection.execute(insert(JOBS), [row_of(state=None)])

    with pytest.raises(IntegrityError):
        database._connections.write(fail)

    assert len(tried) == 10


def test_connections_are_closed_with_the_object(store: Store) -> None:
    database = store.open()
    database.beat()
    database.by_id("none")
    pool = database._connections.engine.pool
    opened = pool.checkedin() + pool.checkedout()
    store._opened.clear()

    del database
    gc.collect()

    assert opened > 0
    assert (pool.checkedin(), pool.checkedout()) == (0, 0)


def in_child(work: Callable[[], object]) -> object:
    """What *work* returns in a forked process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        result = "failed"
        try:
            result = work()
        finally:
            os.write(write, json.dumps(result).encode())
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return json.load(pipe)


def test_a_transaction_that_writes_waits_for_its_turn_when_it_begins(file: Store) -> None:
    database = file.open()
    database.create()

    def work(_: Connection) -> None:
        other = sqlite3.connect(file.folder / "jobs.db", timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()

    database._connections.write(work)


SESSION = {"postgresql": func.pg_backend_pid(), "mysql": func.connection_id()}


def test_a_forked_process_does_not_close_the_connections_of_its_parent(on_server: Store) -> None:
    refs = [on_server.open()]
    on_server._opened.clear()
    session = select(SESSION[on_server.engine.dialect.name])
    with refs[0]._connections.engine.connect() as connection:
        before = connection.scalar(session)

    def work() -> object:
        refs.clear()
        gc.collect()
        return "collected"

    assert in_child(work) == "collected"

    with refs[0]._connections.engine.connect() as connection:
        assert connection.scalar(session) == before
    refs[0].close()


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(store: Store) -> None:
    database = store.open()
    row = row_of()
    database.write([row], [], [])
    database.write([], [], [claim(row_of(), "before")])
    refs = [database]
    store._opened.clear()
    del database

    def work() -> object:
        refs.clear()
        gc.collect()
        other = store.open("child")
        other.beat()
        other.write([], [], [claim(row_of(), "child")])
        found = other.by_id(row["id"])
        other.close()
        return found.row

    assert in_child(work) == row

    assert refs[0].by_id(row["id"]).row == row
    refs[0].write([row], [], [])
    assert refs[0].write([], [], [claim(row_of(), "after")]) == [None]
    assert refs[0].write([], [], [claim(row_of(), "child")]) != [None]
    refs[0].close()

"""How the tables are made, and what is said of tables that cannot be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from flask_executor import InvalidSetting
from flask_executor.records.schema import JOBS
from flask_executor.records.tables import create_tables
from tests.records.stores import Store, claim, key_of, row_of
from tests.support import ROOT, WAIT, at_once

TABLES = ["jobs", "processes", "cancels", "store"]


def make(store: Store) -> list[str]:
    return create_tables(store.engine, "EXECUTOR_STORE")


def test_the_tables_are_made_once(fresh: Store) -> None:
    made = make(fresh)

    assert [each for each in made if each.startswith("table")] == [
        f"table flask_executor_{name}" for name in TABLES
    ]
    assert make(fresh) == []
    fresh.open().create()
    assert fresh.execute("SELECT version FROM flask_executor_store") == [(1,)]


def test_an_older_table_gets_the_columns_and_indexes_that_it_does_not_have(fresh: Store) -> None:
    database = fresh.open()
    old = row_of("succeeded", result_missing=None)
    database.write([old], [], [])
    fresh.execute("ALTER TABLE flask_executor_jobs DROP COLUMN result_missing")
    index = "flask_executor_jobs_claim"
    on = " ON flask_executor_jobs" if fresh.engine.dialect.name == "mysql" else ""
    fresh.execute(f"DROP INDEX {index}{on}")
    fresh.execute("ALTER TABLE flask_executor_jobs DROP COLUMN claim")
    fresh.execute("UPDATE flask_executor_store SET version = 0")

    assert make(fresh) == [
        "column flask_executor_jobs.claim",
        "column flask_executor_jobs.result_missing",
        f"index {index}",
    ]

    newer = fresh.open()
    first, second = row_of(result_missing="too large"), row_of()
    assert newer.write([], [], [claim(first), claim(second)])[0] is None
    assert newer.by_claim(key_of()).row == first
    assert newer.by_id(old["id"]).row == old
    assert fresh.execute("SELECT version FROM flask_executor_store") == [(1,)]


def test_an_older_table_gets_the_index_of_ends(fresh: Store) -> None:
    make(fresh)
    index = "flask_executor_jobs_ended"
    on = " ON flask_executor_jobs" if fresh.engine.dialect.name == "mysql" else ""
    fresh.execute(f"DROP INDEX {index}{on}")

    assert make(fresh) == [f"index {index}"]
    assert make(fresh) == []


def test_a_column_that_rows_cannot_get_is_named(fresh: Store) -> None:
    make(fresh)
    fresh.execute("ALTER TABLE flask_executor_jobs DROP COLUMN host")

    with pytest.raises(
        InvalidSetting,
        match=r"the table flask_executor_jobs in MAIL_EXECUTOR_STORE has no column 'host', .* "
        r"rename or drop the table",
    ):
        fresh.open(setting="MAIL_EXECUTOR_STORE").by_id("x")


def test_tables_of_a_newer_version_are_refused(fresh: Store) -> None:
    make(fresh)
    fresh.execute("UPDATE flask_executor_store SET version = 2")

    for _ in range(2):
        with pytest.raises(
            InvalidSetting, match=r"the tables in EXECUTOR_STORE have version 2, .* knows version 1"
        ):
            fresh.open().beat()


def test_threads_that_use_a_new_database_at_once_find_it_made(fresh: Store) -> None:
    databases = [fresh.open(f"p{number}") for number in range(8)]

    assert at_once(*(database.beat for database in databases)) == [[]] * 8


@pytest.mark.slow
def test_processes_that_use_a_new_database_at_once_find_it_made(fresh: Store) -> None:
    code = (
        "import sys\n"
        "from flask_executor.records.sql import SqlDatabase\n"
        "url, folder, name = sys.argv[1:]\n"
        "database = SqlDatabase(url, setting='STORE', app='app', executor='', process=name,\n"
        "                       host='', pid=1, ttl=1, instance_path=folder)\n"
        "print(flush=True)\n"
        "input()\n"
        "database.changes.beat()\n"
        "database.close()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, fresh.url, str(fresh.folder), f"p{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        )
        for number in range(3)
    ]

    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()

    for process in processes:
        _, errors = process.communicate(timeout=WAIT)
        assert (process.returncode, errors.decode()) == (0, "")
    assert fresh.execute("SELECT count(*) FROM flask_executor_processes") == [(3,)]


def test_the_answers_of_a_database_count_until_its_tables_are_there(fresh: Store) -> None:
    database = fresh.open()
    began = time.monotonic()
    before = database.answered_at()
    database.counts()
    after = database.answered_at()
    database.beat()

    assert before < began < after <= time.monotonic()
    assert database.answered_at() == after


LOCKS = {
    "postgresql": ("SELECT pg_advisory_xact_lock(439904990059)", "SELECT 1"),
    "mysql": ("SELECT get_lock('flask_executor', 9)", "SELECT release_lock('flask_executor')"),
}


def test_a_process_that_waits_for_others_to_make_the_tables_gets_answers(on_server: Store) -> None:
    take, leave = LOCKS[on_server.engine.dialect.name]
    database = on_server.open()
    answers: set[float] = set()
    making = threading.Thread(target=database.create)
    with on_server.engine.begin() as connection:
        connection.execute(text(take))
        making.start()
        end = time.monotonic() + WAIT
        while len(answers) < 50:  # To find no table takes fewer.
            assert time.monotonic() < end
            answers.add(database.answered_at())
            time.sleep(0.001)
        connection.execute(text(leave))
    making.join(WAIT)

    assert make(on_server) == []


def test_a_user_who_may_not_make_tables_uses_those_that_are_there(on_server: Store) -> None:
    url = make_url(on_server.url)
    if url.get_backend_name() == "postgresql":
        on_server.execute("CREATE ROLE app LOGIN")
        grant = ["GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app"]
    else:
        on_server.execute("CREATE USER app")
        grant = [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {url.database}.* TO app"]
    user = Store(
        url.set(username="app", password=None).render_as_string(hide_password=False),
        on_server.folder,
    )
    try:
        with pytest.raises(DBAPIError):
            user.open().beat()
        make(on_server)
        for statement in grant:
            on_server.execute(statement)
        row = row_of()

        assert user.open().write([], [], [claim(row)]) == [None]

        assert user.open().by_claim(key_of()).row == row
    finally:
        user.close()
        if url.get_backend_name() == "postgresql":
            on_server.execute("DROP OWNED BY app")
            on_server.execute("DROP ROLE app")
        else:
            on_server.execute("DROP USER app")


def test_a_file_that_cannot_be_written_can_be_read(file: Store) -> None:
    row = row_of("running")
    file.open().write([], [], [claim(row)])
    reader = Store("sqlite:///file:jobs.db?mode=ro&uri=true", file.folder)
    database = reader.open()

    assert database.by_claim(key_of()).row == row
    assert database.counts() == {"running": 1}
    with pytest.raises(OperationalError, match="readonly"):
        database.beat()
    reader.close()


def test_a_file_has_a_write_ahead_log(file: Store) -> None:
    file.open().beat()

    assert file.execute("PRAGMA journal_mode") == [("wal",)]
    assert file.execute("PRAGMA synchronous") == [(1,)]
    assert file.execute("PRAGMA busy_timeout") == [(5000,)]


def test_a_folder_that_was_deleted_is_made_again(file: Store) -> None:
    file.open().beat()
    file.close()
    shutil.rmtree(file.folder)

    database = file.open()
    database.beat()

    assert (file.folder / "jobs.db").exists()


def test_errors_show_neither_the_values_of_a_row_nor_the_password(
    on_server: Store, tmp_path: Path
) -> None:
    secret = f"hunter-{2}"
    database = on_server.open()
    database.create()
    with pytest.raises(DBAPIError) as failed:
        database.write([row_of(result=secret, pid="no number")], [], [])
    assert secret not in str(failed.value)

    url = make_url(on_server.url).set(password=secret, username="nobody", database="none")
    other = Store(url.render_as_string(hide_password=False), tmp_path)
    with pytest.raises(DBAPIError) as failed:
        other.open().beat()
    assert secret not in str(failed.value)
    other.close()


def test_every_column_of_a_row_is_in_the_table() -> None:
    assert {column.name for column in JOBS.c} == {*row_of(), "claim"}


BROKEN = [
    "DROP TABLE flask_executor_jobs",
    "DROP TABLE flask_executor_processes",
    "DROP TABLE flask_executor_cancels",
    "ALTER TABLE flask_executor_jobs DROP COLUMN error_message",
]


@pytest.mark.parametrize("statement", BROKEN)
def test_what_is_dropped_while_it_is_in_use_is_made_again(fresh: Store, statement: str) -> None:
    database = fresh.open()
    database.write([row_of()], [], [])
    database.expire()
    fresh.execute(statement)

    with pytest.raises(DBAPIError):
        [database.write([row_of()], [], []), database.beat()]
    row = row_of()
    database.write([row], [], [])

    assert database.beat() == []
    assert database.by_id(row["id"]).row == row


def test_a_reader_makes_what_was_dropped_while_it_was_in_use(fresh: Store) -> None:
    database = fresh.open()
    assert database.counts() == {}
    fresh.execute("DROP TABLE flask_executor_jobs")

    with pytest.raises(DBAPIError):
        database.counts()

    assert database.counts() == {}


def test_a_file_that_is_deleted_while_it_is_in_use_is_made_again(file: Store) -> None:
    database, other = file.open(), file.open("other")
    key, row = row_of(), row_of()
    database.write([row_of()], [], [claim(key)])
    assert other.counts() == {"pending": 2}
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        (file.folder / name).unlink()

    assert database.write([], [], [claim(row)]) == [None]

    assert other.by_id(row["id"]).row == row
    database.beat()
    assert other.counts() == {"pending": 1}

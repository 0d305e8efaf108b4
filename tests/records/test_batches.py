"""Batches of changes that the database refuses, or that it is away for."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from flask_executor.records.backlog import Backlog
from flask_executor.records.batch_writer import BatchWriter
from flask_executor.records.row import Row
from tests.records.stores import Store, claim, key_of, row_of


@dataclass(eq=False)
class Job:
    """What the backlog knows of a job."""

    row: Row
    key: str
    is_dirty: bool = False
    is_known: bool = False
    is_final: bool = False
    result: object = None
    error: object = None

    @property
    def id(self) -> str:
        return self.row["id"]


class Jobs:
    """Jobs whose changes wait to be written."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.database = store.open()
        self.given_up = 0
        self.backlog = Backlog(lambda: None, lambda: None)
        self.writer = BatchWriter(
            self.backlog,
            self.database,
            lambda jobs: [job.row for job in jobs],
            on_give_up=self.count,
        )

    def count(self) -> None:
        self.given_up += 1

    def put(self, name: str) -> Job:
        job = Job(row_of("succeeded", name=name), name)
        self.backlog.put(job)
        return job

    def claim(self, name: str) -> Future[Any]:
        job = Job(row_of(name=name), name)
        return self.backlog.claim(job, key_of(name), replaces=False)

    def names(self) -> set[str]:
        return {found.row["name"] for found in self.database.list(None, None, 99, None)}


@pytest.fixture
def jobs(file: Store) -> Jobs:
    jobs = Jobs(file)
    jobs.database.create()
    return jobs


def refuse(store: Store, name: str) -> None:
    store.execute(
        f"CREATE TRIGGER refuse_{name} BEFORE INSERT ON flask_executor_jobs"
        f" WHEN NEW.name = '{name}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )


def test_what_is_refused_is_given_up_and_all_else_of_its_batch_is_written(jobs: Jobs) -> None:
    held = row_of()
    jobs.database.write([held], [], [])
    refuse(jobs.store, "bad")
    refuse(jobs.store, "worse")
    claims = {name: jobs.claim(name) for name in ("worse", "free")}
    jobs.backlog.release(held["id"])
    for name in ("first", "bad", "last"):
        jobs.put(name)
    mark = jobs.backlog.mark()
    jobs.writer.batch.take_claims(jobs.backlog._claims)
    jobs.writer.batch.take_from(jobs.backlog._work)

    with pytest.raises(IntegrityError):
        jobs.writer.write()
    jobs.writer.write_singly(lambda: True)

    assert jobs.names() == {"report", "first", "last", "free"}
    assert jobs.given_up == 2
    assert isinstance(claims["worse"].exception(0), IntegrityError)
    assert claims["free"].result(0) is None
    assert jobs.backlog.released() == set()
    assert not mark.done()
    assert jobs.writer.write()
    assert mark.done()


def move(store: Store, source: str, target: str) -> None:
    store.execute(f"ALTER TABLE {source} RENAME TO {target}")


@pytest.mark.parametrize("is_alive", [True, False])
def test_what_a_database_that_is_away_has_not_taken_is_written_later(
    jobs: Jobs, is_alive: bool
) -> None:
    held = row_of()
    jobs.database.write([], [], [claim(held)])
    away = partial(move, jobs.store, "flask_executor_jobs", "away")
    back = partial(move, jobs.store, "away", "flask_executor_jobs")
    claimed = jobs.claim("claimed")
    jobs.backlog.release(held["id"])
    for name in ("first", "last"):
        jobs.put(name)
    jobs.writer.batch.take_claims(jobs.backlog._claims)
    jobs.writer.batch.take_from(jobs.backlog._work)
    away()
    with pytest.raises(OperationalError):
        jobs.writer.write()
    jobs.writer.write_singly(lambda: is_alive)
    is_claimed, released = claimed.done(), jobs.backlog.released()
    back()
    while jobs.writer.write():
        pass

    assert (is_claimed, released, jobs.given_up) == (False, {held["id"]}, 0)
    assert jobs.names() == {"report", "first", "last", "claimed"}
    assert claimed.result(0) is None
    assert jobs.database.by_claim(key_of()) is None
    assert jobs.backlog.released() == set()

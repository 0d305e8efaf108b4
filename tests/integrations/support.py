"""What the tests of several packages need: a view to call, and many jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Flask

from flask_executor import Executor
from tests.support import WAIT

View = Callable[[], Any]

N_JOBS = 1000
MANY = ["submit", "map", "coroutine jobs", "async views", "async views on one loop"]


def in_view(app: Flask, view: View, *, path: str = "/", **sent: Any) -> Any:
    """Call *view* as a view, and return what it returns."""
    returned: list[Any] = []
    app.add_url_rule(path, view_func=lambda: returned.append(view()) or "", endpoint=path)
    assert app.test_client().get(path, **sent).status_code == 200
    return returned.pop()


class Failed(Exception):
    """What a job raises on purpose."""


class Many:
    """Runs a function as 1,000 jobs: `job(n)` is to raise `Failed` for each odd *n*.

    :param way: one of `MANY`
    """

    def __init__(self, app: Flask, executor: Executor, way: str) -> None:
        self._app = app
        self._executor = executor
        self.is_on_loop = way == "coroutine jobs"
        self._run = {
            "submit": self._by_submit,
            "map": self._by_map,
            "coroutine jobs": self._by_coroutines,
        }.get(way, self._in_async_views)

    def __call__(self, job: Callable[[int], object]) -> None:
        """Run the jobs to their end, and check how they have ended."""
        assert self._run(job) == [None, Failed] * (N_JOBS // 2)

    def _by_submit(self, job: Callable[[int], object]) -> list[Any]:
        return _errors([self._executor.submit(job, n) for n in range(N_JOBS)])

    def _by_map(self, job: Callable[[int], object]) -> list[Any]:
        errors: list[Any] = []
        for n in range(0, N_JOBS, 2):  # The error of an item ends its `map`.
            try:
                for _ in self._executor.map(job, [n, n + 1]):
                    errors.append(None)
            except Failed as error:
                errors.append(type(error))
        return errors

    def _by_coroutines(self, job: Callable[[int], object]) -> list[Any]:
        async def coroutine_job(n: int) -> None:
            await asyncio.sleep(0)
            job(n)

        errors: list[Any] = []
        for start in range(0, N_JOBS, 10):  # as each of them may hold a connection
            jobs = [self._executor.submit(coroutine_job, n) for n in range(start, start + 10)]
            errors += _errors(jobs)
        return errors

    def _in_async_views(self, job: Callable[[int], object]) -> list[Any]:
        errors: list[Any] = []

        @self._app.get("/many/<int:start>")
        async def many(start: int) -> str:
            jobs = [self._executor.submit_async(job, n) for n in range(start, start + 100)]
            for ended in await asyncio.gather(*jobs, return_exceptions=True):
                errors.append(ended and type(ended))
            return ""

        client = self._app.test_client()
        for start in range(0, N_JOBS, 100):
            assert client.get(f"/many/{start}").status_code == 200
        return errors


def write_in_jobs(many: Many, db: Any, note: type[Any], session: Callable[[], Any]) -> list[Any]:
    """Write a row of *note* in each job; the odd ones fail. Returns the session of each job.

    :param session: returns the session that the calling job has of *db*
    """
    sessions: list[Any] = []

    def job(n: int) -> None:
        sessions.append(session())
        db.session.scalar(sa.select(1))
        db.session.add(note(text=str(n)))
        if n % 2 == 0:
            db.session.commit()
        elif many.is_on_loop:  # What it has flushed would hold up all writers, and so the loop.
            raise Failed
        else:
            db.session.flush()
            raise Failed

    many(job)
    return sessions


def find_after_commit(executor: Executor, db: Any, note: type[Any]) -> str | None:
    """Write a row in a view, and return its text as a job finds it that waits for the commit.

    :param executor: one with one worker
    """

    def job(written: int) -> str | None:
        return db.session.scalar(sa.select(note.text).where(note.id == written))

    written = note(text="of the view")
    db.session.add(written)
    db.session.flush()
    future = executor.options(after=db.session).submit(job, written.id)
    # Without `after` it would run to its end by now.
    executor.submit(str).result(WAIT)
    assert future.state == "pending"
    db.session.commit()
    return future.result(WAIT)


def _errors(jobs: list[Any]) -> list[Any]:
    errors = [each.exception(WAIT) for each in jobs]
    return [error and type(error) for error in errors]

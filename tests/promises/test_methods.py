"""Jobs that are methods, class methods and static methods."""

from __future__ import annotations

import asyncio
import inspect
import os
from typing import Any

import pytest
from flask import Flask

from flask_executor import Executor, Job
from tests.remote_app import Report, YearReport, executor
from tests.support import WAIT, MakeExecutor

# The method of each kind, and the first item of its result.
METHODS = {
    "method": (lambda: YearReport("2026").build, "2026"),
    "coroutine": (lambda: YearReport("2026").fetch, "2026"),
    "classmethod": (lambda: YearReport.kind, "YearReport"),
    "classmethod-of-instance": (lambda: YearReport("2026").kind, "YearReport"),
    "coroutine-classmethod": (lambda: YearReport.fetch_kind, "YearReport"),
    "staticmethod": (lambda: YearReport.days, "days"),
    "staticmethod-of-instance": (lambda: YearReport("2026").days, "days"),
    "staticmethod-outside": (lambda: YearReport.weeks, "weeks"),
}


@pytest.fixture(params=["thread", "inline", "process"])
def initialised(request: pytest.FixtureRequest, app: Flask, executors: MakeExecutor) -> Any:
    """Give the executor of the methods an app."""
    app.config.update(EXECUTOR_TYPE=request.param, EXECUTOR_MAX_WORKERS=1)
    executor.init_app(app)
    with app.app_context():
        yield request.param
        executor.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "first"), METHODS.values(), ids=METHODS)
def test_a_method_is_submitted_in_every_way(initialised: str, method: Any, first: str) -> None:
    async def submit_async() -> Any:
        return await method().submit_async(month=3)

    async def map_async() -> list[Any]:
        return [result async for result in method().map_async([4, 5])]

    results = [
        method().submit(2).result(WAIT),
        asyncio.run(submit_async()),
        *asyncio.run(map_async()),
        *method().map([6, 7], chunksize=2),
        method().submit_stored("key", 8).result(WAIT),
        method().options(key="other").submit(9).result(WAIT),
    ]

    assert [result[:2] for result in results] == [(first, month) for month in range(2, 10)]
    assert ({pid for *_, pid in results} == {os.getpid()}) is (initialised != "process")


def test_a_method_is_called_as_ever() -> None:
    report = YearReport("2026")

    assert report.build(2)[:2] == ("2026", 2)
    assert asyncio.run(report.fetch(2))[:2] == ("2026", 2)
    assert YearReport.kind(2)[:2] == report.kind(2)[:2] == ("YearReport", 2)
    assert YearReport.days(2)[:2] == report.days(2)[:2] == ("days", 2)
    assert report.weeks(2)[:2] == ("weeks", 2)
    assert Report.build(report, 2)[:2] == ("2026", 2)
    assert inspect.iscoroutinefunction(report.fetch)
    assert list(inspect.signature(report.build).parameters) == ["month"]


def test_a_bound_job_has_the_options_of_its_decorator() -> None:
    assert Report("2026").fetch.timeout == 20
    assert "fetch" in repr(Report("2026").fetch)


def test_the_job_of_a_method_takes_the_instance_where_it_is_found_in_the_class(
    executor: Executor,
) -> None:
    class Local:
        @executor.job
        def own(self) -> int:
            return id(self)

    local = Local()

    assert Local.own.submit(local).result(WAIT) == id(local)
    assert local.own.submit().result(WAIT) == id(local)


def test_a_job_that_was_made_elsewhere_does_not_become_a_method(executor: Executor) -> None:
    @executor.job
    def module_level(number: int) -> int:
        return number + 1

    class View:
        job = module_level
        other = executor.job(pow)

    assert View().job.submit(1).result(WAIT) == 2
    assert View().other.submit(2, 3).result(WAIT) == 8


class Wrong:
    """Has the two decorators in the wrong order."""

    @classmethod
    @executor.job
    def kind(cls) -> str:
        return cls.__name__


def test_a_job_inside_a_classmethod_says_how_to_order_the_decorators() -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match=r"'kind' is inside @classmethod.* above @classmethod"):
            Wrong.kind.submit()


def test_a_name_like_that_of_a_method_is_no_method(executor: Executor) -> None:
    def job() -> int:
        return 5

    job.__qualname__ = "Missing.job"
    submitted = executor.job(job).submit()

    assert submitted.result(WAIT) == 5


# Decorated views


@pytest.mark.parametrize("async_views", [False, True])
def test_an_async_view_may_be_a_job(app: Flask, executors: MakeExecutor, async_views: bool) -> None:
    own = executors(app, async_views=async_views)

    @app.get("/")
    @own.job
    async def view() -> str:
        await asyncio.sleep(0)
        return "done"

    assert isinstance(view, Job)
    assert app.test_client().get("/").text == "done"
    assert view.submit().result(WAIT) == "done"
    assert inspect.iscoroutinefunction(view)

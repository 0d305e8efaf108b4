"""Dask's local scheduler computes in an executor: each of its batches is a job."""

from __future__ import annotations

import threading
from typing import Any

import dask
import dask.bag
import pytest
from flask import Flask, current_app, g, request

from flask_executor import Executor
from tests.support import WAIT, MakeExecutor


@dask.delayed
def where(n: int) -> tuple[int, str, str, str]:
    return n, current_app.name, request.path, g.user


@dask.delayed
def fail(n: int) -> int:
    raise LookupError(n)


@pytest.mark.parametrize("way", ["argument", "config"])
@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_a_view_computes_in_it(app: Flask, executors: MakeExecutor, way: str, type_: str) -> None:
    executor = executors(app, type=type_, max_workers=2)
    pool = {"scheduler": "threads", "pool": executor}

    @app.get("/view")
    def view() -> list[Any]:
        g.user = "ada"
        numbers = [where(n) for n in range(6)]
        if way == "argument":
            return list(dask.compute(*numbers, **pool))
        with dask.config.set(**pool):
            return list(dask.compute(*numbers))

    assert app.test_client().get("/view").json == [[n, "app", "/view", "ada"] for n in range(6)]
    executor.drain(WAIT)
    assert executor.stats().succeeded > 0


def test_what_a_task_raises_reaches_who_computes(executor: Executor) -> None:
    with pytest.raises(LookupError):
        dask.compute(fail(1), scheduler="threads", pool=executor)

    executor.drain(WAIT)
    assert executor.stats().failed == 0, "Dask has caught it in the job"


def test_tasks_overlap_in_its_workers(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=3)
    meet = threading.Barrier(3, timeout=WAIT)

    def index(n: int) -> int:
        meet.wait()
        return n

    tasks = [dask.delayed(index)(n) for n in range(3)]

    assert dask.compute(*tasks, scheduler="threads", pool=executor) == (0, 1, 2)


def test_a_bag_is_computed_in_it(executor: Executor) -> None:
    words = dask.bag.from_sequence(["a", "b", "a"], npartitions=3)

    with dask.config.set(scheduler="threads", pool=executor):
        counts = dict(words.frequencies().compute())

    assert counts == {"a": 2, "b": 1}
    executor.drain(WAIT)
    assert executor.stats().succeeded > 0


def test_a_job_computes_in_the_other_workers(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=2)

    def job() -> tuple[int, ...]:
        tasks = [dask.delayed(abs)(-n) for n in range(6)]
        return dask.compute(*tasks, scheduler="threads", pool=executor)

    assert executor.submit(job).result(WAIT) == (0, 1, 2, 3, 4, 5)

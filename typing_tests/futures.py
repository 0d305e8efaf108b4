"""What type checkers make of futures and of the collection of them; see `executor.py`."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Hashable
from datetime import datetime
from typing import Any, Literal, assert_type

from flask_executor import FutureCollection, JobFuture, Progress, WaitTimeout

State = Literal["pending", "running", "succeeded", "failed", "cancelled"]


def futures_of_jobs(future: JobFuture[int], other: JobFuture[str]) -> None:
    assert_type(future.result(), int)
    assert_type(future.result(timeout=0.5), int)
    assert_type(future.exception(), BaseException | None)
    assert_type(future.cancel(), bool)
    assert_type(future.id, str)
    assert_type(future.name, str)
    assert_type(future.key, Hashable | None)
    assert_type(future.state, State)
    assert_type(future.progress, Progress | None)
    future.progress = None  # type: ignore[misc]
    future.result("5")  # type: ignore[arg-type]
    future.state = "failed"  # type: ignore[misc]
    other = future  # type: ignore[assignment]

    plain: concurrent.futures.Future[int] = future
    assert_type({plain: "by future"}[future], str)
    done, _ = concurrent.futures.wait([future])
    assert_type(done, set[concurrent.futures.Future[int]])
    assert_type([each.result() for each in concurrent.futures.as_completed([future])], list[int])

    future.add_done_callback(lambda done: (done.key, done.result() + 1))
    future.add_done_callback(on_done)
    future.add_done_callback(on_plain_done)
    other.add_done_callback(on_done)  # type: ignore[arg-type]
    future.add_done_callback(print_number)  # type: ignore[arg-type]


def progress(value: Progress) -> None:
    assert_type((value.done, value.total), tuple[float, float | None])
    assert_type(value.fraction, float | None)
    assert_type(value.rate, float | None)
    assert_type(value.time_left, float | None)
    assert_type((value.started_at, value.updated_at), tuple[datetime, datetime])
    assert_type(value.message, str)
    assert_type(value.as_dict(), dict[str, Any])
    value.fraction = 1.0  # type: ignore[misc]


def on_done(future: JobFuture[int]) -> None: ...


def on_plain_done(future: concurrent.futures.Future[Any]) -> str:
    return repr(future)


def print_number(number: int) -> None: ...


async def view(future: JobFuture[int]) -> None:
    assert_type(await future, int)
    assert_type(await asyncio.wrap_future(future), int)
    try:
        async with asyncio.timeout(5):
            assert_type(await asyncio.shield(future), int)
    except WaitTimeout as error:
        timeout: TimeoutError = error
        raise timeout from error


def collections(plain: concurrent.futures.Future[int]) -> None:
    futures = FutureCollection()
    FutureCollection(max_length=None)
    FutureCollection("5")  # type: ignore[arg-type]

    futures.add("key", plain)
    futures.add(("report", 7), plain)
    futures.add("key", 5)  # type: ignore[arg-type]
    futures.add(["a", "list"], plain)  # type: ignore[arg-type]

    assert_type(futures.get("key"), JobFuture[Any] | None)
    assert_type(futures.pop("key"), JobFuture[Any] | None)
    assert_type(futures.keys(), list[Hashable])
    assert_type([key for key in futures], list[Hashable])  # noqa: C416 - an iteration is meant
    for key in futures:
        assert_type(futures.state(key), State | None)
    assert_type(futures.state("key"), State | None)
    assert_type(futures.progress("key"), Progress | None)
    assert_type(futures.done("key"), bool | None)
    assert_type(futures.running("key"), bool | None)
    assert_type(futures.cancelled("key"), bool | None)
    assert_type(futures.cancel("key"), bool | None)
    assert_type(futures.exception("key", timeout=5), BaseException | None)
    assert_type(futures.result("key", 0.5), Any)
    assert_type("key" in futures, bool)
    assert_type(len(futures), int)
    futures.result("key", "5")  # type: ignore[arg-type]
    futures.add_done_callback("key", on_plain_done)
    futures.add_done_callback("key", print_number)  # type: ignore[arg-type]

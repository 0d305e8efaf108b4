"""What type checkers make of decorated functions; see `executor.py`."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import assert_type

from sqlalchemy.orm import Session

from flask_executor import Executor, Job, JobFuture, Retry

executor = Executor()


@executor.job
def add(number: int, other: int = 2) -> int:
    return number + other


@executor.job()
def log(text: str, *, level: int) -> None: ...


@executor.job
def with_names_of_ours(key: str, fn: int, timeout: float) -> bytes:
    return f"{key} {fn} {timeout}".encode()


# Called

assert_type(add(2), int)
assert_type(add(2, other=3), int)
assert_type(log("text", level=3), None)
add("2")  # type: ignore[arg-type]
add(2, 3, 4)  # type: ignore[call-arg]
log("text")  # type: ignore[call-arg]

# Submitted

assert_type(add.submit(2), JobFuture[int])
assert_type(add.submit(2, other=3).result(), int)
assert_type(log.submit("text", level=3), JobFuture[None])
assert_type(with_names_of_ours.submit(key="key", fn=5, timeout=0.5), JobFuture[bytes])
add.submit()  # type: ignore[call-arg]
add.submit("2")  # type: ignore[arg-type]
add.submit(2, 3, 4)  # type: ignore[call-arg]
add.submit(2, others=3)  # type: ignore[call-arg]
log.submit("text")  # type: ignore[call-arg]

# Stored

assert_type(add.submit_stored("key", 2, other=3), JobFuture[int])
assert_type(add.submit_stored(("report", 7), 2), JobFuture[int])
assert_type(with_names_of_ours.submit_stored("key", "key", fn=5, timeout=1), JobFuture[bytes])
assert_type(add.submit_stored(future_key="key", number=2), JobFuture[int])
add.submit_stored("key")  # type: ignore[call-overload]
add.submit_stored("key", "2")  # type: ignore[call-overload]
add.submit_stored(["a", "list"], 2)  # type: ignore[call-overload]
add.submit_stored(number=2)  # type: ignore[call-overload]

# Mapped

assert_type(add.map([1, 2], [3, 4]), Iterator[int])
assert_type(add.map([1, 2], timeout=5, chunksize=2, buffersize=3), Iterator[int])
add.map(5)  # type: ignore[call-overload]
add.map([1, 2], chunksize="2")  # type: ignore[call-overload]
add.map([1, 2], chunk_size=2)  # type: ignore[call-overload]
add.map(["1", "2"])  # type: ignore[list-item]
add.map([1, 2], ["3"])  # type: ignore[list-item]
add.map([1], [2], [3])  # type: ignore[call-overload]
add.map()  # type: ignore[call-overload]

# With options

assert_type(add.options(delay=5, key="key").submit(2, other=3), JobFuture[int])
assert_type(add.options(timeout=5).map([1, 2]), Iterator[int])
add.options(timeout=5).submit("2")  # type: ignore[arg-type]
add.options(timeout=5).map(["2"])  # type: ignore[list-item]
add.options(timeot=5)  # type: ignore[call-arg]
assert_type(
    add.options(key="key", on_duplicate="replace", retry=Retry(3), after="response").submit(2),
    JobFuture[int],
)
assert_type(add.options(retry=Retry(3), after=Session()).map([1, 2]), Iterator[int])
add.options(on_duplicate="returns")  # type: ignore[arg-type]
add.options(retry=3)  # type: ignore[arg-type]


async def view() -> None:
    assert_type(add.submit_async(2), asyncio.Future[int])
    assert_type(await add.submit_async(2, other=3), int)
    assert_type(await add.submit(2), int)
    add.submit_async()  # type: ignore[call-arg]
    add.submit_async("2")  # type: ignore[arg-type]
    log.submit_async("text", 3)  # type: ignore[call-arg]

    assert_type(add.map_async([1, 2], buffersize=3), AsyncGenerator[int, None])
    async for value in add.map_async(range(9), ordered=False):
        assert_type(value, int)
    assert_type(await add.options(queue_timeout=1).submit_async(2), int)
    add.map_async(["1"])  # type: ignore[list-item]
    add.map_async(5)  # type: ignore[call-overload]
    add.map_async([1, 2], timeout=5)  # type: ignore[call-overload]


# The decorator

assert_type(executor.job(repr), Job[[object], str])
executor.job(5)  # type: ignore[call-overload]
executor.job(timeot=5)  # type: ignore[call-overload]
executor.job(timeout=5, delay=1, queue_timeout=2, key="nightly")
executor.job(on_duplicate="returns")  # type: ignore[call-overload]
executor.job(retry=3)  # type: ignore[call-overload]


@executor.job(retry=Retry(3, on=OSError), after="response", on_duplicate="return")
def with_options(number: int) -> int:
    return number


assert_type(with_options(2), int)
assert_type(with_options.submit_stored("key", 2), JobFuture[int])
with_options.submit("2")  # type: ignore[arg-type]

# In groups


async def in_groups() -> None:
    with executor.group() as group:
        assert_type(group.submit(add, 2), JobFuture[int])
        assert_type(group.submit(fetch, "a"), JobFuture[bytes])
        assert_type(group.options(retry=Retry(3)).submit(fetch, "a"), JobFuture[bytes])
        assert_type(group.map(add, [1, 2]), Iterator[int])
        group.submit(add, "2")  # type: ignore[call-overload]
    async with executor.group(timeout=5) as group:
        assert_type(await group.submit_async(fetch, "a"), bytes)
        assert_type(await group.options(delay=1).submit_async(add, 2), int)
        assert_type([part async for part in group.map_async(add, [1, 2])], list[int])


def takes_a_function(fn: Callable[[int], int]) -> None: ...


takes_a_function(add)
takes_a_function(log)  # type: ignore[arg-type]
takes_a_function(add.fn)


async def fetch(url: str, *, retries: int = 1) -> bytes:
    return url.encode() * retries


async def coroutine_jobs(executor: Executor) -> None:
    job = executor.job(fetch)
    assert_type(await job("a"), bytes)
    assert_type(job.submit("a"), JobFuture[bytes])
    assert_type(await job.submit_async("a", retries=2), bytes)
    assert_type(job.submit_stored("key", "a").result(), bytes)
    assert_type(list(job.map(["a"])), list[bytes])
    assert_type([part async for part in job.map_async(["a"])], list[bytes])
    assert_type(executor.submit(fetch, "a"), JobFuture[bytes])
    assert_type(await executor.submit_async(fetch, "a"), bytes)
    assert_type(list(executor.map(fetch, ["a"])), list[bytes])
    job.submit(1)  # type: ignore[arg-type]


class Report:
    @executor.job
    def build(self, month: int) -> str:
        return f"{month}"

    @executor.job
    async def fetch(self, month: int) -> str:
        return f"{month}"

    @executor.job
    @classmethod
    def kind(cls, month: int) -> str:
        return f"{month}"

    @executor.job(timeout=5)
    @classmethod
    async def fetch_kind(cls, month: int) -> str:
        return f"{month}"

    @executor.job
    @staticmethod
    def days(month: int) -> int:
        return month


async def methods(report: Report) -> None:
    assert_type(report.build(5), str)
    assert_type(report.build.submit(5), JobFuture[str])
    assert_type(report.build.map([5]), Iterator[str])
    assert_type(report.build.options(delay=1).submit(5), JobFuture[str])
    assert_type(Report.build.submit(report, 5), JobFuture[str])
    assert_type(await report.fetch(5), str)
    assert_type(await report.fetch.submit_async(5), str)
    assert_type(report.kind.submit(5), JobFuture[str])
    assert_type(await report.fetch_kind.submit_async(5), str)
    assert_type(Report.days.submit(5), JobFuture[int])
    report.build.submit("5")  # type: ignore[arg-type]
    report.build.map(["5"])  # type: ignore[list-item]
    report.kind.submit("5")  # type: ignore[arg-type]
    # It works, but type checkers take a decorated class method of the class for a method.
    Report.kind.submit(5)  # type: ignore[call-arg, arg-type]
    Report.days.submit("5")  # type: ignore[arg-type]

"""What type checkers make of an executor's methods: results are known, wrong arguments refused.

Each ignored error has to be one, for mypy by `warn_unused_ignores` and for pyright by this:
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, assert_type

from flask import Flask

from flask_executor import (
    Executor,
    FutureCollection,
    JobFuture,
    JobGroup,
    JobInfo,
    Options,
    Progress,
    Retry,
    Stats,
    current_job,
    job_submitted,
)
from flask_executor.records import JobRecord, ProcessRecord, RecordState
from flask_executor.testing import RecordedJob, recorded_jobs

if TYPE_CHECKING:
    import concurrent.futures

app = Flask(__name__)

executor = Executor()
Executor(app)
Executor(app, name="mail")
Executor(app, "mail")
executor.init_app(app)
Executor("app")  # type: ignore[arg-type]
Executor(app, name=5)  # type: ignore[arg-type]
executor.init_app()  # type: ignore[call-arg]


def add(number: int, other: int = 2) -> int:
    return number + other


async def fetch(url: str) -> bytes:
    return url.encode()


def log(text: str, *, level: int) -> None: ...


class Report:
    def __init__(self, title: str) -> None: ...

    def send(self, to: str) -> bool:
        return bool(to)


# submit

assert_type(executor.submit(add, 2, 3), JobFuture[int])
assert_type(executor.submit(add, 2, other=3), JobFuture[int])
assert_type(executor.submit(log, "text", level=3), JobFuture[None])
assert_type(executor.submit(Report, "title"), JobFuture[Report])
assert_type(executor.submit(Report("title").send, "ada"), JobFuture[bool])
assert_type(executor.submit(partial(add, 2)), JobFuture[int])
assert_type(executor.submit(lambda: "text"), JobFuture[str])
executor.submit()  # type: ignore[call-overload]
executor.submit(add)  # type: ignore[call-overload]
executor.submit(add, "2")  # type: ignore[call-overload]
executor.submit(add, 2, 3, 4)  # type: ignore[call-overload]
executor.submit(add, 2, others=3)  # type: ignore[arg-type, call-arg]
executor.submit(log, "text")  # type: ignore[call-overload]
executor.submit(log, "text", level="3")  # type: ignore[arg-type]
executor.submit(add(2))  # type: ignore[call-overload]
executor.submit(fn=add, number=2)  # type: ignore[call-overload]

# submit_stored

assert_type(executor.submit_stored("key", add, 2, 3), JobFuture[int])
assert_type(executor.submit_stored(("report", 7), log, "text", level=3), JobFuture[None])
assert_type(executor.submit_stored(future_key="key", fn=add, number=2), JobFuture[int])
assert_type(executor.submit_stored("key", fn=fetch, url="/"), JobFuture[bytes])
executor.submit_stored(fn=add, number=2)  # type: ignore[call-overload]
executor.submit_stored(future_key="key", number=2)  # type: ignore[call-overload]
executor.submit_stored(add, 2)  # type: ignore[call-overload]
executor.submit_stored("key", add)  # type: ignore[call-overload]
executor.submit_stored("key", add, "2")  # type: ignore[call-overload]
executor.submit_stored(["a", "list"], add, 2)  # type: ignore[call-overload]

# options

assert_type(executor.options(key="key"), Options)
assert_type(executor.options(key=7).submit(add, 2, other=3), JobFuture[int])
executor.options("key")  # type: ignore[call-arg]
executor.options(kex="key")  # type: ignore[call-arg]
executor.options(key=["a", "list"])  # type: ignore[arg-type]
assert_type(executor.options(key=7, on_duplicate="return").submit(add, 2), JobFuture[int])
assert_type(executor.options(after="response").submit(add, 2), JobFuture[int])
executor.options(key=7, on_duplicate="ignore")  # type: ignore[arg-type]
executor.options(key="key").submit(add, "2")  # type: ignore[call-overload]
executor.options(key="key").submit_async(add, "2")  # type: ignore[call-overload]

# map


def four(number: int, text: str, data: bytes, other: int = 1) -> str:
    return f"{number}{text}{data!r}{other}"


def any_number(*numbers: int) -> int:
    return sum(numbers)


assert_type(executor.map(add, [1, 2], [3, 4]), Iterator[int])
assert_type(executor.map(add, range(9), timeout=0.5, chunksize=2, buffersize=3), Iterator[int])
assert_type(executor.map(four, [1], ["a"], [b"c"], [2]), Iterator[str])
executor.map(four, [1], ["a"], [b"c"], ["2"])  # type: ignore[arg-type]
assert_type(executor.map(any_number, [1], [2], [3], [4], [5], [6]), Iterator[Any])
executor.map(add, ["1"])  # type: ignore[arg-type]
executor.map(add, [1], ["2"])  # type: ignore[arg-type]
executor.map(add, [1], [2], [3])  # type: ignore[arg-type]
executor.map(add)  # type: ignore[call-overload]
assert_type(executor.options(timeout=5).map(add, [1]), Iterator[int])
executor.map([1, 2], add)  # type: ignore[call-overload]
executor.map(add, 5)  # type: ignore[call-overload]
executor.map(add, [1], timeout="5")  # type: ignore[call-overload]
executor.map(add, [1], chunk_size=5)  # type: ignore[call-overload]

# With other options

executor.options(key="key", on_duplicate="return").submit(add, 2)
executor.options(retry=Retry(3, on=(OSError, ValueError), delay=0.5), after="response")
executor.options(on_duplicate="returns")  # type: ignore[arg-type]
executor.options(retry=3)  # type: ignore[arg-type]
Retry(3, on="OSError")  # type: ignore[arg-type]

# Groups

with executor.group(timeout=0.5) as group:
    assert_type(group, JobGroup)
    assert_type(group.submit(add, 2), JobFuture[int])
    assert_type(group.options(delay=1).submit(add, 2), JobFuture[int])
    assert_type(group.map(add, [1, 2]), Iterator[int])
    assert_type(group.progress, Progress)
    group.submit(add, "2")  # type: ignore[call-overload]
executor.group(0.5)  # type: ignore[call-arg]

# The rest

assert_type(executor.futures, FutureCollection)
assert_type(executor.stats(), Stats)
assert_type(executor.stats().workers, float)
assert_type(executor.stats().pending, int)
executor.drain(0.5)
executor.drain(timeout="5")  # type: ignore[arg-type]
executor.shutdown(wait=False, cancel_futures=True)
executor.shutdown(cancel=True)  # type: ignore[call-arg]
executor.futures = FutureCollection()  # type: ignore[misc]


def done(future: JobFuture[Any]) -> None: ...


executor.add_default_done_callback(done)
executor.add_default_done_callback(lambda future: (future.key, future.state))
executor.add_default_done_callback(add)  # type: ignore[arg-type]


@executor.around_job
def around(job: JobInfo) -> suppress:
    assert_type(job.name, str)
    return suppress(OSError)


assert_type(around(current_job), suppress)
executor.around_job(add)  # type: ignore[type-var]
executor.around_job(done)  # type: ignore[type-var]

assert_type(current_job.id, str)
assert_type(current_job.name, str)
assert_type(current_job.cancel_requested, bool)
current_job.progress(1)
current_job.progress(1.5, total=2, message="text")
current_job.progress()  # type: ignore[call-arg]
current_job.progress("1")  # type: ignore[arg-type]
current_job.progress(1, 2, b"text")  # type: ignore[arg-type]
assert_type(current_job.track([1, 2]), Iterator[int])
assert_type(current_job.track("abc", total=3, message="text"), Iterator[str])
current_job.track(5)  # type: ignore[call-overload]
current_job.identity  # type: ignore[attr-defined]  # noqa: B018

job_submitted.connect(log)

with recorded_jobs(executor) as jobs:
    assert_type(jobs, list[RecordedJob])
    assert_type(jobs[0].name, str)


def takes_any_executor(pool: concurrent.futures.Executor) -> None: ...


takes_any_executor(executor)


async def view() -> None:
    assert_type(executor.submit_async(add, 2, other=3), asyncio.Future[int])
    assert_type(await executor.submit_async(add, 2), int)
    assert_type(await executor.submit(log, "text", level=3), None)
    assert_type(await executor.options(key="key").submit_async(add, 2), int)
    assert_type(await asyncio.get_running_loop().run_in_executor(executor, add, 2), int)
    both = await asyncio.gather(executor.submit_async(add, 2), executor.submit(repr, 2))
    assert_type(both, tuple[int, str])
    executor.submit_async(add)  # type: ignore[call-overload]
    executor.submit_async(add, "2")  # type: ignore[call-overload]
    executor.submit_async(log, "text", 3)  # type: ignore[call-overload]

    assert_type(executor.map_async(add, [1, 2]), AsyncGenerator[int, None])
    async for value in executor.map_async(add, numbers(), [1], buffersize=3, ordered=False):
        assert_type(value, int)
    async with executor.group() as group:
        assert_type(group.submit_async(add, 2), asyncio.Future[int])
    executor.map_async(add, words())  # type: ignore[arg-type]
    executor.map_async(add, 5)  # type: ignore[call-overload]
    assert_type(executor.map_async(add, [1], chunksize=5), AsyncGenerator[int, None])

    assert_type(current_job.track(numbers(), total=3), AsyncGenerator[int, None])
    async for value in current_job.track(numbers()):
        assert_type(value, int)

    assert_type(await executor.drain_async(0.5), None)
    await executor.drain_async("5")  # type: ignore[arg-type]


async def numbers() -> AsyncIterator[int]:
    yield 1


async def words() -> AsyncIterator[str]:
    yield "1"


assert_type(executor.iterate(numbers()), Generator[int, None, None])
executor.iterate([1, 2])  # type: ignore[arg-type]


def awaitable(future: JobFuture[int]) -> Awaitable[int]:
    return future


def records(executor: Executor) -> None:
    assert_type(executor.records.get("key"), JobRecord | None)
    assert_type(executor.records.list(state="lost", limit=3), list[JobRecord])
    assert_type(executor.records.counts(), dict[RecordState, int])
    assert_type(executor.records.processes(), list[ProcessRecord])
    assert_type(executor.records.cancel("key"), bool | None)
    executor.records.list(state="done")  # type: ignore[arg-type]


async def wait_for_record(executor: Executor) -> None:
    assert_type(await executor.records.wait("key", timeout=3), JobRecord | None)

"""An app with context managers around its jobs, for workers in other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from flask import Flask, current_app, g

from flask_executor import Executor, JobInfo

outer: ContextVar[str] = ContextVar("outer", default="unset")

app = Flask(__name__)
app.config.update(EXECUTOR_TYPE="process", MAIL_EXECUTOR_TYPE="process")
executor = Executor(app)
mail = Executor(app, name="mail")


@executor.around_job
@contextmanager
def in_outer(job: JobInfo) -> Iterator[None]:
    outer.set(f"{job.name} {job.id} of {current_app.name}")
    try:
        yield
    except LookupError as error:
        Path(g.report).write_text(f"{outer.get()}: {error!r}")
        raise


@executor.around_job
@contextmanager
def in_inner(_: JobInfo) -> Iterator[None]:
    g.inner = f"inside of {outer.get()}"
    yield
    g.inner = "left"


@mail.around_job
@contextmanager
def in_mail(_: JobInfo) -> Iterator[None]:
    outer.set("mail")
    yield


def seen(*_: object) -> tuple[str, str | None]:
    return outer.get(), g.get("inner")


async def seen_later() -> tuple[str, str | None]:
    await asyncio.sleep(0)
    return seen()


def look_up(path: str, n: int = 0) -> int:
    g.report = path
    if n > 2:
        raise LookupError(n)
    return n


async def look_up_later(path: str) -> int:
    await asyncio.sleep(0)
    return look_up(path, 3)


async def look_up_item(path: str, n: int) -> int:
    return look_up(path, n)


def create_forgiving_app() -> Flask:
    app = Flask("forgiving")
    forgiving = Executor(app)
    forgiving.around_job(lambda _: suppress(LookupError))
    return app

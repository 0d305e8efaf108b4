"""Nothing that may be secret is told by an error, a traceback, a repr, or a line of the log."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import pytest
from flask import Flask

from flask_executor import DuplicateKey, Executor, FlaskExecutorError, job_started
from flask_executor.settings import Settings
from tests import inside, remote_app
from tests.support import WAIT, MakeExecutor, app_log

# A traceback shows lines of the source: it must be in none of them.
SECRET = f"hunter-{2}"

# The other threads of this process hold no lock that a forked child would need.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

# Dask makes a coroutine for an address that it then cannot parse.
NEVER_AWAITED = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")

Use = Callable[[Executor], object]


class Showy:
    """Shows the secret wherever it is shown, and cannot be pickled."""

    def __init__(self) -> None:
        self.secret = SECRET
        self.lock = threading.Lock()

    def __call__(self, *_: object) -> NoReturn:
        raise LookupError("on purpose")

    def __repr__(self) -> str:
        return SECRET


class Telling:
    """Tells the secret when it is pickled."""

    def __reduce__(self) -> NoReturn:
        error = ValueError(f"cannot pickle {SECRET}")
        error.add_note(f"when serializing {SECRET}")
        raise error


def nested(value: object) -> object:
    for _ in range(20):
        value = {SECRET: [SECRET * 10, (value,)]}
    return value


def local_function(default: str = SECRET) -> Callable[..., Any]:
    closed_over = SECRET

    def local(n: object = default) -> object:
        return n, closed_over

    return local


def fails(fn: Callable[..., object], *args: Any, **kwargs: Any) -> BaseException:
    """What *fn* raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - anything
        fn(*args, **kwargs)
    return caught.value


def everything_told_by(error: BaseException | None) -> str:
    assert error is not None
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


@pytest.fixture
def processes(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, type="process", max_workers=1, mp_context="forkserver")


@pytest.fixture(autouse=True)
def log_tells_nothing(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    told = [record.getMessage() for record in caplog.records]
    assert SECRET not in "\n".join([caplog.text, *told])


@pytest.fixture
def dask_drops_coroutines() -> Iterator[None]:
    yield
    gc.collect()  # while the warning is ignored


# What cannot travel


@pytest.mark.parametrize(
    "use",
    [
        lambda executor: executor.submit(remote_app.power, Showy()),
        lambda executor: executor.submit(remote_app.power, Telling()),
        lambda executor: executor.submit(remote_app.power, nested(Showy())),
        lambda executor: executor.submit(remote_app.power, nested(Telling())),
        lambda executor: executor.submit(remote_app.power, 1, exponent=Showy()),
        lambda executor: executor.submit(remote_app.power, 1, exponent=[SECRET, local_function()]),
        lambda executor: executor.submit_stored(Showy(), remote_app.power, 1),
        lambda executor: executor.submit(local_function(), SECRET),
        lambda executor: executor.submit(partial(local_function(), SECRET), SECRET),
        lambda executor: executor.submit(partial(remote_app.power, SECRET, Showy())),
        lambda executor: executor.submit(Showy(), SECRET),
        lambda executor: executor.map(local_function(), [SECRET] * 4, chunksize=2),
        lambda executor: executor.map(remote_app.power, [SECRET, Showy()], chunksize=2),
    ],
    ids=[
        "argument",
        "telling",
        "nested",
        "nested-telling",
        "keyword",
        "default-and-closure",
        "key",
        "function",
        "partial",
        "arguments-of-a-partial",
        "callable",
        "chunk-function",
        "chunk-item",
    ],
)
def test_the_refusal_of_a_call_tells_no_value(processes: Executor, use: Use) -> None:
    error = fails(use, processes)

    assert "cannot be sent to another process" in str(error)
    assert SECRET not in everything_told_by(error)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "job", [remote_app.give_back_sealed, remote_app.raise_sealed, remote_app.raise_unreadable]
)
def test_what_cannot_be_sent_back_tells_no_value(
    processes: Executor, job: Callable[..., Any]
) -> None:
    error = processes.submit(job, SECRET).exception(WAIT)

    assert isinstance(error, FlaskExecutorError)
    assert SECRET not in everything_told_by(error)


# The app and its settings


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "tests.remote_app:fail({!r})",
        "tests.remote_app:fail({!r}, 1)",
        "tests.remote_app:power({!r})",
        "tests.remote_app:no_such_factory({!r})",
        "tests.remote_app:fail({!r}",
    ],
)
def test_an_app_that_cannot_be_loaded_tells_no_argument_of_its_factory(
    app: Flask, executors: MakeExecutor, path: str
) -> None:
    executor = executors(
        app, type="process", max_workers=1, mp_context="forkserver", app=path.format(SECRET)
    )

    error = executor.submit(remote_app.power, 3).exception(WAIT)

    assert f"could not load the app '{path.partition('(')[0]}(...)': " in str(error)
    assert SECRET not in everything_told_by(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TYPE", [SECRET]),
        ("MAX_WORKERS", {SECRET: 1}),
        ("APP", SECRET.encode()),
        ("APP", Showy()),
        ("DASK_ADDRESS", SECRET.encode()),
        ("DASK_ADDRESS", (SECRET, 8786)),
        ("COPY_G", [SECRET, 1]),
        ("LOOP_FACTORY", Showy()),
        ("MP_CONTEXT", Showy()),
        ("SHUTDOWN_TIMEOUT", [SECRET]),
        ("TYPE", SECRET * 100),
    ],
)
def test_a_bad_setting_tells_no_value_of_a_kind_that_it_cannot_have(
    app: Flask, key: str, value: object
) -> None:
    app.config[f"EXECUTOR_{key}"] = value

    error = fails(Executor, app)

    assert f"EXECUTOR_{key} is a value of the type " in str(error)
    assert SECRET not in everything_told_by(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("tcp://user:{}@127.0.0.1:9", "'tcp://127.0.0.1:9'"),
        ("tcp://{}@127.0.0.1:9", "'tcp://127.0.0.1:9'"),
        ("tcp://user:{}/#@127.0.0.1:9", "'tcp://127.0.0.1:9'"),
        ("tcp://127.0.0.1:9?token={}", "an address that cannot be shown"),
        ("tcp://user:{}", "an address that cannot be shown"),
        ("tcp://user:{}@", "an address that cannot be shown"),
        ("{} at home", "an address that cannot be shown"),
    ],
)
@pytest.mark.usefixtures("dask_drops_coroutines")
@NEVER_AWAITED
def test_a_scheduler_that_cannot_be_reached_is_told_without_user_and_password(
    app: Flask, executors: MakeExecutor, monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    monkeypatch.setattr(inside.CONNECT_TIMEOUT, 0.2)
    executor = executors(app, type="dask", dask_address=address.format(SECRET))

    error = fails(executor.submit, remote_app.power, 3)

    assert isinstance(error, (OSError, FlaskExecutorError))
    assert f"EXECUTOR_DASK_ADDRESS is {told}, which " in str(error)
    assert SECRET not in everything_told_by(error)


@pytest.mark.slow
@pytest.mark.usefixtures("dask_drops_coroutines")
@NEVER_AWAITED
def test_an_address_that_dask_cannot_parse_is_a_bad_setting(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="dask", dask_address="nowhere://127.0.0.1:9")

    error = fails(executor.submit, remote_app.power, 3)

    assert isinstance(error, FlaskExecutorError)
    assert "EXECUTOR_DASK_ADDRESS is 'nowhere://127.0.0.1:9', which Dask refuses: " in str(error)


def test_the_settings_show_neither_the_app_nor_the_address() -> None:
    settings = Settings(app=f"app:create_app('{SECRET}')", dask_address=f"tcp://{SECRET}@host:1")

    assert SECRET not in repr(settings)


# In this process


def test_a_key_that_is_taken_is_told_by_the_job_that_has_it(executor: Executor) -> None:
    executor.submit_stored(SECRET, pow, 2, 3)

    error = fails(executor.submit_stored, SECRET, pow, 2, 3)

    assert "that of the job 'pow'" in str(error)
    assert SECRET not in everything_told_by(error)
    assert isinstance(error, DuplicateKey)
    assert error.key == SECRET


@pytest.mark.parametrize(
    "use",
    [
        lambda executor: executor.submit(SECRET),
        lambda executor: executor.job([SECRET]),
        lambda executor: executor.init_app(SECRET),
        lambda executor: Executor(name=SECRET.encode()),
        lambda executor: executor.futures.add("key", SECRET),
        lambda executor: executor.options(timeout=SECRET),
        lambda executor: executor.options(delay=SECRET),
        lambda executor: executor.map(pow, [1], [1], chunksize=SECRET),
        lambda executor: executor.submit(pow, 2, 3).result(SECRET),
    ],
    ids=["submit", "job", "init_app", "name", "futures", "timeout", "delay", "chunksize", "result"],
)
def test_a_value_in_the_place_of_another_is_told_by_its_type(executor: Executor, use: Use) -> None:
    error = fails(use, executor)

    assert "a value of the type " in str(error)
    assert SECRET not in everything_told_by(error)


def test_callbacks_and_receivers_that_raise_are_logged_by_name(
    app: Flask, executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    showy = Showy()

    with job_started.connected_to(showy, app):
        for callback in (showy, partial(showy, SECRET), partial(local_raiser(), SECRET)):
            executor.submit(pow, 2, 3).add_done_callback(callback)
        executor.drain(WAIT)

    lines = "\n".join(record.getMessage() for record in app_log(caplog))
    assert lines.count("its callback Showy raised") == 2
    assert lines.count("its callback raise_it raised") == 1
    assert lines.count("Receiver Showy of the signal 'job-started' raised") == 3


def local_raiser() -> Callable[..., NoReturn]:
    def raise_it(*_: object) -> NoReturn:
        raise LookupError("on purpose")

    return raise_it


def test_jobs_and_their_futures_show_no_key_argument_and_result(executor: Executor) -> None:
    async def main() -> list[str]:
        waiter = executor.submit_async(lambda: SECRET)
        await waiter
        future = executor.submit_stored(SECRET, partial(str, SECRET))
        await future
        return [repr(waiter), repr(future), repr(future.job)]

    assert SECRET not in "".join(asyncio.run(main()))


def test_a_view_that_would_wait_for_itself_is_told_by_name(
    app: Flask, executors: MakeExecutor
) -> None:
    executors(app, async_views=True)

    class Func(Showy):
        async def __call__(self) -> None:
            """Do nothing."""

    async def view() -> BaseException:
        return fails(app.async_to_sync(Func()))

    error = app.async_to_sync(view)()

    assert "'Func' was called as a plain function" in str(error)
    assert SECRET not in everything_told_by(error)


# Forged lines


@pytest.mark.parametrize("break_", ["\n", "\r", "\x1b[2K", "\u2028"])
def test_the_name_of_a_function_forges_no_line(
    app: Flask, executors: MakeExecutor, caplog: pytest.LogCaptureFixture, break_: str
) -> None:
    executor = executors(app, shutdown_timeout=0, max_workers=1)

    def fail() -> NoReturn:
        raise LookupError("on purpose")

    fail.__name__ = f"fail{break_}ERROR forged"
    future = executor.submit(fail)
    future.add_done_callback(fail)
    executor.drain(WAIT)
    name = future.name
    del future
    executor.submit(fail)
    executor.shutdown()

    assert name == f"fail{repr(break_)[1:-1]}ERROR forged"
    assert [record for record in app_log(caplog) if break_ in record.getMessage()] == []
    assert name in caplog.text


def test_the_name_of_a_type_forges_no_line(executor: Executor) -> None:
    error = fails(executor.submit, type("a\nb", (), {})())

    assert str(error).startswith(f"a value of the type {__name__}.a\\nb cannot be called")


def test_a_name_that_is_no_str_is_not_taken_for_one(executor: Executor) -> None:
    class Named(Showy):
        __name__ = 5

    class Str(str):
        __slots__ = ()

        def __str__(self) -> str:
            return SECRET

        __repr__ = __format__ = __str__

    named, other = Named(), Named()
    other.__name__ = Str("other\n")

    assert executor.submit(named).name == "Named"
    assert executor.submit(other).name == "other\\n"

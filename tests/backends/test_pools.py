"""Threads, pools of one's own, and how a backend is chosen."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, g

from flask_executor import Executor, ExecutorClosed, InvalidSetting, WorkerDied
from flask_executor.remote.call import Reply
from flask_executor.settings import Settings
from tests import inside, remote_app
from tests.support import ROOT, WAIT, Door, Gate, MakeExecutor


@pytest.mark.parametrize("type_", ["thread", "process", "inline", "dask", "tests.remote_app:loky"])
def test_an_executor_starts_nothing_until_there_is_a_job(app: Flask, type_: str) -> None:
    app.config["EXECUTOR_TYPE"] = type_
    before = threading.enumerate(), multiprocessing.active_children()

    executor = Executor(app)
    executor.job(pow)
    executor.stats()
    _ = executor.futures
    executor.drain(timeout=0)

    assert (threading.enumerate(), multiprocessing.active_children()) == before


@pytest.mark.parametrize(
    ("type_", "pool"), [("thread", ThreadPoolExecutor), ("process", ProcessPoolExecutor)]
)
def test_the_default_number_of_workers_is_the_pools_own(
    app: Flask, executors: MakeExecutor, type_: str, pool: Callable[[], Any]
) -> None:
    assert executors(app, type=type_).stats().workers == pool()._max_workers


# Threads


def test_as_many_jobs_run_at_a_time_as_there_are_workers(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=3)

    gate.occupy(executor, workers=3)
    executor.submit(pow, 2, 3)

    stats = executor.stats()
    assert (stats.workers, stats.running, stats.pending) == (3, 3, 1)


@pytest.mark.parametrize(("name", "prefix"), [("", "executor-app"), ("mail", "mail-app")])
def test_threads_are_named_after_executor_and_app(
    app: Flask, executors: MakeExecutor, name: str, prefix: str
) -> None:
    executor = executors(app, name=name)

    thread = executor.submit(lambda: threading.current_thread().name).result(WAIT)

    assert thread.startswith(prefix)


@pytest.mark.parametrize("waits", [True, False])
def test_shutting_threads_down_runs_what_is_queued(
    app: Flask, executors: MakeExecutor, gate: Gate, waits: bool
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    futures = [executor.submit(pow, 2, n) for n in range(3)]
    if waits:
        gate.open()

    executor.shutdown(wait=waits)

    assert all(future.done() for future in futures) is waits
    gate.open()
    assert [future.result(WAIT) for future in futures] == [1, 2, 4]


# Pools of one's own

seen: list[Settings] = []


def tell_settings(settings: Settings) -> ThreadPoolExecutor:
    seen.append(settings)
    return ThreadPoolExecutor(3)


def no_pool(settings: Settings) -> int:
    return 3


class Lost(concurrent.futures.Executor):
    """Is in another process, breaks with its first call, and cannot be had once more."""

    calls: list[concurrent.futures.Future[Any]] = []  # noqa: RUF012 - one for each test

    def __init__(self, settings: Settings) -> None:
        if self.calls:
            raise OSError("no pool")

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(concurrent.futures.Future())
        return self.calls[-1]


class Sizeless(concurrent.futures.Executor):
    """Does not say how many workers it has; runs all at once, in their submitter's process."""

    in_process = True

    def __init__(self, settings: Settings) -> None:
        pass

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        thread = threading.Thread(target=lambda: future.set_result(fn(*args, **kwargs)))
        thread.start()
        return future


class Slow(ThreadPoolExecutor):
    """Takes its time to open."""

    in_process = True
    gate = Gate()
    is_shut_down = False

    def __init__(self, settings: Settings) -> None:
        self.gate(self)
        super().__init__(1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        type(self).is_shut_down = True
        super().shutdown(wait, cancel_futures=cancel_futures)


def test_a_pool_that_is_open_only_after_the_shutdown_is_shut_down(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type=f"{__name__}:Slow")
    with ThreadPoolExecutor(1) as thread:
        submitted = thread.submit(executor.submit, int)
        Slow.gate.await_arrival()
        executor.shutdown()
        Slow.gate.open()

        assert isinstance(submitted.exception(WAIT), ExecutorClosed)
    assert Slow.is_shut_down


def test_a_factory_is_called_with_the_settings_at_the_first_job(
    app: Flask, executors: MakeExecutor
) -> None:
    seen.clear()
    executor = executors(
        app,
        type=f"{__name__}:tell_settings",
        max_workers=2,
        mp_context="spawn",
        name="mail",
        app="tests.remote_app:app",
    )
    assert seen == []

    executor.submit(remote_app.power, 2).exception(WAIT)

    [settings] = seen
    assert (settings.prefix, settings.max_workers, settings.mp_context) == (
        "MAIL_EXECUTOR_",
        2,
        "spawn",
    )
    assert executor.stats().workers == 3, "the pool itself knows best"


def test_a_pool_that_does_not_tell_its_size_has_that_of_the_settings(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, type=f"{__name__}:Sizeless", max_workers=2)

    gate.occupy(executor, workers=2)
    executor.submit(gate)

    stats = executor.stats()
    assert (stats.workers, stats.running, stats.pending) == (2, 2, 1)


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        (
            "thred",
            "'thred'; expected one of 'thread', 'process', 'interpreter', 'dask', 'inline', or",
        ),
        ("no.such.module:factory", "'no.such.module:factory', which cannot be imported: "),
        ("tests.remote_app:nothing", "'tests.remote_app:nothing', which cannot be imported: "),
        (
            "tests.backends.test_pools:seen",
            "which is a value of the type list; expected what can be called",
        ),
    ],
)
def test_a_type_that_is_none_is_refused_by_init_app(app: Flask, type_: str, message: str) -> None:
    seen.clear()
    app.config["EXECUTOR_TYPE"] = type_

    with pytest.raises(InvalidSetting) as caught:
        Executor(app)

    assert str(caught.value).startswith("EXECUTOR_TYPE is ")
    for part in message.split(", "):
        assert part in str(caught.value)


def test_a_factory_that_makes_no_pool_is_told_to_the_first_submitter(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type=f"{__name__}:no_pool")

    with pytest.raises(
        InvalidSetting, match=r"no_pool', which returned a value of the type int; exp"
    ):
        executor.submit(remote_app.power, 2)
    assert executor.stats().submitted == 0


def test_a_pool_in_this_process_that_does_not_say_so_fails_its_jobs_with_what_to_do(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="tests.remote_app:threads_untold", max_workers=1)

    error = executor.submit(remote_app.power, 2).exception(WAIT)

    assert isinstance(error, RuntimeError)
    assert "give what EXECUTOR_TYPE names an attribute: in_process = True" in str(error)
    assert executors(Flask("other")).submit(os.getpid).result(WAIT) == os.getpid()


def test_a_pool_that_does_not_make_its_calls_fails_them(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="tests.remote_app:Idle")

    error = executor.submit(remote_app.power, 3).exception(WAIT)

    assert isinstance(error, AttributeError)
    assert error.__traceback__ is None


def test_a_pool_of_ones_own_that_breaks_is_made_again_for_what_waits(
    app: Flask, executors: MakeExecutor, door: Door
) -> None:
    executor = executors(app, type="tests.remote_app:loky", max_workers=1)
    died = executor.submit(remote_app.die_at, door.address)
    waiting = [executor.submit(remote_app.power, n) for n in range(3)]
    door.await_arrival()

    door.open()

    assert isinstance(died.exception(WAIT), WorkerDied)
    assert isinstance(died.exception().__cause__, BrokenExecutor)
    assert [future.result(WAIT) for future in waiting] == [0, 1, 4]
    executor.drain(WAIT)
    assert (executor.stats().failed, executor.stats().succeeded) == (1, 3)


def test_the_extra_that_dask_needs_is_named_by_init_app() -> None:
    source = (
        "import sys\n"
        "sys.modules['distributed'] = None\n"
        "from flask import Flask\n"
        "from flask_executor import Executor\n"
        "app = Flask('app')\n"
        "app.config['EXECUTOR_TYPE'] = 'dask'\n"
        "try:\n"
        "    Executor(app)\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == (
        "EXECUTOR_TYPE is 'dask', which needs the package distributed; install "
        "'flask-executor[dask]'\n"
    )


def test_g_goes_along_to_a_pool_in_this_process(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="tests.remote_app:Threads")

    with app.app_context():
        g.user = "ada"
        assert executor.submit(lambda: g.user).result(WAIT) == "ada"


def test_all_jobs_end_that_wait_for_room_as_the_pool_is_lost(
    app: Flask, executors: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[concurrent.futures.Future[Any]] = []
    monkeypatch.setattr(Lost, "calls", calls)
    options: dict[str, Any] = {"max_workers": 1, "max_pending": 1, "push_app_context": False}
    executor = executors(app, type=f"{__name__}:Lost", **options)

    async def main() -> list[BaseException | int]:
        first = executor.submit_async(int)
        while not calls:
            await asyncio.sleep(0.001)
        waiters = [first, *(executor.submit_async(int) for _ in range(12))]
        calls[0].set_exception(BrokenExecutor("lost"))
        return await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), WAIT)

    errors = asyncio.run(main())

    assert [type(error) for error in errors] == [WorkerDied] + [OSError] * 12
    executor.drain(WAIT)


def test_calls_that_end_at_once_are_not_made_on_top_of_each_other(
    app: Flask, executors: MakeExecutor
) -> None:
    options: dict[str, Any] = {"type": "process", "max_workers": 1, "push_app_context": False}
    executor = executors(app, **options)
    executor.submit(int).result(WAIT)
    calls: list[concurrent.futures.Future[Any]] = []

    def send() -> concurrent.futures.Future[Any]:
        calls.append(concurrent.futures.Future())
        if len(calls) > 1:
            calls[-1].set_result(Reply.of_result(len(calls)))
        return calls[-1]

    inside.replace_send(app, send)
    futures = [executor.submit(int) for _ in range(2000)]
    calls[0].set_result(Reply.of_result(1))

    assert [future.result(WAIT) for future in futures] == [*range(1, 2001)]

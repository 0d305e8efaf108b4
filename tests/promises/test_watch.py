"""A coroutine that blocks the event loop is named in the log, and no other."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from blinker import Signal
from flask import Flask

from flask_executor import Executor
from flask_executor.aio.watch import LoopWatch, watched
from tests import inside
from tests.support import WAIT, MakeExecutor, app_log

LOOKS = 6  # that it takes to be sure


class Told(logging.Handler):
    """Lets those go on who hold the loop, once the log says that they do."""

    def __init__(self) -> None:
        super().__init__()
        self.is_told = threading.Event()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if "has held the executor's event loop" in record.getMessage():
            self.is_told.set()

    def block(self) -> None:
        assert self.is_told.wait(WAIT)


@pytest.fixture
def told(app: Flask) -> Iterator[Told]:
    told = Told()
    app.logger.addHandler(told)
    yield told
    app.logger.removeHandler(told)


def line_of(fn: Callable[..., object], offset: int) -> str:
    return f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno + offset}"


@pytest.mark.slow
@pytest.mark.parametrize("factory", [None, "uvloop:new_event_loop"])
def test_a_coroutine_job_that_holds_the_loop_is_named_with_its_line(
    app: Flask,
    executors: MakeExecutor,
    told: Told,
    factory: str | None,
) -> None:
    executor = executors(app, loop_factory=factory)

    async def report() -> None:
        await asyncio.sleep(0)
        told.is_told.wait(WAIT)

    executor.submit(report).result(WAIT)

    (record,) = told.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "The coroutine 'report' has held the executor's event loop for more than a second, at "
        f"{line_of(report, 2)}; all other coroutine jobs, and async views on this loop, had to "
        "wait. Await instead of blocking, or submit a plain function"
    )


@pytest.mark.slow
def test_an_async_view_that_holds_the_loop_is_named(
    app: Flask, executors: MakeExecutor, told: Told
) -> None:
    executors(app, async_views=True)

    @app.get("/")
    async def slow_view() -> str:
        told.block()
        return "OK"

    assert app.test_client().get("/").text == "OK"

    (record,) = told.records
    assert record.getMessage().startswith("The coroutine 'slow_view' has held")


@pytest.mark.slow
def test_a_task_without_a_name_is_called_as_its_coroutine_function(
    executor: Executor, told: Told
) -> None:
    async def job() -> None:
        async def part() -> None:
            told.block()

        await asyncio.create_task(part())

    executor.submit(job).result(WAIT)

    (record,) = told.records
    assert f"{job.__qualname__}.<locals>.part'" in record.getMessage()


def test_each_name_is_logged_once_and_another_one_as_well(
    app: Flask, executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("report", "mail", "report"):
        inside.tell_held(app, name)

    names = [record.getMessage().split("'")[1] for record in app_log(caplog)]
    assert names == ["report", "mail"]


def test_a_log_handler_that_raises_does_not_reach_the_watch(
    app: Flask, executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    handler = Broken()
    app.logger.addHandler(handler)
    try:
        inside.tell_held(app, "report")
    finally:
        app.logger.removeHandler(handler)

    assert "the disk is full" in capsys.readouterr().err


def test_the_watch_ends_with_the_loop(executors: MakeExecutor) -> None:
    app = Flask("app")
    executor = executors(app)
    executor.submit(asyncio.sleep, 0).result(WAIT)
    during = [thread.name for thread in threading.enumerate()]
    executor.shutdown()
    after = [thread.name for thread in threading.enumerate()]

    assert "executor-app-loop-watch" in during
    assert "executor-app-loop-watch" not in after


# One look after another


class Steps:
    """Steps of tasks that hold a loop until the test has the next one begin."""

    def __init__(self) -> None:
        self._begun, self._may_end = threading.Semaphore(0), threading.Semaphore(0)

    def hold(self) -> None:
        """Hold the loop, in the code of a task."""
        self._begun.release()
        assert self._may_end.acquire(timeout=WAIT)

    def await_begin(self) -> None:
        assert self._begun.acquire(timeout=WAIT)

    def end(self) -> None:
        self._may_end.release()


@contextmanager
def running(main: Callable[[], object]) -> Iterator[tuple[LoopWatch, list[tuple[str, str]]]]:
    """Run the coroutine of *main* in another thread, and watch the loop there."""
    loops: list[asyncio.AbstractEventLoop] = []
    has_begun = threading.Event()
    held: list[tuple[str, str]] = []

    async def begin() -> None:
        loops.append(asyncio.get_running_loop())
        has_begun.set()
        await main()

    thread = threading.Thread(target=lambda: asyncio.run(begin()))
    thread.start()
    assert has_begun.wait(WAIT)
    yield LoopWatch(loops[0], thread.ident, lambda *what: held.append(what)), held
    thread.join(WAIT)
    assert not thread.is_alive()


def look(watch: LoopWatch, times: int) -> None:
    for _ in range(times):
        watch.look()


def test_a_task_is_told_of_once_for_each_step_that_holds_the_loop() -> None:
    steps = Steps()

    async def main() -> None:
        asyncio.current_task().set_name("main")
        steps.hold()

    with running(main) as (watch, held):
        steps.await_begin()
        look(watch, LOOKS - 1)
        before = held.copy()
        look(watch, 3)
        steps.end()

    assert before == []
    assert [name for name, _ in held] == ["main"]
    assert held[0][1] == line_of(Steps.hold, 3)


def test_a_task_is_not_told_of_while_it_lets_others_run() -> None:
    steps = Steps()

    async def main() -> None:
        for _ in range(4):
            steps.hold()
            await asyncio.sleep(0)

    with running(main) as (watch, held):
        for _ in range(3):
            steps.await_begin()
            look(watch, LOOKS - 1)
            steps.end()
        before = held.copy()
        steps.await_begin()
        look(watch, LOOKS)
        steps.end()

    assert before == []
    assert len(held) == 1


def test_of_many_tasks_that_run_one_after_the_other_none_is_told_of() -> None:
    steps = Steps()

    async def step() -> None:
        steps.hold()

    async def main() -> None:
        await asyncio.gather(*(step() for _ in range(3)))

    with running(main) as (watch, held):
        for _ in range(3):
            steps.await_begin()
            look(watch, LOOKS - 1)
            steps.end()

    assert held == []


def test_an_idle_loop_is_not_woken_by_a_look() -> None:
    calls: list[object] = []
    steps = Steps()
    ends: list[Callable[[], object]] = []

    async def main() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        wake = loop.call_soon_threadsafe
        ends.append(lambda: wake(over.set))
        loop.call_soon_threadsafe = lambda *call: calls.append(call)
        loop.call_soon(steps._begun.release)
        await over.wait()

    with running(main) as (watch, held):
        steps.await_begin()
        look(watch, LOOKS + 1)
        ends[0]()

    assert (calls, held) == ([], [])


def test_the_line_is_that_of_the_app_and_not_of_what_it_calls() -> None:
    event = threading.Event()
    begun = threading.Event()
    signal = Signal()
    signal.connect(event.wait, weak=False)

    async def main() -> None:
        begun.set()
        signal.send(WAIT)

    with running(main) as (watch, held):
        assert begun.wait(WAIT)
        while sys._current_frames()[watch._thread].f_code is main.__code__:
            pass  # It is about to wait: in code of the stdlib, called by an installed package.
        look(watch, LOOKS)
        event.set()

    assert [place for _, place in held] == [line_of(main, 2)]


def test_a_thread_whose_line_cannot_be_found_is_told_of_without_it() -> None:
    steps = Steps()

    async def main() -> None:
        steps.hold()

    with running(main) as (watch, held):
        watch._thread = -1  # as where an ident is that of a greenlet
        steps.await_begin()
        look(watch, LOOKS)
        steps.end()

    assert [place for _, place in held] == ["an unknown line"]


def test_a_task_that_goes_on_while_its_line_is_looked_for_is_not_told_of() -> None:
    steps = Steps()

    class Leaving(asyncio.Task):
        def get_name(self) -> str:
            steps.end()
            deadline = time.monotonic() + WAIT
            while not watch._has_turned and time.monotonic() < deadline:
                time.sleep(0.001)
            return "main"

    async def step() -> None:
        steps.hold()

    async def main() -> None:
        await Leaving(step())

    with running(main) as (watch, held):
        steps.await_begin()
        look(watch, LOOKS)

    assert held == []


def test_a_loop_runs_without_a_watch_where_no_thread_can_be_started() -> None:
    loop = asyncio.new_event_loop()
    usual = threading.stack_size(2**60)  # No memory has room for it.
    try:
        with watched(loop, lambda *_: None):
            result = loop.run_until_complete(asyncio.sleep(0, "result"))
    finally:
        threading.stack_size(usual)
        loop.close()

    assert result == "result"

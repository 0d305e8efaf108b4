"""The loop thread: its start, its loop, its end; and the mailbox that leads into it."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
import weakref
from functools import partial

import pytest
import uvloop
from flask import Flask

from flask_executor import Executor, ExecutorClosed
from flask_executor.aio.loop import LoopThread
from flask_executor.aio.mailbox import Mailbox
from flask_executor.exceptions import InvalidSetting
from tests import inside
from tests.support import ROOT, WAIT, app_log, at_once, errors_of

# What the programs for a process of their own begin with.
PRELUDE = """
import asyncio, os, sys, threading
from flask import Flask
from flask_executor import Executor

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def make(**settings):
    app = Flask("app")
    app.config.update({"EXECUTOR_" + key.upper(): value for key, value in settings.items()})
    return Executor(app)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in a process of its own."""
    # Python 3.12 and later warn of every fork of a process that has threads.
    fork_is_meant = "ignore:This process:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, "-W", fork_is_meant, "-c", PRELUDE + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    done.stderr = errors_of(done)
    return done


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def current_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def failing_factory() -> asyncio.AbstractEventLoop:
    raise OSError("no loop today")


@pytest.mark.parametrize("async_views", [True, False])
def test_the_thread_starts_at_the_first_use_as_a_daemon_and_only_once(app, executors, async_views):
    before = threading.enumerate()
    executor = executors(app, async_views=async_views)
    executor.submit(abs, -1).result(WAIT)
    idle = [thread.name for thread in threading.enumerate() if thread.name.endswith("-loop")]
    at_once(*[lambda: executor.submit(double, 1).result(WAIT)] * 10)
    started = [thread for thread in threading.enumerate() if thread not in before]
    loops = [(each.name, each.daemon) for each in started if each.name.endswith("-loop")]

    assert idle == []
    assert loops == [("executor-app-loop", True)]


def test_to_initialise_starts_no_thread(app):
    before = threading.active_count()

    Executor(app, name="mail")

    assert threading.active_count() == before


def test_jobs_cancellation_and_views_run_on_uvloop(app, executors):
    executor = executors(app, loop_factory="uvloop:new_event_loop", async_views=True)
    started = threading.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    @app.get("/")
    async def view():
        loop = asyncio.get_running_loop()
        same = loop is await executor.submit_async(current_loop)
        return [isinstance(loop, uvloop.Loop), same, await executor.submit_async(abs, -3)]

    future = executor.submit(forever)
    assert started.wait(WAIT)
    future.cancel()
    executor.drain(WAIT)

    assert isinstance(executor.submit(current_loop).result(WAIT), uvloop.Loop)
    assert future.cancelled()
    assert app.test_client().get("/").json == [True, True, 3]
    assert executor.options(delay=0.001).submit(double, 2).result(WAIT) == 4


def test_without_a_factory_it_is_asyncios_own(executor):
    loop = executor.submit(current_loop).result(WAIT)

    assert type(loop).__module__.startswith("asyncio.")


@pytest.mark.parametrize(
    "value", ["nowhere:make_loop", "asyncio:no_such_name", "asyncio:__doc__", "", 5]
)
def test_a_factory_that_cannot_be_imported_is_refused_by_init_app(app, value):
    app.config["EXECUTOR_LOOP_FACTORY"] = value

    with pytest.raises(InvalidSetting) as caught:
        Executor(app)

    assert str(caught.value).startswith(
        f"EXECUTOR_LOOP_FACTORY is {value!r}; expected the import path of a loop factory, such as "
        "'asyncio:new_event_loop', or None"
    )


def test_what_the_factory_raises_reaches_the_caller_and_nothing_hangs(app, executors):
    executor = executors(app, loop_factory="tests.unit.test_loop:failing_factory", async_views=True)
    calls = [
        lambda: executor.submit(double, 1),
        lambda: executor.options(delay=1).submit(abs, -1),
        lambda: app.ensure_sync(double)(1),
    ]

    for call in calls:
        with pytest.raises(OSError, match="no loop today"):
            call()
    assert executor.submit(abs, -1).result(WAIT) == 1
    executor.drain(WAIT)
    stats = executor.stats()

    assert (stats.submitted, stats.pending, stats.running) == (1, 0, 0)


@pytest.mark.parametrize(("debug", "logged"), [(True, 1), (False, 0)], ids=["debug", "no-debug"])
def test_in_debug_mode_asyncio_names_what_blocks_the_loop(app, executors, caplog, debug, logged):
    app.debug = debug
    executor = executors(app, async_views=True)

    block = partial(time.sleep, 0.11)

    async def blocking_job() -> None:
        block()

    @app.get("/")
    async def blocking_view() -> str:
        block()
        return "OK"

    with caplog.at_level(logging.WARNING, "asyncio"):
        executor.submit(blocking_job).result(WAIT)
        app.test_client().get("/")
        executor.submit(double, 1).result(WAIT)  # what was there before has been logged
    messages = [record.getMessage() for record in caplog.records if record.name == "asyncio"]

    for name in ("blocking_job", "blocking_view"):
        found = [m for m in messages if m.startswith("Executing <") and f"name='{name}'" in m]
        assert len(found) == logged


def test_many_calls_posted_wake_the_loop_once():
    wakes, calls = [], []

    async def main() -> None:
        mailbox = Mailbox.of_running_loop()
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe

        def count(*args, **options):
            wakes.append(args)
            return wake(*args, **options)

        loop.call_soon_threadsafe = count
        # The loop is busy here: all of these come before it can look.
        posted = at_once(*[lambda: mailbox.post(lambda: calls.append(1))] * 10)
        assert posted == [True] * 10
        assert calls == []
        while len(calls) < 10:
            await asyncio.sleep(0)
        mailbox.post(lambda: calls.append(2))
        while 2 not in calls:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))

    assert len(wakes) == 2


def test_a_posted_call_that_raises_costs_the_others_nothing():
    errors, calls = [], []

    def fail() -> None:
        raise LookupError("mine")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: errors.append(what))
        mailbox = Mailbox.of_running_loop()
        for call in (lambda: calls.append(1), fail, lambda: calls.append(2)):
            mailbox.post(call)
        while len(calls) < 2:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))

    assert calls == [1, 2]
    assert [str(what["exception"]) for what in errors] == ["mine"]
    assert "fail" in errors[0]["message"]


def test_calls_are_made_in_the_order_of_their_posting(executor):
    calls = []

    async def find_mailbox() -> Mailbox:
        return Mailbox.of_running_loop()

    mailbox = executor.submit(find_mailbox).result(WAIT)
    for n in range(1000):
        assert mailbox.post(lambda n=n: calls.append(n))
    executor.submit(double, 1).result(WAIT)

    assert calls == list(range(1000))


def test_a_post_to_a_loop_that_is_closed_or_gone_is_refused():
    calls = []

    async def main() -> tuple[Mailbox, asyncio.AbstractEventLoop]:
        return Mailbox.of_running_loop(), asyncio.get_running_loop()

    mailbox, loop = asyncio.run(main())
    assert loop.is_closed()
    closed = [mailbox.post(lambda: calls.append(1)) for _ in range(2)]
    del loop
    gc.collect()
    gone = [mailbox.post(lambda: calls.append(1)) for _ in range(2)]

    assert (closed, gone, calls) == ([False, False], [False, False], [])


def test_a_loop_that_cannot_be_woken_tells_the_caller_and_can_be_woken_later():
    calls = []

    def fail(*_, **__) -> None:
        raise RuntimeError("not now")

    async def main() -> None:
        mailbox, loop = Mailbox.of_running_loop(), asyncio.get_running_loop()
        loop.call_soon_threadsafe = fail
        with pytest.raises(RuntimeError, match="not now"):
            mailbox.post(lambda: calls.append(1))
        del loop.call_soon_threadsafe
        assert mailbox.post(lambda: calls.append(2))
        while not calls:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))

    assert calls == [2]


def test_a_mailbox_that_is_closed_makes_the_calls_it_has_and_takes_no_more():
    calls = []

    async def main() -> None:
        mailbox = Mailbox.of_running_loop()
        assert mailbox.post(lambda: calls.append(1))
        mailbox.close()
        assert calls == [1]
        assert not mailbox.post(lambda: calls.append(2))

    asyncio.run(main())

    assert calls == [1]


def test_each_loop_has_one_mailbox_while_it_runs():
    async def main() -> tuple[Mailbox, Mailbox]:
        return Mailbox.of_running_loop(), Mailbox.of_running_loop()

    first, second = asyncio.run(main()), asyncio.run(main())

    assert first[0] is first[1]
    assert second[0] is second[1]
    assert first[0] is not second[0]


def test_a_shutdown_waits_for_running_jobs_then_ends_loop_and_threads(app, executors):
    threads = threading.enumerate()
    executor = executors(app)
    app.teardown_appcontext(lambda _: None)  # for which there is a thread
    started, go_on = threading.Event(), threading.Event()

    async def job() -> str:
        started.set()
        await asyncio.to_thread(go_on.wait, WAIT)
        return "finished"

    loop = executor.submit(current_loop).result(WAIT)
    future = executor.submit(job)
    assert started.wait(WAIT)
    closer = threading.Thread(target=executor.shutdown)
    closer.start()
    with pytest.raises(ExecutorClosed):
        while True:
            executor.submit(double, 1).result(WAIT)
    assert closer.is_alive()
    assert not loop.is_closed()
    go_on.set()
    closer.join(WAIT)

    assert future.result(0) == "finished"
    assert loop.is_closed()
    left = [each for each in threading.enumerate() if each not in threads]
    assert not [each for each in left if each.name == "executor-app-loop"]


def test_a_shutdown_that_does_not_wait_lets_running_jobs_end(app, executors):
    executor = executors(app)
    started, go_on = threading.Event(), threading.Event()

    async def job() -> str:
        started.set()
        await asyncio.to_thread(go_on.wait, WAIT)
        return "finished"

    loop = executor.submit(current_loop).result(WAIT)
    future = executor.submit(job)
    assert started.wait(WAIT)
    executor.shutdown(wait=False)
    assert not future.done()
    go_on.set()

    assert future.result(WAIT) == "finished"
    executor.shutdown()
    for thread in threading.enumerate():
        if thread.name == "executor-app-loop":
            thread.join(WAIT)
    assert loop.is_closed()


def test_a_shutdown_closes_tasks_and_async_generators_that_are_left(app, executors):
    executor = executors(app)
    closed = []
    kept = []

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("generator")

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append("task")

    async def job() -> int:
        kept.append(numbers())
        kept.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
        return await anext(kept[0])

    assert executor.submit(job).result(WAIT) == 1
    assert closed == []
    executor.shutdown()

    assert closed == ["task", "generator"]


def test_past_the_timeout_a_shutdown_cancels_what_is_left_and_says_so_once(app, executors, caplog):
    executor = executors(app, shutdown_timeout=0.01)
    started = threading.Event()
    cleaned = []

    async def hanging() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("hanging")

    hangs = [executor.submit(hanging) for _ in range(3)]
    later = executor.options(delay=WAIT * 10).submit(double, 1)
    assert started.wait(WAIT)
    executor.shutdown()

    assert all(future.cancelled() for future in (*hangs, later))
    assert cleaned == ["hanging"] * 3
    [line] = [record.getMessage() for record in app_log(caplog)]
    assert line == (
        "Shut down after 0.01 s: 1 pending job cancelled (1 double), "
        "3 running coroutine jobs cancelled (3 hanging)"
    )


def test_jobs_that_end_within_the_timeout_are_left_alone(app, executors, caplog):
    executor = executors(app, shutdown_timeout=WAIT)
    started, go_on = threading.Event(), threading.Event()

    async def job() -> str:
        started.set()
        await asyncio.to_thread(go_on.wait, WAIT)
        return "finished"

    future = executor.submit(job)
    assert started.wait(WAIT)
    at_once(executor.shutdown, go_on.set)

    assert future.result(0) == "finished"
    assert app_log(caplog) == []


def test_an_app_that_is_dropped_is_collected_and_its_loop_thread_ends():
    app = Flask("dropped")
    app.config["EXECUTOR_ASYNC_VIEWS"] = True
    executor = Executor(app)
    loop = executor.submit(current_loop).result(WAIT)
    assert app.ensure_sync(double)(1) == 2
    executor.drain(WAIT)
    [thread] = [each for each in threading.enumerate() if each.name == "executor-dropped-loop"]
    ref = weakref.ref(app)
    del app, executor
    gc.collect()
    thread.join(WAIT)

    assert ref() is None
    assert not thread.is_alive()
    assert loop.is_closed()


def test_a_loop_thread_that_was_stopped_starts_again():
    starts = []
    thread = LoopThread(
        "again", None, is_debug=lambda: False, on_start=lambda: starts.append("start")
    )
    names = []
    called = threading.Semaphore(0)

    def call() -> None:
        names.append(threading.current_thread().name)
        called.release()

    for _ in range(2):
        for _ in range(2):
            thread.call(call)
            assert called.acquire(timeout=WAIT)
        thread.stop()
    thread.stop()

    assert names == ["again"] * 4
    assert starts == ["start"] * 2


def test_who_waits_for_a_task_that_is_cancelled_before_its_first_step_hears_of_it(app, executor):
    loop_thread = inside.loop_thread(app)
    blocked, release = threading.Event(), threading.Event()
    ran = []

    async def never() -> None:
        ran.append("never")

    def block() -> None:
        blocked.set()
        assert release.wait(WAIT)

    def wait_for_it() -> str:
        try:
            loop_thread.run(never, name="never")
        except asyncio.CancelledError:
            return "cancelled"
        return "ended"

    def cancel_it() -> None:
        while not inside.has_post(app):
            time.sleep(0.001)
        loop_thread.call(
            lambda: [t.cancel() for t in asyncio.all_tasks() if t.get_name() == "never"]
        )
        release.set()

    loop_thread.call(block)
    assert blocked.wait(WAIT)

    assert at_once(wait_for_it, cancel_it) == ["cancelled", None]
    assert ran == []


@pytest.mark.slow
def test_after_a_fork_the_child_has_a_loop_of_its_own():
    done = run("""
executor = make()

async def where():
    await asyncio.sleep(0)
    return threading.current_thread().name, os.getpid()

assert executor.submit(where).result() == ("executor-app-loop", os.getpid())
executor.drain()
if os.fork():
    say("child ended with", os.waitstatus_to_exitcode(os.wait()[1]))
    assert executor.submit(where).result()[1] == os.getpid()
else:
    assert executor.submit(where).result() == ("executor-app-loop", os.getpid())
    executor.options(delay=0.01).submit(say, "a delayed job in the child")
""")

    assert done.stdout == "a delayed job in the child\nchild ended with 0\n"
    assert done.stderr == ""


@pytest.mark.slow
def test_all_jobs_run_before_the_interpreter_ends():
    done = run("""
executor = make()

async def job(n):
    await asyncio.sleep(0.001)
    say(n)

for n in range(100):
    executor.submit(job, n)
executor.options(delay=0.02).submit(say, 100)
executor.options(delay=0.01).submit(job, 101)
""")

    assert sorted(map(int, done.stdout.split())) == list(range(102))
    assert done.stderr == ""


@pytest.mark.slow
def test_at_the_end_of_the_interpreter_jobs_get_the_timeout_then_are_cancelled():
    done = run("""
executor = make(shutdown_timeout=0.2)
hangs = threading.Event()

async def quick():
    await asyncio.sleep(0.001)
    say("quick ended")

async def hanging():
    hangs.set()
    try:
        await asyncio.Event().wait()
    finally:
        say("hanging cleaned up")

executor.submit(hanging)
executor.submit(quick)
executor.options(delay=3600).submit(say, "too early")
hangs.wait()
""")

    assert done.stdout == "quick ended\nhanging cleaned up\n"
    [line] = done.stderr.splitlines()
    assert "1 pending job cancelled (1 say), 1 running coroutine job cancelled (1 hanging)" in line


@pytest.mark.slow
def test_tasks_and_generators_left_at_the_end_of_the_interpreter_are_closed_quietly():
    done = run("""
executor = make(loop_factory="uvloop:new_event_loop")
kept = []

async def numbers():
    try:
        yield 1
    finally:
        say("generator closed")

async def forever():
    try:
        await asyncio.Event().wait()
    finally:
        say("task cancelled")

async def job():
    kept.extend([numbers(), asyncio.create_task(forever())])
    await anext(kept[0])

executor.submit(job).result()
""")

    assert done.stdout == "task cancelled\ngenerator closed\n"
    assert done.stderr == ""

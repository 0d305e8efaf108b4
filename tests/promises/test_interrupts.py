"""What a signal handler raises in the middle of a call leaves the executor whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from flask_executor import Stats
from tests import inside
from tests.support import ROOT, WAIT, MakeExecutor

# The handler raises at a random moment of a call; after each batch of calls all that was taken in
# ends, the counts add up, and the process comes to its end.
PROGRAM = """
import asyncio, os, random, signal, sys, threading, time
from flask import Flask
from flask_executor import Executor
from tests import inside

class Alarm(BaseException): pass

is_armed = False

def on_alarm(*_):
    if is_armed:  # On a busy machine, a signal may come after its timer was taken back.
        raise Alarm

def double(n):
    return 2 * n

async def double_on_loop(n):
    await asyncio.sleep(0)
    return 2 * n

app = Flask("app")
app.config.update(SETTINGS)
executor = Executor(app)
chance = random.Random(int(sys.argv[1]))
signal.signal(signal.SIGALRM, on_alarm)
key = 0

def stored(n):
    global key
    key += 1
    return executor.submit_stored(key, double, n)

def cancelled(n):
    future = executor.options(delay=chance.choice([None, 0.01])).submit(double, n)
    future.cancel()
    return future

ways = {
    "plain": lambda n: executor.submit(double, n),
    "coroutine": lambda n: executor.submit(double_on_loop, n),
    "delayed": lambda n: executor.options(delay=0.001).submit(double, n),
    "stored": stored,
    "bounded": lambda n: executor.options(queue_timeout=10).submit(double, n),
    "cancelled": cancelled,
    "map": lambda n: list(executor.map(double, range(5))),
    "timed": lambda n: executor.options(timeout=60).submit(double, n),
}

def interrupted(call, seconds):
    global is_armed
    try:
        is_armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return call()
        finally:
            is_armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm:
        return None
    except RuntimeError as error:  # the stdlib's Condition is not made for it
        assert "lock" in str(error), error
        return None

def typical(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began

for way in WAYS:
    submit = ways[way]
    interruptions = 0
    for batch in range(BATCHES):
        if chance.random() < 0.1:  # what the first job starts is interrupted, too
            with app.app_context():
                executor.shutdown()
            app = Flask("app")
            app.config.update(SETTINGS)
            executor = Executor(app)
            length = 0.002
        else:
            submit(1)
            length = 2 * typical(lambda: submit(1)) + 0.0001
        futures = []
        for n in range(20):
            future = interrupted(lambda: submit(n), chance.random() * length)
            interruptions += future is None
            if future is not None and way != "map":
                futures.append((n, future))
        executor.drain(60)
        for n, future in futures:
            assert future.cancelled() or future.result(0) == 2 * n, (way, n)
        stats = executor.stats()
        assert (stats.pending, stats.running, stats.failed) == (0, 0, 0), (way, stats)
        assert stats.submitted == stats.succeeded + stats.cancelled, (way, stats)
        assert [executor.submit(double, n).result(60) for n in range(2)] == [0, 2]
        for taken in inside.stored_keys(executor.futures):
            assert executor.futures.done(taken), (way, taken)
            executor.futures.pop(taken)
    assert interruptions, way
executor.shutdown()
print("whole")
"""

SETTINGS = {
    "one worker": {"EXECUTOR_MAX_WORKERS": 1},
    "four workers": {"EXECUTOR_MAX_WORKERS": 4},
    "bounded": {"EXECUTOR_MAX_WORKERS": 2, "EXECUTOR_MAX_PENDING": 2},
}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_signal_handler_that_raises_at_any_moment_leaves_the_queue_whole(settings) -> None:
    ways = ["plain", "coroutine", "delayed", "stored", "cancelled", "map", "timed"]
    if "EXECUTOR_MAX_PENDING" in settings:
        ways = ["bounded", "coroutine", "map"]
    program = PROGRAM.replace("SETTINGS", repr(settings)).replace("WAYS", repr(ways))

    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program.replace("BATCHES", "30"), "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr


def test_a_timeout_error_of_a_signal_handler_ends_a_wait_as_it_is(tmp_path: Path) -> None:
    program = """
import signal, sys, threading
from flask import Flask
from flask_executor import Executor

class Late(TimeoutError): pass

def on_alarm(*_):
    raise Late("the whole program took too long")

app, other = Flask("app"), Flask("app")
app.config["EXECUTOR_STORE"] = other.config["EXECUTOR_STORE"] = sys.argv[1]
executor, elsewhere = Executor(app), Executor(other)
go_on = threading.Event()
future = executor.submit_stored("key", go_on.wait, 60)
stored = elsewhere.futures.get("key")
signal.signal(signal.SIGALRM, on_alarm)
for wait in (future.result, future.exception, stored.result, executor.drain, executor.shutdown):
    for arguments in ((), (60,)):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            wait(*arguments)
        except Late as error:
            print(error)
assert future.running()
go_on.set()
"""

    done = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'jobs.db'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the whole program took too long"] * 10


def test_an_inline_job_that_a_signal_handler_breaks_off_has_ended(
    app: Flask, executors: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = executors(app, type="inline")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(inside.RUN_INLINE, interrupt)
        executor.submit_stored("key", int)
    executor.drain(0)

    assert isinstance(executor.futures.exception("key", 0), KeyboardInterrupt)
    assert executor.stats() == Stats(float("inf"), 1, 0, 0, 0, 1, 0)
    assert executor.submit(int, "7").result(0) == 7

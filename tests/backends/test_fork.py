"""Forked processes: what they have of their own, and what becomes of the jobs they inherit."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import IO

import pytest

from tests import inside
from tests.served.servers import APPS, served
from tests.support import ROOT, WAIT, errors_of

GOES_ON = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="asyncio does not go on in a child there"
)

# What a program has to begin with. In the child `check` runs, and the parent tells how it ended.
PRELUDE = """
import asyncio, concurrent.futures, logging, os, sys, threading, traceback
from flask import Flask
from flask_executor import Executor, InheritedJob, current_job

app = Flask("app")
app.config["EXECUTOR_MAX_WORKERS"] = 2
executor = Executor(app)
started, go_on = threading.Semaphore(0), threading.Event()
# In its debug mode asyncio warns of each step that takes long, as one that forks and waits may.
logging.getLogger("asyncio").setLevel(logging.ERROR)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # at once, from any process

def hold(name="held"):
    started.release()
    go_on.wait(60)
    say(name, "ran")
    return name

async def hold_on_loop():
    started.release()
    while not go_on.is_set():
        await asyncio.sleep(0.001)
    say("coroutine ran")

def fork(check):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    go_on.set()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run(program: str) -> list[str]:
    """The lines that *program* prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + program],
        capture_output=True,
        text=True,
        timeout=WAIT * 2,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, errors_of(done)) == (0, ""), done.stderr
    return done.stdout.splitlines()


def test_neither_import_nor_init_app_starts_a_thread() -> None:
    program = "assert threading.active_count() == 1; executor.stats(); executor.drain()\n"

    assert run(program + "assert threading.active_count() == 1\n") == []


def test_a_child_of_an_executor_that_was_not_used_has_a_pool_of_its_own() -> None:
    lines = run("""
def check():
    say("child", executor.submit(pow, 2, 3).result(60))
    executor.drain(60)

fork(check)
say("parent", executor.submit(pow, 2, 4).result(60))
""")

    assert lines == ["child 8", "parent 16"]


def test_a_child_inherits_a_job_that_waits_for_its_next_attempt() -> None:
    lines = run("""
from flask_executor import Retry, job_retried

def fail():
    say("attempt", current_job.attempt)
    raise KeyError

retried = threading.Event()
job_retried.connect(note := lambda *_, **__: retried.set())
future = executor.options(retry=Retry(2, delay=600, max_delay=600, jitter=False)).submit(fail)
retried.wait(60)
while future.state != "pending":
    threading.Event().wait(0.001)

def check():
    assert isinstance(future.exception(0), InheritedJob)
    executor.drain(60)
    say("child", executor.submit(int, "8").result(60))

fork(check)
assert future.state == "pending"
executor.shutdown()
say(type(future.exception(0)).__name__)
""")

    assert lines == ["attempt 1", "child 8", "KeyError"]


def test_a_child_of_an_attempt_does_not_retry_its_job() -> None:
    lines = run("""
from flask_executor import Retry

def fail():
    say("attempt", current_job.attempt)
    if current_job.attempt == 1 and os.fork() == 0:
        threading.Timer(0.5, os._exit, [0]).start()
    raise KeyError

future = executor.options(retry=Retry(2, delay=0)).submit(fail)
say(type(future.exception(60)).__name__)
os.wait()
""")

    assert lines == ["attempt 1", "attempt 2", "KeyError"]


def test_jobs_that_a_child_inherits_fail_there_and_run_once_in_the_parent() -> None:
    lines = run("""
executor.add_default_done_callback(lambda future: say("callback", future.name))
done = executor.submit_stored("done", int, "7")
done.result(60)
executor.drain(60)
running = [executor.submit(hold, "running") for _ in range(2)]
on_loop = executor.submit(hold_on_loop)
for _ in range(3):
    started.acquire()
waiting = executor.submit_stored("waiting", hold, "waiting")
later = executor.options(delay=0.01).submit(hold, "later")
cancelled = executor.submit(hold, "never")
cancelled.cancel()
iterator = concurrent.futures.as_completed([waiting])

def check():
    for future in (*running, on_loop, waiting, later):
        error = future.exception(0)
        assert isinstance(error, InheritedJob), error
        assert f"belongs to the process {os.getppid()}" in str(error)
        assert future.state == "failed"
        assert not future.cancel()
    assert next(iterator) is waiting
    assert done.result(0) == 7 and cancelled.cancelled()
    assert executor.futures.state("done") == "succeeded"
    assert executor.futures.state("waiting") == "failed"
    assert executor.stats().submitted == 0
    say("child", executor.submit(int, "8").result(60))
    executor.drain(60)

fork(check)
executor.drain(60)
""")

    assert Counter(lines) == {
        "callback int": 2,  # one of them is the child's own
        "child 8": 1,
        "callback hold": 5,
        "running ran": 2,
        "waiting ran": 1,
        "later ran": 1,
        "coroutine ran": 1,
        "callback hold_on_loop": 1,
    }


@GOES_ON
def test_an_await_that_goes_on_in_a_child_fails_there() -> None:
    lines = run("""
from tests import inside

async def main():
    future = executor.submit(hold)
    waiter = asyncio.ensure_future(asyncio.wait_for(inside.awaitable(future), 60))
    started.acquire()
    await asyncio.sleep(0)
    pid = os.fork()
    go_on.set() if pid else None
    try:
        say("parent" if pid else "child", await waiter)
    except InheritedJob:
        say("child is told")
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)

asyncio.run(main())
""")

    assert sorted(lines) == ["child is told", "held ran", "parent held"]


@pytest.mark.parametrize(
    "lock",
    [
        *(f"inside.lock(app, {name!r})" for name in inside.LOCKS),
        "executor.futures.get('held')._condition",
        "executor.futures.get('done')._condition",
        "inside.lock_of_threads(app)",
    ],
)
def test_a_lock_that_is_held_when_a_process_is_forked_holds_nothing_up_in_it(lock: str) -> None:
    lines = run(f"""
from tests import inside

executor.submit_stored("held", hold)
executor.submit_stored("done", int).result(60)
started.acquire()
executor.submit(hold_on_loop)
started.acquire()
held, forked = threading.Event(), threading.Event()

def hold_lock():
    with {lock}:
        held.set()
        forked.wait(60)

holder = threading.Thread(target=hold_lock)
holder.start()
held.wait()

async def cube():
    return 27

def check():
    assert isinstance(executor.futures.exception("held", 0), InheritedJob)
    assert executor.futures.result("done", 0) == 0
    say(executor.submit(pow, 2, 3).result(60), executor.submit(cube).result(60))
    executor.shutdown()

pid = os.fork()
if not pid:
    code = 1
    try:
        check()
        code = 0
    finally:
        os._exit(code)
assert os.waitpid(pid, 0)[1] == 0
forked.set()
go_on.set()
holder.join()
""")

    assert sorted(lines) == ["8 27", "coroutine ran", "held ran"]


def test_a_child_of_a_child_ends_nothing_of_the_first_process() -> None:
    lines = run("""
import gc, signal
from tests import inside

async def nothing():
    pass

executor.submit(nothing).result(60)
held, forked = threading.Event(), threading.Event()

def hold_lock():
    with inside.lock(app, "mailbox of the loop"):
        held.set()
        forked.wait(60)

holder = threading.Thread(target=hold_lock)
holder.start()
held.wait()

def check_in_child():
    signal.alarm(60)  # It ends a process that waits for the lock.
    gc.collect()
    executor.submit(nothing).result(60)
    say("child of child")

pid = os.fork()
if not pid:
    try:
        fork(check_in_child)
    finally:
        os._exit(0)
os.waitpid(pid, 0)
forked.set()
holder.join()
""")

    assert lines == ["child of child"]


def test_a_child_may_fork_though_a_thread_of_its_parent_was_at_the_database(
    tmp_path: Path,
) -> None:
    # A hook that is registered earlier is called later, so this one finds the gate closed.
    program = f"""
import os, threading

gates, held, forked = [], threading.Event(), threading.Event()

def hold_lock():
    with gates[0]._condition:
        held.set()
        forked.wait(60)

def begin_to_hold():
    if gates and not held.is_set():
        threading.Thread(target=hold_lock).start()
        held.wait()

os.register_at_fork(before=begin_to_hold, after_in_parent=forked.set)
{PRELUDE}
import signal
from tests import inside

app.config["STORE_EXECUTOR_STORE"] = "sqlite:///{tmp_path / "jobs.db"}"
stored = Executor(app, name="store")
stored.submit_stored("key", int).result(60)
stored.drain(60)
gates.append(inside.fork_gate(app, "store"))

def check():
    signal.alarm(60)  # It ends a process that waits for the lock.
    fork(lambda: say("child of child"))

fork(check)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=WAIT * 2,
        check=False,
        cwd=ROOT,
    )

    assert (done.returncode, done.stdout) == (0, "child of child\n"), done.stderr


def test_a_job_may_fork() -> None:
    lines = run("""
def forking():
    fork(lambda: say("child", current_job.name, executor.submit(int, "7").result(60)))
    return "parent"

say(executor.submit(forking).result(60), executor.stats().succeeded)
""")

    assert lines == ["child forking 7", "parent 1"]


@GOES_ON
def test_a_coroutine_job_of_the_callers_own_loop_may_fork() -> None:
    program = """
app.config["INLINE_EXECUTOR_TYPE"] = "inline"
inline = Executor(app, name="inline")

async def forking():
    return os.fork()

async def main():
    try:
        pid = await inline.submit_async(forking)
    except InheritedJob:
        say("child")
        await asyncio.sleep(0)
    else:
        assert os.waitpid(pid, 0)[1] == 0
        say("parent")

asyncio.run(main())
"""

    assert run(program) == ["child", "parent"]


def test_a_child_that_exits_in_the_ordinary_way_finishes_its_own_jobs_first() -> None:
    lines = run("""
executor.submit(hold, "parent's")
started.acquire()
pid = os.fork()
if not pid:
    executor.submit(say, "child's ran")
    sys.exit()
os.waitpid(pid, 0)
go_on.set()
""")

    assert lines == ["child's ran", "parent's ran"]


def test_a_stored_job_that_is_not_in_the_queue_yet_fails_in_a_child() -> None:
    lines = run("""
from flask_executor import job_submitted

def check():
    say(type(executor.futures.get("key").exception(0)).__name__)

with job_submitted.connected_to(lambda *_, **__: fork(check), app):
    say(executor.submit_stored("key", pow, 2, 3).result(60))
""")

    assert lines == ["InheritedJob", "8"]


def test_a_child_exits_without_the_jobs_of_an_app_that_is_gone() -> None:
    lines = run("""
import weakref
gone = Flask("gone")
gone.config["EXECUTOR_PUSH_APP_CONTEXT"] = False
other = Executor()
other.init_app(gone)
with gone.app_context():
    other.submit(hold, "parent's")
started.acquire()
reference = weakref.ref(gone)
del gone
pid = os.fork()
if not pid:
    say("app gone:", reference() is None)
    sys.exit()
os.waitpid(pid, 0)
go_on.set()
""")

    assert lines == ["app gone: True", "parent's ran"]


def test_the_worker_processes_of_a_parent_are_left_to_it() -> None:
    lines = run("""
import gc
from tests import inside, remote_app

app.config.update(POOL_EXECUTOR_TYPE="process", POOL_EXECUTOR_MAX_WORKERS=1)
app.config.update(POOL_EXECUTOR_APP="tests.remote_app:app", POOL_EXECUTOR_MP_CONTEXT="fork")
pool = Executor(app, name="pool")
worker = pool.submit(remote_app.pid).result(60)

def check():
    assert pool.submit(remote_app.pid).result(60) != worker
    pool.shutdown()
    inside.remove(app, "pool")
    del app.extensions["poolexecutor"]
    gc.collect()

fork(check)
assert pool.submit(remote_app.pid).result(60) == worker
""")

    assert lines == []


def test_under_gunicorn_with_preload_each_worker_has_its_own_pool_and_the_master_runs_its_jobs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipe: IO[str]
) -> None:
    journal = tmp_path / "journal"
    monkeypatch.setenv("JOURNAL", str(journal))
    monkeypatch.setenv("PIPE", pipe.name)
    monkeypatch.setenv("SUBMIT_EARLY", "yes")
    command = (
        "gunicorn --preload --workers 2 -k gthread --threads 2 -b 127.0.0.1:0 --no-control-socket "
        "deployed_app:app"
    )

    with served(command, APPS) as client:
        answers: dict[int, dict[str, str]] = {}
        while len(answers) < 2:
            pid, cube = client.get("/pid").json()
            assert cube == 27
            answers[pid] = client.get("/early").json()
        pipe.write("go on\n")

    for answer in answers.values():
        assert answer["state"] == "failed"
        assert answer["error"].startswith("InheritedJob(")
    assert journal.read_text().splitlines() == ["early started", "early ended"]


def test_in_a_process_that_a_job_has_forked_the_executor_can_be_drained_and_shut_down() -> None:
    lines = run("""
def check():
    assert executor.submit(pow, 2, 3).result(60) == 8
    executor.drain(60)
    executor.shutdown()
    say("child", executor.stats().succeeded)

def forking():
    fork(check)

async def forking_on_loop():
    fork(check)

executor.submit(forking).result(60)
executor.submit(forking_on_loop).result(60)
executor.shutdown()
say("parent", executor.stats().succeeded)
""")

    assert lines == ["child 1", "child 1", "parent 2"]


def test_a_child_does_not_read_the_body_of_the_request_that_its_parent_serves() -> None:
    lines = run("""
import io
from flask import request, request_tearing_down
from flask_executor import RequestEnded

class Slow(io.BytesIO):
    def readinto(self, buffer):
        started.release()
        go_on.wait(60)
        return super().readinto(buffer)

def check():
    try:
        request.form
    except RequestEnded as error:
        say("child:", error)
    request_tearing_down.send(app)

@app.post("/")
def view():
    future = executor.submit(lambda: request.form["user"])
    assert started.acquire(timeout=60)
    release, go_on.set = go_on.set, lambda: None
    fork(check)
    release()
    return future.result(60)

body = Slow(b"user=ada")
answer = app.test_client().post(
    "/", input_stream=body, content_length=8, content_type="application/x-www-form-urlencoded"
)
say("parent:", answer.text)
""")

    in_child, in_parent = lines
    assert in_child.startswith("child: this process was forked from the one that serves the")
    assert in_parent == "parent: ada"


def test_a_key_of_the_parents_job_can_be_replaced_in_the_child() -> None:
    program = """
future = executor.submit_stored("report", hold)
started.acquire()

def check():
    submitter = executor.options(key="report", on_duplicate="return")
    assert submitter.submit(pow, 2, 3) is future
    assert isinstance(future.exception(), InheritedJob)
    submitter = executor.options(key="report", on_duplicate="replace")
    say(submitter.submit(pow, 2, 3).result(60))

fork(check)
executor.drain()
say(executor.futures.get("report") is future)
"""
    assert sorted(run(program)) == ["8", "True", "held ran"]


def test_a_job_that_waits_for_a_response_is_left_to_the_parent() -> None:
    program = """
app.logger.setLevel("ERROR")  # There is no response: the job is cancelled, with a warning.
with app.test_request_context():
    future = executor.options(after="response").submit(hold)

    def check():
        assert isinstance(future.exception(), InheritedJob)

    fork(check)
    say(future.state)
say(future.state)
"""
    assert run(program) == ["pending", "cancelled"]


def test_a_response_that_ends_in_the_child_starts_nothing_there() -> None:
    program = """
@app.get("/")
def view():
    executor.options(after="response").submit(hold)
    return ""

response = app.test_client().get("/")
queue = app.extensions["flask_executor."].host.queue

def hold_lock():
    with queue.lock:
        started.release()
        go_on.wait(60)

threading.Thread(target=hold_lock).start()
started.acquire()

def check():
    response.close()
    say("closed")

fork(check)
response.close()
executor.drain()
"""
    assert run(program) == ["closed", "held ran"]


def test_a_commit_in_the_child_starts_nothing_there() -> None:
    program = """
from sqlalchemy.orm import Session

session = Session()
future = executor.options(after=session).submit(hold)

def check():
    session.commit()
    assert isinstance(future.exception(60), InheritedJob)
    executor.drain(60)
    say("child", executor.options(after=session).submit(int, "8").state)
    session.commit()
    executor.drain(60)

fork(check)
say(future.state)
session.commit()
executor.drain()
"""
    assert run(program) == ["child pending", "pending", "held ran"]


def test_a_group_that_is_open_at_the_fork_fails_in_the_child_and_ends_in_the_parent() -> None:
    program = """
with executor.group() as group:
    future = group.submit(hold)
    started.acquire()

    def check():
        try:
            group.__exit__(None, None, None)
        except ExceptionGroup as error:
            say([type(each).__name__ for each in error.exceptions])
        with executor.group(timeout=60) as own:
            say("child", own.submit(int, "8").result(60))

    fork(check)
say(future.state)
"""
    assert sorted(run(program)) == ["['InheritedJob']", "child 8", "held ran", "succeeded"]


METRICS = """
from prometheus_client import CollectorRegistry
from flask_executor.metrics import instrument

registry = CollectorRegistry()
instrument(executor, registry)

def value(metric, **labels):
    return registry.get_sample_value(f"flask_executor_{metric}", {"executor": "executor"} | labels)

def gauges():
    return [int(value(gauge)) for gauge in ("pending", "running", "workers")]

executor.submit(hold)
started.acquire()
"""


def test_the_gauges_of_a_child_count_its_own_jobs() -> None:
    lines = run(
        METRICS
        + """
def check():
    say(*gauges())
    executor.submit(pow, 2, 3).result(20)
    executor.drain(20)
    say(*gauges(), value("jobs_total", name="pow", state="succeeded"))

say(*gauges())
fork(check)
executor.drain()
say(*gauges(), value("jobs_total", name="hold", state="succeeded"))
"""
    )

    assert lines[0] == "0 1 2"
    assert sorted(lines[1:]) == ["0 0 2", "0 0 2 1.0", "0 0 2 1.0", "held ran"]


# A job whose name takes a while to count, a fork meanwhile, and a job of the child.
FORK_WHILE_COUNTING = """
def check():
    executor.submit(abs, -1).result(20)
    executor.drain(20)
    say(value("jobs_total", name="abs", state="succeeded"))

def slow():
    current_job.name = Slow("new")

executor.submit(slow)
started.acquire()
fork(check)
executor.drain()
say(value("jobs_total", name="new", state="succeeded"))
"""


def test_a_child_counts_new_names_though_a_thread_was_adding_one_at_the_fork() -> None:
    lines = run(
        METRICS
        + """
class Slow(str):
    # The label of a metric, whose text is asked for while the thread holds the lock.
    def __str__(self):
        started.release()
        go_on.wait(20)
        return str.__str__(self)
"""
        + FORK_WHILE_COUNTING
    )

    assert sorted(lines) == ["1.0", "1.0", "held ran"]


def test_a_fork_waits_while_a_thread_counts_a_job_and_holds_a_lock_of_prometheus_client() -> None:
    lines = run(
        METRICS
        + """
forking = threading.Event()
os.register_at_fork(before=forking.set)  # It is called before those that were registered earlier.

class Slow(str):
    # prometheus-client holds a lock while it looks for a label.
    def __str__(self):
        return self

    def __hash__(self):
        if sys._getframe(1).f_code.co_name == "labels" and not forking.is_set():
            started.release()
            forking.wait(20)
        return str.__hash__(self)
"""
        + FORK_WHILE_COUNTING
    )

    assert sorted(lines) == ["1.0", "1.0", "held ran"]

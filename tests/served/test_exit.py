"""The end of a process: what still runs, for how long, what is lost, and that the log says so."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.served.servers import ADDRESS, APPS, read_to_address, served, start
from tests.support import ROOT, WAIT, errors_of

PRELUDE = """
import asyncio, os, signal, sys, threading, time
from flask import Flask
from flask_executor import Executor, ExecutorClosed

app = Flask("app")
app.config["EXECUTOR_MAX_WORKERS"] = 2
started = threading.Semaphore(0)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def hang(*_):
    started.release()
    threading.Event().wait()
"""


def run(program: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PRELUDE + program],
        capture_output=True,
        text=True,
        timeout=WAIT * 2,
        check=False,
        cwd=ROOT,
    )
    done.stderr = errors_of(done)
    return done


@contextmanager
def running(program: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Run *program* until the block ends; its standard input stays open."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_coroutine_job_that_has_used_a_thread_leaves_no_traceback_at_the_exit() -> None:
    done = run("""
async def job():
    return await asyncio.to_thread(int, "7")

say(Executor(app).submit(job).result())
""")

    assert (done.stdout, done.stderr, done.returncode) == ("7\n", "", 0)


def test_with_a_timeout_the_exit_waits_no_longer_and_one_line_names_what_is_lost() -> None:
    done = run("""
app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = 0.1
executor = Executor(app)
futures = [executor.submit(hang) for _ in range(2)]
for _ in range(2):
    started.acquire()
for n in range(97):
    executor.submit(say, n)
for n in range(3):
    executor.submit(pow, n, 2)
""")

    assert (done.returncode, done.stdout) == (0, "")
    [line] = done.stderr.splitlines()
    assert line.endswith(
        "Shut down after 0.1 s: 100 pending jobs cancelled (97 say, 3 pow), "
        "2 running jobs left to run on (2 hang)"
    )


def test_with_a_timeout_what_can_be_finished_in_it_is_finished() -> None:
    done = run("""
app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = 20
executor = Executor(app)
for n in range(100):
    executor.submit(say, n)
""")

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(map(int, done.stdout.split())) == list(range(100))


def test_a_process_that_hangs_is_killed_after_the_timeout() -> None:
    done = run("""
import atexit
from tests import remote_app
from tests.support import Door

app.config.update(EXECUTOR_SHUTDOWN_TIMEOUT=0.1, EXECUTOR_TYPE="process", EXECUTOR_MAX_WORKERS=1)
app.config.update(EXECUTOR_APP="tests.remote_app:app", EXECUTOR_MP_CONTEXT="fork")
executor = Executor(app)
door = Door()
atexit.register(door.open)
executor.submit(remote_app.wait_at, door.address, None)
door.await_arrival()
executor.submit(remote_app.pid)
""")

    assert (done.returncode, done.stdout) == (0, "")
    [line] = done.stderr.splitlines()
    assert line.endswith(
        "Shut down after 0.1 s: 1 pending job cancelled (1 pid), 1 running job killed (1 wait_at)"
    )


def test_a_callback_that_hangs_does_not_hold_up_the_exit() -> None:
    done = run("""
app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = 0.1
executor = Executor(app)

async def quick():
    pass

executor.add_default_done_callback(hang)
executor.submit(quick)
started.acquire()
""")

    assert (done.returncode, done.stdout) == (0, "")
    [line] = done.stderr.splitlines()
    assert line.endswith("Shut down after 0.1 s: 1 ended job left to run on (1 quick)")


def test_a_submit_after_the_end_has_begun_is_refused_in_any_thread_and_without_a_storm() -> None:
    done = run("""
executor = Executor(app)
late = Executor()
app.config["LATE_EXECUTOR_TYPE"] = "thread"
late = Executor(app, name="late")
executor.submit(int)

async def cube():
    return 27

def submit_until_refused():
    threading.main_thread().join()  # the interpreter is about to end
    refused = 0
    while refused < 100:
        try:
            executor.submit(int)
        except ExecutorClosed:
            refused += 1
    delayed = late.options(delay=1)
    for submit, fn in (late.submit, int), (executor.submit, cube), (delayed.submit, int):
        try:
            submit(fn)
        except ExecutorClosed:
            say("refused")

threading.Thread(target=submit_until_refused).start()
""")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["refused"] * 3


@pytest.mark.parametrize("timeout", ["None", "0.2"])
def test_a_sigterm_that_is_made_an_exit_finishes_the_jobs(timeout: str) -> None:
    done = run(f"""
app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = {timeout}
executor = Executor(app)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for n in range(100):
    executor.submit(say, n)
os.kill(os.getpid(), signal.SIGTERM)
""")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) == 100


@pytest.mark.parametrize("worker", ["sync", "gthread --threads 2"])
def test_gunicorns_max_requests_loses_no_job_that_fits_the_time(
    monkeypatch: pytest.MonkeyPatch, journal: Path, worker: str
) -> None:
    monkeypatch.setenv("FLASK_EXECUTOR_SHUTDOWN_TIMEOUT", "20")
    command = (
        f"gunicorn --max-requests 1 -k {worker} -b 127.0.0.1:0 --no-control-socket deployed_app:app"
    )

    with served(command, APPS) as client:
        pids = {client.post(f"/notes/{name}/50").text for name in "abc"}

    assert len(pids) > 1
    assert sorted(journal.read_text().splitlines()) == sorted(
        f"{name} {n}" for name in "abc" for n in range(50)
    )


@pytest.mark.parametrize(
    "hook", ["", "def worker_exit(_, __): from deployed_app import executor; executor.shutdown()"]
)
def test_a_sigterm_for_gunicorn_finishes_what_it_can_and_names_the_rest(
    monkeypatch: pytest.MonkeyPatch, journal: Path, tmp_path: Path, hook: str
) -> None:
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(hook, "utf-8")
    monkeypatch.setenv("FLASK_EXECUTOR_SHUTDOWN_TIMEOUT", "0.5")
    monkeypatch.setenv("FLASK_EXECUTOR_MAX_WORKERS", "1")
    command = (
        f"gunicorn -c {config} -k gthread --threads 2 -b 127.0.0.1:0 --no-control-socket "
        "deployed_app:app"
    )

    with start(command, APPS) as process:
        log = read_to_address(process.stderr)
        url = ADDRESS.search(log)[0]
        httpx.post(f"{url}/notes/first/10", trust_env=False)
        httpx.post(f"{url}/hold/second", trust_env=False)
        httpx.post(f"{url}/notes/third/10", trust_env=False)
        process.send_signal(signal.SIGTERM)
        log += process.stderr.read()
        process.wait(WAIT)

    assert process.returncode == 0
    assert "Traceback" not in log, log
    [line] = re.findall("Shut down after .*", log)
    assert line == (
        "Shut down after 0.5 s: 10 pending jobs cancelled (10 note), "
        "1 running job left to run on (1 hold)"
    )
    notes = [f"first {n}" for n in range(10)]
    assert journal.read_text().splitlines() == [*notes, "second started"]


def test_what_is_given_up_is_not_waited_for_again() -> None:
    done = run("""
app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = 0.1
executor = Executor(app)
executor.submit(hang)
started.acquire()
executor.shutdown()
""")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("Shut down after 0.1 s") == 1


def test_a_job_whose_response_does_not_come_is_not_waited_for() -> None:
    done = run("""
executor = Executor(app)
app.test_request_context().push()
executor.options(after="response").submit(say, "ran")
""")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(
        "Shut down: 1 pending job cancelled, whose response or commit had not come (1 say)\n"
    )


def test_an_exit_that_is_interrupted_tells_what_is_lost() -> None:
    done = run("""
from tests import inside

app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = 20
executor = Executor(app)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(3))
for _ in range(2):
    executor.submit(hang)
executor.submit(int)

def interrupt():
    while not inside.is_closed(app):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGUSR1)

threading.Thread(target=interrupt, daemon=True).start()
""")

    assert "interrupted: 1 pending job cancelled (1 int), 2 running jobs left" in done.stderr


WAITING = """
def report():
    sys.stdin.readline()

app.config.update(EXECUTOR_MAX_WORKERS=1, LATE_EXECUTOR_MAX_WORKERS=1)
executor = Executor()
executor.init_app(app)
"""


@pytest.mark.slow
def test_after_a_second_the_log_says_once_for_each_executor_what_the_exit_waits_for() -> None:
    program = f"""{WAITING}
late = Executor(app, name="late")
is_over = threading.Event()

def count():
    is_over.wait()
    report()

executor.submit(count)
late.submit(report)
late.submit(is_over.set)
"""

    with running(program) as process:
        first = process.stderr.readline()
        process.stdin.write("go on\n")
        process.stdin.flush()
        second = process.stderr.readline()
        _, rest = process.communicate("go on\n", WAIT)

    assert (process.returncode, rest) == (0, "")
    jobs = [line.partition("WARNING in at_exit: ")[2].rstrip() for line in (first, second)]
    assert jobs == [
        "Waiting for 2 jobs to finish (1 report, 1 set); press Ctrl-C to stop waiting",
        "Waiting for 1 job to finish (1 count); press Ctrl-C to stop waiting",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "is_logged"),
    [
        ("", False),
        ("import logging; logging.basicConfig(filename=LOG)", True),
        ("import logging; app.logger.addHandler(logging.FileHandler(LOG))", True),
        ("app.logger.setLevel('ERROR')", False),
        ("import logging; app.logger.handlers = [logging.NullHandler()]", False),
        ("app.config['EXECUTOR_PUSH_APP_CONTEXT'] = False", False),
    ],
)
def test_a_terminal_shows_once_what_the_exit_waits_for_wherever_the_log_goes(
    tmp_path: Path, setup: str, is_logged: bool
) -> None:
    log = tmp_path / "log"
    setup = setup.replace("LOG", repr(str(log)))
    forget = "executor.submit(report); del app; import gc; gc.collect()"
    terminal, its_end = pty.openpty()

    with (
        running(f"{setup}{WAITING}{forget}", its_end) as process,
        os.fdopen(terminal, encoding="utf-8") as lines,
    ):
        first = lines.readline()
        process.communicate("go on\n", WAIT)
        os.write(its_end, b"$\n")
        second = lines.readline()
        os.close(its_end)

    message = "Waiting for 1 job to finish (1 report); press Ctrl-C to stop waiting"
    assert (first.rstrip().endswith(message), second.rstrip()) == (True, "$")
    assert log.exists() == is_logged
    assert not is_logged or message in log.read_text("utf-8")


INTERRUPTED = [
    ("thread", "", "1 pending job cancelled (1 int), 1 running job left to run on (1 hang)"),
    ("thread", "async ", "1 running coroutine job cancelled (1 hang)"),
    ("process", "", "1 pending job cancelled (1 int), 1 running job killed (1 hang)"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "prefix", "lost"), INTERRUPTED)
def test_a_ctrl_c_ends_the_wait_of_all_executors_and_leaves_no_traceback(
    kind: str, prefix: str, lost: str
) -> None:
    program = f"""
app.config.update(EXECUTOR_TYPE={kind!r}, EXECUTOR_MAX_WORKERS=1, EXECUTOR_MP_CONTEXT="fork")
app.config.update(EXECUTOR_APP="tests.remote_app:app")

{prefix}def hang():
    {"await asyncio.Event().wait()" if prefix else "threading.Event().wait()"}

executor, late = Executor(app), Executor(app, name="late")
done = Executor(app, name="done").submit(int).result()
executor.submit(hang)
{"" if prefix else "executor.submit(int)"}
late.submit(threading.Event().wait)
"""

    with running(program) as process:
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)

    assert (process.returncode, out) == (0, "")
    assert [line.partition("Shutdown interrupted: ")[2] for line in err.splitlines()] == [
        "1 running job left to run on (1 wait)",
        lost,
    ]


@pytest.mark.slow
def test_the_exit_status_is_that_of_the_program_when_its_end_is_interrupted() -> None:
    program = """
executor = Executor(app)
executor.submit(hang)
sys.exit(3)
"""

    with running(program) as process:
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT)

    assert process.returncode == 3
    assert "Traceback" not in err


@pytest.mark.parametrize(("timeout", "is_daemon"), [("None", "False"), ("20", "True")])
def test_the_end_waits_for_threads_that_jobs_start_unless_there_is_a_timeout(
    timeout: str, is_daemon: str
) -> None:
    done = run(f"""
app.config.update(EXECUTOR_SHUTDOWN_TIMEOUT={timeout}, EXECUTOR_MAX_WORKERS=1)
executor = Executor(app)

def is_daemon():
    return threading.Thread(target=int).daemon

def in_extra_worker():
    return executor.submit(is_daemon).result()

say(executor.submit(is_daemon).result(), executor.submit(in_extra_worker).result())
""")

    assert (done.stdout.split(), done.stderr) == ([is_daemon] * 2, "")

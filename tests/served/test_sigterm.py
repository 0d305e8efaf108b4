"""SIGTERM with `EXECUTOR_EXIT_ON_SIGTERM`: each server, run for real, loses no job."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import IO

import httpx
import pytest

from flask_executor.runners.sigterm import flush_open_files
from tests.served.servers import APPS, NOT_KEPT_ALIVE, start
from tests.served.test_exit import run
from tests.support import WAIT

HANDLED = {
    "waitress": "waitress --unix-socket SOCKET deployed_app:app",
    "waitress in a script": "deployed_app waitress SOCKET",
    "cheroot": "cheroot --bind SOCKET deployed_app:app",
    "flask run": "flask --app deployed_app run --host unix://SOCKET",
    "uvicorn": "uvicorn --uds SOCKET deployed_app:asgi_app",
    "uvicorn with a2wsgi": "uvicorn --uds SOCKET deployed_app:a2wsgi_app",
    "uvicorn, which makes the app late": ("uvicorn --uds SOCKET --factory late_app:make_asgi_app"),
    "uvicorn in a script": "deployed_app uvicorn SOCKET",
}
HANDLE_IT_THEMSELVES = {
    "gunicorn": "gunicorn -k gthread -b unix:SOCKET --no-control-socket deployed_app:app",
    "granian": "granian --interface wsgi --uds SOCKET deployed_app:app",
    "hypercorn": "hypercorn -b unix:SOCKET wsgi:deployed_app:app",
}


@pytest.fixture(autouse=True)
def _with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_EXECUTOR_EXIT_ON_SIGTERM", "true")
    monkeypatch.setenv("FLASK_EXECUTOR_MAX_WORKERS", "1")


@contextmanager
def deployed(command: str, folder: Path) -> Iterator[tuple[Popen[str], httpx.Client]]:
    """Run a server on a Unix socket until the block ends."""
    address = str(folder / "socket")
    transport = httpx.HTTPTransport(uds=address, limits=NOT_KEPT_ALIVE)
    with (
        start(command.replace("SOCKET", address), APPS) as process,
        httpx.Client(transport=transport, base_url="http://server", timeout=WAIT) as client,
    ):
        try:
            await_server(process, address)
            yield process, client
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def await_server(process: Popen[str], address: str) -> None:
    while process.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(address)
            return
        time.sleep(0.01)
    pytest.fail(f"the server did not start:\n{process.stderr.read()}")


def read_to_wait(stderr: IO[str]) -> str:
    """The line that says what the end of the process waits for."""
    return next((line for line in stderr if "to finish (" in line), "it did not wait")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "status"),
    [*((name, 143) for name in HANDLED), *((name, 0) for name in HANDLE_IT_THEMSELVES)],
)
def test_a_sigterm_finishes_all_jobs(
    server: str, status: int, journal: Path, pipe: IO[str], tmp_path: Path
) -> None:
    with deployed({**HANDLED, **HANDLE_IT_THEMSELVES}[server], tmp_path) as (process, client):
        client.post("/hold/first")
        client.post("/notes/note/11")
        process.send_signal(signal.SIGTERM)
        line = read_to_wait(process.stderr)
        pipe.write("go on\n")
        rest = process.stderr.read()
        process.wait(WAIT)

    assert "Waiting for 12 jobs to finish (11 note, 1 hold)" in line
    assert (process.returncode, "Traceback" in rest) == (status, False), rest
    notes = [f"note {n}" for n in range(11)]
    assert journal.read_text().splitlines() == ["first started", "first ended", *notes]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["waitress", "uvicorn", "uvicorn, which makes the app late"])
def test_a_second_sigterm_ends_a_server_at_once(server: str, journal: Path, tmp_path: Path) -> None:
    with deployed(HANDLED[server], tmp_path) as (process, client):
        client.post("/hold/first")
        process.send_signal(signal.SIGTERM)
        line = read_to_wait(process.stderr)
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT)

    assert "Waiting for 1 job to finish" in line
    assert process.returncode == -signal.SIGTERM
    assert journal.read_text() == "first started\n"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["gunicorn", "granian"])
def test_the_handler_of_a_server_stays(server: str, journal: Path, tmp_path: Path) -> None:
    with deployed(HANDLE_IT_THEMSELVES[server], tmp_path) as (_, client):
        handler = client.get("/sigterm").text

    assert server in handler or "set_sync_signals" in handler


KEY = "app.config.update(EXECUTOR_EXIT_ON_SIGTERM=True, LATE_EXECUTOR_EXIT_ON_SIGTERM=True)\n"


@pytest.mark.parametrize("timeout", ["None", "20"])
def test_a_script_finishes_the_jobs_of_all_executors(timeout: str) -> None:
    done = run(f"""{KEY}
app.config["EXECUTOR_SHUTDOWN_TIMEOUT"] = {timeout}
executor, late = Executor(app), Executor(app, name="late")
for n in range(100):
    executor.submit(say, n)
    late.submit(say, 100 + n)
os.kill(os.getpid(), signal.SIGTERM)
say("goes on")
""")

    assert (done.returncode, done.stderr) == (143, "")
    assert sorted(map(int, done.stdout.split())) == list(range(200))


def test_a_sigterm_lets_the_main_thread_wake_another_one_first() -> None:
    # As when a thread of a server that waits for requests is never woken again, and so never ends.
    done = run(
        KEY
        + """
import os, signal, threading
from functools import partial
from types import SimpleNamespace

executor = Executor(app)
condition = threading.Condition()
terminate = partial(os.kill, os.getpid(), signal.SIGTERM)
condition._waiters.append(SimpleNamespace(release=terminate))
with condition:
    condition.notify()
print(len(condition._waiters), "to be woken", flush=True)
while True:
    time.sleep(10)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (143, "0 to be woken\n", "")


def test_where_the_program_goes_on_all_is_written_and_the_status_is_that_of_sigterm(
    tmp_path: Path,
) -> None:
    done = run(f"""{KEY}
import atexit, logging.handlers
from werkzeug.local import LocalProxy

folder = {str(tmp_path)!r}
text, binary = open(folder + "/text", "w"), open(folder + "/binary", "wb")
full = open("/dev/full", "w")
unbound = LocalProxy(lambda: 1 / 0)
to_file = logging.FileHandler(folder + "/log", delay=True)
app.logger.handlers = [logging.handlers.MemoryHandler(100, target=to_file)]
atexit.register(print, "at exit", end="")

Executor(app)
try:
    os.kill(os.getpid(), signal.SIGTERM)
except SystemExit:
    app.logger.warning("goes on")
    text.write("text")
    binary.write(b"binary")
    full.write("lost")
    print("printed", end=", ")
""")

    assert (done.returncode, done.stdout, done.stderr) == (143, "printed, at exit", "")
    names = ("text", "binary", "log")
    assert [(tmp_path / name).read_text() for name in names] == ["text", "binary", "goes on\n"]


def test_open_files_are_flushed_before_the_process_ends(tmp_path: Path) -> None:
    with (
        (tmp_path / "text").open("w") as text,
        (tmp_path / "binary").open("wb") as binary,
        Path("/dev/full").open("wb") as full,
    ):
        text.write("text")
        binary.write(b"binary")
        full.write(b"lost")
        flush_open_files()
        written = [(tmp_path / name).read_text() for name in ("text", "binary")]
        full.raw.close()

    assert written == ["text", "binary"]


def test_a_sigterm_during_the_wait_at_the_end_does_not_end_the_wait() -> None:
    done = run(f"""{KEY}
from tests import inside

executor = Executor(app)

def wait_for_the_end():
    while not inside.is_closed(app):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)
    while signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        time.sleep(0.001)

executor.submit(wait_for_the_end)
executor.submit(say, "finished")
sys.exit(3)
""")

    assert (done.returncode, done.stdout, done.stderr) == (3, "finished\n", "")


AS_NUMBER_1 = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]


def can_be_number_1() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*AS_NUMBER_1, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_be_number_1(), reason="no new PID namespace can be made")
def test_a_second_sigterm_ends_a_process_with_the_number_1() -> None:
    done = run(
        f"""{KEY}
executor = Executor(app)
executor.submit(hang)
say(os.getpid())
main = threading.main_thread().ident

def terminate():
    signal.pthread_kill(main, signal.SIGTERM)
    while signal.getsignal(signal.SIGTERM).__class__.__name__ == "_FirstSigterm":
        time.sleep(0.001)
    signal.pthread_kill(main, signal.SIGTERM)

threading.Thread(target=terminate, daemon=True).start()
signal.pause()
""",
        AS_NUMBER_1,
    )

    assert (done.returncode, done.stdout, done.stderr) == (143, "1\n", "")


def test_a_forked_process_can_be_terminated_by_its_pool() -> None:
    done = run(f"""{KEY}
import multiprocessing

Executor(app)
context = multiprocessing.get_context("fork")
is_ready = context.Event()

def pause():
    is_ready.set()
    signal.pause()

process = context.Process(target=pause)
process.start()
is_ready.wait()
process.terminate()
process.join()
say(process.exitcode)
""")

    assert (done.returncode, done.stdout, done.stderr) == (0, "-15\n", "")


def test_a_forked_process_keeps_a_handler_that_the_program_has_set_later() -> None:
    done = run(f"""{KEY}
import multiprocessing

Executor(app)
replaced = signal.getsignal(signal.SIGTERM)
signal.signal(signal.SIGTERM, hang)

def check():
    say(signal.getsignal(signal.SIGTERM) is hang)

process = multiprocessing.get_context("fork").Process(target=check)
process.start()
process.join()
""")

    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_worker_processes_keep_the_default(
    monkeypatch: pytest.MonkeyPatch, start_method: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))
    done = run(f"""{KEY}
app.config.update(EXECUTOR_TYPE="process", EXECUTOR_MP_CONTEXT={start_method!r})
app.config["EXECUTOR_APP"] = "deployed_app:app"
executor = Executor(app)
say(executor.submit(signal.getsignal, signal.SIGTERM).result() == signal.SIG_DFL)
""")

    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_outside_the_main_thread_a_warning_points_at_the_caller() -> None:
    done = run(f"""{KEY}
def make():
    Executor(app)  # THIS LINE

thread = threading.Thread(target=make)
thread.start()
thread.join()
say(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
""")

    assert (done.returncode, done.stdout) == (0, "True\n")
    assert done.stderr.startswith("<string>:")
    assert "RuntimeWarning: EXECUTOR_EXIT_ON_SIGTERM has no effect" in done.stderr


@pytest.mark.parametrize(
    ("handler", "key"), [("signal.SIG_IGN", KEY), ("signal.SIG_DFL", ""), ("say", KEY)]
)
def test_a_handler_of_the_program_stays_and_without_the_key_the_default_stays(
    handler: str, key: str
) -> None:
    done = run(f"""{key}
signal.signal(signal.SIGTERM, {handler})
Executor(app)
threading.Thread(target=Executor(name="late").init_app, args=[app]).start()
say(signal.getsignal(signal.SIGTERM) == {handler})
say("flask_executor.runners.sigterm" in sys.modules)
""")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["True", str(bool(key))]

"""Worker processes: how they start, what they inherit, and how they end."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g, request

from flask_executor import (
    AppNotFound,
    Executor,
    JobExited,
    JobTimeout,
    NotPicklable,
    Retry,
    WorkerDied,
    current_job,
)
from flask_executor.backends.processes import ProcessPool
from flask_executor.signals import job_failed, job_retried
from tests import inside, remote_app
from tests.support import ROOT, WAIT, Door, MakeExecutor, app_log, errors_of

METHODS = multiprocessing.get_all_start_methods()

# The other threads of this process hold no lock that a forked child would need.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture
def processes(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, type="process", max_workers=1, mp_context="forkserver")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def of_method(app: Flask, executors: MakeExecutor, method: str) -> Executor:
    """An executor with one process of each start method."""
    return executors(app, type="process", max_workers=1, mp_context=method)


def wait_for_end(pid: int) -> None:
    """Wait until the process, no child of this one, is gone."""
    done = threading.Event()
    for _ in range(int(WAIT * 100)):
        try:
            # A zombie has ended, too: nobody has asked for its exit code yet.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        done.wait(0.01)
    raise AssertionError(f"process {pid} goes on")


# Start


def test_the_start_method_is_that_of_the_settings(of_method: Executor, method: str) -> None:
    process_class = of_method.submit(remote_app.process_class).result(WAIT)

    assert process_class.lower() == f"{method}process"


def test_the_start_methods_of_others_are_left_alone(app: Flask, executors: MakeExecutor) -> None:
    before = multiprocessing.get_start_method()

    executors(app, type="process", mp_context="spawn").submit(remote_app.pid).result(WAIT)

    assert multiprocessing.get_start_method() == before


def test_processes_are_started_when_they_are_needed(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="process", max_workers=3, mp_context="forkserver")

    pids = {executor.submit(remote_app.pid).result(WAIT) for _ in range(5)}

    assert len(pids) == 1
    assert [child.pid for child in multiprocessing.active_children()] == list(pids)


def test_a_forked_worker_inherits_nothing_of_the_request_that_starts_it(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="process", mp_context="fork", push_app_context=False)
    remote_app.variable.set("from the submitter")

    with app.test_request_context("/first"):
        g.user = "ada"
        seen = executor.submit(remote_app.contexts).result(WAIT)

    assert seen == {"app": False, "request": None, "g": None, "contextvars": "unset"}


def test_a_worker_does_not_start_workers_when_the_app_or_a_job_submits(
    of_method: Executor,
) -> None:
    *_, pids, threads = of_method.submit(remote_app.submit_more, 3).result(WAIT)

    assert len(set(pids)) == 1
    assert threads == 2, "the main one, and the one that watches for the end of the parent"


def test_a_job_in_a_worker_can_wait_for_all_that_it_has_submitted(of_method: Executor) -> None:
    assert of_method.submit(remote_app.drain_own_executor).result(WAIT) == 3


def test_an_app_that_submits_while_a_worker_loads_it_has_that_done_in_the_worker(
    executors: MakeExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eager_app.py").write_text(
        "import os\n"
        "from flask import Flask\n"
        "from flask_executor import Executor\n"
        "app = Flask(__name__)\n"
        "app.config.update(EXECUTOR_TYPE='process', EXECUTOR_MP_CONTEXT='spawn')\n"
        "executor = Executor(app)\n"
        "at_import = executor.submit(os.getpid) if 'WORKERS_ONLY' in os.environ else None\n"
        "def pids(): return at_import.result(), os.getpid()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import eager_app  # type: ignore[import-not-found]

    monkeypatch.setenv("WORKERS_ONLY", "1")
    at_import, in_job = eager_app.executor.submit(eager_app.pids).result(WAIT)
    eager_app.executor.shutdown()

    assert at_import == in_job != os.getpid()


# The app over there


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("tests.remote_app", "tests.remote_app"),
        ("tests.remote_app:app", "tests.remote_app"),
        ("tests.remote_app:create_app()", "made_by_a_factory"),
        ("tests.remote_app:create_app", "made_by_a_factory"),
    ],
)
def test_workers_load_the_app_that_the_settings_name(
    app: Flask, executors: MakeExecutor, path: str, name: str
) -> None:
    executor = executors(app, type="process", max_workers=1, mp_context="forkserver", app=path)

    names = [executor.submit(remote_app.app_name_and_id).result(WAIT) for _ in range(3)]

    assert {each for each, _ in names} == {name}
    assert len({identity for _, identity in names}) == 1, "it is loaded once"


def test_workers_find_the_app_as_a_global_of_its_module(of_method: Executor) -> None:
    own = remote_app.app
    with own.app_context():
        name = remote_app.executor.submit(remote_app.app_name).result(WAIT)
        remote_app.executor.shutdown()
        inside.remove(own)
        remote_app.executor.init_app(own)

    assert name == "tests.remote_app"


def test_an_app_that_workers_cannot_find_is_refused_at_the_first_submit(
    app: Flask, executors: MakeExecutor, method: str
) -> None:
    del app.config["EXECUTOR_APP"]
    executor = executors(app, type="process", mp_context=method)

    for _ in range(2):
        with pytest.raises(
            AppNotFound, match=r"'app': it is no global of the module 'app'; set EXECUTOR_APP to wh"
        ):
            executor.submit(remote_app.power, 3)
    assert executor.stats().submitted == 0
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("tests.no_such_module:app", "NoAppException"),
        ("tests.remote_app:nothing", "NoAppException"),
        ("tests.remote_app:fail()", "LookupError: ('on purpose'"),
        ("tests.remote_app:exit_at_once()", "SystemExit: 3"),
    ],
)
def test_an_app_that_cannot_be_loaded_fails_each_job_with_the_reason(
    app: Flask, executors: MakeExecutor, path: str, reason: str
) -> None:
    executor = executors(app, type="process", max_workers=1, mp_context="forkserver", app=path)

    errors = [executor.submit(remote_app.power, 3).exception(WAIT) for _ in range(2)]

    for error in errors:
        assert isinstance(error, AppNotFound)
        assert f"a worker could not load the app {path!r}: {reason[:10]}" in str(error)
        assert "see the setting EXECUTOR_APP" in str(error)
        assert "Traceback" in str(error.__cause__)


SCRIPT = """
import os, sys
from flask import Flask, current_app
from flask_executor import AppNotFound, Executor, NotPicklable

def job():
    return current_app.name

app = Flask(__name__)
app.config.update(EXECUTOR_TYPE="process", EXECUTOR_MP_CONTEXT=sys.argv[1])
executor = Executor(app)

if __name__ == "__main__":
    for call in [lambda: executor.submit(job), lambda: executor.submit(os.getpid)]:
        try:
            print(call().result(60))
        except (AppNotFound, NotPicklable) as error:
            print(type(error).__name__, error)
"""


def test_a_script_is_told_that_its_functions_and_app_cannot_be_found_but_with_fork(
    method: str, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    done = run_script(tmp_path, method)

    job, pid = done.stdout.splitlines()
    if method == "fork":
        assert job == "script"
        assert pid.isdigit()
    else:
        assert job.startswith("NotPicklable the function of the job 'job' cannot be sent to")
        assert "it belongs to the module __main__, which is another one in a worker" in job
        assert pid.startswith("AppNotFound workers cannot find the app 'script': it belongs to the")
        assert "set EXECUTOR_APP to where it is" in pid
    assert errors_of(done) == ""


def run_script(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "script.py", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT * 2,
        check=True,
    )


# Death


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_worker_that_dies_fails_its_job_and_what_waits_runs_once_in_another(
    of_method: Executor, door: Door, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "lines"
    if how == "exit":
        died = of_method.submit(remote_app.die_at, door.address)
    else:
        died = of_method.submit(remote_app.wait_at, door.address)
    waiting = [of_method.submit(remote_app.note, str(path), n) for n in range(5)]
    door.await_arrival()
    [worker] = multiprocessing.active_children()

    door.open() if how == "exit" else worker.kill()

    error = died.exception(WAIT)
    assert isinstance(error, WorkerDied)
    expected = "exit code 9" if how == "exit" else "killed by SIGKILL"
    assert str(error) == (
        f"the worker process {worker.pid} died ({expected}) while it ran the job; other jobs go on"
    )
    pids = {future.result(WAIT) for future in waiting}
    assert len(pids) == 1
    assert worker.pid not in pids
    assert path.read_text().split() == ["0", "1", "2", "3", "4"]
    of_method.drain(WAIT)
    assert (of_method.stats().failed, of_method.stats().succeeded) == (1, 5)


def test_the_neighbours_of_a_worker_that_dies_survive(
    app: Flask, executors: MakeExecutor, door: Door, method: str
) -> None:
    executor = executors(app, type="process", max_workers=2, mp_context=method)
    neighbour = executor.submit(remote_app.wait_at, door.address)
    door.await_arrival()

    died = executor.submit(remote_app.die)

    assert isinstance(died.exception(WAIT), WorkerDied)
    assert executor.submit(remote_app.power, 3).result(WAIT) == 9
    assert neighbour.state == "running"
    door.open()
    assert neighbour.result(WAIT) != os.getpid()


def test_a_worker_that_died_while_it_was_idle_costs_no_job(app: Flask, of_method: Executor) -> None:
    of_method.submit(remote_app.pid).result(WAIT)
    of_method.drain(WAIT)
    [worker] = inside.own_pool(app)._workers
    worker.process.kill()
    assert worker.connection.poll(WAIT), "it is closed"

    assert of_method.submit(remote_app.pid).result(WAIT) != worker.process.pid
    assert of_method.stats().failed == 0


def test_many_deaths_among_many_jobs_lose_and_double_none(
    app: Flask, executors: MakeExecutor, tmp_path: Path
) -> None:
    executor = executors(app, type="process", max_workers=2, mp_context="forkserver")
    path = tmp_path / "lines"

    futures = [
        executor.submit(remote_app.die)
        if n % 10 == 5
        else executor.submit(remote_app.note, str(path), n)
        for n in range(60)
    ]
    executor.drain(WAIT * 2)

    assert Counter(future.state for future in futures) == {"succeeded": 54, "failed": 6}
    assert {type(future.exception()) for future in futures} == {type(None), WorkerDied}
    assert sorted(map(int, path.read_text().split())) == [n for n in range(60) if n % 10 != 5]


def test_a_worker_that_dies_as_it_starts_fails_the_job_that_it_was_for(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(
        app, type="process", max_workers=1, mp_context="forkserver", app="tests.remote_app:die()"
    )

    errors = [executor.submit(remote_app.power, 3).exception(WAIT) for _ in range(2)]

    for error in errors:
        assert isinstance(error, WorkerDied)
        assert "(exit code 9) before it could run the job" in str(error)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_worker_that_leaves_processes_behind_is_seen_to_have_died(of_method: Executor) -> None:
    error = of_method.submit(remote_app.die_with_a_child_left).exception(WAIT)

    assert isinstance(error, WorkerDied)
    assert "(exit code 9) while it ran the job" in str(error)


def test_a_worker_killed_by_a_signal_without_a_name_is_told_by_its_number(
    processes: Executor, door: Door
) -> None:
    died = processes.submit(remote_app.wait_at, door.address)
    door.await_arrival()
    [worker] = multiprocessing.active_children()

    os.kill(worker.pid, signal.SIGRTMIN + 3)

    assert f"(killed by signal {signal.SIGRTMIN + 3})" in str(died.exception(WAIT))


def test_what_cannot_be_read_here_fails_its_job_alone(processes: Executor) -> None:
    error = processes.submit(remote_app.give_back_a_booby).exception(WAIT)

    assert isinstance(error, JobExited)
    assert processes.submit(remote_app.power, 3).result(WAIT) == 9


def test_workers_that_have_died_leave_no_files_open(
    app: Flask, executors: MakeExecutor, method: str
) -> None:
    fine = executors(app, type="process", max_workers=1, mp_context=method)
    broken = executors(
        app,
        name="two",
        type="process",
        max_workers=1,
        mp_context=method,
        app="tests.remote_app:die()",
    )

    def die(times: int) -> None:
        for _ in range(times):
            assert isinstance(fine.submit(remote_app.die).exception(WAIT), WorkerDied)
            assert isinstance(broken.submit(remote_app.power, 3).exception(WAIT), WorkerDied)
        gc.collect()

    die(2)
    before = open_files()
    die(8)
    wait_until_fewer_are_open(before, 8)


SIZE = 8 << 20


@pytest.mark.parametrize(
    ("job", "timeout"),
    [
        (remote_app.die, None),
        (remote_app.hang, 0.3),
        (remote_app.fail_unpicklably, None),
        (remote_app.lock, None),
        (remote_app.give_back_a_booby, None),
        (remote_app.exit_at_once, None),
    ],
)
def test_an_exception_that_is_kept_holds_neither_arguments_nor_files(
    of_method: Executor, no_gc: None, job: Any, timeout: float | None
) -> None:
    def fail() -> BaseException:
        error = of_method.options(timeout=timeout).submit(job, b"x" * SIZE).exception(WAIT)
        assert error is not None
        return error

    kept = [fail()]
    files = open_files()

    with traced() as memory:
        kept += [fail() for _ in range(5)]

        # Threads of the pool may be about to let go of theirs.
        wait_until(lambda: memory() < SIZE)
    wait_until_fewer_are_open(files, 5)
    assert [error.__traceback__ for error in kept] == [None] * 6


def test_a_worker_that_cannot_start_leaves_no_arguments_and_files(
    app: Flask, executors: MakeExecutor, method: str, no_gc: None
) -> None:
    executor = executors(
        app, type="process", max_workers=1, mp_context=method, app="tests.remote_app:die()"
    )
    kept = [executor.submit(remote_app.power, 3).exception(WAIT)]
    files = open_files()

    with traced() as memory:
        kept += [executor.submit(remote_app.power, b"x" * SIZE).exception(WAIT) for _ in range(5)]

        wait_until(lambda: memory() < SIZE)
    wait_until_fewer_are_open(files, 5)
    assert {type(error) for error in kept} == {WorkerDied}


def test_a_job_that_the_pool_refuses_keeps_nothing_of_its_caller(
    app: Flask, executors: MakeExecutor, no_gc: None
) -> None:
    executor = executors(app, type="tests.remote_app:Refusing")
    parcel = Parcel()
    reference = weakref.ref(parcel)

    def submit(_: Parcel) -> BaseException | None:
        return executor.submit(remote_app.power, 3).exception(WAIT)

    error = submit(parcel)
    del parcel

    assert isinstance(error, LookupError)
    assert "in submit" in str(error.__cause__)
    assert reference() is None


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Gives what tells how many bytes are there that were taken in the block."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def open_files() -> list[str]:
    """What each file descriptor of this process stands for."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the folder itself, and what another thread closes
            names.append(f"{descriptor.name} {descriptor.readlink()}")
    return sorted(names)


def wait_until_fewer_are_open(before: list[str], deaths: int) -> None:
    """Wait until that many processes have not left a file each.

    Some files are of what other tests have left, and threads may be about to let go of theirs.
    """
    for _ in range(int(WAIT * 100)):
        after = open_files()
        if len(after) < len(before) + deaths:
            return
        time.sleep(0.01)
    raise AssertionError((before, after))


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(int(WAIT * 100)):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be so")


# Time


def test_a_job_out_of_time_is_killed_and_its_neighbour_survives(
    app: Flask, executors: MakeExecutor, door: Door, method: str
) -> None:
    executor = executors(app, type="process", max_workers=2, mp_context=method)
    neighbour = executor.submit(remote_app.wait_at, door.address)
    door.await_arrival()

    hung = executor.options(timeout=0.1).submit(remote_app.hang)

    assert isinstance(hung.exception(WAIT), JobTimeout)
    assert executor.submit(remote_app.power, 3).result(WAIT) == 9
    door.open()
    assert neighbour.result(WAIT) != os.getpid()
    executor.drain(WAIT)
    assert (executor.stats().failed, executor.stats().succeeded) == (1, 2)


def test_the_time_of_a_job_does_not_begin_before_its_worker_is_ready(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(
        app,
        type="process",
        max_workers=1,
        mp_context="spawn",  # takes longer than that to start and to load the app
        app="tests.remote_app:load_slowly()",
    )

    assert executor.options(timeout=1).submit(remote_app.power, 3).result(WAIT) == 9


def test_a_decorated_job_has_the_time_it_was_decorated_with_unless_told_otherwise(
    app: Flask,
) -> None:
    executor = Executor()

    @executor.job(timeout=0.05)
    async def hang() -> None:
        await remote_app.hang_later()

    @executor.job(timeout=WAIT)
    async def hang_longer() -> None:
        await remote_app.hang_later()

    executor.init_app(app)
    short = [hang.submit(), executor.submit(hang), executor.options(key="a").submit(hang)]
    short += [executor.options(timeout=0.05).submit(hang_longer)]

    assert {type(future.exception(WAIT)) for future in short} == {JobTimeout}
    assert hang.timeout == 0.05
    executor.shutdown()


# End


def test_the_workers_end_with_the_executor(of_method: Executor) -> None:
    worker = of_method.submit(remote_app.pid).result(WAIT)
    alive = [child.pid for child in multiprocessing.active_children()]

    of_method.shutdown()

    assert alive == [worker]
    assert multiprocessing.active_children() == []


def test_a_worker_is_replaced_after_so_many_jobs(
    app: Flask, executors: MakeExecutor, method: str
) -> None:
    executor = executors(
        app, type="process", max_workers=1, max_tasks_per_child=2, mp_context=method
    )

    pids = [executor.submit(remote_app.pid).result(WAIT) for _ in range(5)]

    assert len(set(pids)) == 3
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


@pytest.mark.parametrize("is_shut_down", [True, False])
def test_jobs_that_wait_get_new_processes_although_nobody_keeps_their_executor(
    door: Door, is_shut_down: bool
) -> None:
    app = Flask("app")
    app.config.update(
        EXECUTOR_TYPE="process",
        EXECUTOR_APP="tests.remote_app:app",
        EXECUTOR_MAX_WORKERS=1,
        EXECUTOR_MAX_TASKS_PER_CHILD=1,
        EXECUTOR_MP_CONTEXT="forkserver",
    )
    executor = Executor(app)
    futures = [executor.submit(remote_app.wait_at, door.address) for _ in range(3)]
    door.await_arrival()
    if is_shut_down:
        executor.shutdown(wait=False)
    kept = weakref.ref(app)
    del app, executor
    gc.collect()

    door.let_through()
    for _ in range(2):
        door.await_arrival()
        door.let_through()

    assert len({future.result(WAIT) for future in futures}) == 3
    del futures
    wait_until(lambda: gc.collect() >= 0 and kept() is None)


def write_script(folder: Path, body: str) -> None:
    """Write a program whose executor has two processes, of the start method it is told."""
    prelude = f"""
        import os, signal, sys, threading
        sys.path.insert(0, {str(ROOT)!r})
        from flask import Flask
        from flask_executor import Executor
        from tests import inside, remote_app

        app = Flask("app")
        app.config.update(
            EXECUTOR_TYPE="process",
            EXECUTOR_MP_CONTEXT=sys.argv[1],
            EXECUTOR_MAX_WORKERS=2,
            EXECUTOR_APP="tests.remote_app:app",
        )
        executor = Executor(app)
    """
    guarded = textwrap.indent(textwrap.dedent(body), "    ")
    (folder / "script.py").write_text(
        f"{textwrap.dedent(prelude)}\nif __name__ == '__main__':\n{guarded}"
    )


def test_many_workers_that_come_and_go_cost_no_job(
    app: Flask, executors: MakeExecutor, method: str
) -> None:
    executor = executors(
        app, type="process", max_workers=2, max_tasks_per_child=1, mp_context=method
    )
    count = 100 if method == "fork" else 20

    assert list(executor.map(remote_app.power, range(count))) == [n * n for n in range(count)]


def test_an_exit_that_is_interrupted_twice_kills_the_running_job(tmp_path: Path) -> None:
    write_script(
        tmp_path,
        """
        list(executor.map(remote_app.power, range(4)))
        executor.submit(remote_app.tell_and_hang, sys.argv[2])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        open(sys.argv[2]).read()

        def interrupt():
            while not inside.is_closed(app):
                pass
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        raise KeyboardInterrupt
        """,
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    done = subprocess.run(
        [sys.executable, "script.py", "forkserver", str(pipe)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT * 2,
        check=False,
    )

    assert done.returncode == -signal.SIGINT
    assert done.stderr.count("Traceback") == 1  # of the first one
    assert "Shutdown interrupted: 1 running job killed (1 tell_and_hang)" in done.stderr


def test_workers_end_when_their_parent_is_killed(method: str, door: Door, tmp_path: Path) -> None:
    write_script(
        tmp_path,
        """
        print(executor.submit(remote_app.pid).result(), flush=True)
        executor.submit(remote_app.tell_and_hang, sys.argv[2])
        threading.Event().wait()
        """,
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    parent = subprocess.Popen(
        [sys.executable, "script.py", method, str(pipe)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with parent:
        hung = int(pipe.read_text())
        idle = int(parent.stdout.readline())  # type: ignore[union-attr]
        parent.kill()

    for worker in (idle, hung):
        wait_for_end(worker)


def test_an_interrupt_of_the_whole_group_lets_running_jobs_end(method: str, tmp_path: Path) -> None:
    write_script(
        tmp_path,
        """
        # As in a terminal, also where the tests run in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        executor.submit(remote_app.tell_and_go_on, sys.argv[2], sys.argv[3])
        open(sys.argv[2]).read()
        executor.submit(remote_app.tell_and_go_on, sys.argv[2], sys.argv[3], "waited")
        open(sys.argv[2]).read()
        executor.submit(remote_app.note, sys.argv[3], "waited")  # for a worker
        os.killpg(os.getpgrp(), signal.SIGINT)
        signal.pause()
        """,
    )
    pipe, lines = tmp_path / "pipe", tmp_path / "lines"
    os.mkfifo(pipe)

    done = subprocess.run(
        [sys.executable, "script.py", method, str(pipe), str(lines)],
        cwd=tmp_path,
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=WAIT * 2,
        check=False,
    )

    assert sorted(lines.read_text().splitlines()) == ["waited", "waited", "went on"]
    assert done.stderr.count("KeyboardInterrupt") == 1, done.stderr


def test_past_the_timeout_a_shutdown_kills_what_runs_and_says_so(
    app: Flask, executors: MakeExecutor, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    executor = executors(
        app, type="process", max_workers=1, shutdown_timeout=0.01, mp_context="forkserver"
    )
    running = executor.submit(remote_app.wait_at, door.address, "result")
    door.await_arrival()
    waiting = [executor.submit(remote_app.power, n) for n in range(3)]

    executor.shutdown()

    assert isinstance(running.exception(0), WorkerDied)
    assert all(future.cancelled() for future in waiting)
    [line] = [record.getMessage() for record in app_log(caplog)]
    assert line == (
        "Shut down after 0.01 s: 3 pending jobs cancelled (3 power), "
        "1 running job killed (1 wait_at)"
    )


def test_a_callback_of_a_process_job_cannot_wait_for_itself(
    processes: Executor, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    future = processes.submit(remote_app.wait_at, door.address, 9)
    future.add_done_callback(lambda _: processes.drain())
    door.await_arrival()
    door.open()

    assert future.result(WAIT) == 9
    processes.drain(WAIT)
    assert processes.submit(remote_app.power, 2).result(WAIT) == 4
    assert "cannot drain its own executor" in caplog.text


class Parcel:
    """Something that travels."""


def test_a_process_job_that_is_over_holds_nothing_that_only_it_needed(
    app: Flask, processes: Executor, door: Door
) -> None:
    running = processes.submit(remote_app.wait_at, door.address)
    with app.test_request_context("/static/path"):
        parcel = g.value = Parcel()
        references = [weakref.ref(each) for each in (parcel, g._get_current_object())]
        references.append(weakref.ref(request._get_current_object()))
        future = processes.submit(remote_app.give_back, parcel)
    references.append(weakref.ref(inside.context_of(future)))
    del parcel
    door.await_arrival()
    door.open()
    processes.drain(WAIT)
    gc.collect()

    assert [reference() for reference in references] == [None] * 4
    assert isinstance(future.result()[0][0], Parcel)
    assert running.result() != os.getpid()


def test_an_argument_is_pickled_once_and_in_the_caller(processes: Executor) -> None:
    counting = Counting()

    processes.submit(remote_app.give_back, counting).result(WAIT)

    assert counting.pickled_by == [threading.get_ident()]


class Counting:
    """Notes which threads pickle it."""

    def __init__(self) -> None:
        self.pickled_by: list[int] = []

    def __reduce__(self) -> Any:
        self.pickled_by.append(threading.get_ident())
        return Counting, ()


def test_a_key_that_cannot_be_pickled_is_refused(processes: Executor) -> None:
    with pytest.raises(NotPicklable, match="the key of the job 'power', a value of"):
        processes.submit_stored(threading.Lock(), remote_app.power, 2)


def test_a_task_that_exits_ends_its_own_coroutine_job_and_not_the_next_one(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="process", max_workers=1, mp_context="forkserver")

    exited = executor.submit(remote_app.end_a_task_with_exit)
    following = [executor.submit(asyncio.sleep, 0.01, n) for n in range(2)]

    assert isinstance(exited.exception(WAIT), JobExited)
    assert [future.result(WAIT) for future in following] == [0, 1]


# Functions that a worker would not find


def timed(fn: Any) -> Any:
    def measured(*args: Any) -> Any:
        return fn(*args)

    return measured


@timed
def lost_name(n: int) -> int:
    return n


def other_name(n: int) -> int:
    return 2 * n


named = remote_app.executor.job(other_name)


def test_a_function_that_is_not_found_by_its_name_says_why(
    processes: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = other_name
    monkeypatch.setitem(globals(), "other_name", lambda n: n)

    with pytest.raises(
        NotPicklable, match=r"'measured' is defined inside a function .* needs funct"
    ):
        processes.submit(lost_name, 1)
    with pytest.raises(NotPicklable, match=r"another object under the name of the func"):
        processes.submit(replaced, 1)


def test_a_job_may_have_another_name_than_its_function(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="process", max_workers=1)

    assert executor.submit(named, 4).result(WAIT) == 8


def test_current_job_as_an_argument_says_to_pass_values(processes: Executor) -> None:
    with pytest.raises(NotPicklable, match="is a proxy, as request, "):
        processes.submit(remote_app.power, current_job)


def test_a_proxy_as_an_argument_says_to_pass_values(app: Flask, processes: Executor) -> None:
    with app.test_request_context(), pytest.raises(NotPicklable, match="is a proxy, as request, "):
        processes.submit(remote_app.power, request)


def test_the_last_report_of_a_process_that_died_is_kept(processes: Executor) -> None:
    future = processes.submit(remote_app.report_and_die)

    assert isinstance(future.exception(WAIT), WorkerDied)
    assert future.progress is not None
    assert (future.progress.done, future.progress.total) == (3, 10)


@pytest.mark.parametrize(("how", "error"), [("die", WorkerDied), ("hang", JobTimeout)])
def test_the_job_of_a_process_that_was_ended_is_retried_in_another(
    processes: Executor, tmp_path: Path, how: str, error: type[Exception]
) -> None:
    path = tmp_path / "lines"
    options = processes.options(
        timeout=1 if how == "hang" else None, retry=Retry(2, on=error, delay=0)
    )

    future = options.submit(remote_app.fail_at_first, str(path), 1, how)

    assert future.result(WAIT) == 2
    assert path.read_text() == "1\n2\n"


def test_the_death_of_a_process_says_nothing_of_another_attempt(
    app: Flask, processes: Executor, tmp_path: Path
) -> None:
    texts = []

    def note(_: Flask, *, exception: BaseException, **__: object) -> None:
        texts.append(str(exception))

    with job_retried.connected_to(note, app), job_failed.connected_to(note, app):
        retried = processes.options(retry=Retry(2, on=WorkerDied, delay=0))
        retried.submit(remote_app.fail_at_first, str(tmp_path / "a"), 2, "die").exception(WAIT)
        processes.submit(remote_app.fail_at_first, str(tmp_path / "b"), 1, "die").exception(WAIT)

    assert len(texts) == 3
    assert [text for text in texts if "again" in text] == []


def test_the_death_of_a_process_is_not_retried_if_it_is_not_meant(
    processes: Executor, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    options = processes.options(retry=Retry(2, on=LookupError, delay=0))

    future = options.submit(remote_app.fail_at_first, str(path), 1, "die")

    assert isinstance(future.exception(WAIT), WorkerDied)
    assert path.read_text() == "1\n"


def test_an_overdue_job_that_cannot_be_ended_is_not_retried(
    app: Flask, executors: MakeExecutor, tmp_path: Path, door: Door
) -> None:
    executor = executors(app, type="tests.remote_app:loky", max_workers=1)
    options = executor.options(timeout=0.1, retry=Retry(2, delay=0))

    future = options.submit(remote_app.wait_at, door.address)

    assert isinstance(future.exception(WAIT), JobTimeout)
    door.await_arrival()
    door.open()
    executor.drain(WAIT)
    assert future.job.attempt == 1


# The end


@pytest.mark.parametrize("is_late", [False, True])
def test_a_process_that_starts_while_all_are_killed_is_killed_too(is_late: bool) -> None:
    def prepare() -> Callable[[], object]:
        pool.kill_all()  # just before the process starts
        return int

    pool = ProcessPool(1, None, None, prepare, "pool")
    if is_late:
        pool.kill_all()

    with pytest.raises(WorkerDied, match=r"before (it|one) could run the job"):
        pool.submit(time.sleep, 1000).result(WAIT)

    pool.shutdown()

"""Each message that docs/mistakes.md lists is one that the mistake in its row leads to."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from flask import Flask, Response, current_app, g, request, stream_with_context, url_for
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_executor import Executor, current_job, job_succeeded
from flask_executor.board import board
from flask_executor.cli import commands
from flask_executor.metrics import instrument
from flask_executor.testing import failing_jobs_raise, recorded_jobs
from tests import remote_app
from tests.served.terminals import run_in_terminal
from tests.support import ROOT, WAIT, Gate, MakeExecutor, at_once

# The message of a row, and the class of the exception if the second column begins with one.
ROW = re.compile(r"^\| `(.+?)` \|(?: `(\w+)`:)?", re.MULTILINE)
CLASSES = dict(ROW.findall((ROOT / "docs/mistakes.md").read_text()))
MESSAGES = list(CLASSES)

FILE = "sqlite:///jobs.db"  # It is not opened.
NO_FILE = "sqlite:////dev/null/jobs.db"

Mistake = Callable[[Flask, MakeExecutor], object]


def numbers() -> Any:
    yield 1


async def numbers_async() -> Any:
    yield 1


def double(number: int) -> int:
    return 2 * number


async def double_async(number: int) -> int:
    return 2 * number


def fail() -> None:
    raise ValueError("on purpose")


async def wait_for(future: Any) -> Any:
    return await asyncio.wait([future])


def decorator(fn: Callable[[], int]) -> Callable[[], int]:
    def call() -> int:
        return fn()

    return call


@decorator
def hidden() -> int:
    return 1


class Wrong:
    executor = Executor()

    @classmethod
    @executor.job
    def kind(cls) -> str:
        return cls.__name__


def in_view(app: Flask, view: Callable[[], Any], **options: Any) -> None:
    """Have *view* answer a request; its errors are raised."""
    app.add_url_rule("/", view_func=view, methods=["GET", "POST"])
    app.test_client().open("/", **options)


def raised_by(job: Callable[[], Any]) -> Mistake:
    return lambda app, make: make(app, max_workers=2).submit(job).result(WAIT)


# When a job is submitted


def two_apps(_: Flask, make: MakeExecutor) -> None:
    make(Flask("shop"), Flask("admin")).submit(double, 1)


def another_app(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    with Flask("admin").app_context():
        executor.submit(double, 1)


def in_two_processes(make: MakeExecutor, job: Callable[[], Any], *, is_lost: bool = False) -> None:
    """Ask for the result of *job* of another executor, which shares a database with the first."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/jobs.db"
        other, here = (make(Flask("shop"), store=url, shutdown_timeout=0) for _ in range(2))
        future = other.submit_stored("key", job)
        if is_lost:
            other.shutdown()
        else:
            future.exception(WAIT)
        try:
            here.futures.result("key", WAIT)
        finally:
            for each in (here, other):
                each.shutdown()


def taken_key(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    executor.submit_stored("key", double, 1)
    executor.submit_stored("key", double, 1)


def after_response_in_a_job(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    job = executor.job(after="response")(double)
    in_view(app, lambda: str(executor.submit(lambda: job.submit(1)).result(WAIT)))


def after_response_of_an_ended_request(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    with app.test_request_context():
        kept = copy_context()
    kept.run(executor.options(after="response").submit, double, 1)


def result_before_the_response(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    in_view(app, lambda: str(executor.options(after="response").submit(double, 1).result()))


def app_of_a_function(app: Flask, make: MakeExecutor) -> None:
    make(app, type="process", app=None).submit(double, 1)


def full_queue(app: Flask, make: MakeExecutor) -> None:
    executor, gate = make(app, max_workers=1, max_pending=1), Gate()
    gate.occupy(executor)
    try:
        executor.submit(double, 1)
        executor.submit(double, 1)
    finally:
        gate.open()


def shut_down(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    executor.shutdown()
    executor.submit(double, 1)


def shut_down_without_database(app: Flask, make: MakeExecutor) -> None:
    executor = make(app, store=NO_FILE)
    executor.submit_stored("key", double, 1)
    executor.shutdown()


def with_block(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)

    def view() -> str:
        with executor:
            return ""

    in_view(app, view)


def pool_opened_on_a_loop(app: Flask, make: MakeExecutor) -> None:
    executor = make(app, type="tests.remote_app:threads_untold", max_workers=1)

    async def view() -> str:
        executor.submit(double, 1)
        return ""

    in_view(app, view)


def result_on_a_loop(app: Flask, make: MakeExecutor) -> None:
    executor, gate = make(app), Gate()

    async def view() -> str:
        future = executor.submit(gate)
        asyncio.get_running_loop().call_soon(gate.open)
        with suppress(TimeoutError):
            future.result(0.01)
        gate.open()
        return ""

    in_view(app, view)


def plain_group_on_a_loop(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)

    async def view() -> str:
        with executor.group() as group:
            group.options(delay=0.05).submit(double, 1)
        return ""

    in_view(app, view)


def slow_group(app: Flask, make: MakeExecutor) -> None:
    with make(app).group(timeout=0.01) as group:
        group.options(delay=1000).submit(double, 1)


# When the app starts


def misspelt_key(app: Flask, make: MakeExecutor) -> None:
    make(app, max_worker=1)


def late_key(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    app.config["EXECUTOR_TYPE"] = "inline"
    executor.submit(double, 1)


def unnamed_key(app: Flask, make: MakeExecutor) -> None:
    app.config["EXECUTOR_TYPE"] = "inline"
    make(app, name="mail").submit(double, 1)


def without_sqlalchemy(app: Flask, make: MakeExecutor) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sqlalchemy", None)  # as if it were not installed
        make(app, store=FILE)


def twice(app: Flask, make: MakeExecutor) -> None:
    make(app).init_app(app)


def made_in_a_view(app: Flask, make: MakeExecutor) -> None:
    def view() -> str:
        make(Flask("other"))
        return ""

    in_view(app, view)


def made_in_a_thread(app: Flask, make: MakeExecutor) -> None:
    at_once(lambda: make(app, exit_on_sigterm=True))


# In the job


def body_after_the_request(app: Flask, make: MakeExecutor) -> None:
    executor, gate, futures = make(app), Gate(), []

    def job() -> str:
        gate()
        return request.form["name"]

    def view() -> str:
        futures.append(executor.submit(job))
        return ""

    in_view(app, view, data={"name": "ada"})
    gate.open()
    futures[0].result(WAIT)


def upload_after_the_request(app: Flask, make: MakeExecutor) -> None:
    executor, gate, futures = make(app), Gate(), []

    def job(file: Any) -> bytes:
        gate()
        return bytes(file.read())

    def view() -> str:
        futures.append(executor.submit(job, request.files["file"]))
        return ""

    in_view(app, view, data={"file": (BytesIO(b"hello"), "hello.txt")})
    gate.open()
    futures[0].result(WAIT)


def read_g() -> str:
    return str(g.user)


def g_in_another_process(app: Flask, make: MakeExecutor) -> None:
    make(app, type="process", max_workers=1).submit(read_g).result(WAIT)


def private_name_of_g(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)

    def view() -> str:
        g._tenant = "north"
        return str(executor.submit(lambda: g._tenant).result(WAIT))

    in_view(app, view)


def in_a_thread_of_its_own() -> str:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: current_app.name).result(WAIT)


def model_object_of_an_ended_session(app: Flask, make: MakeExecutor) -> None:
    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)

    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(order := Order(id=7))
        session.commit()
    engine.dispose()
    make(app).submit(lambda: order.id).result(WAIT)


def out_of_time(app: Flask, make: MakeExecutor) -> None:
    gate = Gate()
    try:
        make(app).options(timeout=0.01).submit(gate).result(WAIT)
    finally:
        gate.open()


def dead_worker(app: Flask, make: MakeExecutor) -> None:
    make(app, type="process", max_workers=1).submit(remote_app.die).result(WAIT)


def script_without_a_guard(*_: object) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(
            "from flask import Flask\n"
            "from flask_executor import Executor\n"
            "app = Flask(__name__)\n"
            "app.config.update(EXECUTOR_TYPE='process', EXECUTOR_MP_CONTEXT='spawn')\n"
            "executor = Executor(app)\n"
        )
        Path(folder, "run.py").write_text(
            "from shop import executor\nexecutor.submit(abs, 1).result()\n"
        )
        environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
        command = [sys.executable, "run.py"]
        run = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
    assert "WorkerDied" in run.stderr
    raise Told(run.stderr.partition("RuntimeError: ")[2])


def circle(app: Flask, make: MakeExecutor) -> None:
    executor, futures, gate = make(app, max_workers=2), [], Gate()

    def job(number: int) -> object:
        gate()
        return futures[1 - number].result()

    futures += [executor.submit(job, number) for number in (0, 1)]
    gate.open()
    for future in futures:
        future.result(WAIT)


def drained_in_a_job(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    executor.submit(executor.drain).result(WAIT)


async def returned_task() -> Any:
    return asyncio.create_task(double_async(1))


# In a view


def shared_by_two_loops(*_: object) -> None:
    opened = asyncio.Event()

    async def view() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(opened.wait(), 0.01)

    for _request in range(2):
        asyncio.run(view())  # as stock Flask does


def asked_too_early(app: Flask, make: MakeExecutor) -> None:
    executor, gate = make(app), Gate()

    async def ask() -> None:
        future = executor.submit_async(gate)
        try:
            future.result()
        finally:
            gate.open()

    asyncio.run(ask())


def own_loop_blocked(app: Flask, make: MakeExecutor) -> None:
    executor = make(app, async_views=True)

    async def view() -> str:
        return str(executor.submit(double_async, 1).result())

    in_view(app, view)


def loop_blocked_that_a_teardown_needs(app: Flask, make: MakeExecutor) -> None:
    executor = make(app, async_views=True)

    @app.teardown_appcontext
    async def close(_: BaseException | None) -> None:
        pass

    async def view() -> str:
        return str(executor.submit(double, 1).result())

    in_view(app, view)


def drained_on_own_loop(app: Flask, make: MakeExecutor) -> None:
    executor = make(app, async_views=True)

    async def view() -> str:
        executor.drain()
        return ""

    in_view(app, view)


def shut_down_in_a_view(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)

    def view() -> str:
        executor.shutdown()
        return ""

    in_view(app, view)


def slow_map(app: Flask, make: MakeExecutor) -> None:
    gate = Gate()
    try:
        list(make(app).map(gate, [1], timeout=0.01))
    finally:
        gate.open()


def forgotten_await(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)

    async def view() -> Any:
        return executor.submit_async(double, 1)

    in_view(app, view)


def listener_of_a_commit(app: Flask, make: MakeExecutor) -> None:
    from sqlalchemy import create_engine, event
    from sqlalchemy.orm import Session

    executor = make(app)
    with Session(create_engine("sqlite://")) as session:
        event.listen(
            session, "after_commit", lambda _: executor.options(after=session).submit(double, 1)
        )
        session.begin()
        session.commit()


def slow_result(app: Flask, make: MakeExecutor) -> None:
    gate = Gate()
    try:
        make(app).submit(gate).result(0.01)
    finally:
        gate.open()


# In the log


def forgotten_commit(app: Flask, executors: MakeExecutor) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    with Session(create_engine("sqlite://")) as session:
        executors(app).options(after=session).submit(double, 1)


def job_of_a_stream(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)

    @app.get("/")
    def view() -> Response:
        def lines() -> Iterator[str]:
            executor.options(after="response").submit(double, 1)
            yield "a line"

        return Response(stream_with_context(lines()))

    assert app.test_client().get("/").text == "a line"


def failing_callback(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    executor.add_default_done_callback(lambda _: fail())
    executor.submit(double, 1)
    executor.drain(WAIT)


def failing_receiver(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    with job_succeeded.connected_to(lambda _, **__: fail(), app):
        executor.submit(double, 1)
        executor.drain(WAIT)


def failing_teardown(app: Flask, make: MakeExecutor) -> None:
    app.teardown_appcontext(lambda _: fail())
    executor = make(app)
    executor.submit(double, 1)
    executor.drain(WAIT)


def held_loop(app: Flask, make: MakeExecutor) -> None:
    is_told = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            is_told.set()

    async def job() -> None:
        assert is_told.wait(WAIT)

    root = logging.getLogger()
    root.addHandler(told := Told())  # After that of the test, which has the record by then.
    try:
        make(app).submit(job).result(WAIT)
    finally:
        root.removeHandler(told)


def dropped_future(app: Flask, make: MakeExecutor) -> None:
    executor = make(app, futures_max_length=1)
    for key in "ab":
        executor.submit_stored(key, double, 1).result(WAIT)


def map_for_its_effects(app: Flask, make: MakeExecutor) -> None:
    make(app).map(double, range(9), buffersize=2)


def map_async_for_its_effects(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)

    async def view() -> str:
        executor.map_async(double, range(9))
        return ""

    in_view(app, view)


def slow_exit(*_: object) -> None:
    script = """if True:
        import logging, threading
        from flask import Flask
        from flask_executor import Executor
        app = Flask("app")
        is_told = threading.Event()
        class Told(logging.Handler):
            def emit(self, record): is_told.set(); print(record.getMessage())
        app.logger.addHandler(Told())
        Executor(app).submit(is_told.wait)
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=True
    )
    raise Told(done.stdout.strip())


def shut_down_too_early(app: Flask, make: MakeExecutor) -> None:
    executor, may_end = make(app, shutdown_timeout=0), threading.Event()
    executor.submit(may_end.wait)
    executor.shutdown()
    may_end.set()


class Told(Exception):
    """A text that another process has shown."""


# In the command


def command(app: Flask, *arguments: str) -> None:
    """Call `flask executor`, whose errors are raised."""
    result = app.test_cli_runner().invoke(commands, arguments, standalone_mode=False)
    assert result.exception is not None
    raise result.exception


def command_on_jobs(*arguments: str) -> Mistake:
    def mistake(app: Flask, make: MakeExecutor) -> None:
        with TemporaryDirectory() as folder:
            executor = make(app, store=f"sqlite:///{folder}/jobs.db")
            executor.submit_stored("ended", double, 1).result(WAIT)
            executor.options(key="waits", delay=3600).submit(double, 1)
            try:
                command(app, *arguments)
            finally:
                executor.futures.cancel("waits")
                executor.shutdown()

    return mistake


def command_of_a_named_executor(app: Flask, make: MakeExecutor) -> None:
    make(app, name="mail")
    command(app, "list")


def command_without_a_store(app: Flask, make: MakeExecutor) -> None:
    make(app)
    command(app, "list")


def watch_in_terminal(*, has_rich: bool, **environment: str) -> Mistake:
    def mistake(*_: object) -> None:
        with TemporaryDirectory() as folder:
            if not has_rich:
                Path(folder, "rich.py").write_text("raise ImportError")
            Path(folder, "shop.py").write_text(
                "from flask import Flask\n"
                "from flask_executor import Executor\n"
                "app = Flask('shop')\n"
                "app.config['EXECUTOR_STORE'] = 'sqlite:///jobs.db'\n"
                "Executor(app)\n"
            )
            given = environment | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
            command = ["-m", "flask", "--app", "shop", "executor", "watch"]
            _, shown = run_in_terminal(command, Path(folder), columns=200, environment=given)
        raise Told(shown.rpartition("Error: ")[2].strip())

    return mistake


# In tests


def failure_in_a_test(app: Flask, make: MakeExecutor) -> None:
    executor = make(app)
    with failing_jobs_raise(executor):
        executor.submit(fail)


def recorded_app(app: Flask, _: MakeExecutor) -> None:
    with recorded_jobs(app):
        pass


def failing_job(**settings: Any) -> Mistake:
    def mistake(app: Flask, make: MakeExecutor) -> None:
        executor = make(app, **settings)
        executor.submit(fail)
        executor.drain(WAIT)

    return mistake


def board_answers(
    authorize: Any = lambda: True, *, secret: str | None = "secret", **options: Any
) -> Mistake:
    """A request to a board that refuses it; the title of the refusal is raised."""

    def mistake(app: Flask, make: MakeExecutor) -> None:
        app.secret_key = secret
        app.register_blueprint(board(make(app), authorize=authorize))
        raise LookupError(app.test_client().delete("/api/jobs/x", **options).json["error"])

    return mistake


def database_of_the_board_away(app: Flask, make: MakeExecutor) -> None:
    app.register_blueprint(board(make(app, store=NO_FILE), authorize=lambda: True))
    raise LookupError(app.test_client().get("/api/jobs").json["error"])


# Each mistake, and the beginning of the message in its row.
MISTAKES: dict[str, Mistake] = {
    "the executor has no app yet; call executor.init_app(app), ": lambda *_: Executor().submit(
        double, 1
    ),
    "the executor serves several apps": two_apps,
    "<Executor of": another_app,
    "a value of the type … cannot be called; expected a function, and its arguments apart from it: "
    "submit": lambda app, make: make(app).submit(double_async(7)),  # type: ignore[call-overload]
    "… is a generator function": lambda app, make: make(app).submit(numbers),
    "… is an async generator function": lambda app, make: make(app).submit(numbers_async),
    "… takes no argument": lambda app, make: make(app).submit(double, 1, timeout=3),  # type: ignore[call-overload]
    "the key is missing": lambda app, make: make(app).submit_stored(double, 5),  # type: ignore[call-overload]
    "a future is stored": taken_key,
    "on_duplicate=": lambda app, make: make(app).options(on_duplicate="return").submit(double, 1),
    "after='response' needs": lambda app, make: make(app).options(after="response").submit(abs, 1),
    "after='response' is too late": after_response_of_an_ended_request,
    "after='response' is for views": after_response_in_a_job,
    "after=session is too late": listener_of_a_commit,
    "a group cannot": lambda app, make: make(app).group().options(after="response"),
    "… would never end: the job": result_before_the_response,
    "a value of the type … cannot be called; expected a function, …": lambda app, make: make(
        app
    ).job(
        30  # type: ignore[call-overload]
    ),
    "the job … is inside @classmethod": lambda *_: Wrong.kind.submit(),
    "retry is": lambda app, make: make(app).options(retry=3),  # type: ignore[arg-type]
    "there are no items": lambda app, make: make(app).map(double),  # type: ignore[call-overload]
    "on_duplicate is for a job with a key, and map": lambda app, make: (
        make(app).job(on_duplicate="return")(double).map([1])
    ),
    "a key is for one job": lambda app, make: make(app).options(key="key").map(double, [1]),
    "no event loop": lambda app, make: make(app).submit_async(double, 1),
    "the function of the job … cannot": lambda app, make: make(app, type="process").submit(
        lambda: 1
    ),
    "argument 1 of the job": lambda app, make: make(app, type="process").submit(double, app),  # type: ignore[call-overload]
    "workers cannot find the app": app_of_a_function,
    "503 Service Unavailable": full_queue,
    "the executor was shut down": shut_down,
    "'with executor:'": with_block,
    "submit() blocks": pool_opened_on_a_loop,
    "result() blocks": result_on_a_loop,
    "the end of a group blocks": plain_group_on_a_loop,
    "the request has ended": body_after_the_request,
    "the upload was closed": upload_after_the_request,
    "Working outside of app": raised_by(in_a_thread_of_its_own),
    "Working outside of req": raised_by(lambda: request.path),
    "Unable to build URLs": raised_by(lambda: url_for("static", filename="cat.jpg")),
    "a job's g starts": private_name_of_g,
    "… do not travel": g_in_another_process,
    "Instance": model_object_of_an_ended_session,
    "the job … returned a coroutine": raised_by(lambda: double_async(1)),
    "the job … has not ended within": out_of_time,
    "the job … raised SystemExit": raised_by(sys.exit),
    "the worker process … died": dead_worker,
    "An attempt has been made": script_without_a_guard,
    "this would never end: the job … which": circle,
    "the job … cannot drain": drained_in_a_job,
    "current_job can only": lambda *_: current_job.id,
    "done is": raised_by(lambda: current_job.progress(-1)),
    "a value of the type … cannot be tracked": raised_by(lambda: current_job.track(200)),  # type: ignore[call-overload]
    "The view function did not return": forgotten_await,
    "… is bound to": shared_by_two_loops,
    "a group has not ended within": slow_group,
    "the job … has not ended after": slow_result,
    "Job … (…) failed and nobody": failing_job(),
    "Job … (…) failed": failing_job(propagate_exceptions=True),
    "Job … (…) ended, and its callback": failing_callback,
    "Job … (…) was cancelled: the session": forgotten_commit,
    "Job … (…) was cancelled: its request": job_of_a_stream,
    "Receiver": failing_receiver,
    "A teardown function": failing_teardown,
    "Shut down after": shut_down_too_early,
    "the function of the job …: the function": lambda app, make: make(app, type="process").submit(
        hidden
    ),
    "the callback": lambda app, make: make(app).add_default_done_callback(double_async),
    "asyncio.wait()": lambda app, make: asyncio.run(
        wait_for(make(app).submit(double, 1)),
    ),
    "EXECUTOR_MAX_WORKER is": misspelt_key,
    "EXECUTOR_THREADS": lambda app, make: make(app, threads=3),
    "EXECUTOR_MAX_WORKERS is": lambda app, make: make(app, max_workers="ten"),
    "EXECUTOR_TYPE was": late_key,
    "EXECUTOR_TYPE is not read": unnamed_key,
    "EXECUTOR_TYPE is '": lambda app, make: make(app, type="thred"),
    "EXECUTOR_STORE is not the": lambda app, make: make(app, store="jobs.db"),
    "EXECUTOR_STORE is the": lambda app, make: make(app, store="oracle://host/name"),
    "EXECUTOR_STORE is a": lambda app, make: make(app, store="sqlite://"),
    "EXECUTOR_STORE names": lambda app, make: make(app, store="postgresql+asyncpg://host/name"),
    "the key is …; with": lambda app, make: make(app, store=FILE).submit_stored(7, double, 1),
    "the key has": lambda app, make: make(app, store=FILE).submit_stored("7" * 256, double, 1),
    "the job … failed with": lambda app, make: in_two_processes(make, fail),
    "the result of the job … is": lambda app, make: in_two_processes(make, lambda: {1}),
    "the process …, which had": lambda app, make: in_two_processes(
        make, lambda: time.sleep(0.5), is_lost=True
    ),
    "the database of": lambda app, make: make(app, store=NO_FILE).records.counts(),
    "The database of": lambda app, make: make(app, store=NO_FILE).submit_stored("7", double, 1),
    "Shut down before": shut_down_without_database,
    "EXECUTOR_STORE needs the package": without_sqlalchemy,
    "EXECUTOR_STORE needs the driver": lambda app, make: make(
        app, store="postgresql+pg8000://host/name"
    ),
    "the app … has an": twice,
    "an executor is made": made_in_a_view,
    "EXECUTOR_EXIT_ON_SIGTERM": made_in_a_thread,
    "the job … returned a value": raised_by(returned_task),
    "the job … has not ended;": asked_too_early,
    "this would never end: the job … runs": own_loop_blocked,
    "this would never end: the job … ends": loop_blocked_that_a_teardown_needs,
    "drain() in": drained_on_own_loop,
    "shutdown() in": shut_down_in_a_view,
    "the results of map": slow_map,
    "The coroutine": held_loop,
    "A stored future": dropped_future,
    "nobody has iterated the results of map(": map_for_its_effects,
    "nobody has iterated the results of map_async(": map_async_for_its_effects,
    "Waiting for": slow_exit,
    "EXECUTOR_STORE is not set": command_without_a_store,
    "the app … has no executor …": command_of_a_named_executor,
    "the app … has no executor;": lambda *_: command(Flask("app"), "list"),
    "app …": command_on_jobs("show", "nope"),
    "the job … has ended already": command_on_jobs("cancel", "ended"),
    "the job … has not ended: ": command_on_jobs("forget", "waits"),
    "the output of watch": command_on_jobs("watch"),
    "watch cannot": watch_in_terminal(has_rich=True, TERM="dumb"),
    "watch needs": watch_in_terminal(has_rich=False),
    "1 job failed": failure_in_a_test,
    "board() was given …; expected": lambda *_: board("executor"),  # type: ignore[arg-type]
    "board() was given two": lambda app, make: board(make(app), make(Flask("other"))),
    "authorize is": lambda *_: board(Executor(), authorize=True),  # type: ignore[arg-type]
    "authorize returned": board_answers(authorize=lambda: 1),
    "Nobody may see": board_answers(authorize=None),
    "Nothing can be changed": board_answers(secret=None),
    "The request has no valid": board_answers(),
    "Another site": board_answers(headers={"Sec-Fetch-Site": "cross-site"}),
    "The records cannot": database_of_the_board_away,
    "recorded_jobs()": recorded_app,
    "the executor has no app yet; call executor.init_app(app) b": lambda *_: instrument(Executor()),
    "instrument()": lambda app, _: instrument(app),  # type: ignore[arg-type]
}


def row_of(start: str) -> str:
    """The row that begins like that; of several, the shortest."""
    return min((each for each in MESSAGES if each.startswith(start)), key=len)


def test_every_row_has_its_mistake() -> None:
    assert sorted(map(row_of, MISTAKES)) == sorted(MESSAGES)


@pytest.mark.parametrize("start", MISTAKES)
@pytest.mark.slow
def test_the_mistake_leads_to_the_message(
    app: Flask, executors: MakeExecutor, caplog: pytest.LogCaptureFixture, start: str
) -> None:
    texts: list[str] = []
    classes = {""}
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG, app.name):
        warnings.simplefilter("always")
        try:
            MISTAKES[start](app, executors)
        except Exception as error:
            texts += [str(error), *getattr(error, "__notes__", [])]
            classes.add(type(error).__name__)
    texts += [str(each.message) for each in caught] + [each.getMessage() for each in caplog.records]
    pattern = ".*".join(map(re.escape, row_of(start).split("…")))

    assert [text for text in texts if re.fullmatch(pattern, " ".join(text.split()))], texts
    assert CLASSES[row_of(start)] in classes

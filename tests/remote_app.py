"""The app that workers in other processes load, and jobs for them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor as Pool
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from asgiref.sync import markcoroutinefunction, sync_to_async
from flask import Flask, current_app, g, has_app_context, has_request_context, request

from flask_executor import Executor, current_job
from flask_executor.remote.protocol import reporter
from flask_executor.settings import Settings

executor = Executor()
variable: ContextVar[str] = ContextVar("variable", default="unset")


def set_up(app: Flask) -> Flask:
    """Have each teardown leave a line in the file that the job names."""

    @app.teardown_appcontext
    def report(error: BaseException | None) -> None:
        if "report" in g:
            with Path(g.report).open("a") as file:
                file.write(f"{error!r}\n")

    return app


app = set_up(Flask(__name__))
app.config["EXECUTOR_TYPE"] = "process"
executor.init_app(app)


def create_app() -> Flask:
    return set_up(Flask("made_by_a_factory"))


class Report:
    """Jobs that are methods; `tests/backends` runs them in other processes."""

    def __init__(self, title: str) -> None:
        self.title = title

    @executor.job
    def build(self, month: int = 1) -> tuple[str, int, int]:
        return self.title, month, os.getpid()

    @executor.job(timeout=20)
    async def fetch(self, month: int = 1) -> tuple[str, int, int]:
        return self.title, month, os.getpid()

    @executor.job
    @classmethod
    def kind(cls, month: int = 1) -> tuple[str, int, int]:
        return cls.__name__, month, os.getpid()

    @executor.job
    @classmethod
    async def fetch_kind(cls, month: int = 1) -> tuple[str, int, int]:
        return cls.__name__, month, os.getpid()

    @executor.job
    @staticmethod
    def days(month: int = 1) -> tuple[str, int, int]:
        return "days", month, os.getpid()

    @staticmethod
    @executor.job
    def weeks(month: int = 1) -> tuple[str, int, int]:
        return "weeks", month, os.getpid()


class YearReport(Report):
    """Inherits the jobs."""


# Pools of one's own


class Threads(ThreadPoolExecutor):
    in_process = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.max_workers, "own")


def threads_untold(settings: Settings) -> Pool:
    return ThreadPoolExecutor(settings.max_workers)


class Idle(ThreadPoolExecutor):
    def __init__(self, _: Settings) -> None:
        super().__init__(1)

    def submit(self, *_: object, **__: object) -> Any:
        return super().submit(int)


class Refusing(ThreadPoolExecutor):
    def __init__(self, _: Settings) -> None:
        super().__init__(1)

    def submit(self, *_: object, **__: object) -> Any:
        raise LookupError("not today")


def loky(settings: Settings) -> Pool:
    # Where interpreters import this module, loky cannot be.
    from loky import ProcessPoolExecutor as LokyExecutor

    return LokyExecutor(settings.max_workers, context=multiprocessing.get_context("forkserver"))


# Jobs


def power(base: int, exponent: int = 2) -> int:
    return base**exponent


def give_back(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def pid(*_: object) -> int:
    return os.getpid()


class Parcel:
    """What a weak reference can be had of."""


def parcel(number: int, fails_at: int | None = None) -> Parcel:
    if number == fails_at:
        raise LookupError("on purpose")
    return Parcel()


@executor.job
def square(n: int) -> int:
    return n * n


@executor.job
async def square_later(n: int) -> int:
    await asyncio.sleep(0)
    return n * n


async def square_of(n: int) -> int:
    return n * n


def forget_to_await(n: int) -> Any:
    return n if n < 0 else square_of(n)


async def forget_to_await_twice(n: int) -> Any:
    await asyncio.sleep(0)
    return square_of(n)


@markcoroutinefunction
def marked(n: int) -> Any:
    return square_of(n)


async def loop_id() -> tuple[int, int, int]:
    return os.getpid(), threading.get_ident(), id(asyncio.get_running_loop())


async def threads_of_functions() -> tuple[bool, bool, bool]:
    """Whether one thread called both functions, a new one, and those of other jobs have ended."""
    first = await sync_to_async(threading.current_thread)()
    second = await sync_to_async(threading.current_thread)()
    is_new, others = first not in _threads, [*_threads]
    _threads.append(first)
    for thread in others:
        thread.join(10)
    return first is second, is_new, not any(thread.is_alive() for thread in others)


_threads: list[threading.Thread] = []


async def app_name_later() -> str:
    await asyncio.sleep(0)
    return current_app.name


def fail(*args: object) -> None:
    raise LookupError("on purpose", *args)


async def fail_later() -> None:
    await asyncio.sleep(0)
    raise LookupError("on purpose")


class Unpicklable(Exception):
    """Is pickled and cannot be unpickled: a common mistake."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


def fail_unpicklably(*_: object) -> None:
    raise Unpicklable(7, "the tea is cold")


def exit_at_once(*_: object) -> None:
    raise SystemExit(3)


async def interrupt_later() -> None:
    await asyncio.sleep(0)
    raise KeyboardInterrupt


def square_or_exit(n: int) -> int:
    return n * n or sys.exit(3)


def report_teardown(path: str, error: Exception | None = None) -> str:
    assert "report" not in g
    g.report = path
    if error is not None:
        raise error
    return current_app.name


async def report_teardown_later(path: str) -> str:
    await asyncio.sleep(0)
    return report_teardown(path)


def drain_own_executor() -> int:
    """Wait for the jobs of the executor inside one of them: in a worker, for none."""
    executor.drain(60)
    return len(list(executor.map(power, range(3))))


def app_name() -> str:
    return current_app.name


def app_name_of(_: object) -> str:
    return current_app.name


def app_name_and_id() -> tuple[str, int]:
    return current_app.name, id(current_app._get_current_object())


def load_slowly() -> Flask:
    threading.Event().wait(1.1)
    return app


def process_class() -> str:
    return type(multiprocessing.current_process()).__name__


def tell_and_hang(pipe: str) -> None:
    note(pipe, os.getpid())
    hang()


def tell_and_go_on(pipe: str, path: str, line: str = "went on") -> None:
    """Go on for a while after a signal has come to all processes of the group."""
    Path(pipe).write_text("here")
    threading.Event().wait(0.3)
    note(path, line)


def contexts() -> dict[str, object]:
    """What the job has of the submitter's contexts; it leaves something behind, too."""
    seen = {
        "app": has_app_context(),
        "request": request.path if has_request_context() else None,
        "g": g.get("user") if has_app_context() else None,
        "contextvars": variable.get(),
    }
    variable.set("from a job")
    if has_app_context():
        g.user = "from a job"
    return seen


def user_in_g(*_: object) -> object:
    return g.user


async def path_of_request() -> str:
    return request.path


def about_itself() -> tuple[str, str, object, bool]:
    return current_job.id, current_job.name, current_job.key, current_job.cancel_requested


def submit_more(n: int) -> tuple[int, list[int], list[int], int]:
    """Use the executor inside a job of its own."""
    one = executor.submit(power, n).result()
    stored = executor.submit_stored("inner", pid)
    assert executor.futures.pop("inner") is stored
    return one, list(square.map(range(n))), [stored.result(), os.getpid()], threading.active_count()


async def submit_more_async(n: int) -> list[int]:
    return await asyncio.gather(*(square_later.submit_async(i) for i in range(n)))


def wait_at(door: tuple[str, int], result: object = None) -> object:
    """Come to the door and wait there; return the process id if no result is given."""
    with socket.create_connection(door, 60) as connection:
        connection.recv(1)
    return os.getpid() if result is None else result


def send_report_and_wait_at(door: tuple[str, int]) -> None:
    """Send a report by the reporter of the call, and wait at the door."""
    reporter.get().progress("half")
    wait_at(door)


def wait_and_fail(door: tuple[str, int]) -> None:
    wait_at(door)
    fail()


def report_progress(door: tuple[str, int], count: int = 1, *, fails: bool = False) -> int:
    """Report often, come to the door, and report once more."""
    for number in range(count):
        current_job.progress(number, count + 1)
    current_job.progress(count, count + 1, "at the door")
    wait_at(door)
    current_job.progress(count, count + 2, "through the door")
    if fails:
        raise LookupError("on purpose")
    return os.getpid()


async def report_progress_later(door: tuple[str, int]) -> int:
    async for _ in current_job.track(numbers_later(2), total=2):
        pass
    return await asyncio.to_thread(report_progress, door, 2)


async def numbers_later(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def report_and_die() -> None:
    current_job.progress(3, 10)
    os._exit(9)


def report_at_length(length: int) -> None:
    current_job.progress(1, message="x" * length)


def report_and_fail_at_first(path: str) -> None:
    current_job.progress(current_job.attempt, 10)
    fail_at_first(path, 1)


def leave_a_thread_that_reports(door: tuple[str, int]) -> int:
    """Return, and have a thread come to the door and report."""

    def report(job: Any) -> None:
        wait_at(door)
        job.progress(2, 2)

    current_job.progress(1, 2)
    job = current_job._get_current_object()  # type: ignore[attr-defined]
    threading.Thread(target=report, args=[job]).start()
    return os.getpid()


def note(path: str, line: object) -> int:
    with Path(path).open("a") as file:
        file.write(f"{line}\n")
    return os.getpid()


def fail_at_first(path: str, failures: int, how: str = "raise") -> int:
    """Leave the number of the attempt in a file, and fail in the first attempts."""
    note(path, current_job.attempt)
    if current_job.attempt > failures:
        return current_job.attempt
    if how == "die":
        os._exit(9)
    if how == "hang":
        hang()
    raise LookupError("on purpose")


async def fail_at_first_later(path: str, failures: int) -> int:
    await asyncio.sleep(0)
    return fail_at_first(path, failures)


def hang(*_: object) -> None:
    threading.Event().wait()


async def hang_later(path: str | None = None) -> None:
    """Hang until it is cancelled, and then leave a line in a file."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.sleep(0)
        if path is not None:
            note(path, "cleaned up")


class OfThisProcess(Exception):
    """Cannot be unpickled in another process than its own."""

    def __reduce__(self) -> Any:
        return only_in, (os.getpid(), *self.args)


def only_in(pid: int, *args: object) -> Exception:
    if os.getpid() != pid:
        raise ImportError("no such module here")
    return OfThisProcess(*args)


class Unshowable(Exception):
    """Raises when it is to be shown with its cause, and when its text is asked for."""

    @property
    def __cause__(self) -> Any:
        raise LookupError("no cause")

    def __str__(self) -> str:
        raise LookupError("no text")


class Sealed(Exception):
    """Holds what it was made with, tells nothing of it, and cannot be pickled."""

    def __init__(self, secret: str) -> None:
        super().__init__("sealed")
        self.secret = secret
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return self.secret


class Unreadable(Exception):
    """Tells its secret when it is unpickled in another process than its own."""

    def __init__(self, secret: str) -> None:
        super().__init__("sealed")
        self.secret = secret

    def __reduce__(self) -> Any:
        return unseal_in, (os.getpid(), self.secret)


def unseal_in(pid: int, secret: str) -> Exception:
    if os.getpid() != pid:
        raise ValueError(f"no such process for {secret}")
    return Unreadable(secret)


def give_back_sealed(secret: str) -> object:
    return {secret: [Sealed(secret)]}


def raise_sealed(secret: str) -> None:
    raise Sealed(secret)


def raise_unreadable(secret: str) -> None:
    raise Unreadable(secret)


def fail_as(kind: type[Exception]) -> None:
    raise kind("the tea is cold")


class Booby:
    """Exits whoever unpickles it."""

    def __reduce__(self) -> Any:
        return exit_at_once, ()


def give_back_a_booby(*_: object) -> Booby:
    return Booby()


def die_with_a_child_left() -> None:
    """Start a process that has all files of this one, and die."""
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
    os._exit(9)


def lock(*_: object) -> Any:
    return threading.Lock()


def die(*_: object, code: int = 9) -> None:
    os._exit(code)


def die_at(door: tuple[str, int]) -> None:
    wait_at(door)
    os._exit(9)


async def end_a_task_with_exit() -> None:
    """Have a task of the job exit, which stops the loop that the job runs on."""

    async def child() -> None:
        sys.exit(9)

    await asyncio.create_task(child())

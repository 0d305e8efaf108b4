"""The same jobs on every backend; the table in docs/howto/backends.md has what differs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import math
import os
import re
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, appcontext_pushed, current_app, g, has_app_context
from sqlalchemy.orm import Session

from flask_executor import (
    Executor,
    JobExited,
    JobFuture,
    JobTimeout,
    NotPicklable,
    RemoteError,
    Retry,
    job_cancelled,
    job_failed,
    job_retried,
    job_started,
    job_submitted,
    job_succeeded,
)
from tests import inside, remote_app
from tests.backends.dask_cluster import Cluster
from tests.support import ROOT, WAIT, Door, MakeExecutor, app_log

# The other threads of this process hold no lock that a forked child would need.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

HOWTO = ROOT / "docs" / "howto"

TYPES = ["thread", "inline", "process", "interpreter", "dask"]
# By what stands in EXECUTOR_TYPE, and for processes the start method.
BACKENDS = {
    "thread": "thread",
    "inline": "inline",
    "process-fork": "process",
    "process-spawn": "process",
    "process-forkserver": "process",
    "interpreter": "interpreter",
    "dask": "dask",
    "tests.remote_app:Threads": "thread",
    "tests.remote_app:loky": "interpreter",
}
if sys.version_info < (3, 14):
    del BACKENDS["interpreter"]


class Backend:
    """A backend, and what the docs say it carries."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type, _, self.start_method = name.partition("-")
        self.column = TYPES.index(BACKENDS[name])
        self.in_process = BACKENDS[name] in {"thread", "inline"}

    def carries(self, row: str) -> bool:
        [cells] = [cells for title, cells in table() if title.startswith(row)]
        cell = cells[self.column]
        assert cell in {"yes", "no", "with `fork`"}
        return cell == "yes" or (cell == "with `fork`" and self.start_method == "fork")


def table() -> list[tuple[str, list[str]]]:
    """The rows of "What each backend carries"."""
    text = (HOWTO / "backends.md").read_text("utf-8")
    section = text.partition("## What each backend carries")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    assert [cell.strip("`") for cell in rows[0][1:]] == TYPES
    return [(title, cells) for title, *cells in rows[1:]]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


def but_for(*names: str) -> pytest.MarkDecorator:
    """Have a test run on all other backends."""
    assert set(names) <= {*BACKENDS, "interpreter"}
    others = [name for name in BACKENDS if name not in names]
    return pytest.mark.parametrize("backend", others, indirect=True)


@pytest.fixture
def app(app: Flask) -> Flask:
    return remote_app.set_up(app)


@pytest.fixture
def settings(backend: Backend, request: pytest.FixtureRequest) -> dict[str, object]:
    settings: dict[str, object] = {"type": backend.type, "max_workers": 1}
    if backend.start_method:
        settings["mp_context"] = backend.start_method
    if backend.type == "dask":
        cluster: Cluster = request.getfixturevalue("cluster")
        settings["dask_address"] = cluster.address
    return settings


@pytest.fixture
def executor(
    app: Flask, executors: MakeExecutor, settings: dict[str, object]
) -> Iterator[Executor]:
    """The executor of the decorated jobs in remote_app, for this test's app."""
    app.config.update({f"EXECUTOR_{key.upper()}": value for key, value in settings.items()})
    inside.forget_apps(remote_app.executor)
    remote_app.executor.init_app(app)
    yield remote_app.executor
    with app.app_context():
        remote_app.executor.shutdown()
    inside.forget_callbacks(remote_app.executor)


def name_in_job(app: Flask, backend: Backend) -> str:
    return app.name if backend.in_process else remote_app.app.name


# Calls


def test_arguments_reach_the_job_whatever_their_names(executor: Executor) -> None:
    named = dict.fromkeys(("key", "pure", "workers", "retries", "fn", "self", "timeout"), 1)

    assert executor.submit(remote_app.give_back, 1, "a", **named).result(WAIT) == ((1, "a"), named)
    assert executor.submit(remote_app.power, 2, exponent=5).result(WAIT) == 32


def test_decorated_functions_their_fn_and_coroutine_functions_are_jobs(executor: Executor) -> None:
    square, later = remote_app.square, remote_app.square_later

    jobs = [square.submit(2), executor.submit(square, 3), executor.submit(square.fn, 4)]
    jobs += [later.submit(5), executor.submit(later, 6), executor.submit(later.fn, 7)]

    assert [job.result(WAIT) for job in jobs] == [4, 9, 16, 25, 36, 49]
    assert [job.name for job in jobs] == ["square"] * 3 + ["square_later"] * 3


def test_every_way_to_submit_leads_there(executor: Executor) -> None:
    async def view() -> list[int]:
        return [
            await executor.submit_async(remote_app.power, 2),
            await executor.submit(remote_app.power, 3),
            *[each async for each in executor.map_async(remote_app.power, [4, 5])],
            await executor.options(delay=0).submit_async(remote_app.power, 6),
        ]

    assert asyncio.run(view()) == [4, 9, 16, 25, 36]
    assert executor.submit_stored("key", remote_app.power, 7).result(WAIT) == 49
    assert list(executor.map(remote_app.power, [8, 9])) == [64, 81]
    assert executor.futures.state("key") == "succeeded"


def test_a_job_is_awaited_in_an_async_view(app: Flask, executor: Executor) -> None:
    @app.get("/squares")
    async def squares() -> list[int]:
        futures = [remote_app.square.submit_async(n) for n in range(5)]
        return [*await asyncio.gather(*futures), await remote_app.square_later.submit_async(5)]

    assert app.test_client().get("/squares").json == [0, 1, 4, 9, 16, 25]


def test_equal_calls_both_run(executor: Executor, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    futures = [executor.submit(remote_app.note, str(path), "same") for _ in range(3)]

    concurrent.futures.wait(futures, WAIT)

    assert path.read_text() == "same\n" * 3


def test_a_job_knows_itself(backend: Backend, executor: Executor) -> None:
    future = executor.submit_stored(("key", 1), remote_app.about_itself)

    assert future.result(WAIT) == (future.id, "about_itself", ("key", 1), False)


def test_a_job_can_submit_jobs_of_its_own_executor(
    settings: dict[str, object], request: pytest.FixtureRequest
) -> None:
    settings["max_workers"] = 2  # in threads, one would wait for itself
    executor: Executor = request.getfixturevalue("executor")

    one, squares, pids, _ = executor.submit(remote_app.submit_more, 4).result(WAIT)
    later = executor.submit(remote_app.submit_more_async, 3).result(WAIT)

    assert (one, squares, later) == (16, [0, 1, 4, 9], [0, 1, 4])
    assert len(set(pids)) == 1, "workers have no workers"


# Contexts


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_has_a_fresh_app_context_and_one_teardown_with_its_exception(
    app: Flask, backend: Backend, executor: Executor, tmp_path: Path, fails: bool
) -> None:
    error = LookupError("on purpose") if fails else None
    paths = [str(tmp_path / str(n)) for n in range(3)]

    jobs = [executor.submit(remote_app.report_teardown, path, error) for path in paths]
    executor.drain(WAIT)

    assert [repr(job.exception()) for job in jobs] == [repr(error)] * 3
    assert [Path(path).read_text() for path in paths] == [f"{error!r}\n"] * 3
    if not fails:
        assert {job.result() for job in jobs} == {name_in_job(app, backend)}


def test_a_coroutine_job_has_an_app_context_and_one_teardown(
    app: Flask, backend: Backend, executor: Executor, tmp_path: Path
) -> None:
    path = tmp_path / "teardown"

    job = executor.submit(remote_app.report_teardown_later, str(path))
    executor.drain(WAIT)

    assert job.result() == name_in_job(app, backend)
    assert path.read_text() == "None\n"


def test_what_is_carried_is_what_the_table_says(
    app: Flask, backend: Backend, executor: Executor
) -> None:
    remote_app.variable.set("from the submitter")
    with app.test_request_context("/path"):
        g.user = "ada"
        first = executor.submit(remote_app.contexts).result(WAIT)
        second = executor.submit(remote_app.contexts).result(WAIT)
        kept = g.user, remote_app.variable.get()

    assert (
        first
        == second
        == {
            "app": True,
            "g": "ada" if backend.carries("`g`") else None,
            "request": "/path" if backend.carries("`request`") else None,
            "contextvars": "from the submitter" if backend.carries("`contextvars`") else "unset",
        }
    )
    assert kept == ("ada", "from the submitter")


@pytest.mark.parametrize(
    ("fn", "error"),
    [(remote_app.user_in_g, AttributeError), (remote_app.path_of_request, RuntimeError)],
    ids=["g", "request"],
)
@but_for("thread", "inline", "tests.remote_app:Threads")
def test_a_job_that_misses_the_submitters_context_says_what_to_pass(
    app: Flask,
    executor: Executor,
    caplog: pytest.LogCaptureFixture,
    fn: Callable[..., Any],
    error: type[Exception],
) -> None:
    hint = "request, session, g and contextvars do not travel to another process; pass the values"
    with app.test_request_context("/path"):
        g.user = "ada"
        raised = executor.submit(fn).exception(WAIT)
        executor.submit(fn)
    executor.drain(WAIT)

    # Where Dask is imported, an exception takes its context along, here a ContextVar's.
    assert type(raised) in {error, RemoteError}
    [note] = raised.__notes__
    assert note.startswith(hint)
    [record] = app_log(caplog)
    assert hint in logging.Formatter().format(record)


@but_for("thread", "inline", "tests.remote_app:Threads")
def test_an_item_of_a_chunk_that_misses_the_submitters_context_says_what_to_pass(
    executor: Executor,
) -> None:
    with pytest.raises(AttributeError) as raised:
        list(executor.map(remote_app.user_in_g, range(4), chunksize=2))

    assert "do not travel to another process" in raised.value.__notes__[0]


@but_for("thread", "inline", "tests.remote_app:Threads")
def test_another_error_in_another_process_gets_no_note(executor: Executor) -> None:
    kinds = [AttributeError, RuntimeError, ValueError]

    errors = [executor.submit(remote_app.fail_as, kind).exception(WAIT) for kind in kinds]

    assert [type(error) for error in errors] == kinds
    assert not any(hasattr(error, "__notes__") for error in errors)


def test_a_bare_job_has_no_flask_context(
    app: Flask, executors: MakeExecutor, settings: dict[str, object]
) -> None:
    del app.config["EXECUTOR_APP"]
    bare = executors(app, **settings, push_app_context=False)

    with app.test_request_context("/path"):
        seen = bare.submit(remote_app.contexts).result(WAIT)

    assert (seen["app"], seen["request"], seen["g"]) == (False, None, None)


def test_callbacks_and_signals_come_to_the_submitting_process_in_an_app_context(
    app: Flask, backend: Backend, executor: Executor
) -> None:
    seen: Counter[tuple[str, int, str, str]] = Counter()

    def see(what: str) -> None:
        assert has_app_context()
        seen[what, os.getpid(), current_app.name, g.user] += 1

    def receiver(what: str) -> Callable[..., None]:
        return lambda _, **sent: see(what)

    executor.add_default_done_callback(lambda future: see(f"called back, {future.state}"))
    receivers = [
        (signal, receiver(signal.name))
        for signal in (job_submitted, job_started, job_succeeded, job_failed)
    ]
    for signal, each in receivers:
        signal.connect(each, app)
    with app.app_context():
        g.user = "ada"
        jobs = [executor.submit(remote_app.power, 2), executor.submit(remote_app.fail)]
    executor.drain(WAIT)

    assert [job.state for job in jobs] == ["succeeded", "failed"]
    assert isinstance(jobs[1].exception(), LookupError)
    assert seen == {
        (what, os.getpid(), "app", "ada"): count
        for what, count in [
            ("job-submitted", 2),
            ("job-started", 2),
            ("job-succeeded", 1),
            ("job-failed", 1),
            ("called back, succeeded", 1),
            ("called back, failed", 1),
        ]
    }


# What travels


def test_objects_are_shared_or_copied_as_the_table_says(
    backend: Backend, executor: Executor
) -> None:
    parcel = ["anything"]

    [args, _] = executor.submit(remote_app.give_back, parcel).result(WAIT)

    assert args == (parcel,)
    assert (args[0] is parcel) == backend.carries("arguments and results")


@pytest.mark.parametrize("kind", ["lambda", "local function", "partial of a lambda"])
def test_what_has_no_name_to_be_found_by_is_refused_in_the_caller_as_the_table_says(
    backend: Backend, executor: Executor, kind: str
) -> None:
    def local(n: int) -> int:
        return n

    fn = {"lambda": lambda n: n, "local function": local}.get(kind)
    name = {"lambda": "<lambda>", "local function": "local"}.get(kind, "<lambda>")
    if fn is None:
        from functools import partial

        fn = partial(lambda n: n)

    if backend.carries("lambdas"):
        assert executor.submit(fn, 1).result(WAIT) == 1
        return
    expected = f"function of the job {name!r} cannot be sent to another process: .*; expected a"
    with pytest.raises(NotPicklable, match=re.escape(expected).replace(r"\.\*", ".*")):
        executor.submit_stored("key", fn, 1)
    assert executor.stats().submitted == 0
    assert executor.futures.get("key") is None
    assert executor.submit(remote_app.power, 3).result(WAIT) == 9


@pytest.mark.parametrize(
    ("args", "kwargs", "what"),
    [
        ((1, threading.Lock()), {}, "argument 2 of the job 'give_back', a value of the type _th"),
        (
            (),
            {"a": 1, "b": [lambda: 1]},
            "the argument 'b' of the job 'give_back', a value",
        ),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_refused_in_the_caller(
    backend: Backend, executor: Executor, args: Any, kwargs: Any, what: str
) -> None:
    if backend.in_process:
        assert executor.submit(remote_app.give_back, *args, **kwargs).result(WAIT)
        return
    with pytest.raises(TypeError, match=re.escape(what)) as caught:
        executor.submit(remote_app.give_back, *args, **kwargs)

    assert isinstance(caught.value, NotPicklable)
    assert executor.stats().submitted == 0


def test_a_result_that_cannot_be_pickled_fails_its_job(
    backend: Backend, executor: Executor
) -> None:
    future = executor.submit(remote_app.lock)

    if backend.in_process:
        assert future.result(WAIT)
        return
    with pytest.raises(NotPicklable, match=r"result of the job, a value of the type _thread\.lock"):
        future.result(WAIT)


def test_an_exception_comes_back_with_where_it_was_raised(
    backend: Backend, executor: Executor
) -> None:
    error = executor.submit(remote_app.fail, 1).exception(WAIT)
    later = executor.submit(remote_app.fail_later).exception(WAIT)

    assert isinstance(error, LookupError)
    assert error.args == ("on purpose", 1)
    assert isinstance(later, LookupError)
    if not backend.in_process:
        assert "in fail\n" in str(error.__cause__)
        assert "in fail_later\n" in str(later.__cause__)
        assert "in _run" not in str(error.__cause__), "it begins in the job's own code"


def test_an_exception_that_cannot_be_sent_comes_back_as_its_text_and_traceback(
    backend: Backend, executor: Executor
) -> None:
    error = executor.submit(remote_app.fail_unpicklably).exception(WAIT)

    assert "the tea is cold (7)" in str(error)
    if backend.in_process:
        assert isinstance(error, remote_app.Unpicklable)
    else:
        assert isinstance(error, RemoteError)
        assert "in fail_unpicklably\n" in str(error.__cause__)


def test_an_exception_that_cannot_be_read_in_the_submitter_comes_back_as_its_traceback(
    backend: Backend, executor: Executor
) -> None:
    error = executor.submit(remote_app.fail_as, remote_app.OfThisProcess).exception(WAIT)

    if backend.in_process or backend.name == "interpreter":
        assert isinstance(error, remote_app.OfThisProcess)
        return
    assert isinstance(error, RemoteError)
    assert "(ImportError): tests.remote_app.OfThisProcess: the tea is cold" in str(error)
    assert "in fail_as\n" in str(error.__cause__)


def test_each_coroutine_job_has_a_thread_for_the_functions_it_calls(executor: Executor) -> None:
    answers = [executor.submit(remote_app.threads_of_functions).result(WAIT) for _ in range(3)]

    assert answers == [(True, True, True)] * 3


def test_an_exception_that_cannot_be_shown_fails_its_job_alone(executor: Executor) -> None:
    error = executor.submit(remote_app.fail_as, remote_app.Unshowable).exception(WAIT)

    assert "Unshowable" in repr(error)
    assert executor.submit(remote_app.power, 3).result(WAIT) == 9


@but_for("inline")  # nothing waits
def test_an_item_that_cannot_be_submitted_cancels_those_before_it(
    executor: Executor, door: Door
) -> None:
    def results() -> Iterator[str]:
        yield "first"
        yield "second"
        door.await_arrival()
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        executor.map(remote_app.wait_at, [door.address] * 3, results())
    door.open()
    executor.drain(WAIT)

    stats = executor.stats()
    assert (stats.submitted, stats.succeeded, stats.cancelled) == (2, 1, 1)


def test_what_is_done_when_an_app_context_is_entered_may_fail(
    app: Flask, backend: Backend, executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Flask) -> None:
        raise LookupError("not today")

    def receive(_: Flask, **sent: Any) -> None:
        pass

    with appcontext_pushed.connected_to(fail, app), job_succeeded.connected_to(receive, app):
        future = executor.submit(remote_app.power, 3)
        error = future.exception(WAIT)
        executor.drain(WAIT)

    # In other processes only the announcement needs it.
    assert isinstance(error, LookupError) == backend.in_process
    assert backend.in_process or "could not be announced" in caplog.text


def test_a_job_that_exits_fails_and_its_worker_lives(backend: Backend, executor: Executor) -> None:
    pid = executor.submit(remote_app.pid).result(WAIT)

    exited = executor.submit(remote_app.exit_at_once).exception(WAIT)
    interrupted = executor.submit(remote_app.interrupt_later).exception(WAIT)

    assert isinstance(exited, JobExited)
    assert (str(exited), exited.code) == ("the job 'exit_at_once' raised SystemExit", 3)
    assert isinstance(exited.__cause__, SystemExit)
    assert isinstance(interrupted, JobExited)
    assert isinstance(interrupted.__cause__, KeyboardInterrupt)
    # The loop of coroutine jobs lives on, too.
    assert executor.submit(remote_app.square_later, 3).result(WAIT) == 9
    if backend.name != "dask":  # which has two workers
        assert executor.submit(remote_app.pid).result(WAIT) == pid


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_item_that_exits_fails_after_the_results_before_it(
    executor: Executor, chunksize: int
) -> None:
    async def view() -> list[int]:
        squares = []
        with pytest.raises(JobExited):
            async for square in executor.map_async(
                remote_app.square_or_exit, [1, 2, 0], chunksize=chunksize
            ):
                squares.append(square)
        return squares

    squares = executor.map(remote_app.square_or_exit, [1, 2, 0], chunksize=chunksize)

    assert [next(squares), next(squares)] == [1, 4]
    with pytest.raises(JobExited) as caught:
        next(squares)
    assert caught.value.code == 3
    assert asyncio.run(view()) == [1, 4]


# Coroutines


@pytest.mark.parametrize("name", ["forget_to_await", "forget_to_await_twice"])
def test_a_job_that_returns_a_coroutine_fails_and_says_what_to_submit(
    executor: Executor, name: str
) -> None:
    fn = getattr(remote_app, name)

    error = executor.submit(fn, 2).exception(WAIT)

    assert isinstance(error, TypeError)
    assert f"the job {name!r} returned a coroutine" in str(error)
    assert "'square_of'" in str(error)
    gc.collect()  # Python would warn of one that was never awaited.


def test_an_item_that_returns_a_coroutine_fails_alone(executor: Executor) -> None:
    results = executor.map(remote_app.forget_to_await, [-1, -2, 3], chunksize=3)

    assert [next(results), next(results)] == [-1, -2]
    with pytest.raises(TypeError, match="'forget_to_await' returned a coroutine"):
        next(results)


def test_what_asgiref_marks_is_a_coroutine_job(executor: Executor) -> None:
    assert executor.submit(remote_app.marked, 3).result(WAIT) == 9


@but_for("inline")  # has a loop for each, where none runs
def test_coroutine_jobs_run_on_a_loop_that_lasts(backend: Backend, executor: Executor) -> None:
    loops = [executor.submit(remote_app.loop_id).result(WAIT) for _ in range(5)]

    # One for each worker; the cluster has two.
    assert len(set(loops)) <= (2 if backend.name == "dask" else 1)
    assert all(
        (pid == os.getpid()) == (backend.in_process or "interp" in backend.name)
        for pid, *_ in loops
    )


@but_for("inline")  # its one worker is the thread that submits
def test_a_coroutine_job_needs_a_worker_or_not_as_the_table_says(
    backend: Backend, executor: Executor, door: Door
) -> None:
    busy = executor.submit(remote_app.wait_at, door.address, "result")
    door.await_arrival()

    later = executor.submit(remote_app.square_later, 3)

    if backend.carries("coroutine jobs share one loop"):
        assert later.result(WAIT) == 9
    else:
        assert later.state == "pending"
    door.open()
    assert (busy.result(WAIT), later.result(WAIT)) == ("result", 9)


# Many items


@pytest.mark.parametrize(("chunksize", "buffersize"), [(1, None), (3, None), (3, 7), (100, 1)])
def test_map_gives_results_in_order_and_a_chunk_is_one_job(
    executor: Executor, chunksize: int, buffersize: int | None
) -> None:
    results = executor.map(
        remote_app.power, range(8), [2] * 7, chunksize=chunksize, buffersize=buffersize
    )

    assert list(results) == [0, 1, 4, 9, 16, 25, 36]
    assert executor.stats().submitted == -(-7 // chunksize)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("chunksize", "buffersize"), [(1, None), (3, None), (3, 7), (100, 1)])
def test_map_async_gives_results_and_a_chunk_is_one_job(
    executor: Executor, chunksize: int, buffersize: int | None, ordered: bool
) -> None:
    async def numbers() -> Any:
        for n in range(7):
            yield n

    async def view() -> list[int]:
        results = executor.map_async(
            remote_app.square,
            numbers(),
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
        )
        return [each async for each in results]

    results = asyncio.run(view())

    assert (results if ordered else sorted(results)) == [0, 1, 4, 9, 16, 25, 36]
    assert executor.stats().submitted == -(-7 // chunksize)


@pytest.mark.parametrize("chunksize", [1, 2, 10])
def test_an_item_that_fails_ends_a_map_after_those_before_it(
    backend: Backend, executor: Executor, chunksize: int
) -> None:
    bases, exponents = [2, 3, 4, 0, 1], [1, 2, 1, -1, 1]
    got: list[int] = []

    async def view() -> None:
        results = executor.map_async(remote_app.power, bases, exponents, chunksize=chunksize)
        async for each in results:
            got.append(each)

    results = executor.map(remote_app.power, bases, exponents, chunksize=chunksize)

    assert [next(results), next(results), next(results)] == [2, 9, 4]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(view())
    assert got == [2, 9, 4]


@pytest.mark.parametrize(
    ("chunksize", "buffersize", "fails_at"),
    [(1, None, None), (1, 1, 5), (3, None, 5), (3, 1, 5), (3, 1, None)],
)
def test_a_map_lets_go_of_what_it_yielded(
    executor: Executor, no_gc: None, chunksize: int, buffersize: int | None, fails_at: int | None
) -> None:
    results = executor.map(
        remote_app.parcel,
        range(7),
        [fails_at] * 7,
        chunksize=chunksize,
        buffersize=buffersize,
    )
    count = 0

    with suppress(LookupError):
        for result in results:
            freed = threading.Event()
            weakref.finalize(result, freed.set)
            del result
            # The worker may be about to let go of it.
            assert freed.wait(WAIT)
            count += 1

    assert count == (7 if fails_at is None else fails_at)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("chunksize", "buffersize", "fails_at"),
    [(1, None, 5), (1, 1, None), (3, None, None), (3, 1, 5)],
)
def test_a_map_async_lets_go_of_what_it_yielded(
    executor: Executor,
    no_gc: None,
    chunksize: int,
    buffersize: int | None,
    ordered: bool,
    fails_at: int | None,
) -> None:
    async def view() -> int:
        results = executor.map_async(
            remote_app.parcel,
            range(7),
            [fails_at] * 7,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
        )
        count = 0
        with suppress(LookupError):
            async for result in results:
                freed = threading.Event()
                weakref.finalize(result, freed.set)
                del result
                while not freed.is_set():
                    await asyncio.sleep(0.001)
                count += 1
        return count

    count = asyncio.run(asyncio.wait_for(view(), WAIT))

    assert count == 7 if fails_at is None else 1 <= count < 7


def test_chunks_of_coroutine_functions_run_to_the_end(executor: Executor) -> None:
    assert list(remote_app.square_later.map(range(5), chunksize=2)) == [0, 1, 4, 9, 16]


# Progress


def seen(future: JobFuture[Any]) -> tuple[Any, ...] | None:
    progress = future.progress
    return None if progress is None else (progress.done, progress.total, progress.message)


def wait_until(is_true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT * 100)):
        if is_true():
            return
        pause.wait(0.01)
    raise AssertionError


def test_the_database_gets_the_records_of_every_backend(
    app: Flask,
    settings: dict[str, object],
    backend: Backend,
    executors: MakeExecutor,
    tmp_path: Path,
) -> None:
    store = f"sqlite:///{tmp_path / 'jobs.db'}"
    executor, other = (
        executors(app, store=store, **settings),
        executors(Flask(app.name), store=store),
    )

    executor.submit_stored("works", remote_app.power, 7)
    executor.submit_stored("reports", remote_app.report_at_length, 3)
    executor.submit_stored("fails", remote_app.fail).exception(WAIT)
    executor.drain(WAIT)
    executor.records.counts()
    works, reports, fails = (other.records.get(key) for key in ("works", "reports", "fails"))

    assert (works.state, works.result) == ("succeeded", 49)
    assert works.submitted_at <= works.started_at <= works.ended_at
    assert (fails.error.type, fails.error.message) == ("LookupError", "on purpose")
    assert "in fail" in fails.error.traceback
    if backend.carries("[`future.progress`]") and backend.type != "tests.remote_app:loky":
        assert (reports.progress.done, reports.progress.message) == (1, "xxx")


@pytest.mark.parametrize("job", [remote_app.report_progress, remote_app.report_progress_later])
@but_for("inline")
def test_progress_follows_a_running_job_as_the_table_says(
    backend: Backend, executor: Executor, door: Door, job: Callable[..., Any]
) -> None:
    future = executor.submit(job, door.address)
    door.await_arrival()

    total = 2 if job is remote_app.report_progress else 3
    if backend.carries("[`future.progress`]") and backend.type != "tests.remote_app:loky":
        wait_until(lambda: seen(future) == (total - 1, total, "at the door"))
    else:
        assert future.progress is None
    door.open()
    future.result(WAIT)
    assert seen(future) == (total - 1, total + 1, "through the door")


@pytest.mark.parametrize("fails", [False, True])
@but_for("inline")
def test_the_last_of_many_reports_is_there_when_the_job_has_ended(
    app: Flask, executor: Executor, door: Door, fails: bool
) -> None:
    published: list[tuple[Any, ...]] = []
    inside.replace_on_progress(app, lambda item: published.append(item.reports.latest[:3]))
    at_end: list[Any] = []

    def note_end(_: object, **__: object) -> None:
        at_end.append(published[-1])

    with job_succeeded.connected_to(note_end, app), job_failed.connected_to(note_end, app):
        future = executor.submit(remote_app.report_progress, door.address, 10_000, fails=fails)
        door.await_arrival()
        door.open()
        assert isinstance(future.exception(WAIT), LookupError if fails else type(None))

    assert seen(future) == (10_000, 10_002, "through the door")
    assert at_end == [(10_000, 10_002, "through the door")]
    assert len(published) < 5_000, "most reports stay where the job runs"


@but_for("inline")
def test_each_attempt_starts_afresh_wherever_it_runs(
    app: Flask, executor: Executor, tmp_path: Path
) -> None:
    at_retry = []
    path = str(tmp_path / "attempts")
    with job_retried.connected_to(lambda _, job, **__: at_retry.append(job.reports), app):
        future = executor.options(retry=Retry(2, delay=0)).submit(
            remote_app.report_and_fail_at_first, path
        )
        future.result(WAIT)

    assert at_retry == [None]
    assert seen(future) == (2, 10, "")


def test_a_message_may_be_long(executor: Executor) -> None:
    future = executor.submit(remote_app.report_at_length, 100_000)
    future.result(WAIT)

    assert seen(future) == (1, None, "x" * 100_000)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="there are no interpreters")
@pytest.mark.parametrize("ending", ["shutdown", "shutdown while it runs", "garbage collection"])
def test_a_pool_of_interpreters_leaves_no_pipe_and_no_thread(door: Door, ending: str) -> None:
    from flask_executor.backends.interpreters import InterpreterPool

    before = {*Path("/proc/self/fd").iterdir()}
    pool = InterpreterPool(1, "own")
    call = pool.submit(remote_app.wait_at, door.address, "result")
    door.await_arrival()
    if ending == "shutdown while it runs":
        pool.shutdown(wait=False)
    door.open()

    assert call.result(WAIT) == "result"
    if ending == "shutdown":
        pool.shutdown()
    elif ending == "garbage collection":
        inner = pool._pool
        del pool, call
        gc.collect()
        inner.shutdown()
    wait_until(lambda: {*Path("/proc/self/fd").iterdir()} <= before)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="there are no interpreters")
def test_a_log_handler_may_submit_while_a_report_comes_from_an_interpreter(door: Door) -> None:
    from flask_executor.backends.interpreters import InterpreterPool

    pool = InterpreterPool(2, "own")
    calls: list[concurrent.futures.Future[int]] = []
    has_come = threading.Event()

    # As a log handler does if a garbage collection here frees the future of a job that has failed.
    def on_report(_: object) -> None:
        calls.append(pool.submit(int, "7"))
        has_come.set()

    first = pool.call(remote_app.send_report_and_wait_at, (door.address,), {}, on_report)
    door.await_arrival()
    is_taken = has_come.wait(WAIT)
    door.open()

    assert is_taken
    assert first.result(WAIT) is None
    assert [call.result(WAIT) for call in calls] == [7]
    pool.shutdown()


@but_for("inline")
def test_a_thread_that_a_job_has_left_reports_nothing(executor: Executor, door: Door) -> None:
    future = executor.submit(remote_app.leave_a_thread_that_reports, door.address)
    future.result(WAIT)
    door.await_arrival()
    door.open()
    executor.submit(remote_app.pid).result(WAIT)

    assert seen(future) == (1, 2, "")


# The ends of jobs


@but_for("inline")  # to submit is to run
def test_the_state_is_running_while_it_runs(
    backend: Backend, executor: Executor, door: Door
) -> None:
    running = executor.submit(remote_app.wait_at, door.address, "result")
    waiting = executor.submit(remote_app.power, 2)
    door.await_arrival()

    stats = executor.stats()
    assert (running.state, waiting.state) == ("running", "pending")
    assert (stats.running, stats.pending) == (1, 1)
    door.open()
    assert (running.result(WAIT), waiting.result(WAIT)) == ("result", 4)
    assert (running.state, waiting.state) == ("succeeded", "succeeded")


@but_for("inline")  # nothing waits
def test_what_waits_is_cancelled_and_never_runs(
    backend: Backend, executor: Executor, door: Door, tmp_path: Path
) -> None:
    cancelled: list[str] = []
    running = executor.submit(remote_app.wait_at, door.address, "result")
    door.await_arrival()
    waiting = executor.submit(remote_app.note, str(tmp_path / "file"), "ran")

    def receive(_: Flask, **sent: Any) -> None:
        cancelled.append(sent["job"].id)

    with job_cancelled.connected_to(receive):
        assert waiting.cancel()
    assert not running.cancel()
    door.open()

    assert running.result(WAIT) == "result"
    executor.drain(WAIT)
    assert cancelled == [waiting.id]
    assert not (tmp_path / "file").exists()


@but_for("inline")  # nothing waits
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
def test_shutdown_runs_or_cancels_what_waits(
    backend: Backend, executor: Executor, app: Flask, door: Door, waits: bool, cancels: bool
) -> None:
    running = executor.submit(remote_app.wait_at, door.address, "result")
    futures = [executor.submit(remote_app.power, n) for n in range(3)]
    door.await_arrival()
    if waits:
        door.open()

    with app.app_context():
        executor.shutdown(wait=waits, cancel_futures=cancels)

    ended = [future.done() for future in [running, *futures]]
    door.open()
    assert running.result(WAIT) == "result"
    assert ended == [waits] + [waits or cancels] * 3
    with app.app_context():
        executor.drain(WAIT)
    # With the door open, they may have run before shutdown came to them.
    assert waits or not cancels or all(future.cancelled() for future in futures)
    assert cancels or [future.result(WAIT) for future in futures] == [0, 1, 4]


def test_a_job_out_of_time_fails_and_is_ended_or_keeps_its_worker_as_the_table_says(
    backend: Backend, executor: Executor, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[object] = []

    def receive(_: Flask, **sent: Any) -> None:
        failed.append(sent["exception"])

    if backend.name == "inline":
        threading.Timer(0.2, door.open).start()
    with job_failed.connected_to(receive):
        future = executor.options(timeout=0.1).submit(remote_app.wait_at, door.address)
        error = future.exception(WAIT)
        next_one = executor.submit(remote_app.power, 3)
        if backend.carries("a [`timeout`]"):
            assert next_one.result(WAIT) == 9
        elif backend.name != "inline":
            assert (next_one.state, executor.stats().running) == ("pending", 1)
            assert future.job.cancel_requested
        door.open()
        assert next_one.result(WAIT) == 9
        executor.drain(WAIT)

    assert isinstance(error, JobTimeout)
    assert str(error) == "the job 'wait_at' has not ended within its 0.1 s"
    assert failed == [error]
    assert executor.stats().failed == 1
    assert "has not ended" not in caplog.text


@pytest.mark.parametrize("awaited", [True, False])
def test_a_job_in_time_is_left_alone(executor: Executor, awaited: bool) -> None:
    options = executor.options(timeout=WAIT)

    async def view() -> int:
        return await options.submit_async(remote_app.power, 3)

    assert (asyncio.run(view()) if awaited else options.submit(remote_app.power, 3).result()) == 9
    assert options.submit(remote_app.square_later, 3).result(WAIT) == 9


def test_a_coroutine_job_out_of_time_is_cancelled_wherever_it_runs(
    executor: Executor, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    future = executor.options(timeout=0.5).submit(remote_app.hang_later, str(path))

    assert isinstance(future.exception(WAIT), JobTimeout)
    executor.drain(WAIT)
    assert path.read_text() == "cleaned up\n"
    assert executor.stats().failed == 1
    assert not caplog.records


@pytest.mark.parametrize("job", [remote_app.fail_at_first, remote_app.fail_at_first_later])
def test_a_job_that_fails_is_retried_wherever_it_runs(
    executor: Executor, tmp_path: Path, job: Callable[..., Any]
) -> None:
    seen: list[tuple[int, str]] = []
    path = tmp_path / "lines"

    def note(_: Flask, /, *, attempt: int, exception: BaseException, **__: object) -> None:
        seen.append((attempt, repr(exception)))

    with job_retried.connected_to(note):
        future = executor.options(retry=Retry(3, delay=0)).submit(job, str(path), 2)
        assert future.result(WAIT) == 3
        executor.drain(WAIT)

    assert path.read_text() == "1\n2\n3\n"
    error = repr(LookupError("on purpose"))
    assert seen == [(1, error), (2, error)]
    assert (executor.stats().submitted, executor.stats().succeeded) == (1, 1)


def test_the_last_exception_is_that_of_the_job_wherever_it_runs(
    executor: Executor, tmp_path: Path
) -> None:
    path = tmp_path / "lines"

    future = executor.options(retry=Retry(2, delay=0)).submit(
        remote_app.fail_at_first, str(path), 9
    )

    assert isinstance(future.exception(WAIT), LookupError)
    assert (path.read_text(), future.job.attempt) == ("1\n2\n", 2)


@but_for("inline")
def test_cancel_ends_the_wait_for_an_attempt_wherever_it_runs(
    executor: Executor, tmp_path: Path
) -> None:
    path, retried = tmp_path / "lines", threading.Event()
    retry = Retry(2, delay=600, max_delay=600, jitter=False)

    with job_retried.connected_to(lambda *_, **__: retried.set()):
        future = executor.options(retry=retry).submit(remote_app.fail_at_first, str(path), 9)
        assert retried.wait(WAIT)
    while future.state != "pending":
        threading.Event().wait(0.001)

    assert future.cancel()
    executor.drain(WAIT)
    assert path.read_text() == "1\n"


def test_a_group_ends_with_its_jobs_wherever_they_run(executor: Executor) -> None:
    with executor.group(timeout=WAIT) as group:
        futures = [group.submit(remote_app.square, 3), group.submit(remote_app.square_later, 2)]
    assert [future.result() for future in futures] == [9, 4]

    with pytest.raises(ExceptionGroup) as caught, executor.group() as group:
        waiting = group.options(delay=600).submit(remote_app.square, 3)
        group.submit(remote_app.fail, "on purpose")
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert waiting.state == ("succeeded" if executor.stats().workers == math.inf else "cancelled")


def test_a_job_waits_for_a_commit_wherever_it_runs(executor: Executor) -> None:
    session = Session()
    after = executor.options(after=session)

    futures = [after.submit(remote_app.square, 3), after.submit(remote_app.square_later, 2)]
    assert [future.state for future in futures] == ["pending", "pending"]
    session.commit()
    assert [future.result(WAIT) for future in futures] == [9, 4]

    future = after.submit(remote_app.square, 3)
    session.rollback()
    assert future.cancelled()


def test_a_duplicate_is_returned_or_replaced_wherever_jobs_run(executor: Executor) -> None:
    def submit(on_duplicate: Any) -> JobFuture[int]:
        return executor.options(key="key", on_duplicate=on_duplicate).submit(remote_app.square, 3)

    first = submit("return")
    assert submit("return") is first
    assert first.result(WAIT) == 9

    second = submit("replace")
    assert second is not first
    assert second.result(WAIT) == 9


def test_the_interpreter_is_for_python_3_14_and_later(app: Flask) -> None:
    app.config["EXECUTOR_TYPE"] = "interpreter"

    if sys.version_info >= (3, 14):
        Executor(app)
        return
    with pytest.raises(
        ValueError, match=r"'interpreter', which needs Python 3\.14 or later; this is"
    ):
        Executor(app)

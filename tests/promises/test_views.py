"""Async views as their threads see them: what waits, and what `sync_to_async` calls there."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import sqlite3
import subprocess
import sys
import threading
import traceback
import warnings
import weakref
from concurrent.futures import Future
from importlib.metadata import version

import pytest
from asgiref.local import Local
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from flask import g, stream_with_context

from flask_executor import Executor
from tests.support import ROOT, WAIT, Interrupted, at_once, errors_of


@pytest.fixture(params=[None, "uvloop:new_event_loop"])
def executor(app, executors, request) -> Executor:
    """The app's executor, on whose loop its async views run."""
    return executors(app, async_views=True, loop_factory=request.param)


here = threading.get_ident


async def thread_of_functions() -> int:
    """Where `sync_to_async` calls functions."""
    return await sync_to_async(here)()


def test_functions_of_a_view_run_in_its_requests_thread(app, executor):
    threads = []

    async def note() -> None:
        threads.append(await thread_of_functions())

    @app.before_request
    async def before():
        await note()

    @app.after_request
    async def after(response):
        await note()
        return response

    @app.teardown_request
    async def teardown(error):
        await note()

    @app.teardown_appcontext
    async def teardown_appcontext(error):
        await note()

    @app.errorhandler(LookupError)
    async def on_error(error):
        await note()
        return "handled"

    @app.get("/")
    async def view():
        await note()
        raise LookupError

    assert app.test_client().get("/").text == "handled"
    assert threads == [here()] * 6


def test_views_at_a_time_call_their_functions_side_by_side(app, executor):
    all_here = threading.Barrier(5)

    @app.get("/")
    async def view():
        await sync_to_async(all_here.wait)(WAIT)
        return "OK"

    assert at_once(*[lambda: app.test_client().get("/").text] * 5) == ["OK"] * 5


def test_a_view_uses_what_belongs_to_its_requests_thread(app, executor):
    @app.before_request
    def connect():
        g.db = sqlite3.connect(":memory:")

    @app.get("/")
    async def view():
        rows = await sync_to_async(lambda: g.db.execute("select 1").fetchall())()
        await sync_to_async(g.db.close)()
        return rows

    assert app.test_client().get("/").json == [[1]]


def test_functions_and_coroutines_nest_in_the_requests_thread(app, executor):
    def down(depth: int) -> list[int]:
        if depth == 0:
            return [here()]
        return [here(), *app.ensure_sync(further)(depth - 1)]

    async def further(depth: int) -> list[int]:
        threads = await asyncio.gather(thread_of_functions(), sync_to_async(down)(depth))
        return [threads[0], *threads[1]]

    @app.get("/")
    async def view():
        return await further(4)

    assert set(app.test_client().get("/").json) == {here()}


def test_a_function_of_a_view_may_use_asgirefs_own_async_to_sync(app, executor):
    async def helper() -> list[int]:
        return [here(), await thread_of_functions()]

    @app.get("/")
    async def view():
        return [here(), *await sync_to_async(async_to_sync(helper))()]

    loop, helpers, functions = app.test_client().get("/").json

    assert loop == helpers
    assert functions == here()


def test_requests_at_a_time_keep_to_their_threads(app, executor, fast_switching):
    def deep() -> int:
        return app.ensure_sync(thread_of_functions)()

    @app.get("/")
    async def view():
        threads = [await thread_of_functions() for _ in range(5)]
        more = await asyncio.gather(*[sync_to_async(deep)() for _ in range(5)])
        return [*threads, *more]

    def call() -> bool:
        return all({*app.test_client().get("/").json} == {here()} for _ in range(5))

    assert at_once(*[call] * 8) == [True] * 8


def test_values_of_an_asgiref_local_go_along_and_come_back(app, executor):
    local = Local()
    seen = []

    @app.before_request
    def before():
        local.user = "Ada"

    @app.get("/")
    async def view():
        seen.append(local.user)
        local.user = "Grace"
        await asyncio.sleep(0)
        seen.append(await sync_to_async(lambda: local.user)())
        await sync_to_async(setattr)(local, "user", "Hedy")
        seen.append(local.user)
        return "OK"

    @app.after_request
    def after(response):
        seen.append(local.user)
        return response

    assert app.test_client().get("/").text == "OK"
    assert seen == ["Ada", "Grace", "Hedy", "Hedy"]


def test_a_thread_critical_local_is_that_of_the_requests_thread(app, executor):
    local = Local(thread_critical=True)
    local.user = "Ada"

    @app.get("/")
    async def view():
        assert not hasattr(local, "user")
        return await sync_to_async(lambda: local.user)()

    assert app.test_client().get("/").text == "Ada"


@pytest.mark.skipif(
    version("flask") < "3.1.2", reason="stream_with_context works in async views since Flask 3.1.2"
)
def test_a_stream_awaits_piece_after_piece(app, executor):
    async def pieces():
        for n in range(3):
            yield f"{n} {await thread_of_functions() == thread} "

    thread = here()

    @app.get("/")
    async def view():
        left = pieces()

        async def piece():
            return await anext(left, None)

        @stream_with_context
        def stream():
            while (each := app.ensure_sync(piece)()) is not None:
                yield each

        return app.response_class(stream())

    assert app.test_client().get("/").text == "0 True 1 True 2 True "


def test_functions_that_need_no_certain_thread_leave_the_requests_alone(app, executor):
    @app.get("/")
    async def view():
        insensitive = sync_to_async(here, thread_sensitive=False)
        return await asyncio.gather(insensitive(), asyncio.to_thread(here))

    assert here() not in app.test_client().get("/").json


def test_a_thread_that_serves_asgi_calls_the_functions_of_its_views(app, executor):
    # As asgiref's WsgiToAsgi does: the server has a loop of its own, and runs the app in a thread.
    @app.get("/")
    async def view():
        return [await thread_of_functions()]

    def serve():
        return [here(), *app.test_client().get("/").json, async_to_sync(loop_of)() is loop]

    async def loop_of():
        return asyncio.get_running_loop()

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        async with ThreadSensitiveContext():
            return await sync_to_async(serve)()

    loop = None
    wsgi, functions, is_the_servers_loop = asyncio.run(main())

    assert wsgi == functions != here()
    assert is_the_servers_loop


def test_after_a_view_asgiref_uses_the_executors_loop_no_more(app, executor):
    async def loop_of():
        return asyncio.get_running_loop()

    @app.get("/")
    async def view():
        await thread_of_functions()
        return "OK"

    assert app.test_client().get("/").text == "OK"
    assert async_to_sync(loop_of)() is not app.ensure_sync(loop_of)()


def test_a_view_that_is_timed_out_cancels_what_its_functions_wait_for(app, executor):
    ended = []

    async def helper():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("helper")

    started = asyncio.Event()

    @app.get("/")
    async def view():
        work = asyncio.create_task(sync_to_async(app.ensure_sync(helper))())
        await started.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return ended

    assert app.test_client().get("/").json == ["helper"]


def test_a_coroutine_sees_the_exception_that_is_handled(app, executor):
    seen = []

    @app.errorhandler(LookupError)
    async def on_error(error):
        await asyncio.sleep(0)
        seen.extend([sys.exc_info()[1], await sync_to_async(lambda: sys.exc_info()[1])()])
        return "handled"

    @app.get("/")
    async def view():
        seen.append(sys.exc_info()[1])
        raise LookupError("mine")

    assert app.test_client().get("/").text == "handled"
    assert [repr(error) for error in seen] == ["None", *["LookupError('mine')"] * 2]


def test_a_coroutine_may_raise_again_what_is_handled(app, executor, no_gc):
    class Mine(Exception):
        pass

    async def on_error():
        await asyncio.sleep(0)
        raise  # noqa: PLE0704 - there is one

    def fail():
        raise Mine

    try:
        try:
            fail()
        except Mine:
            app.ensure_sync(on_error)()
    except Mine as error:
        ref = weakref.ref(error)
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    executor.submit(asyncio.sleep, 0).result(WAIT)  # The loop has gone on.

    assert names[-1] == "fail"
    assert names.count("_call_while_handling") <= 1
    assert ref() is None


@pytest.mark.parametrize("fails", [False, True])
def test_a_view_leaves_nothing_for_the_garbage_collector(app, executor, no_gc, fails):
    class Thing:
        pass

    async def view(thing):
        await thread_of_functions()
        if fails:
            raise LookupError

    thing = Thing()
    ref = weakref.ref(thing)
    with contextlib.suppress(LookupError):
        app.ensure_sync(view)(thing)
    del thing
    executor.submit(asyncio.sleep, 0).result(WAIT)  # The loop has gone on.

    assert ref() is None


def test_a_task_that_outlives_its_view_has_a_thread_of_its_own(app, executor):
    may_end = asyncio.Event()
    tasks, threads = [], []

    async def work():
        await may_end.wait()
        for _ in range(2):
            threads.append(await sync_to_async(threading.current_thread)())

    @app.post("/start")
    async def start():
        tasks.append(asyncio.create_task(work()))
        return "started"

    @app.post("/end")
    async def end():
        may_end.set()
        async with asyncio.timeout(WAIT):
            await tasks.pop()
        return "ended"

    client = app.test_client()
    assert client.post("/start").text == "started"
    assert client.post("/end").text == "ended"
    assert threads[0] is threads[1] is not threading.current_thread()
    threads[0].join(WAIT)
    assert not threads[0].is_alive()


def test_a_task_that_outlives_a_nested_coroutine_uses_the_thread_that_still_waits(app, executor):
    tasks = []

    async def helper():
        tasks.append(asyncio.create_task(later()))

    async def later():
        await helper_has_ended.wait()
        return await thread_of_functions()

    helper_has_ended = asyncio.Event()

    @app.get("/")
    async def view():
        await sync_to_async(app.ensure_sync(helper))()
        helper_has_ended.set()
        return [await tasks[0]]

    assert app.test_client().get("/").json == [here()]


def test_functions_that_a_view_does_not_wait_for_are_called(app, executor):
    called = threading.Event()
    tasks = []

    @app.get("/")
    async def view():
        tasks.append(asyncio.create_task(sync_to_async(called.set)()))
        return "OK"

    assert app.test_client().get("/").text == "OK"
    assert called.wait(WAIT)
    tasks.clear()  # The thread that has called it ends with the task.


def test_an_interrupted_view_cleans_up_in_another_thread(app, executor, interrupt):
    cleaned_up = Future()

    async def view():
        interrupt()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set_result(await thread_of_functions())

    # The exception holds the frames, and these the thread: pytest is not to keep it.
    with contextlib.suppress(Interrupted):
        app.ensure_sync(view)()

    assert cleaned_up.result(WAIT) != here()
    executor.submit(asyncio.sleep, 0).result(WAIT)  # The loop has gone on.
    gc.collect()  # asgiref has a frame hold the exception that it raises again there.


def test_an_interrupted_function_fails_in_its_view(app, executor, interrupt):
    async def view():
        with pytest.raises(Interrupted):
            await sync_to_async(interrupt)()
        return await thread_of_functions()

    assert app.ensure_sync(view)() == here()


def test_a_loop_in_the_requests_thread_cannot_have_it_call_functions(app, executor):
    def function():
        with pytest.raises(RuntimeError, match="from its own thread"):
            asyncio.run(thread_of_functions())
        return "refused"

    @app.get("/")
    async def view():
        return await sync_to_async(function)()

    assert app.test_client().get("/").text == "refused"


def test_a_view_that_is_stopped_with_its_loop_cleans_up_in_its_requests_thread(app, executor):
    hangs = threading.Event()
    threads = []

    @app.get("/")
    async def view():
        hangs.set()
        try:
            await asyncio.Event().wait()
        finally:
            threads.append(await thread_of_functions())

    def request_page():
        threads.append(here())
        try:
            app.test_client().get("/")
        except asyncio.CancelledError:
            return "cancelled"

    def shut_down():
        assert hangs.wait(WAIT)
        executor.shutdown()

    assert at_once(request_page, shut_down) == ["cancelled", None]
    assert len(threads) == 2
    assert len({*threads}) == 1


def test_a_function_that_fails_fails_in_the_view(app, executor):
    def fail():
        raise LookupError("mine")

    @app.get("/")
    async def view():
        try:
            await sync_to_async(fail)()
        except LookupError as error:
            return repr(error)

    assert app.test_client().get("/").text == "LookupError('mine')"


def test_jobs_of_a_view_do_not_use_its_thread(app, executor):
    async def coroutine_job():
        return await thread_of_functions()

    def job():
        return app.ensure_sync(thread_of_functions)() == async_to_sync(thread_of_functions)()

    async def submitting_job():
        return await executor.submit_async(coroutine_job)

    def call_submitting_job():
        return executor.submit(submitting_job).result(WAIT)

    @app.get("/")
    async def view():
        await thread_of_functions()
        jobs = [coroutine_job, submitting_job, call_submitting_job]
        return [*[await executor.submit_async(each) for each in jobs], await executor.submit(job)]

    *threads, same = app.test_client().get("/").json

    assert here() not in threads
    assert same is True


def test_jobs_that_outlive_their_view_have_threads(app, executor):
    ended = threading.Event()

    async def coroutine_job():
        await asyncio.to_thread(ended.wait, WAIT)
        return await thread_of_functions()

    def job():
        assert ended.wait(WAIT)
        return async_to_sync(thread_of_functions)()

    async def again():
        return await executor.submit_async(coroutine_job)

    futures = []

    @app.get("/")
    async def view():
        await thread_of_functions()
        futures.extend(executor.submit(each) for each in (coroutine_job, job, again))
        return "OK"

    assert app.test_client().get("/").text == "OK"
    ended.set()

    assert here() not in [future.result(WAIT) for future in futures]


@pytest.mark.slow
def test_after_a_fork_in_a_function_the_child_serves_its_views():
    program = """
import os, flask, flask_executor
from asgiref.sync import sync_to_async
app = flask.Flask("app")
app.config["EXECUTOR_ASYNC_VIEWS"] = True
flask_executor.Executor(app)

async def pid():
    return await sync_to_async(os.getpid)()

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0 if app.ensure_sync(pid)() == os.getpid() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@app.get("/")
async def view():
    return [await sync_to_async(fork)()]

print(app.test_client().get("/").json)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )

    assert (done.stdout, errors_of(done)) == ("[0]\n", "")


def test_a_plain_function_made_of_an_async_one_looks_like_it(app, executor):
    async def load(user: str, *, upper: bool = False) -> str:
        """Load a user."""
        return user.upper() if upper else user

    plain = app.ensure_sync(load)

    assert (plain.__name__, plain.__doc__) == ("load", "Load a user.")
    assert inspect.signature(plain) == inspect.signature(load)
    assert (plain("Ada"), plain("Ada", upper=True)) == ("Ada", "ADA")


def test_a_plain_function_made_of_a_method_knows_its_object(app, executor):
    class Loader:
        async def load(self):
            return self

    loader = Loader()
    plain = app.ensure_sync(loader.load)

    assert plain.__self__ is loader
    assert plain() is loader


def test_a_method_may_be_a_plain_function_made_of_an_async_one(app, executor):
    class Loader:
        @app.async_to_sync
        async def load(self, n):
            return self, n

    loader = Loader()

    assert loader.load(1) == (loader, 1)


def test_a_plain_function_made_of_an_async_one_is_not_taken_for_one(app, executor):
    # A mark is an attribute: what copies a function's attributes copies the mark.
    async def load():
        return "loaded"

    def marked():
        return load()

    if sys.version_info >= (3, 12):
        marked = inspect.markcoroutinefunction(marked)
    plain = app.async_to_sync(marked) if sys.version_info >= (3, 12) else app.ensure_sync(load)

    assert app.ensure_sync(plain) is plain
    assert plain() == "loaded"


def test_a_function_that_is_not_marked_as_async_is_warned_of(app, executor):
    async def load(n):
        return n

    with pytest.warns(UserWarning, match="non-async-marked callable") as caught:
        plain = app.async_to_sync(lambda n: load(n))  # noqa: PLW0108 - another kind of function

    assert caught[0].filename == __file__
    assert plain(1) == 1


def test_what_is_marked_as_async_is_not_warned_of(app, executor):
    class Loader:
        async def __call__(self, n):
            return n

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = [app.async_to_sync(each) for each in (Loader(), functools.partial(Loader(), 1))]

    assert (plain[0](0), plain[1]()) == (0, 1)


def test_to_wait_in_the_thread_of_a_running_loop_is_refused(app, executor):
    async def load():
        return "loaded"

    async def elsewhere():
        with pytest.raises(RuntimeError, match=r"load.* runs an event loop.* await it instead"):
            app.ensure_sync(load)()
        return await load()

    @app.get("/")
    async def view():
        return await elsewhere()

    assert app.test_client().get("/").text == "loaded"
    assert asyncio.run(elsewhere()) == "loaded"

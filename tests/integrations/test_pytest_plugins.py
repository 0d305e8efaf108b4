"""Projects whose tests use a plugin of pytest's; each is run by a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest
from flask import Flask, has_request_context

from tests.support import ROOT, WAIT

pytestmark = pytest.mark.slow

# The live server of pytest-flask is forked, of which Python warns where there are threads.
INI = """
[pytest]
filterwarnings =
    error
    ignore:.*multi-threaded.*:DeprecationWarning
"""

SHOP = """
import asyncio

from flask import Flask, current_app, g, request
from flask_executor import Executor, current_job

executor = Executor()
sent = []


@executor.job
def report(month):
    return f"{month} of {current_app.name} for {request.path if request else 'nobody'}"


@executor.job
async def report_later(month):
    await asyncio.sleep(0)
    return report(month)


@executor.job
def fail():
    raise ValueError("on purpose")


@executor.job
def send(address):
    sent.append(address)


def create_app(**config):
    app = Flask("shop")
    app.config.update(TESTING=True, **config)
    executor.init_app(app)

    @app.get("/reports/<month>")
    def show(month):
        return report.submit(month).result()

    @app.get("/async-reports/<month>")
    async def show_async(month):
        return await report_later.submit_async(month)

    @app.post("/sent/<address>")
    def post(address):
        send.options(after="response").submit(address)
        assert sent == []
        return "", 202

    @app.post("/failures")
    def start_to_fail():
        fail.submit()
        return "", 202

    return app
"""


def check(
    folder: Path, plugin: str, files: dict[str, str], outcome: str, settings: Sequence[str] = ()
) -> None:
    """Run the tests in *files* by a pytest with that plugin, no other, and settings of its own."""
    for name, text in {"pytest.ini": "\n".join([INI, *settings]), "shop.py": SHOP, **files}.items():
        (folder / name).write_text(dedent(text))
    own = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=2 * WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].partition(" in ")[0] == outcome, done.stdout


def test_our_own_tests_run_without_these_plugins(app: Flask, pytestconfig: pytest.Config) -> None:
    assert not has_request_context()
    for plugin in ("asyncio", "flask"):
        assert not pytestconfig.pluginmanager.hasplugin(plugin)


# pytest-flask


FLASK_APP = """
import multiprocessing

import pytest
import shop

multiprocessing.set_start_method("fork")  # not the default of Python 3.14; the live server needs it


@pytest.fixture(scope="session")
def app():
    yield shop.create_app()
    shop.executor.shutdown()


@pytest.fixture(autouse=True)
def _nothing_was_sent():
    shop.sent.clear()
"""

WITH_PYTEST_FLASK = """
    import shop
    from flask import url_for
    from shop import executor, fail, report


    def test_a_view_has_the_result_of_its_job(client):
        assert client.get(url_for("show", month="May")).text == "May of shop for /reports/May"


    def test_an_async_view_awaits_its_job(client):
        assert client.get("/async-reports/May").text == "May of shop for /async-reports/May"


    def test_a_job_has_the_request_that_the_plugin_has_pushed(app):
        assert report.submit("May").result() == "May of shop for /"


    def test_a_test_without_the_plugins_fixtures_has_the_only_app():
        assert report.submit("May").result() == "May of shop for nobody"


    def test_what_comes_after_the_response_has_come_after_drain(client):
        assert client.post("/sent/ada").status_code == 202
        executor.drain(60)
        assert shop.sent == ["ada"]


    def test_a_failure_is_raised_at_the_end_of_a_block(client):
        import pytest
        from flask_executor.testing import failing_jobs_raise

        with pytest.raises(ExceptionGroup, match="fail"), failing_jobs_raise(executor):
            client.post("/failures")


    def test_each_test_has_a_g_of_its_own(app):
        from flask import g

        assert "seen" not in g
        g.seen = True
        assert executor.submit(lambda: g.seen).result()


    def test_the_next_test_has_one_too(app):
        from flask import g

        assert "seen" not in g
        g.seen = True
"""


def test_the_tests_of_a_project_with_pytest_flask_pass(tmp_path: Path) -> None:
    files = {"conftest.py": FLASK_APP, "test_shop.py": WITH_PYTEST_FLASK}

    check(tmp_path, "flask", files, "8 passed")


WITH_LIVE_SERVER = """
    import threading
    from urllib.request import urlopen

    import pytest
    import shop


    @pytest.mark.usefixtures("live_server")
    class TestLive:
        def test_a_job_runs_in_the_server(self, live_server):
            with urlopen(f"{live_server.url()}/reports/May") as response:
                assert response.read() == b"May of shop for /reports/May"

        def test_an_async_view_awaits_its_job(self, live_server):
            with urlopen(f"{live_server.url()}/async-reports/May") as response:
                assert response.read() == b"May of shop for /async-reports/May"

        def test_a_job_runs_in_the_process_of_the_tests(self, app):
            assert shop.report.submit("May").result().startswith("May of shop")
"""

# The plugin forks the process of the tests, which has used the executor before.
USED_BEFORE_THE_FORK = """
    import shop


    def test_first(app):
        assert shop.executor.submit(int).result() == 0
"""


def test_the_live_server_of_pytest_flask_runs_jobs_although_it_is_forked(tmp_path: Path) -> None:
    files = {
        "conftest.py": FLASK_APP,
        "test_1_first.py": USED_BEFORE_THE_FORK,
        "test_2_live.py": WITH_LIVE_SERVER,
    }

    check(tmp_path, "flask", files, "4 passed")


# pytest-asyncio


LOOP_SCOPE = "asyncio_default_fixture_loop_scope = function"

ASYNC_APP = """
import pytest
import shop


@pytest.fixture(scope="session")
def app():
    yield shop.create_app()
    shop.executor.shutdown()
"""

WITH_ASYNCIO = """
    import asyncio

    import pytest
    import pytest_asyncio
    from flask_executor import Retry, current_job
    from flask_executor.testing import failing_jobs_raise
    from shop import executor, fail, report, report_later

    pytestmark = pytest.mark.usefixtures("app")
    loops = set()


    @pytest.fixture
    async def stored():
        return await executor.submit_async(abs, -5)


    @pytest.mark.parametrize("n", range(3))
    async def test_each_test_awaits_jobs_in_a_loop_of_its_own(n):
        loop = asyncio.get_running_loop()
        assert loop not in loops
        loops.add(loop)
        assert await executor.submit_async(abs, -n) == n
        assert await report.submit_async("May") == "May of shop for nobody"
        assert await report_later.submit_async("May") == "May of shop for nobody"
        assert await executor.submit(abs, -n) == n


    async def test_a_fixture_awaits_a_job(stored):
        assert stored == 5


    async def test_jobs_are_gathered():
        jobs = [executor.submit_async(abs, -n) for n in range(20)]
        assert await asyncio.gather(*jobs) == list(range(20))


    async def test_a_job_is_awaited_in_a_task_group():
        async with executor.group() as group:
            futures = [group.submit(abs, -n) for n in range(3)]
        assert [future.result() for future in futures] == [0, 1, 2]


    async def test_map_async_streams():
        assert [n async for n in executor.map_async(abs, range(-3, 0))] == [3, 2, 1]


    async def test_a_failure_is_raised_where_it_is_awaited():
        with pytest.raises(ValueError, match="on purpose"):
            await fail.submit_async()


    async def test_a_retry_is_awaited():
        def flaky():
            if current_job.attempt == 1:
                raise ValueError
            return current_job.attempt

        assert await executor.options(retry=Retry(2, delay=0)).submit_async(flaky) == 2


    async def test_a_view_is_called_in_a_thread(app):
        client = app.test_client()
        first, second = await asyncio.gather(
            asyncio.to_thread(client.get, "/reports/May"),
            asyncio.to_thread(app.test_client().get, "/async-reports/June"),
        )
        assert first.text == "May of shop for /reports/May"
        assert second.text == "June of shop for /async-reports/June"


    async def test_failures_that_nobody_asks_for_are_raised():
        with pytest.raises(ExceptionGroup, match="fail"):
            with failing_jobs_raise(executor):
                fail.submit()
                await executor.drain_async()


    async def test_a_job_that_nobody_awaits_may_outlast_the_loop():
        executor.options(delay=0.01).submit(int)


    def test_a_plain_test_runs_beside_them(app):
        assert executor.submit(abs, -1).result() == 1
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_tests_of_a_project_with_pytest_asyncio_pass(tmp_path: Path, mode: str) -> None:
    tests = WITH_ASYNCIO
    if mode == "strict":
        tests = tests.replace("    async def test", "    @pytest.mark.asyncio\n    async def test")
        tests = tests.replace("@pytest.fixture\n    async", "@pytest_asyncio.fixture\n    async")
    files = {"conftest.py": ASYNC_APP, "test_shop.py": tests}

    check(tmp_path, "asyncio", files, "13 passed", [f"asyncio_mode = {mode}", LOOP_SCOPE])


def test_tests_that_share_a_loop_of_pytest_asyncio_pass(tmp_path: Path) -> None:
    tests = """
        import asyncio

        import pytest
        from shop import executor

        pytestmark = pytest.mark.asyncio(loop_scope="module")
        left = []


        async def test_a_job_is_left(app):
            left.append(executor.submit_async(abs, -5))


        async def test_the_next_test_awaits_it(app):
            assert await left.pop() == 5
            assert await executor.submit(abs, -6) == 6
    """
    files = {"conftest.py": ASYNC_APP, "test_shop.py": tests}

    check(tmp_path, "asyncio", files, "2 passed", [LOOP_SCOPE])


# AnyIO's plugin


WITH_ANYIO = """
    import anyio
    import pytest
    from flask_executor import NoRunningLoop
    from shop import executor, report, report_later

    pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("app")]


    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return request.param


    async def test_asyncio_awaits_jobs_and_trio_is_told_why_not(anyio_backend):
        if anyio_backend == "trio":
            with pytest.raises(NoRunningLoop, match="that asyncio runs"):
                await executor.submit_async(abs, -5)
            return
        assert await executor.submit_async(abs, -5) == 5
        assert await report_later.submit_async("May") == "May of shop for nobody"
        assert await executor.submit(abs, -6) == 6


    async def test_both_wait_for_jobs_in_a_thread():
        for future in (report.submit("May"), report_later.submit("May")):
            result = await anyio.to_thread.run_sync(future.result)
            assert result == "May of shop for nobody"
        await anyio.to_thread.run_sync(executor.drain)


    async def test_a_task_group_of_anyios_awaits_jobs(anyio_backend):
        if anyio_backend == "trio":
            pytest.skip("awaits need asyncio")
        results = []

        async def work(n):
            results.append(await executor.submit_async(abs, -n))

        async with anyio.create_task_group() as group:
            for n in range(3):
                group.start_soon(work, n)
        assert sorted(results) == [0, 1, 2]


    async def test_a_scope_that_is_cancelled_cancels_its_job(anyio_backend):
        if anyio_backend == "trio":
            pytest.skip("awaits need asyncio")
        future = executor.options(delay=60).submit(int)
        with anyio.move_on_after(0.01):
            await future
        await executor.drain_async(60)
        assert future.cancelled()
"""


def test_the_tests_of_a_project_with_the_plugin_of_anyio_pass(tmp_path: Path) -> None:
    files = {"conftest.py": ASYNC_APP, "test_shop.py": WITH_ANYIO}

    check(tmp_path, "anyio", files, "6 passed, 2 skipped")

"""The page about task queues: its job runs on RQ and on procrastinate."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest

from tests.records.servers import Postgresql
from tests.served.test_docs import HOWTO, blocks, forget_modules
from tests.served.test_shell_blocks import run, running, script
from tests.served.test_sigterm import await_server
from tests.support import ROOT, WAIT

DONE = "The shop: invoice of order 7 to ada@example.com"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The app of the page, whose modules can be imported while the test runs."""
    for block in blocks(HOWTO / "queues.md"):
        if block.file:
            block.write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    app = importlib.import_module("shop").create_app()
    with app.app_context():
        yield app
    forget_modules(tmp_path)


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server")
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        await_server(server, str(path))
        yield f"unix://{path}"
        server.terminate()


@pytest.mark.slow
def test_the_job_runs_on_rq(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rq")
    with redis_server(tmp_path) as url:
        monkeypatch.setenv("REDIS_URL", url)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
        module = importlib.import_module("shop.rq_queue")
        job = module.enqueue_invoice(7, "ada@example.com")
        retries = job.retries_left
        worker = subprocess.Popen([sys.executable, "rq_worker.py"], cwd=tmp_path)
        result = job.latest_result(timeout=int(WAIT))
        worker.terminate()
        worker.wait(WAIT)
        module.redis.close()

    assert (result.return_value, retries) == (DONE, 2)


def test_the_job_runs_on_procrastinate(shop: Any) -> None:
    testing = pytest.importorskip("procrastinate.testing")
    module = importlib.import_module("shop.pg_queue")
    worker = importlib.import_module("pg_worker")
    connector = testing.InMemoryConnector()

    async def run() -> None:
        await module.defer_invoice(7, "ada@example.com")
        await worker.work(wait=False)

    with (
        module.queue.replace_connector(connector) as queue,
        mock.patch.multiple(module, queue=queue),
        mock.patch.multiple(worker, queue=queue),
    ):
        asyncio.run(run())

    [job] = connector.jobs.values()
    assert (job["status"], job["args"]) == (
        "succeeded",
        {"order_id": 7, "address": "ada@example.com"},
    )


@pytest.mark.slow
def test_the_commands_for_celery_start_a_worker_that_runs_the_job(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("redis") is None:
        pytest.skip("redis is not installed")
    with redis_server(tmp_path) as url:
        for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):  # before those of the config
            monkeypatch.setenv(name, url.replace("unix://", "redis+socket://"))
        source = script(HOWTO / "queues.md", "celery")
        with running(f"{source.strip()} --concurrency 1", tmp_path):
            command = (
                "from shop import create_app; app = create_app(); task = app.extensions['celery']"
            )
            command += ".tasks['shop.work.send_invoice'].delay(7, 'ada@example.com')"
            shown = run(f'python -c "{command}; print(task.get(timeout={int(WAIT)}))"', tmp_path)

    assert shown.strip() == DONE


@pytest.mark.slow
@pytest.mark.timeout(3 * WAIT)
def test_the_commands_for_procrastinate_make_its_tables_and_start_a_worker(
    shop: Any, tmp_path: Path
) -> None:
    pytest.importorskip("procrastinate")
    try:
        server = Postgresql()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    try:
        server.database("shop")
        variables = {"PGPORT": str(server.port), "PGUSER": "postgres"}
        *prepare, work = script(HOWTO / "queues.md", "procrastinate").strip().splitlines()
        run("\n".join(prepare), tmp_path, **variables)
        command = "import asyncio; from shop.pg_queue import defer_invoice"
        run(f"python -c \"{command}; asyncio.run(defer_invoice(7, 'a'))\"", tmp_path, **variables)
        with (
            running(work, tmp_path, **variables),
            psycopg.connect(f"{server.url}/shop") as database,
        ):
            database.autocommit = True
            end = time.monotonic() + WAIT
            query = "SELECT status FROM procrastinate_jobs"
            while database.execute(query).fetchall() != [("succeeded",)]:
                assert time.monotonic() < end
                time.sleep(0.05)
    finally:
        server.stop()

"""The shell commands of the docs: most run here; of the others, the names are checked."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import distributed
import httpx
import pytest

from tests.served.servers import NOT_KEPT_ALIVE
from tests.served.test_docs import HOWTO, PAGES, REFERENCE, TEXTS, Block, blocks
from tests.served.test_sigterm import await_server
from tests.support import ROOT, WAIT

# They begin with these words. test_tutorial.py runs those of the tutorial.
NOT_RUN_HERE = {
    "pip install": "only the names of the extras are checked",
    "make ": "only the targets are checked",
    "sudo ": "needs a machine to change",
    "echo 1000 | valgrind": "needs valgrind",
    ".ci/run": "runs the tests",
    ".venv/bin/python tests/served/soak.py": "five minutes of load; test_soak.py has less",
    "token=": "test_docs.py",
    "curl ": "test_docs.py",
    "uvicorn ": "test_deployment_page.py",
    "hypercorn ": "test_deployment_page.py",
    "waitress-serve ": "test_deployment_page.py",
    "cheroot ": "test_deployment_page.py",
    "granian ": "test_deployment_page.py",
    "uwsgi ": "test_deployment_page.py",
    "gunicorn --workers 1 --threads 8 app:app": "test_deployment_page.py",
    "gunicorn -k gevent": "test_gevent.py",
    "celery ": "tests/integrations/test_queues_page.py",
    "python rq_worker.py": "tests/integrations/test_queues_page.py",
    "export PYTHONPATH=.": "tests/integrations/test_queues_page.py",
    "procrastinate ": "tests/integrations/test_queues_page.py",
    "python pg_worker.py": "tests/integrations/test_queues_page.py",
}
# The tests below run the blocks with these lines.
RUN_HERE = (
    "FLASK_EXECUTOR_TYPE=process FLASK_EXECUTOR_MAX_WORKERS=2 flask --app examples/mandelbrot",
    "dask ",
    "export FLASK_EXECUTOR_",
    "export PROMETHEUS_MULTIPROC_DIR",
    "rm -rf ",
    "flask ",
    "gunicorn --workers 1 --threads 8 scheduled_shop:app",
    "gunicorn --workers 4 --threads 8 scheduled_workers:app",
    "gunicorn --workers 3 --threads 4 app:app",
)

SHOP = """
from flask import Flask
from flask_executor import Executor

def create_app():
    app = Flask("shop")
    app.config["EXECUTOR_STORE"] = "sqlite:///jobs.db"
    executor = Executor(app)
    return app
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the commands are for a Unix shell")


def scripts(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "sh"]


def script(page: Path, begins: str) -> str:
    """The block of *page* that has a line that begins so."""
    [found] = [b.source for b in scripts(page) if re.search(rf"^{begins}", b.source, re.MULTILINE)]
    return found


def commands() -> list[str]:
    pages = [page for page in [*PAGES, *TEXTS] if "tutorial" not in page.parts]
    sources = [block.source for page in pages for block in scripts(page)]
    lines = [line for each in sources for line in each.replace("\\\n", "").splitlines()]
    return [line for line in lines if line == line.lstrip()]


def environment(**variables: str) -> dict[str, str]:
    """This package and the programs beside this Python, as in an environment of a reader."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": programs, "PYTHONPATH": f".{os.pathsep}{ROOT}"} | variables


def run(source: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        ["sh", "-ec", source],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(source: str, folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script until the block ends, and then send SIGTERM to all that it has started."""
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            ["sh", "-ec", source],
            cwd=folder,
            env=environment(**variables),
            stderr=subprocess.PIPE,
            stdout=log,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.communicate(timeout=WAIT)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def serving(source: str, folder: Path, **variables: str) -> Iterator[httpx.Client]:
    """The same for a script whose last line starts Gunicorn."""
    path = folder / "socket"
    source = f"{source.strip()} --bind unix:{path} --no-control-socket"
    with (
        running(source, folder, **variables) as process,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path), limits=NOT_KEPT_ALIVE),
            base_url="http://server",
            timeout=WAIT,
        ) as client,
    ):
        await_server(process, str(path))
        yield client


def write_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.file:
            block.write(folder)


@pytest.mark.parametrize("command", sorted({*commands()}))
def test_a_command_runs_in_a_test_or_cannot(command: str) -> None:
    assert command.startswith((*RUN_HERE, *NOT_RUN_HERE))


@pytest.mark.parametrize("start", [*RUN_HERE, *NOT_RUN_HERE])
def test_no_start_of_a_command_is_left_over(start: str) -> None:
    assert [command for command in commands() if command.startswith(start)]


def test_the_extras_that_pages_install_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = "".join(page.read_text("utf-8") for page in [*PAGES, *TEXTS])
    found = re.findall(r"[Ff]lask-[Ee]xecutor\[([\w,]+)\]", text)

    assert found
    assert {name for names in found for name in names.split(",")} <= {
        *project["optional-dependencies"]
    }


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make: apt-get install make")
@pytest.mark.parametrize("command", sorted({c for c in commands() if c.startswith("make ")}))
def test_make_has_the_target(command: str) -> None:
    run(command.replace("make ", "make --dry-run ", 1), ROOT)


@pytest.mark.slow
def test_the_command_that_measures_the_backends_prints_its_times() -> None:
    shown = run(script(HOWTO / "backends.md", "FLASK_EXECUTOR_TYPE"), ROOT)

    assert "process" in shown


@pytest.mark.slow
@pytest.mark.timeout(4 * WAIT)
def test_the_commands_of_the_page_on_dask_start_a_cluster_that_runs_jobs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    page = HOWTO / "dask.md"
    code, *_ = (block.source for block in blocks(page) if block.language == "python")
    (tmp_path / "shop.py").write_text(
        code.replace("8786", port) + "\ndef add(a, b): return a + b\n"
    )
    scheduler, worker = script(page, "dask").replace("8786", port).splitlines()
    with (
        running(f"{scheduler} --host 127.0.0.1 --dashboard-address :0", tmp_path),
        running(worker.replace("#", "--no-dashboard #"), tmp_path),
    ):
        with distributed.Client(f"tcp://127.0.0.1:{port}", timeout=WAIT) as client:
            client.wait_for_workers(1, timeout=WAIT)
        shown = run(
            "python -c 'import shop; print(shop.executor.submit(shop.add, 2, 3).result(60))'",
            tmp_path,
        )

    assert shown == "5\n"


@pytest.mark.slow
def test_the_variables_of_the_page_on_factories_have_jobs_run_in_processes(tmp_path: Path) -> None:
    page = HOWTO / "factories.md"
    write_files(page, tmp_path)
    source = script(page, "export FLASK_EXECUTOR_TYPE")
    with running(source, tmp_path, FLASK_RUN_PORT="0", PYTHONUNBUFFERED="1") as process:
        [url] = next(filter(None, (re.findall(r"http://[\d.:]+", x) for x in process.stderr)))
        with httpx.Client(timeout=WAIT, trust_env=False) as client:
            answer = client.get(f"{url}/orders/7/invoice")

    assert answer.text == "The shop: invoice of order 7"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["scheduled_shop", "scheduled_workers"])
def test_gunicorn_serves_the_app_of_the_page_on_schedules(tmp_path: Path, module: str) -> None:
    if importlib.util.find_spec("apscheduler") is None:
        pytest.skip("`make integrations` has APScheduler")
    page = HOWTO / "schedules.md"
    write_files(page, tmp_path)
    with serving(script(page, rf"gunicorn .* {module}:app"), tmp_path) as client:
        assert client.get("/").status_code == 404  # It has no views.


@pytest.mark.slow
def test_the_commands_of_the_page_on_prometheus_serve_the_metrics_of_processes(
    tmp_path: Path,
) -> None:
    page = HOWTO / "prometheus.md"
    code = [block.source for block in blocks(page) if block.language == "python"]
    (tmp_path / "app.py").write_text(code[0])
    [hooks] = [each for each in code if "child_exit" in each]
    (tmp_path / "gunicorn.conf.py").write_text(hooks)
    source = script(page, "gunicorn").replace("/run/shop-metrics", str(tmp_path / "metrics"))
    with serving(source, tmp_path) as client:
        shown = client.get("/metrics").text
        files = list((tmp_path / "metrics").glob("*.db"))

    assert "flask_executor_workers" in shown
    assert files


@pytest.mark.slow
def test_the_commands_of_the_reference_work(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    sources = [block.source for block in scripts(REFERENCE / "command.md")]
    sources += [block.source for block in scripts(REFERENCE / "configuration.md")]
    found = [each.strip() for each in sources if each.startswith("flask")]
    # test_command.py looks at `watch`, in a terminal.
    shown = [run(each, tmp_path, FLASK_APP="shop") for each in found if "watch" not in each]

    assert len(shown) == len(found) - 1 == 3
    assert '"jobs": []' in "".join(shown)

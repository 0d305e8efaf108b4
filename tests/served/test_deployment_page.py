"""The servers of the deployment page finish their jobs, and systemd takes its units."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.served.servers import NOT_KEPT_ALIVE
from tests.served.test_docs import HOWTO, blocks
from tests.served.test_sigterm import await_server
from tests.support import WAIT

PAGE = HOWTO / "deployment.md"
FILES = {block.file: block.source for block in blocks(PAGE) if block.file}
UNITS = {
    block.file: block
    for page in (HOWTO / "schedules.md", PAGE)
    for block in blocks(page)
    if block.file and block.file.endswith((".service", ".timer"))
}
ADDRESS = re.compile(r"(?:127\.0\.0\.1|0\.0\.0\.0):8000")

# Its job ends when the test has written into the pipe: after the signal that stops the server.
APP = """
from asgiref.wsgi import WsgiToAsgi
from flask import Flask
from flask_executor import Executor

app = Flask(__name__)
app.config.from_prefixed_env()
executor = Executor(app)
ASGI

def job():
    with open("pipe") as pipe:
        text = pipe.read()
    with open("done", "w") as done:
        done.write(text)

@app.get("/")
def start():
    executor.submit(job)
    return str(app.config["EXECUTOR_SHUTDOWN_TIMEOUT"])
"""


def commands() -> dict[str, str]:
    """The commands of the page that start a server, but for gevent: its job would block the hub."""
    lines = [
        line
        for block in blocks(PAGE)
        if block.language == "sh"
        for line in block.source.splitlines()
        if not line.startswith("sudo") and "gevent" not in line
    ]
    [container] = re.findall(r"^CMD (.*)$", FILES["Dockerfile"], re.MULTILINE)
    [service] = re.findall(r"^ExecStart=\S+/(gunicorn .*)$", FILES["shop.service"], re.MULTILINE)
    named = {"Dockerfile": shlex.join(json.loads(container)), "shop.service": service}
    return {line: line for line in lines} | named


def on_socket(command: str, path: Path) -> list[str]:
    """The same command, run by this Python, on a socket of its own."""
    program, *arguments = shlex.split(command)
    program = {"waitress-serve": "waitress"}.get(program, program)
    arguments = [ADDRESS.sub(f"unix:{path}", each) for each in arguments]
    if program == "gunicorn":
        arguments.append("--no-control-socket")
        if f"unix:{path}" not in " ".join(arguments):
            arguments.append(f"--bind=unix:{path}")
    if program == "granian":
        place = arguments.index("--host")
        arguments[place : place + 4] = ["--uds", str(path)]
    if program == "waitress":
        arguments[arguments.index("--listen")] = "--unix-socket"
    if program in {"waitress", "cheroot"}:
        arguments = [each.removeprefix("unix:") for each in arguments]
    if program == "uvicorn":
        arguments += ["--uds", str(path)]
    if program == "uwsgi":
        where = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        found = shutil.which(program, path=where)
        if found is None:
            pytest.skip("there is no uWSGI: pip install pyuwsgi")
        return [found, *(each.removeprefix("unix:") for each in arguments)]
    return [sys.executable, "-m", program, *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("name", commands())
def test_a_server_of_the_page_finishes_its_jobs(tmp_path: Path, name: str) -> None:
    [asgi] = [block.source for block in blocks(PAGE) if "async def asgi" in block.source]
    wrapper = asgi[asgi.index("wsgi = WsgiToAsgi") :]
    (tmp_path / "app.py").write_text(APP.replace("ASGI", wrapper))
    (tmp_path / "uwsgi.ini").write_text(FILES["uwsgi.ini"])
    os.mkfifo(tmp_path / "pipe")
    socket = tmp_path / "socket"
    environment = os.environ | {"FLASK_EXECUTOR_SHUTDOWN_TIMEOUT": "20"}
    if name.startswith(("waitress", "cheroot")):  # as the page says
        environment["FLASK_EXECUTOR_EXIT_ON_SIGTERM"] = "true"
    with (
        subprocess.Popen(
            on_socket(commands()[name], socket),
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as server,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket), limits=NOT_KEPT_ALIVE),
            base_url="http://server",
            timeout=WAIT,
        ) as client,
    ):
        try:
            await_server(server, str(socket))
            assert client.get("/").text == "20"
            server.send_signal(signal.SIGTERM)
            (tmp_path / "pipe").write_text("ended")
            server.communicate(timeout=WAIT)
        finally:
            server.kill()

    assert (tmp_path / "done").read_text() == "ended"


def test_the_container_gives_each_time_less_than_the_next() -> None:
    [jobs] = re.findall(r"SHUTDOWN_TIMEOUT=(\d+)", FILES["Dockerfile"])
    [server] = re.findall(r"--graceful-timeout=(\d+)", FILES["Dockerfile"])
    [container] = re.findall(r"stop_grace_period: (\d+)s", FILES["compose.yaml"])
    [unit] = re.findall(r"TimeoutStopSec=(\d+)", FILES["shop.service"])

    assert int(jobs) < int(server) < int(container) < int(unit)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_a_unit(tmp_path: Path, name: str) -> None:
    for unit in UNITS.values():
        path = tmp_path / str(unit.file)
        programs = str(Path(sys.executable).parent)
        path.write_text(unit.source.replace("/srv/shop/.venv/bin", programs))

    command = ["systemd-analyze", "verify", "--man=no", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    ours = [line for line in done.stderr.splitlines() if "shop" in line]
    assert (done.returncode, ours) == (0, []), done.stderr

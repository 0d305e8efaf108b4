"""Starts servers, each in a process of its own, and ends them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

# The folder of the apps that are served.
APPS = Path(__file__).parent

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")

# A connection for each request: then each worker gets some, and none is left of a server's past.
NOT_KEPT_ALIVE = httpx.Limits(max_keepalive_connections=0)

# What a Dask worker logs whose heartbeat meets the end of its scheduler.
HEARTBEAT = re.compile(
    r"[^\n]*Failed to communicate with scheduler during heartbeat\.\n.*?CommClosedError: [^\n]*\n",
    re.DOTALL,
)


@contextmanager
def served(
    command: str,
    folder: Path,
    end: signal.Signals = signal.SIGTERM,
    *,
    keep_alive: bool = False,
) -> Iterator[httpx.Client]:
    """Run a server until the block ends, and check what it logged.

    :param keep_alive: whether requests may follow each other on a connection. asgiref's WsgiToAsgi
        then needs a server that begins each request with contextvars of its own; see
        https://github.com/django/asgiref/issues/491
    """
    with start(command, folder) as process, ThreadPoolExecutor(1) as reader:
        try:
            log = read_to_address(process.stderr)
            # A server whose pipe is full would wait.
            rest_of_log = reader.submit(process.stderr.read)
            limits = httpx.Limits() if keep_alive else NOT_KEPT_ALIVE
            with httpx.Client(
                base_url=ADDRESS.search(log)[0], limits=limits, timeout=60, trust_env=False
            ) as client:
                yield client
        finally:
            stop(process, end)
        log += rest_of_log.result()
    assert "Traceback" not in HEARTBEAT.sub("", log), log
    assert process.returncode in {0, -signal.SIGTERM}, log


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_to_address(stderr: IO[str]) -> str:
    log = ""
    for line in stderr:
        log += line
        if ADDRESS.search(line):
            return log
    pytest.fail(f"the server did not start:\n{log}")


def stop(process: subprocess.Popen[str], end: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(end)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
        raise


def check_that_jobs_know_their_own_request(client: httpx.Client, path: str) -> None:
    users = [f"user-{n}" for n in range(24)]

    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda user: client.get(path, params={"user": user}), users)

    assert [answer.json() for answer in answers] == [[f"{user} at {path}"] * 20 for user in users]

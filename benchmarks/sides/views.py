"""A sync view and an async one, requested in turns."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flask import Flask

    RequestAll: TypeAlias = Callable[[str, int], object]

CLIENTS = 4
# The two views take turns within a round, as what else the machine does changes meanwhile.
TURNS = 10


def add_views(app: Flask) -> Flask:
    """Give the app both views."""

    @app.get("/sync")
    def sync_view() -> str:
        return ""

    @app.get("/async")
    async def async_view() -> str:
        return ""

    return app


def more_for_async(request_all: RequestAll, requests: int) -> float:
    """Request either view so many times; the seconds that a request of the async one takes more.

    :param request_all: requests a path so many times
    """
    in_a_turn = max(CLIENTS, requests // TURNS)
    taken = {"/sync": 0.0, "/async": 0.0}
    for _ in range(TURNS):
        for path in taken:
            begin = perf_counter()
            request_all(path, in_a_turn)
            taken[path] += perf_counter() - begin
    return (taken["/async"] - taken["/sync"]) / (TURNS * in_a_turn)


def request_in_test_client(app: Flask, path: str, requests: int) -> None:
    """Request a path with no server in between."""
    client = app.test_client()
    for _ in range(requests):
        client.get(path)


def request_of_server(port: int, path: str, requests: int) -> None:
    """Have the clients send that many requests in all, each over one connection."""

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(requests // CLIENTS):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()

    clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


@contextmanager
def served(app: str) -> Generator[RequestAll]:
    """Have Gunicorn serve what ``module:factory()`` makes, with a thread for each client."""
    command = [sys.executable, "-E", "-m", "gunicorn", "--bind", "127.0.0.1:0"]
    command += ["--worker-class", "gthread", "--threads", str(CLIENTS), app]
    server = subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
    try:
        port = next(
            int(found[1])
            for line in server.stderr or ()
            if (found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line))
        )
        yield partial(request_of_server, port)
    finally:
        server.terminate()
        server.communicate()

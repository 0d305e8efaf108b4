"""What a server answers per second: async views of stock Flask, and on the executor's loop.

::

    .venv/bin/python benchmarks/served.py

Gunicorn serves two apps that differ in ``EXECUTOR_ASYNC_VIEWS`` alone, each with one worker process
and as many threads as there are clients. Rounds take turns, so that what else the machine does
meets both. A line has the medians over the rounds.
"""

from __future__ import annotations

import argparse
import http.client
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from flask import Flask

from flask_executor import Executor

if TYPE_CHECKING:
    from collections.abc import Generator

CLIENTS = 4
PATHS = {"sync view": "/sync", "async view": "/async"}


def make_app(*, async_views: bool) -> Flask:
    """Make what Gunicorn serves."""
    app = Flask(__name__)
    app.config["EXECUTOR_ASYNC_VIEWS"] = async_views
    Executor(app)

    @app.get("/sync")
    def sync_view() -> str:
        return ""

    @app.get("/async")
    async def async_view() -> str:
        return ""

    return app


def main() -> None:
    """Print requests per second for either view of either app."""
    parser = argparse.ArgumentParser(description="Requests per second, stock Flask and ours.")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds of each (9)")
    parser.add_argument("--requests", type=int, default=1000, metavar="N", help="in a round (1000)")
    options = parser.parse_args()
    taken: dict[tuple[str, str], list[float]] = {}
    with served(async_views=False) as stock, served(async_views=True) as ours:
        for _ in range(options.rounds):
            for name, path in PATHS.items():
                for whose, port in (("stock Flask", stock), ("on one loop", ours)):
                    rate = requests_per_second(port, path, options.requests)
                    taken.setdefault((name, whose), []).append(rate)
    for (name, whose), rates in taken.items():
        print(f"{name:<10}  {whose:<11}  {median(rates):>6.0f} requests/s")


@contextmanager
def served(*, async_views: bool) -> Generator[int]:
    """Serve an app; gives the port."""
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--worker-class"]
    command += ["gthread", "--threads", str(CLIENTS), f"served:make_app(async_views={async_views})"]
    server = subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
    try:
        yield next(
            int(found[1])
            for line in server.stderr or ()
            if (found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line))
        )
    finally:
        server.terminate()
        server.communicate()


def requests_per_second(port: int, path: str, requests: int) -> float:
    """Have the clients send that many requests in all, each over one connection."""

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(requests // CLIENTS):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()

    clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
    begin = perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return requests / (perf_counter() - begin)


if __name__ == "__main__":
    main()

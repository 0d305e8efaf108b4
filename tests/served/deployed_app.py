"""The app that tests have servers fork, recycle and stop; its jobs write down what they do."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from flask import Flask

from flask_executor import Executor

app = Flask(__name__)
app.config.from_prefixed_env()
executor = Executor(app)


def note(line: str) -> None:
    """Add a line to the journal, at once: several processes write it."""
    journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, f"{line}\n".encode())
    os.close(journal)


def hold(name: str) -> None:
    """Wait until there is a line in the named pipe."""
    note(f"{name} started")
    with Path(os.environ["PIPE"]).open(encoding="utf-8") as lines:
        lines.readline()
    note(f"{name} ended")


async def cube(n: int) -> int:
    return n**3


if "SUBMIT_EARLY" in os.environ:
    executor.submit_stored("early", hold, "early")


@app.get("/early")
def early() -> dict[str, str | None]:
    return {
        "state": executor.futures.state("early"),
        "error": repr(executor.futures.exception("early", 0)),
    }


@app.get("/pid")
async def pid() -> list[int]:
    jobs = [executor.submit_async(os.getpid), executor.submit_async(cube, 3)]
    return [await job for job in jobs]


@app.post("/notes/<name>/<int:count>")
def take_notes(name: str, count: int) -> str:
    for n in range(count):
        executor.submit(note, f"{name} {n}")
    return str(os.getpid())


@app.post("/hold/<name>")
def start_to_hold(name: str) -> str:
    executor.submit(hold, name)
    return str(os.getpid())


@app.get("/sigterm")
def show_handler() -> str:
    """What handles SIGTERM in the process that serves the app."""
    return str(signal.getsignal(signal.SIGTERM))


asgi_app = WsgiToAsgi(app)
a2wsgi_app = WSGIMiddleware(app)


if __name__ == "__main__":
    server, socket = sys.argv[1:]
    if server == "waitress":
        import waitress

        waitress.serve(app, unix_socket=socket)
    else:
        import uvicorn

        uvicorn.run(asgi_app, uds=socket)

"""The app that test_reloader.py has served, in a folder of its own, while it changes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from pathlib import Path

from flask import Flask, current_app, request

from flask_executor import Executor

app = Flask(__name__)
app.config.from_prefixed_env()
executor = Executor(app)


def copy_line(folder: str, name: str) -> None:
    """Copy a line from the named pipe of that name into a file, once there is one."""
    pipe, copy = Path(folder, f"{name}.pipe"), Path(folder, f"{name}.copy")
    with pipe.open(encoding="utf-8") as lines:
        current_app.logger.warning("%s begins in %s", name, os.getpid())
        copy.write_text(lines.readline())


async def copy_line_later(folder: str, name: str) -> None:
    """Copy a line without a thread of the pool."""
    await asyncio.to_thread(copy_line, folder, name)


@app.post("/jobs")
def start() -> tuple[str, int]:
    executor.submit(copy_line, request.args["folder"], "function")
    executor.submit(copy_line_later, request.args["folder"], "coroutine")
    return "OK", 202


@app.get("/process")
def process() -> dict[str, object]:
    threads = [thread.name for thread in threading.enumerate() if "executor" in thread.name]
    children = [child.name for child in multiprocessing.active_children()]
    return {"pid": os.getpid(), "parent": os.getppid(), "pool": threads + children}

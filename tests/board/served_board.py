"""The app whose board the tests have served."""

from __future__ import annotations

import os
from pathlib import Path

from asgiref.wsgi import WsgiToAsgi
from flask import Flask

from flask_executor import Executor, current_job
from flask_executor.board import board

app = Flask(__name__)
app.secret_key = "a secret"
app.config.from_prefixed_env()
executor = Executor(app)
app.register_blueprint(board(executor, authorize=lambda: True), url_prefix="/jobs")
asgiref_app = WsgiToAsgi(app)


@executor.job
def draw() -> str:
    """Draw a page for each character in the named pipe, and end with a full stop."""
    # Without a buffer, which would take the characters of other jobs.
    with Path(os.environ["PIPE"]).open("rb", buffering=0) as pipe:
        for number in range(10):
            current_job.progress(number, 10, "pages drawn")
            if pipe.read(1) == b".":
                break
    return "all drawn"


@app.post("/draw/<key>")
def start(key: str) -> str:
    """Start a job."""
    return str(draw.submit_stored(key).id)


@app.post("/fail/<key>")
def fail(key: str) -> str:
    """Run a job that fails."""
    future = executor.submit_stored(key, divmod, 1, 0)
    executor.drain()
    return str(future.id)

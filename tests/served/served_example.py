"""The example, whose reports draw a page for each byte that the test writes into a named pipe."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

from asgiref.wsgi import WsgiToAsgi

from flask_executor import current_job

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import async_app

app = async_app.app
asgi_app = WsgiToAsgi(app)


def wait_for_a_byte(seconds: float) -> None:
    """Stands for the time that a page takes; over when there is a byte, or the job shall stop."""
    if current_job.name != "build_report":
        time.sleep(seconds)
        return
    pipe = os.open(os.environ["PIPE"], os.O_RDONLY)
    while not current_job.cancel_requested:
        if select.select([pipe], [], [], 0.05)[0]:
            os.read(pipe, 1)
            break
    os.close(pipe)


async_app.sleep = wait_for_a_byte

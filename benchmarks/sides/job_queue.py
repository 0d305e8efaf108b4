"""What the sides that send jobs through Redis have in common."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

WORKERS = 4
PATIENCE = 60  # seconds for a result; where it is not there by then, the worker has died

_GRACE = 10  # seconds for a worker to end


def redis_url(database: int) -> str:
    """Where a side has its jobs; each side has a database of its own."""
    return f"{os.environ['BENCHMARK_REDIS_URL']}/{database}"


@contextmanager
def worker(*command: str) -> Generator[None]:
    """Run a module of this Python, with its arguments, as the worker."""
    # As Ctrl-C does, ending this process is to end its worker, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-E", "-m", *command],
        cwd=Path(__file__).parent,  # from where it imports the side
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""A Redis of the benchmarks' own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def redis_server() -> Generator[str]:
    """Run Redis on a free port, keeping nothing; gives its URL, to which ``/0`` and so on is added.

    :raises RuntimeError: if it is not installed, or does not start
    """
    if shutil.which("redis-server") is None:
        raise RuntimeError(
            "redis-server is not on PATH; install Redis: apt-get install redis-server"
        )
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", directory]
        command += ["--save", "", "--appendonly", "no"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                said = []
                for line in server.stdout or ():
                    said.append(line)
                    if "Ready to accept connections" in line:
                        break
                else:
                    raise RuntimeError(f"redis-server did not start: {''.join(said)}")
                yield f"redis://127.0.0.1:{port}"
            finally:
                server.terminate()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port

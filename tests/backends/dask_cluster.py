"""A Dask cluster whose parts can be ended one by one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed

from tests.support import ROOT, WAIT


class Cluster:
    """A Dask scheduler and two workers, each a process of its own, as on machines of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.address = "tcp://{}:{}".format(*server.getsockname())
        self.start()

    def start(self) -> None:
        """Start it, or start it anew at the same address."""
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start(
            "scheduler", "--host=127.0.0.1", f"--port={port}", "--no-show", "--dashboard-address=:0"
        )
        self.workers = [self.start_worker(), self.start_worker()]
        with distributed.Client(self.address, timeout=WAIT, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=WAIT)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker, of one thread."""
        return self._start("worker", self.address, "--nthreads=1", "--no-nanny", "--no-dashboard")

    def stop(self) -> None:
        """End all of it."""
        for process in self._processes:
            process.kill()
            process.wait(WAIT)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            # It lives as long as the tests run; by default it looks at itself 50 times a second.
            "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
        }
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                cwd=self._folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

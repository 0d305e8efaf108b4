"""A prefork worker of Celery finishes the jobs that its tasks have submitted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT, WAIT

WORKER = ["-m", "celery", "-A", "tests.served.celery_app:queue", "worker", "-Pprefork", "-c1"]
START = ["-c", "from tests.served.celery_app import start_job; start_job.delay()"]


def test_a_prefork_worker_finishes_its_jobs_at_the_signal_of_its_end(tmp_path: Path) -> None:
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "told")
    environment = os.environ | {"CELERY_FOLDER": str(tmp_path)}
    subprocess.run([sys.executable, *START], cwd=ROOT, env=environment, check=True, timeout=WAIT)

    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, *WORKER], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        # Opened for both, it keeps what one writer leaves until the next one comes.
        with open(tmp_path / "told", opener=lambda path, _: os.open(path, os.O_RDWR)) as told:
            assert told.readline() == "the task has ended\n", (tmp_path / "log").read_text()
            worker.send_signal(signal.SIGTERM)
            assert told.readline() == "shutdown has begun\n"
            (tmp_path / "pipe").write_text("go on")
            assert told.readline() == "the job has ended\n"
            assert told.readline() == "shutdown has ended\n"
        assert worker.wait(WAIT) == 0
    finally:
        worker.kill()
        worker.wait(WAIT)

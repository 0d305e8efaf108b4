"""An app whose Celery tasks submit jobs; the folder of its queue is given by the environment."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_shutdown
from flask import Flask

from flask_executor import Executor

FOLDER = Path(os.environ["CELERY_FOLDER"])

app = Flask(__name__)
executor = Executor(app)
queue = Celery("tests.served.celery_app", broker="filesystem://")
queue.conf.broker_transport_options = {
    "data_folder_in": str(FOLDER / "queue"),
    "data_folder_out": str(FOLDER / "queue"),
    "control_folder": str(FOLDER / "control"),
}


def tell(line: str) -> None:
    with (FOLDER / "told").open("a") as told:
        told.write(f"{line}\n")


def job() -> None:
    (FOLDER / "pipe").read_text()
    tell("the job has ended")


@queue.task
def start_job() -> None:
    executor.submit(job)
    tell("the task has ended")


@worker_process_shutdown.connect
def finish_jobs(**_: object) -> None:
    tell("shutdown has begun")
    executor.shutdown()
    tell("shutdown has ended")

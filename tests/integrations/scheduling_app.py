"""The app that test_apscheduler.py has served: a scheduler in each worker submits the same jobs."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask

from flask_executor import Executor, ExecutorClosed

app = Flask(__name__)
app.config.from_prefixed_env()
executor = Executor(app)
scheduler = BackgroundScheduler(timezone="UTC")


def note(verb: str, tick: str) -> None:
    with Path(os.environ["JOURNAL"]).open("a", encoding="utf-8") as journal:
        journal.write(f"{verb} {tick} {os.getpid()}\n")


@scheduler.scheduled_job("cron", second="*")
def each_second() -> None:
    tick = f"{datetime.now(UTC):%H:%M:%S}"
    with suppress(ExecutorClosed):
        executor.options(key=f"tick {tick}", on_duplicate="return").submit(note, "ran", tick)
        note("tried", tick)


scheduler.start()

"""Races for keys in a process of its own: many threads submit jobs with the same key at once.

It reads the number of threads, an `on_duplicate` and keys, one a line; it prints, for each key, how
many submissions started a job, how many were refused, and what the futures of the others gave.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flask import Flask

from flask_executor import DuplicateKey, Executor
from tests.inside import wait_long_for_databases

WAIT = 60.0

app = Flask("racing")
app.config.from_prefixed_env()
executor = Executor(app)


def run(key: str) -> str:
    with Path(os.environ["JOURNAL"]).open("a", encoding="utf-8") as journal:
        journal.write(f"{key}\n")
    return f"{key} of {os.getpid()}"


def race(key: str, threads: int, on_duplicate: str) -> dict[str, int]:
    barrier = threading.Barrier(threads)

    def submit(_: int) -> str:
        with app.app_context():
            barrier.wait(WAIT)
            try:
                future = executor.options(key=key, on_duplicate=on_duplicate).submit(run, key)
            except DuplicateKey:
                return "refused"
            return str(future.result(WAIT))

    with ThreadPoolExecutor(threads) as pool:
        return Counter(pool.map(submit, range(threads)))


def main() -> None:
    wait_long_for_databases()
    threads, on_duplicate = int(sys.argv[1]), sys.argv[2]
    say("ready")
    for line in sys.stdin:
        say(json.dumps(race(line.strip(), threads, on_duplicate)))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

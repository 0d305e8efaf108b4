"""How many instructions a job takes, and how many of them Flask's and the standard library's parts.

::

    .venv/bin/python benchmarks/instructions.py

valgrind counts what the processor executes in a process: the same in each run, however busy the
machine is, where seconds differ. It does not count what the kernel does to wake a thread, nor what
a processor waits for. A run takes some minutes; it writes ``results/instructions-<Python>.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from environments import python_of
from results import RESULTS
from turns import SIDES

JOBS = 1_000  # in a round
ROUNDS = 3  # that are counted


class Counted(NamedTuple):
    """A work of a side, as in turns.py, and what the page calls it."""

    title: str
    side: str
    work: str


COUNTED = (
    Counted("Flask: enter and leave an app context", "parts", "app-context"),
    Counted("stdlib: make a future, resolve and read it", "parts", "future"),
    Counted("stdlib: a call in a copy of the contextvars", "parts", "contextvars"),
    Counted("burst: ours", "ours", "burst"),
    Counted("burst: `ThreadPoolExecutor`, `app.app_context()` in each job", "pool", "burst"),
    Counted("burst: Flask-Executor 1.0", "flask_executor_1", "burst"),
    Counted("one job at a time: ours", "ours", "one"),
    Counted("one job at a time: `ThreadPoolExecutor`, no app context", "pool", "one"),
    Counted("`gather`: ours", "ours", "gather"),
    Counted("`gather`: `loop.run_in_executor`, no app context", "pool", "gather"),
    Counted("one job at a time, awaited: ours", "ours", "one-awaited"),
    Counted("one job at a time, awaited: `asyncio.to_thread`", "to_thread", "one-awaited"),
    Counted("coroutine job: ours", "ours", "coroutines"),
    Counted("coroutine job: `run_coroutine_threadsafe`", "pool", "coroutines"),
)


def main() -> None:
    """Count for each line, print it, and write all."""
    parser = argparse.ArgumentParser(description="Count the instructions that a job takes.")
    parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not on PATH; install it: apt-get install valgrind")
    for side in {counted.side for counted in COUNTED}:
        python_of(side)
    # A process is counted by itself, so those of two lines may run at a time.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = {}
        for counted, count in zip(COUNTED, pool.map(instructions, COUNTED), strict=True):
            print(f"{counted.title:<62} {count:>9,}", flush=True)
            counts[counted.title] = count
    path = RESULTS / "instructions-{}.{}.json".format(*sys.version_info)
    path.write_text(json.dumps(counts, indent=2) + "\n", "utf-8")


def instructions(counted: Counted) -> int:
    """Count what a job takes: the difference between a process with and without the rounds."""
    without, with_rounds = (total(counted, rounds) for rounds in (1, 1 + ROUNDS))
    return round((with_rounds - without) / (ROUNDS * JOBS))


def total(counted: Counted, rounds: int) -> int:
    """Count what a process takes that does so many rounds."""
    python = str(python_of(counted.side))
    side = [python, str(SIDES / f"{counted.side}.py"), counted.work]
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *side]
    # Without it, each process has its strings in another order.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command,
        input=f"{JOBS}\n" * rounds,
        capture_output=True,
        check=True,
        env=environment,
        text=True,
    )
    counts = re.search(r"Collected : (\d+)", done.stderr)
    if counts is None:
        raise RuntimeError(f"valgrind counted nothing: {done.stderr}")
    return int(counts[1])


if __name__ == "__main__":
    main()

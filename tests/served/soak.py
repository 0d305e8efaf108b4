"""Loads a server for minutes and kills its workers meanwhile: every accepted job is accounted for.

    python tests/served/soak.py --minutes 5

A worker that is asked to end, with SIGTERM or after its --max-requests, has to run what it has
accepted, or to say what it gives up. Only SIGKILL may cost a job without a word. The records in the
database have to agree. The exit status is 1 if a job is unaccounted for, or ran twice.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

TESTS = Path(__file__).parent

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
SHUT_DOWN = re.compile(r"\[(\d+)\] Shut down after (.*)")
LEFT = re.compile(r"(\d+) (?:pending|running|jobs)")

# What a client asks for, and how often.
PATHS = {
    "/work": 4,
    "/work_async": 4,
    "/fail": 1,
    "/cancel": 2,
    "/wait": 2,
    "/map": 1,
    "/await": 2,
    "/map-async": 1,
}

# Each request a connection of its own: it goes to any of the workers.
NOT_KEPT_ALIVE = httpx.Limits(max_keepalive_connections=0)

# Seconds; the server has 20 for its requests, and by default 10 for the jobs.
WAIT = 60


def main(args: list[str] | None = None) -> int:
    """Run it, print what has become of the jobs, and return the exit status."""
    options = parse(args)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    load = Load()
    with served(options, folder) as (address, log):
        press(load, address, options)
    journal = (folder / "journal").read_text("utf-8").splitlines()
    (folder / "log").write_text(text := log.result(), "utf-8")
    tally = count(journal, load, text)
    records = check_records(journal, read_records(folder / "jobs.db"), load.killed, tally)
    print_table(tally, load, records)
    if tally.is_sound() and not records.wrong:
        shutil.rmtree(folder)
        return 0
    print(f"\nThe journal of the jobs and the server's log are in {folder}")
    return 1


def parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=5)
    length.add_argument("--seconds", type=float, help="instead of --minutes")
    length.add_argument("--kills", type=int, help="how many workers to kill, instead of a time")
    parser.add_argument("--type", default="thread", help="EXECUTOR_TYPE")
    parser.add_argument("--max-workers", type=int, default=4, help="EXECUTOR_MAX_WORKERS")
    parser.add_argument("--max-pending", type=int, default=200, help="EXECUTOR_MAX_PENDING")
    parser.add_argument(
        "--shutdown-timeout", type=float, default=10, help="EXECUTOR_SHUTDOWN_TIMEOUT"
    )
    parser.add_argument("--clients", type=int, default=12, help="threads that send requests")
    parser.add_argument("--kill-every", type=float, default=2, help="seconds between two kills")
    parser.add_argument(
        "--signal",
        choices=["SIGTERM", "SIGKILL"],
        help="kill with this only; by default, with both",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(args)
    if options.seconds is None and options.kills is None:
        options.seconds = 60 * options.minutes
    return options


# The server


@contextmanager
def served(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Future[str]]]:
    """Run it until the block ends; gives its address, and its log once it has ended."""
    process = start(options, folder)
    with process, ThreadPoolExecutor(1) as reader:
        try:
            address = read_to_address(process)
            log = reader.submit(process.stderr.read)
            yield address, log
        finally:
            stop(process)


def start(options: argparse.Namespace, folder: Path) -> subprocess.Popen[str]:
    (folder / "journal").touch()
    command = (
        "gunicorn -k gthread --workers 3 --threads 3 --max-requests 500 --max-requests-jitter 100 "
        "--graceful-timeout 20 -b 127.0.0.1:0 --no-control-socket soak_app:app"
    )
    environment = os.environ | {
        "SOAK_JOURNAL": str(folder / "journal"),
        "SOAK_EXECUTOR_STORE": f"sqlite:///{folder / 'jobs.db'}",
        "SOAK_EXECUTOR_STORE_RECORDS": "all",
        "SOAK_EXECUTOR_TYPE": options.type,
        "SOAK_EXECUTOR_MAX_WORKERS": str(options.max_workers),
        "SOAK_EXECUTOR_MAX_PENDING": str(options.max_pending),
        "SOAK_EXECUTOR_SHUTDOWN_TIMEOUT": str(options.shutdown_timeout),
    }
    return subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=TESTS,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_to_address(process: subprocess.Popen[str]) -> str:
    log = ""
    for line in process.stderr:
        log += line
        if found := ADDRESS.search(line):
            return found[0]
    raise RuntimeError(f"the server did not start:\n{log}")


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(WAIT)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it may have left behind


# The load


@dataclass
class Load:
    """What was sent and killed, and what came of the requests."""

    answers: Counter[str] = field(default_factory=Counter)
    promised: set[str] = field(default_factory=set)
    """The ids of jobs that a client was told of."""
    seen: set[int] = field(default_factory=set)
    """The process ids in answers of late."""
    signals: Counter[str] = field(default_factory=Counter)
    killed: set[int] = field(default_factory=set)
    """The process ids that got SIGKILL."""
    is_over: threading.Event = field(default_factory=threading.Event)


def press(load: Load, address: str, options: argparse.Namespace) -> None:
    """Send requests from many threads and kill workers, for as long as *options* say."""
    with ThreadPoolExecutor(options.clients + 1) as threads:
        running = [threads.submit(kill, load, options, random.Random(options.seed))]
        for number in range(options.clients):
            chance = random.Random(f"{options.seed}-{number}")
            running.append(threads.submit(send, load, address, chance))
        load.is_over.wait(options.seconds)
        load.is_over.set()
        for future in running:
            future.result()


def send(load: Load, address: str, chance: random.Random) -> None:
    """What a client does: one request after the other."""
    with httpx.Client(
        base_url=address, limits=NOT_KEPT_ALIVE, timeout=WAIT, trust_env=False
    ) as client:
        while not load.is_over.is_set():
            [path] = chance.choices([*PATHS], [*PATHS.values()])
            try:
                response = client.post(path)
            except httpx.TransportError as error:
                load.answers[
                    "timeout" if isinstance(error, httpx.TimeoutException) else "none"
                ] += 1
            else:
                load.answers[str(response.status_code)] += 1
                take(load, response)


def take(load: Load, response: httpx.Response) -> None:
    if response.status_code in {200, 503}:
        answer = response.json()
        load.seen.add(answer["pid"])
        load.promised.update(answer.get("ids", ()))


def kill(load: Load, options: argparse.Namespace, chance: random.Random) -> None:
    """End a worker now and then: mostly as an admin would, at times as the kernel does."""
    while not load.is_over.wait(options.kill_every):
        seen, load.seen = load.seen, set()
        if not seen:
            continue
        pid = chance.choice(sorted(seen))
        name = options.signal or chance.choice(["SIGTERM"] * 3 + ["SIGKILL"])
        if name == "SIGKILL":
            load.killed.add(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, name))
            load.signals[name] += 1
        if load.signals.total() == options.kills:
            load.is_over.set()


# The account


@dataclass
class Tally:
    """What has become of the jobs."""

    rows: Counter[str]
    run_twice: list[str]
    unaccounted: list[str]
    ends: dict[str, str] = field(default_factory=dict)
    """How each accepted job ended, by its id."""

    def is_sound(self) -> bool:
        """Whether there were jobs, and none is lost without a word, or doubled."""
        return self.rows["accepted"] > 0 and not self.run_twice and not self.unaccounted


def count(journal: Iterable[str], load: Load, log: str) -> Tally:
    """Tell from the journal, and from what was said of the lost, how each accepted job ended."""
    words: dict[str, list[str]] = defaultdict(list)
    pids: dict[str, int] = {}
    for line in journal:
        word, id_, pid = line.split()
        words[id_].append(word)
        pids[id_] = int(pid)
    given_up = read_given_up(log)
    rows: Counter[str] = Counter()
    ends: dict[str, str] = {}
    unaccounted = [id_ for id_ in load.promised if "accepted" not in words.get(id_, ())]
    for id_, known in words.items():
        if "accepted" in known and "refused" not in known:
            end = end_of(known, pids[id_], load.killed, given_up)
            rows["accepted"] += 1
            rows[end] += 1
            ends[id_] = end
            if end == "unaccounted":
                unaccounted.append(f"{id_} of {pids[id_]}: {', '.join(known)}")
    run_twice = [id_ for id_ in words if words[id_].count("started") > 1]
    return Tally(rows, run_twice, unaccounted, ends)


def end_of(known: list[str], pid: int, killed: set[int], given_up: Counter[int]) -> str:
    for end in ("finished", "failed"):
        if end in known:
            return end
    if "cancelled" in known:
        return "cancelled" if "unwanted" in known else "cancelled at shutdown"
    if pid in killed:
        return "killed"
    if given_up[pid]:
        given_up[pid] -= 1
        return "left running at shutdown"
    return "unaccounted"


def read_given_up(log: str) -> Counter[int]:
    """How many jobs each process said it gave up when it was shut down."""
    given_up: Counter[int] = Counter()
    for pid, text in SHUT_DOWN.findall(log):
        given_up[int(pid)] += sum(map(int, LEFT.findall(text)))
    return given_up


@dataclass
class Records:
    """What the records in the database say of the jobs."""

    states: Counter[str]
    wrong: list[str]


# The states that the record of a job may have, by its end. Of a process that was killed, the last
# changes may not have been written.
STATES = {
    "finished": {"succeeded"},
    "failed": {"failed"},
    "cancelled": {"cancelled"},
    "cancelled at shutdown": {"cancelled"},
    "left running at shutdown": {"lost"},
    "killed": {"lost", "none"},
}


def read_records(path: Path) -> dict[str, str]:
    """The state of each record once all processes are gone, by the executor's id of the job."""
    with closing(sqlite3.connect(path)) as connection:
        # Each worker that had a job may have been killed before it made the tables.
        if not connection.execute("SELECT * FROM sqlite_master").fetchone():
            return {}
        rows = connection.execute("SELECT id, state, ended_at FROM flask_executor_jobs")
        return {id_: state if ended_at else "lost" for id_, state, ended_at in rows}


def check_records(
    journal: Iterable[str], records: dict[str, str], killed: set[int], tally: Tally
) -> Records:
    """Compare the records with what the journal says of the jobs."""
    states: Counter[str] = Counter()
    wrong = []
    for line in journal:
        word, id_, pid = line.split()
        end = tally.ends.get(id_)
        if end is None or not word.startswith("is:"):
            continue
        state = records.get(word.removeprefix("is:"), "none")
        states[state] += 1
        expected = STATES.get(end, set())
        if int(pid) in killed:
            expected = expected | STATES["killed"]
        if state not in expected:
            wrong.append(f"{id_} of {pid}: {end}, and its record says {state}")
    return Records(states, wrong)


def print_table(tally: Tally, load: Load, records: Records) -> None:
    """Print it all, and which jobs it is that should not be there."""
    rows, answers = tally.rows, load.answers.copy()
    requests = answers.total()
    lost = ("cancelled at shutdown", "left running at shutdown", "killed")
    table = {
        "accepted": rows["accepted"],
        "finished": rows["finished"],
        "failed": rows["failed"],
        "cancelled": rows["cancelled"],
        "reported lost": sum(rows[reason] for reason in lost),
        "  cancelled at shutdown": rows["cancelled at shutdown"],
        "  left running at shutdown": rows["left running at shutdown"],
        "  worker killed by SIGKILL": rows["killed"],
        "run twice": len(tally.run_twice),
        "unaccounted for": len(tally.unaccounted),
        "in the records": records.states.total() - records.states["none"],
        "  ended": sum(records.states[state] for state in ("succeeded", "failed", "cancelled")),
        "  lost": records.states["lost"],
        "without a record, killed": records.states["none"],
        "wrong in the records": len(records.wrong),
        "requests": requests,
        "  200": answers.pop("200", 0),
        "  503": answers.pop("503", 0),
        "  timed out": answers.pop("timeout", 0),
        "  cut off with their worker": answers.pop("none", 0),
        "  other status": answers.total(),
        "workers sent SIGTERM": load.signals["SIGTERM"],
        "workers sent SIGKILL": load.signals["SIGKILL"],
    }
    for name, number in table.items():
        print(f"{name:28}{number:8}")
    for id_ in tally.run_twice[:20]:
        print("run twice:", id_)
    for job in tally.unaccounted[:20]:
        print("unaccounted for:", job)
    for job in records.wrong[:20]:
        print("wrong in the records:", job)


if __name__ == "__main__":
    sys.exit(main())

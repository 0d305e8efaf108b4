"""The development server's reloader: a process that watches, and one that serves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.served.servers import ADDRESS, APPS, NOT_KEPT_ALIVE, stop
from tests.support import ROOT, WAIT

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="there is no list of a process's threads"
)


class Server:
    """A server in debug mode, of an app that is there to be changed."""

    def __init__(self, folder: Path, type_: str) -> None:
        self.module = Path(shutil.copy(APPS / "reloaded_app.py", folder))
        self._process = subprocess.Popen(
            # What others change in the project meanwhile is no reason to reload.
            [
                *(sys.executable, "-m", "flask", "--app", "reloaded_app", "run", "--debug"),
                *("--port", "0", "--exclude-patterns", f"{ROOT}/*"),
            ],
            cwd=folder,
            env=os.environ | {"FLASK_EXECUTOR_TYPE": type_, "FLASK_EXECUTOR_MAX_WORKERS": "2"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def watching(self) -> int:
        """The process that stays."""
        return self._process.pid

    def read_to(self, pattern: str | re.Pattern[str]) -> str:
        """Wait until the server has logged a line with what *pattern* matches, and return that."""
        log = ""
        for line in self._process.stderr:
            log += line
            if match := re.search(pattern, line):
                return match[0]
        pytest.fail(f"the server ended without {pattern}:\n{log}")

    def touch(self) -> None:
        """Have the app's module look like one that was changed."""
        seconds = self.module.stat().st_mtime + 1
        os.utime(self.module, (seconds, seconds))

    def stop(self) -> None:
        stop(self._process)
        self._process.stderr.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


@pytest.fixture(params=["thread", "process"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, request.param)
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    address = server.read_to(ADDRESS)
    with httpx.Client(
        base_url=address, limits=NOT_KEPT_ALIVE, timeout=WAIT, trust_env=False
    ) as client:
        yield client


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    lines = Lines(tmp_path)
    yield lines
    lines.close()


class Lines:
    """What the jobs wait for, each for its own, and what came of it."""

    names = ("coroutine", "function")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.params = {"folder": str(folder)}
        for name in self.names:
            os.mkfifo(folder / f"{name}.pipe")
        # Opened for both reading and writing, they keep what nobody has read yet.
        self._pipes = {n: os.open(folder / f"{n}.pipe", os.O_RDWR) for n in self.names}

    def write(self) -> None:
        """Let the jobs end."""
        for name, pipe in self._pipes.items():
            os.write(pipe, f"for the {name}\n".encode())

    def copied(self) -> list[str]:
        """What those that have ended have left."""
        return sorted(copy.read_text() for copy in self._folder.glob("*.copy"))

    def close(self) -> None:
        for pipe in self._pipes.values():
            os.close(pipe)


def threads_of(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/task").iterdir()])


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_only_the_serving_process_has_a_pool_and_only_from_the_first_job_on(
    server: Server, client: httpx.Client, lines: Lines
) -> None:
    before = client.get("/process").json()
    watching_before = threads_of(server.watching)
    client.post("/jobs", params=lines.params)
    after = client.get("/process").json()
    watching_after = threads_of(server.watching)

    assert before == {"pid": after["pid"], "parent": server.watching, "pool": []}
    assert after["pool"] != []
    assert (watching_before, watching_after) == (1, 1)


def test_a_reload_waits_for_running_jobs_and_their_pool_ends_with_their_process(
    server: Server, client: httpx.Client, lines: Lines
) -> None:
    old = client.get("/process").json()["pid"]
    client.post("/jobs", params=lines.params)
    begins = {server.read_to(r"\w+ begins in \d+") for _ in range(2)}
    workers = {int(line.split()[-1]) for line in begins}

    server.touch()
    server.read_to("Detected change in .*reloaded_app")
    was_alive = {pid for pid in {old, *workers} if is_alive(pid)}
    copied_before = lines.copied()
    lines.write()
    server.read_to("Restarting with")
    copied = lines.copied()
    is_still_alive = {pid for pid in {old, *workers} if is_alive(pid)}
    new = client.get("/process").json()
    client.post("/jobs", params=lines.params)
    with_jobs = client.get("/process").json()

    assert {line.split()[0] for line in begins} == {"coroutine", "function"}
    assert was_alive == {old, *workers}
    assert copied_before == []
    assert copied == ["for the coroutine\n", "for the function\n"]
    assert is_still_alive == set()
    assert new == {"pid": with_jobs["pid"], "parent": server.watching, "pool": []}
    assert new["pid"] != old
    assert with_jobs["pool"] != []
    assert threads_of(server.watching) == 1

"""The tutorial leads to the app, the output and the tests that it shows."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browsing import chromium, opened
from tests.served.test_docs import DOCS, Block, blocks
from tests.support import ROOT, WAIT

PAGE = DOCS / "tutorial" / "index.md"
PORT = "5000"  # on the page
# A moment, the id of a job, or a number of seconds: these differ from run to run.
VARYING = re.compile(
    r"\d+-\d+-\d+ \d+:\d+:\d+,\d+|[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}|(?<![.\d])\d+\.\d+(?![.\d])"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl: apt-get install curl"),
]


class Reader:
    """Does in *folder* what the page says, block by block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.port = free_port()
        self.command = ""
        self.server: subprocess.Popen[bytes] | None = None
        self.seen: set[str] = set()

    def follow(self, block: Block) -> None:
        if block.file:
            block.write(self.folder)
            self.stop()
        elif block.language == "sh":
            self.command = block.source.strip().splitlines()[-1].replace(PORT, self.port)
            if self.command.startswith("flask"):
                self.start()
        elif block.language == "text":
            self.compare(block.source)
        if not block.language.startswith("{"):
            self.seen.add(block.language)

    def compare(self, shown: str) -> None:
        """Wait until the last command, or the server's log, says what the page shows."""
        wanted = as_pattern(shown.replace(PORT, self.port))
        command, self.command = self.command, ""
        if command.startswith("flask") or not command:
            await_match(wanted, self.log.read_text)
        elif "-d" in command or "-X" in command:
            said = self.run(command)
            assert wanted.search(said), said
        else:
            await_match(wanted, lambda: self.run(command))

    def run(self, command: str) -> str:
        if command.startswith("curl") and self.server is None:
            self.start()
        done = subprocess.run(
            command.replace("curl ", "curl -sS "),
            shell=True,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=WAIT,
        )
        return done.stdout

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", *f"flask --app shop run --debug -p {self.port}".split()],
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await_match(re.compile("Debugger is active"), self.log.read_text)

    def stop(self) -> None:
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGKILL)  # the reloader and its child
            self.server.wait(WAIT)
            self.server = None

    def environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": programs, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def as_pattern(shown: str) -> re.Pattern[str]:
    """Return a pattern in which a line of dots stands for any lines, and times may differ."""
    return re.compile("^" + "".join(map(line_pattern, shown.splitlines())), re.MULTILINE)


def line_pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    return r"[\w:., -]+".join(map(re.escape, VARYING.split(line.rstrip()))) + r"\s*\n"


def await_match(pattern: re.Pattern[str], say: Callable[[], str]) -> None:
    deadline = time.monotonic() + WAIT
    while not pattern.search(said := say()):
        assert time.monotonic() < deadline, f"{pattern.pattern}\n\ndoes not match\n\n{said}"
        time.sleep(0.05)


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stop()


def test_a_reader_of_the_tutorial_sees_the_output_that_it_shows(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        for block in blocks(PAGE):
            reader.follow(block)

    assert reader.seen == {"python", "html", "sh", "text"}
    assert sorted(path.name for path in (tmp_path / "shop").glob("*.py")) == [
        "__init__.py",
        "extensions.py",
        "mails.py",
        "prices.py",
        "reports.py",
    ]


def test_the_page_of_the_tutorial_moves_its_bar_to_the_end(tmp_path: Path) -> None:
    with chromium() as browser, reading(tmp_path) as reader, opened(browser) as page:
        for block in blocks(PAGE):
            if block.file:
                block.write(tmp_path)
        reader.start()
        page.goto(f"http://127.0.0.1:{reader.port}/reports/may")
        assert page.locator("output").text_content() == ""
        page.get_by_role("button", name="Build it").click()
        page.get_by_text("running").wait_for()
        page.get_by_text("87 orders").wait_for()

        assert page.locator("progress").evaluate("bar => bar.value") == 1

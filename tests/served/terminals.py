"""Programs in a terminal: one that a test has made, and that of tmux."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import WAIT


def run_in_terminal(
    command: list[str],
    folder: Path,
    *,
    columns: int = 80,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run Python in a terminal; return the exit status and what was shown."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    given = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | dict(environment or {})
    inherited = _without_size(os.environ)
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=inherited | given,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # The process has closed its end.
            while data := os.read(ours, 4096):
                shown += data
    os.close(ours)
    return process.returncode, shown.decode()


class Tmux:
    """A shell in a window of tmux; the test is skipped where there is no tmux."""

    def __init__(self, folder: Path, environment: Mapping[str, str], columns: int = 100) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("the machine does not have tmux: apt-get install tmux")
        # The path of a socket has at most 100 characters or so.
        self._sockets = tempfile.mkdtemp(prefix="tmux-")
        given = {"TMUX_TMPDIR": self._sockets} | dict(environment)
        self._environment = _without_size(os.environ) | given
        self._environment.pop("TMUX", None)
        size = ["-x", str(columns), "-y", "24"]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", folder, "sh")

    def type(self, line: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press a key, as tmux names it."""
        self._tmux("send-keys", key)

    def resize(self, columns: int, lines: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def shown(self) -> str:
        """All that can be seen."""
        return self._tmux("capture-pane", "-p")

    def ask(self, variable: str) -> str:
        """One of tmux's own variables."""
        return self._tmux("display-message", "-p", f"#{{{variable}}}").strip()

    def until(self, is_there: Callable[[str], object]) -> str:
        """Wait until the text that can be seen is as expected, and return it."""
        end = time.monotonic() + WAIT
        while not is_there(shown := self.shown()):
            assert time.monotonic() < end, shown
            time.sleep(0.05)
        return shown

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):  # The shell may have ended.
            self._tmux("kill-server")
        shutil.rmtree(self._sockets)

    def _tmux(self, *arguments: object) -> str:
        command = ["tmux", "-u", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=self._environment
        )
        return done.stdout


def _without_size(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the size of the terminal that the tests run in."""
    return {name: value for name, value in environment.items() if name not in {"COLUMNS", "LINES"}}

"""The keyboard of a terminal, and how it is given back as it was."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_AT_ONCE = 1024  # bytes


@contextmanager
def pressed_keys() -> Generator[Callable[[float], str]]:
    """A function that waits at most so many seconds for keys, and returns their characters.

    Meanwhile the terminal gives each key at once, and does not show it; Ctrl-Z does nothing. If the
    terminal is gone, the function returns a q.
    """
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield _no_keys
        return
    import termios  # noqa: PLC0415 - not on Windows
    import tty  # noqa: PLC0415 - not on Windows

    keyboard = sys.stdin.fileno()

    def pressed(seconds: float) -> str:
        if not select.select([keyboard], [], [], seconds)[0]:
            return ""
        return os.read(keyboard, _AT_ONCE).decode("utf-8", "replace") or "q"

    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        mode = termios.tcgetattr(keyboard)
        mode[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(keyboard, termios.TCSADRAIN, mode)
        yield pressed
    finally:
        with suppress(termios.error):  # The terminal may be gone.
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def ending_by_sigterm() -> Generator[None]:
    """Have SIGTERM raise `SystemExit`, so that ``with`` blocks come to their end."""
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _no_keys(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _exit(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)  # as a shell says it

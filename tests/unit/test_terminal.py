"""The keyboard of a terminal, and how it is given back."""

from __future__ import annotations

import os
import pty
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_executor.cli.terminal import ending_by_sigterm, pressed_keys
from tests.support import WAIT


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a terminal at which one types; the other end is the standard input."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


def mode() -> list[object]:
    return termios.tcgetattr(sys.stdin.fileno())


def test_keys_come_at_once_and_the_terminal_is_given_back(keyboard: int) -> None:
    before = mode()

    with pressed_keys() as pressed:
        nothing = pressed(0)
        os.write(keyboard, b"xq")
        keys = pressed(WAIT)
        os.write(keyboard, b"\x1a")
        ctrl_z = pressed(WAIT)
        os.write(keyboard, b"\xff")
        no_text = pressed(WAIT)

    assert (nothing, keys, ctrl_z, no_text) == ("", "xq", "\x1a", "\N{REPLACEMENT CHARACTER}")
    assert mode() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_exception_gives_the_terminal_back(keyboard: int, error: type[BaseException]) -> None:
    before = mode()

    with pytest.raises(error), pressed_keys():
        assert mode() != before
        raise error

    assert mode() == before


def test_a_terminal_that_is_gone_quits(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pressed_keys() as pressed:
            os.close(ours)
            assert pressed(WAIT) == "q"


def test_without_a_keyboard_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open(encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pressed_keys() as pressed:
            assert pressed(0) == ""


def test_sigterm_ends_blocks_and_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(SystemExit) as exit_, ending_by_sigterm():
        signal.raise_signal(signal.SIGTERM)

    assert exit_.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before

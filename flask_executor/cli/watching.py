"""Following jobs in a terminal: ``flask executor watch``."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from .looks import Looks
from .terminal import ending_by_sigterm, pressed_keys

if TYPE_CHECKING:
    from .chosen import Chosen

# Seconds between two looks at the keyboard.
_TICK = 0.1


def watch(chosen: Chosen, interval: float) -> None:
    """Show the jobs until somebody quits.

    :param interval: seconds between two looks at the records
    :raises click.UsageError: if the output is no terminal that can do so
    :raises click.ClickException: if rich is not installed
    """
    if not sys.stdout.isatty():
        raise click.UsageError(
            "the output of watch is no terminal; use `flask executor list`, or with --json for "
            "scripts"
        )
    try:
        from .view import View  # noqa: PLC0415 - needs rich
    except ImportError:
        raise click.ClickException(
            "watch needs the package rich; pip install 'flask-executor[cli]'"
        ) from None
    view = View(str(chosen))
    if view.is_dumb():
        raise click.UsageError(
            "watch cannot move the cursor of this terminal, as TERM says; use `flask executor list`"
        )
    drawn: object = None
    with (
        suppress(KeyboardInterrupt),
        ending_by_sigterm(),
        pressed_keys() as pressed,
        Looks(chosen.records, interval) as looks,
        view,
    ):
        while not {"q", "Q"} & set(pressed(_TICK)):
            now = datetime.now(UTC)
            # Only what has changed is sent: the way to the terminal may be slow.
            seen = (looks.last, view.size, int(now.timestamp()))
            if seen != drawn:
                view.draw(looks.last, now)
                drawn = seen

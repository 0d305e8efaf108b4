"""The screen of ``flask executor watch``, drawn by rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..records.record import time_left, time_running
from .output import STATE, Column
from .tables import STYLES, Bar, overflow, table_of, text_of
from .words import (
    WORD,
    ago,
    duration,
    how_far,
    key_of,
    note_on,
    visible,
)

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType
    from rich.table import Table

    from ..records.record import JobRecord
    from .looks import Look, Seen

# Lines that are no jobs: title, counts, two empty ones, two headings, the last line.
_OTHER_LINES = 8


class View:
    """A screen of the terminal; it is there within a ``with`` block.

    :param title: says whose jobs these are
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def is_dumb(self) -> bool:
        """Whether the terminal cannot move its cursor."""
        return self._console.is_dumb_terminal

    @property
    def size(self) -> tuple[int, int]:
        """The columns and lines of the terminal."""
        return self._console.size

    def draw(self, seen: Seen, now: datetime) -> None:
        """Show what was seen."""
        parts: list[RenderableType] = [_line((self._title, "bold"), (f"  {now:%H:%M:%S} UTC", ""))]
        if seen.look is not None:
            width, height = self._console.size
            parts += _parts(seen.look, now, width, height - _OTHER_LINES)
        elif seen.trouble is None:
            parts.append(_line(("reading…", "")))
        parts += [_line(), _last_line(seen, now)]
        self._live.update(Group(*parts), refresh=True)

    def __enter__(self) -> None:
        """Change to a screen of its own."""
        self._live.start()

    def __exit__(self, *_: object) -> None:
        """Show the terminal again as it was."""
        self._live.stop()


def _parts(look: Look, now: datetime, width: int, lines: int) -> list[RenderableType]:
    """The counts and the tables.

    :param lines: how many jobs have a place
    """
    ended = min(len(look.ended), max(1, lines // 2))
    running = min(len(look.running), max(1, lines - ended))
    ended = min(len(look.ended), max(1, lines - running))
    more = look.counts["running"] - running
    return [
        _counts(look),
        _line(),
        _running(look.running[:running], now, width),
        _line((f"and {more:,} more" if more > 0 else "", "dim")),
        _ended(look.ended[:ended], now, width),
    ]


def _counts(look: Look) -> Text:
    parts = [
        (f"{state} {count:,}  ", STYLES[state] if count else "dim")
        for state, count in look.counts.items()
    ]
    alive = sum(process.is_alive for process in look.processes)
    return _line(*parts, (f"processes {alive}", "" if alive else "dim"))


def _running(records: list[JobRecord], now: datetime, room: int) -> Table:
    columns = [
        Column("RUNNING"),
        Column("KEY"),
        Column("", is_whole=True),
        Column("DONE", is_whole=True, is_number=True),
        Column("LEFT", is_whole=True, is_number=True),
        Column("RAN", is_whole=True, is_number=True),
        Column("MESSAGE"),
    ]
    return table_of(columns, [_running_row(record, now) for record in records], room)


def _running_row(record: JobRecord, now: datetime) -> list[str | Bar]:
    progress = record.progress
    left = None if progress is None else time_left(progress, now)
    return [
        visible(record.name, WORD),
        key_of(record, WORD),
        Bar(None if progress is None else progress.fraction),
        "" if progress is None else how_far(progress),
        _duration(left),
        _duration(time_running(record, now)),
        "" if progress is None else visible(progress.message, WORD),
    ]


def _ended(records: list[JobRecord], now: datetime, room: int) -> Table:
    columns = [
        Column("ENDED"),
        Column("KEY"),
        Column(STATE, is_whole=True),
        Column("WHEN", is_whole=True),
        Column("RAN", is_whole=True, is_number=True),
        Column("NOTE"),
    ]
    return table_of(columns, [_ended_row(record, now) for record in records], room)


def _ended_row(record: JobRecord, now: datetime) -> list[str]:
    return [
        visible(record.name, WORD),
        key_of(record, WORD),
        record.state,
        "" if record.ended_at is None else ago(record.ended_at, now),
        _duration(time_running(record, now)),
        note_on(record),
    ]


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _last_line(seen: Seen, now: datetime) -> Text:
    if seen.trouble is None:
        return _line(("q quits", "dim"))
    since = "" if seen.look is None else f" This is as it was {ago(seen.look.at, now)}."
    return _line((f"{seen.trouble}.{since}", "red"), ("  q quits", "dim"))


def _line(*parts: tuple[str, str]) -> Text:
    line = Text(no_wrap=True, overflow=overflow())
    for text, style in parts:
        line.append_text(text_of(text, style))
    return line

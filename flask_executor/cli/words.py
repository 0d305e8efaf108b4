"""Texts, times and numbers, as the command shows them to people.

A name, a key or a message of a job may be any text. In a terminal, some characters do something:
they move the cursor, change colours, or turn the direction of writing around.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..jobs.progress import Progress
    from ..records.record import JobRecord

WORD = 60
"""The greatest number of characters of a text in a table."""

LINE = 500
"""The greatest number of characters of a text that has a line of its own."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400  # seconds


def visible(text: str, length: int) -> str:
    """The text on one line, shortened; characters that are not printable are escaped.

    :param length: how many characters of *text* to show; if there are more, it ends with ``…``
    """
    cut = text[:length]
    if not cut.isprintable():
        cut = "".join(map(_escaped, cut))
    return cut if len(text) <= length else f"{cut}…"


def visible_lines(text: str, length: int) -> list[str]:
    """The lines of a text, each as `visible` shows it.

    :param length: how many characters of the whole text to show
    """
    lines = [visible(line, LINE) for line in text[:length].split("\n")]
    if len(text) > length:
        lines.append(f"… ({len(text):,} characters; --json has all of them)")
    return lines


def width_of(text: str) -> int:
    """How many cells of a terminal a visible text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def ago(then: datetime, now: datetime) -> str:
    """How long ago *then* was, in one unit."""
    seconds = int((now - then).total_seconds())
    if seconds < 1:  # or later than now, as the clocks of machines differ
        return "just now"
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name} ago"
    return f"{seconds} s ago"


def duration(seconds: float) -> str:
    """A number of seconds, in the units that people use."""
    if seconds < 1:
        return f"{int(seconds * 1000)} ms"
    if seconds < _MINUTE:
        return f"{int(seconds * 10) / 10} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def clock_time(moment: datetime) -> str:
    """A date and a time, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def how_far(progress: Progress) -> str:
    """The part that is done, or without a total, the number."""
    if progress.fraction is None:
        return f"{_number(progress.done)} done"
    return f"{int(progress.fraction * 100)} %"


def how_much(progress: Progress) -> str:
    """The work that is done, of how much, and the message of the report."""
    done = how_far(progress)
    if progress.total is not None:
        done = f"{done}, {_number(progress.done)} of {_number(progress.total)}"
    return f"{done}: {visible(progress.message, LINE)}" if progress.message else done


def note_on(record: JobRecord) -> str:
    """How far the job is, or why it has not succeeded; empty if there is nothing to say."""
    if record.state == "lost":
        return f"process {record.pid} on {visible(record.host, WORD)} is gone"
    if record.error is not None:
        message = record.error.message
        text = record.error.type if message is None else f"{record.error.type}: {message}"
        return visible(text, WORD)
    if record.is_ended:
        return ""
    if record.progress is not None:
        message = visible(record.progress.message, WORD)
        return f"{how_far(record.progress)} {message}".rstrip()
    return f"attempt {record.attempt}" if record.attempt > 1 else ""


def fate_of(record: JobRecord) -> str:
    """The state of a job, as the end of a sentence."""
    if record.state in {"cancelled", "lost", "pending", "running"}:
        return f"it {'was' if record.state == 'cancelled' else 'is'} {record.state}"
    return f"it has {record.state}"


def key_of(record: JobRecord, length: int) -> str:
    """The key of a job, visible; empty if it has none."""
    return "" if record.key_text is None else visible(record.key_text, length)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _cells(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"

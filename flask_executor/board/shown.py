"""Texts of records as the page shows them: short, and without characters that deceive."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..records.record import time_running

if TYPE_CHECKING:
    from ..jobs.progress import Progress
    from ..records import JobRecord

IN_LISTS = 200
"""The greatest length of a text in a list."""

ON_PAGE = 10_000
"""The greatest length of a text on the page of its job."""

# Control characters, marks that change the direction of a text or are not seen, and halves of
# characters. A joiner stays: it is part of emoji, and of words in some languages.
_HIDDEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f"
)
_LINE = re.compile(f"[{_HIDDEN}]")
_LINES = re.compile(rf"(?![\n\t])[{_HIDDEN}]")

NOTHING = "-"
"""Stands for a value that is not there."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = (("µs", 1e-6), ("ms", 1e-3), ("s", 1))

_SYMBOLS = 0x2400  # the pictures of the control characters


def line(text: object, most: int = IN_LISTS) -> str:
    """A text on one line, for a list."""
    return _cut(_LINE, str(text), most)


def name(text: object, most: int = IN_LISTS) -> str:
    """A name or a key on one line; in quotes if it is empty or all spaces: a link must be seen."""
    shown = line(text, most)
    return shown if shown.strip() else f'"{shown}"'


def lines(text: object, most: int = ON_PAGE) -> str:
    """A text that keeps its lines, for the page of a job."""
    return _cut(_LINES, str(text), most)


def _cut(hidden: re.Pattern[str], text: str, most: int) -> str:
    shown = hidden.sub(_visible, text[:most])
    return shown if len(text) <= most else f"{shown}… ({len(text):,} characters)"


def _visible(found: re.Match[str]) -> str:
    code = ord(found.group())
    return chr(_SYMBOLS + code) if code < ord(" ") else f"<U+{code:04X}>"


def seconds(value: float | None) -> str:
    """A duration, with two digits or so."""
    if value is None:
        return NOTHING
    if value < _MINUTE:
        unit, factor = next(each for each in _UNITS if value < 1000 * each[1] or each[1] == 1)
        # Cut, so that no text says 60 s or 1000 ms. Rounded before: 32 µs are 31.999… of its unit.
        scale = 10 if factor <= value < 10 * factor else 1
        amount = int(round(value / factor, 6) * scale) / scale
        return f"{amount:.{scale // 10}f} {unit}"
    if value < _HOUR:
        return _in_two_units(int(value), _MINUTE, "min", 1, "s")
    if value < _DAY:
        return _in_two_units(int(value), _HOUR, "h", _MINUTE, "min")
    return f"{value / _DAY:,.1f} days"


def _in_two_units(value: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    rest = value % large // small
    whole = f"{value // large} {large_unit}"
    return f"{whole} {rest} {small_unit}" if rest else whole


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago something was."""
    if then is None:
        return NOTHING
    passed = (now - then).total_seconds()
    if passed < _MINUTE:
        return f"{int(passed)} s ago" if passed >= 1 else "now"
    return f"{seconds(passed)} ago"


def moment(then: datetime | None) -> str:
    """A time, in UTC."""
    return NOTHING if then is None else then.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float) -> str:
    """A number of a report: whole, or with two digits after the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def progress_text(progress: Progress) -> str:
    """How far a job is, in words."""
    of = "" if progress.total is None else f" of {number(progress.total)}"
    return line(f"{number(progress.done)}{of} {progress.message}".rstrip())


def percent(fraction: float) -> str:
    """A part of a whole; 100 % only of all of it."""
    return f"{int(fraction * 100)} %"


def label(record: JobRecord, now: datetime) -> str:
    """A job on one line, for those who cannot see its bar."""
    parts = [name(record.name), record.state]
    if record.key_text is not None:
        parts.insert(1, f"key {name(record.key_text)}")
    if record.error is not None:
        parts.append(line(record.error.type))
    if record.waited is not None:
        parts.append(f"waited {seconds(record.waited)}")
    ran = time_running(record, now)
    if ran is not None:
        parts.append(f"{'has run for' if record.state == 'running' else 'ran'} {seconds(ran)}")
    return ", ".join(parts)

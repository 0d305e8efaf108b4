"""Tables in a terminal, by rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .output import STATE, has_unicode
from .words import width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from .output import Column

STYLES = {
    "pending": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "bright_black",
    "lost": "magenta",
    "alive": "green",
    "gone": "magenta",
}
"""The colours of states, of jobs and of processes."""

# In cells: of a bar, between two columns, and of the narrowest column; and of one that can be read.
_BAR, _SPACE, _LEAST, _READABLE = 20, 2, 4, 8


class Bar(NamedTuple):
    """A cell of a table that is a bar.

    :param fraction: how much of it is full; None for no bar
    """

    fraction: float | None


def table_of(columns: Sequence[Column], rows: Sequence[Sequence[str | Bar]], room: int) -> Table:
    """A table with one line for each row; the last columns are left out if they have no room.

    :param rows: texts that are visible, and bars
    :param room: the width of the terminal
    """
    columns = columns[: _most_columns(columns, rows, room)]
    rows = [row[: len(columns)] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, _SPACE, 0, 0), header_style="bold")
    for column, width in zip(columns, _fitting(columns, rows, room), strict=True):
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            width=width,
            no_wrap=True,
            overflow=overflow(),
        )
    for row in rows:
        cells = zip(columns, row, strict=True)
        table.add_row(*(_cell(column, cell) for column, cell in cells))
    return table


def text_of(text: str, style: str = "") -> Text:
    """A text as it is: in a str, rich would read brackets as markup."""
    return Text(text if has_unicode() else text.encode("ascii", "backslashreplace").decode(), style)


def overflow() -> Literal["ellipsis", "crop"]:
    """The way to shorten texts that are too long."""
    return "ellipsis" if has_unicode() else "crop"


def _cell(column: Column, cell: str | Bar) -> RenderableType:
    if isinstance(cell, str):
        return text_of(cell, STYLES[cell] if column.title == STATE else "")
    if cell.fraction is None:
        return ""
    return ProgressBar(total=1, completed=cell.fraction, width=_BAR)


def _most_columns(columns: Sequence[Column], rows: Sequence[Sequence[str | Bar]], room: int) -> int:
    """How many columns can be read side by side; at least two."""
    number, end = 0, -_SPACE
    for column, width in zip(columns, _widest(columns, rows), strict=True):
        end += _SPACE + (width if column.is_whole else min(width, _READABLE))
        if end > room:
            break
        number += 1
    return max(number, 2)


def _widest(columns: Sequence[Column], rows: Sequence[Sequence[str | Bar]]) -> list[int]:
    titles = [column.title for column in columns]
    return [max(map(_width_of, cells)) for cells in zip(titles, *rows, strict=True)]


def _fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[str | Bar]], room: int
) -> list[int]:
    """The widths of the columns: the widest ones that may be narrower are, until all fit."""
    widths = _widest(columns, rows)
    flexible = [number for number, column in enumerate(columns) if not column.is_whole]
    too_much = sum(widths) + _SPACE * (len(widths) - 1) - room
    for _ in range(too_much):
        widest = max(flexible, key=widths.__getitem__)
        widths[widest] = max(widths[widest] - 1, _LEAST)
    return widths


def _width_of(cell: str | Bar) -> int:
    return width_of(cell) if isinstance(cell, str) else _BAR

"""Writing to the standard output: JSON, tables, and lines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .words import width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STATE = "STATE"
"""The title of the column whose cells have a colour."""

# So many columns of a terminal have a place for all columns of a table.
_WIDE = 120


class Column(NamedTuple):
    """A column of a table.

    :param is_whole: whether its texts are not shortened where the terminal is narrow
    :param is_extra: whether it is left out there
    """

    title: str
    is_whole: bool = False
    is_number: bool = False
    is_extra: bool = False


def print_json(value: Any) -> None:
    """Write *value* as JSON, in ASCII, so that no character of it does anything to a terminal."""
    click.echo(json.dumps(value, indent=2))


def print_line(text: str) -> None:
    """Write a line; characters that the output cannot encode are escaped."""
    click.echo(text.encode(_encoding(), "backslashreplace").decode(_encoding()))


def print_pairs(pairs: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Write names with their values; of a value with several lines, each is indented."""
    listed = list(pairs)
    width = max(len(name) for name, _ in listed)
    for name, lines in listed:
        if len(lines) == 1:
            print_line(f"{name:{width}}  {lines[0]}".rstrip())
            continue
        print_line(name)
        for line in lines:
            print_line(f"    {line}".rstrip())


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Write a table, by rich in a terminal; a cell that is a state has its colour there.

    :param rows: texts that are visible
    """
    if sys.stdout.isatty() and has_unicode():
        try:
            _print_by_rich(columns, rows)
        except ImportError:
            pass
        else:
            return
    _print_plainly(columns, rows)


def has_unicode() -> bool:
    """Whether the standard output takes all characters."""
    return _encoding().lower().startswith("utf")


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _print_by_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and may be missing

    from .tables import table_of  # noqa: PLC0415 - imports rich

    console = Console(highlight=False)
    if console.width < _WIDE:
        kept = [number for number, column in enumerate(columns) if not column.is_extra]
        columns = [columns[number] for number in kept]
        rows = [[row[number] for number in kept] for row in rows]
    console.print(table_of(columns, rows, console.width))


def _print_plainly(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    titles = [column.title for column in columns]
    widths = [max(map(width_of, texts)) for texts in zip(titles, *rows, strict=True)]
    for line in (titles, *rows):
        cells = []
        for column, text, width in zip(columns, line, widths, strict=True):
            space = " " * (width - width_of(text))
            cells.append(f"{space}{text}" if column.is_number else f"{text}{space}")
        print_line("  ".join(cells).rstrip())

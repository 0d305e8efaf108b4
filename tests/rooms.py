"""The rooms of the package, and the picture of them: `python tests/rooms.py` draws it anew.

A room is a folder, or a module beside the folders.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]  # not from tests.support, which would import the package
PACKAGE = ROOT / "flask_executor"
MODULES = sorted(PACKAGE.rglob("*.py"))
PICTURE = ROOT / "docs" / "images" / "rooms.svg"

# A module imports from its own room and from those further up, also what it imports for type
# checkers only.
ROOMS = [
    {"exceptions"},
    {"messages"},
    {"signals", "settings", "stats"},
    {"threads"},
    {"context"},
    {"events"},
    {"aio"},
    {"jobs"},
    {"records"},
    {"remote"},
    {"queue"},
    {"backends"},
    {"runners"},
    {"submitting"},
    {"cli", "executor", "futures", "group", "job", "metrics", "options", "testing"},
    {"board"},
    {"__init__"},
]


@dataclass
class Box:
    """A box of the picture; a name of several rooms says them all."""

    name: str
    about: str
    left: int
    row: int
    width: int = 180

    @property
    def rooms(self) -> set[str]:
        return set(self.name.split(", "))

    @property
    def top(self) -> int:
        return 16 + 72 * self.row

    @property
    def right(self) -> int:
        return self.left + self.width


BOXES = [
    Box("board", "the page of the jobs", 16, 0),
    Box("cli", "flask executor", 212, 0),
    Box("metrics", "for Prometheus", 408, 0),
    Box("testing", "for tests of apps", 604, 0),
    Box("executor, job, options, group, futures", "the API that users call", 212, 1, 376),
    Box("submitting", "an executor in one app", 310, 2),
    Box("runners", "one job, from start to end", 310, 3),
    Box("records", "jobs as all processes see them", 16, 4, 260),
    Box("queue", "which job is next", 310, 4),
    Box("backends", "pools of workers", 604, 4),
    Box("remote", "calls to other processes", 604, 5),
    Box("jobs", "one job, its future, current_job", 260, 6, 280),
    Box("events", "responses and commits", 114, 7),
    Box("aio", "event loops and awaiting", 506, 7),
    Box("context", "Flask's contexts", 114, 8),
    Box("exceptions, messages, settings, signals, stats", "what all others use", 16, 9, 470),
    Box("threads", "waiting between threads", 506, 9),
]
HEIGHT = 44


def imports(path: Path, folder: tuple[str, ...] | None = None) -> Iterator[tuple[int, str]]:
    """The lines on which a module imports from this package, and from which room.

    :param folder: the names of the folders that it is in; None for the real ones
    """
    if folder is None:
        folder = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["flask_executor", *folder][: len(folder) + 2 - node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for top, *rest in names:
            if top == "flask_executor":
                is_room = rest and any(rest[0] in names for names in ROOMS)
                yield node.lineno, rest[0] if is_room else "__init__"


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def arrows() -> list[tuple[Box, Box]]:
    """Which box imports from which; not from those that it reaches by another box as well."""
    box_of = {room: box.name for box in BOXES for room in box.rooms}
    box_of["__init__"] = box_of["executor"]
    to: dict[str, set[str]] = {box.name: set() for box in BOXES}
    for path in MODULES:
        box = box_of[room_of(path)]
        to[box] |= {box_of[other] for _, other in imports(path)} - {box}

    def reached_from(name: str) -> set[str]:
        return to[name].union(*map(reached_from, to[name]))

    return [
        (box, other)
        for box in BOXES
        for other in BOXES
        if other.name in to[box.name]
        and not any(other.name in reached_from(each) for each in to[box.name])
    ]


def draw() -> str:
    """Return the picture. Its panel is opaque, so that it can be read on pages light and dark."""
    width = max(box.right for box in BOXES) + 16
    height = max(box.top for box in BOXES) + HEIGHT + 16
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}"'
            ' font-family="system-ui, sans-serif" text-anchor="middle">'
        ),
        "<title>The rooms of flask_executor: an arrow leads to what a room imports</title>",
        (
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
            ' orient="auto"><path d="M0 0 8 4 0 8z" fill="#57606a"/></marker>'
        ),
        f'<rect width="{width}" height="{height}" rx="8" fill="#f6f8fa"/>',
    ]
    for box, other in arrows():
        middle, inset = box.left + box.width // 2, 24
        end = min(max(middle, other.left + inset), other.right - inset)
        start = min(max(end, box.left + inset), box.right - inset)
        lines.append(
            f'<path d="M{start} {box.top + HEIGHT} {end} {other.top}" stroke="#57606a"'
            ' stroke-width="1.5" marker-end="url(#head)"/>'
        )
    for box in BOXES:
        middle = box.left + box.width // 2
        lines += [
            (
                f'<rect x="{box.left}" y="{box.top}" width="{box.width}" height="{HEIGHT}" rx="6"'
                ' fill="#ffffff" stroke="#57606a"/>'
            ),
            (
                f'<text x="{middle}" y="{box.top + 19}" font-size="14" font-weight="600"'
                f' fill="#1f2328">{escape(box.name)}</text>'
            ),
            (
                f'<text x="{middle}" y="{box.top + 35}" font-size="12" fill="#57606a">'
                f"{escape(box.about)}</text>"
            ),
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")

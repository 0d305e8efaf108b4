"""Pictures of numbers, as SVG that is small, keeps its text as text, and goes light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Points = Sequence[tuple[float, float]]

WIDTH = 760
STYLE = """
svg { font: 13px system-ui, sans-serif; color: #1f2328; background: #ffffff; }
text { fill: currentColor; stroke: #ffffff; stroke-width: 4px; paint-order: stroke; }
.soft { fill: #656d76; }
.grid { stroke: #d1d9e0; }
.even, .spread { stroke: currentColor; }
.bar { fill: #4c8eda; }
.aim { stroke: #d4691e; stroke-width: 3; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
polyline { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  svg { color: #e6edf3; background: #0d1117; }
  text { stroke: #0d1117; }
  .soft { fill: #9198a1; }
  .grid { stroke: #30363d; }
}
"""
# Told apart in grey and by the colour-blind, and seen on white and on black (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a")


@dataclass(frozen=True, slots=True)
class Bar:
    """A ratio, with the middle half of what it was in the rounds, and what it is meant to be."""

    label: str
    value: float
    low: float
    high: float
    aim: float


def bars(title: str, groups: Mapping[str, Sequence[Bar]]) -> str:
    """Draw ratios from 0, where 1 is what the neighbour takes; each group under its heading."""
    left, right, top, line = 360, WIDTH - 60, 76, 22
    shown = [bar for group in groups.values() for bar in group]
    most = max(1.0, *(max(bar.value, bar.high, bar.aim) for bar in shown))
    step = 0.25 if most < 2 else 0.5 if most < 4 else 10 ** ceil(log10(most / 10))  # noqa: PLR2004
    ticks = [number * step for number in range(ceil(most / step) + 1)]
    bottom = top + line * (len(shown) + len(groups)) + 8 * len(groups)

    def x(ratio: float) -> float:
        return left + (right - left) * max(ratio, 0) / ticks[-1]

    def body() -> Iterator[str]:
        for tick in ticks:
            yield _line(x(tick), top - 8, x(tick), bottom, "grid")
            yield _text(x(tick), bottom + 18, f"{tick:g}", "soft middle")
        yield _line(x(1), top - 8, x(1), bottom, "even")
        yield _line(16, 46, 16, 60, "aim")
        yield _text(24, 58, "the aim", "soft")
        yield _line(90, 53, 116, 53, "spread")
        yield _text(124, 58, "the middle half of the rounds", "soft")
        y = top
        for heading, group in groups.items():
            yield _text(16, y + 15, heading)
            y += line
            for bar in group:
                yield _text(left - 10, y + 14, bar.label, "soft end")
                width = x(bar.value) - left
                yield f'<rect class="bar" x="{left}" y="{y + 3}" width="{width:.1f}" height="14"/>'
                yield _line(x(bar.low), y + 10, x(bar.high), y + 10, "spread")
                yield _line(x(bar.aim), y, x(bar.aim), y + 20, "aim")
                end = max(x(bar.value), x(bar.high), x(bar.aim)) + 8
                yield _text(end, y + 14, f"{bar.value:.2f}")
                y += line
            y += 8

    return _svg(title, bottom + 30, body())


def amounts(title: str, values: Mapping[str, float], *, unit: str = "", left: int = 130) -> str:
    """Draw how much there is of each, from 0; the number is at its end, the name *left* of it."""
    right, top, line = WIDTH - 110, 48, 28
    most = max(values.values())

    def body() -> Iterator[str]:
        for number, (name, value) in enumerate(values.items()):
            y = top + line * number
            width = (right - left) * value / most
            yield _text(left - 10, y + 15, name, "end")
            yield f'<rect class="bar" x="{left}" y="{y}" width="{width:.1f}" height="20"/>'
            yield _text(left + width + 8, y + 15, f"{value:,.0f}{unit}")

    return _svg(title, top + line * len(values) + 8, body())


def lines(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points], *, height: int = 440
) -> str:
    """Draw how numbers grow: both axes are logarithmic, each series has its name at its end."""
    left, right, top, bottom = 76, WIDTH - 160, 62, height - 52
    x_low, x_high = _decades(x for points in series.values() for x, _ in points)
    y_low, y_high = _decades(y for points in series.values() for _, y in points)

    def x(value: float) -> float:
        return left + (right - left) * (log10(value) - x_low) / (x_high - x_low)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (log10(value) - y_low) / (y_high - y_low)

    def body() -> Iterator[str]:
        for power in range(x_low, x_high + 1):
            yield _line(x(10**power), top, x(10**power), bottom, "grid")
            yield _text(x(10**power), bottom + 18, f"{10.0**power:,.9g}", "soft middle")
        for power in range(y_low, y_high + 1):
            yield _line(left, y(10**power), right, y(10**power), "grid")
            yield _text(left - 8, y(10**power) + 4, f"{10.0**power:,.9g}", "soft end")
        yield _text((left + right) / 2, bottom + 40, x_label, "middle")
        yield _text(16, top - 14, y_label)
        ends = _apart({name: y(points[-1][1]) for name, points in series.items()}, 16)
        for number, (name, points) in enumerate(series.items()):
            colour = COLOURS[number % len(COLOURS)]
            path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
            yield f'<polyline stroke="{colour}" points="{path}"/>'
            for a, b in points:
                yield f'<circle fill="{colour}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5"/>'
            last = x(points[-1][0]), y(points[-1][1])
            yield f'<line stroke="{colour}" {_ends(*last, right + 14, ends[name])}/>'
            yield _text(right + 18, ends[name] + 4, name)

    return _svg(title, height, body())


def _svg(title: str, height: float, body: Iterator[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text x="16" y="28" font-size="16" font-weight="600">{escape(title)}</text>',
        *body,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    attributes = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" {_ends(x1, y1, x2, y2)}/>'


def _ends(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'


def _decades(values: Iterator[float]) -> tuple[int, int]:
    """Find the powers of ten around the values; they are positive."""
    logs = [log10(value) for value in values]
    low = floor(min(logs))
    return low, max(ceil(max(logs)), low + 1)


def _apart(places: Mapping[str, float], distance: float) -> dict[str, float]:
    """Move the places down so that none is nearer to another than *distance*."""
    apart: dict[str, float] = {}
    last = float("-inf")
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        last = apart[name] = max(place, last + distance)
    return apart

"""The last hour in numbers, as plots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .shown import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ..records import Minute
    from ..records.history import Spread

WIDTH, HEIGHT = 600.0, 120.0
"""The size of a plot."""

_STATES: tuple[Literal["failed", "cancelled", "succeeded"], ...] = (
    "failed",
    "cancelled",
    "succeeded",
)

# An axis ends with one of these, times a power of ten: half of it is short to write, too.
_ENDS = (1, 2, 4, 6, 10)
_MINUTE, _HOUR = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class Column:
    """The jobs of one minute that ended in one state; its top is *y*."""

    state: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one minute in a plot, and its values in words."""

    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Throughput:
    """How many jobs ended in each minute.

    :param most: the number at the top of the plot
    """

    columns: list[Column]
    slots: list[Slot]
    most: int
    total: int
    failed: int
    text: str


@dataclass(frozen=True, slots=True)
class Durations:
    """The durations of jobs, as two lines.

    :param title: "Waiting" or "Running"
    :param median: the points of a polyline for each stretch of minutes in which jobs ended
    :param most: the seconds at the top of the plot
    """

    title: str
    median: list[str]
    p95: list[str]
    slots: list[Slot]
    most: float
    text: str


@dataclass(frozen=True, slots=True)
class Plots:
    """The plots of one executor."""

    executor: str
    begins_at: datetime
    throughput: Throughput
    durations: list[Durations]


def plots_of(executor: str, history: Sequence[Minute]) -> Plots:
    """Draw the history of one executor."""
    return Plots(
        executor=executor,
        begins_at=history[0].begins_at,
        throughput=_throughput(history),
        durations=[
            _durations("Waiting", history, lambda minute: minute.waited),
            _durations("Running", history, lambda minute: minute.ran),
        ],
    )


def _throughput(history: Sequence[Minute]) -> Throughput:
    totals = [minute.succeeded + minute.failed + minute.cancelled for minute in history]
    most = int(_end_of_axis(max(1, *totals)))
    step = WIDTH / len(history)
    columns: list[Column] = []
    for number, minute in enumerate(history):
        y = HEIGHT
        for state in _STATES:
            height = round(HEIGHT * getattr(minute, state) / most, 1)
            y -= height
            if height:
                x = round(number * step, 1)
                columns.append(Column(state, x, round(y, 1), round(step - 1, 1), height))
    total, failed = sum(totals), sum(minute.failed for minute in history)
    return Throughput(
        columns=columns,
        slots=_slots([_ended(minute) for minute in history]),
        most=most,
        total=total,
        failed=failed,
        text=f"{total:,} in the hour, {failed:,} failed; at most {max(totals):,} in a minute",
    )


def _ended(minute: Minute) -> str:
    counts = {"failed": minute.failed, "cancelled": minute.cancelled}
    rest = [f", {count:,} {state}" for state, count in counts.items() if count]
    return f"{minute.succeeded:,} succeeded{''.join(rest)}"


def _durations(
    title: str, history: Sequence[Minute], get: Callable[[Minute], Spread | None]
) -> Durations:
    spreads = [get(minute) for minute in history]
    most = _end_of_time_axis(max((spread.p95 for spread in spreads if spread), default=0.0) or 1.0)
    last = next((spread for spread in reversed(spreads) if spread), None)
    return Durations(
        title=title,
        median=_polylines([spread.median if spread else None for spread in spreads], most),
        p95=_polylines([spread.p95 if spread else None for spread in spreads], most),
        slots=_slots([_spread(spread) for spread in spreads]),
        most=most,
        text="no job has ended" if last is None else f"at last: {_spread(last)}",
    )


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "no job has ended"
    return f"median {seconds(spread.median)}, 95th percentile {seconds(spread.p95)}"


def _slots(texts: Sequence[str]) -> list[Slot]:
    step = WIDTH / len(texts)
    return [
        Slot(
            round(number * step, 1), round(step, 1), f"{_minutes_ago(len(texts) - number)}: {text}"
        )
        for number, text in enumerate(texts)
    ]


def _minutes_ago(number: int) -> str:
    # The last minute is not over.
    return "this minute" if number == 1 else f"{number - 1} min ago"


def _end_of_axis(value: float) -> float:
    """The next round number."""
    power = 10.0 ** math.floor(math.log10(value))
    # Rounded, as 0.3 / 0.1 is a little less than 3.
    return next(end * power for end in _ENDS if end >= round(value / power, 6))


def _end_of_time_axis(value: float) -> float:
    unit = _HOUR if value >= _HOUR else _MINUTE if value >= _MINUTE else 1.0
    return unit * _end_of_axis(value / unit)


def _polylines(values: Sequence[float | None], most: float) -> list[str]:
    """The points of the lines; a value without a neighbour gets a line of its minute's width."""
    step = WIDTH / len(values)
    stretches: list[list[tuple[float, float]]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append(((number + 0.5) * step, HEIGHT - HEIGHT * value / most))
    drawn: list[str] = []
    for points in stretches:
        if len(points) == 1:
            [(x, y)] = points
            points = [(x - step / 2, y), (x + step / 2, y)]  # noqa: PLW2901 - the line of one minute
        if points:
            drawn.append(" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
    return drawn

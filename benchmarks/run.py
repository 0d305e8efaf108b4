"""What a job costs, next to the standard library's pool and to Flask-Executor 1.0.

::

    make bench
    make bench BENCH_ARGS='--only gather --rounds 50'

Each line of the table compares this package with another way to do the same work. The two take
turns, round by round, so that whatever else the machine does meets both. *ratio* is ours by theirs,
the median over the rounds: at 0.5 ours takes half. *spread* is the middle half of the rounds'
ratios; two runs whose spreads overlap have shown no difference. *aim* is what the ratio is meant to
stay within; nothing fails when it does not. *ours* and *theirs* are the medians for one job; they
give the scale and change with the machine.

The first run installs Flask-Executor 1.0 in an environment of its own; later ones find it there.
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import version
from statistics import median, quantiles
from typing import TYPE_CHECKING

import flask_executor_1
from rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rows import Row

LINE = "{:<11}  {:<33}  {:>5}  {:>9}  {:>4}  {:>8}  {:>8}"


def main() -> None:
    """Measure the rows that were asked for, and print each when it is done."""
    options = parse_options()
    works = options.only or list(ROWS)
    if options.quick and not flask_executor_1.is_installed():
        works = [work for work in works if work != "burst-1.0"]
    print(LINE.format("work", "against", "ratio", "spread", "aim", "ours", "theirs"), flush=True)
    for work in works:
        ours, theirs = measure(ROWS[work], options.rounds, options.jobs)
        print(LINE.format(*summary(ROWS[work], ours, theirs)), flush=True)
    print(f"{options.rounds} rounds; {surroundings()}")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Compare what a job costs; the file's docstring tells how to read the table."
    )
    add = parser.add_argument
    add("--rounds", type=at_least(2), default=21, metavar="N", help="rounds of each side (21)")
    add("--jobs", type=at_least(10), default=10_000, metavar="N", help="jobs in a round (10000)")
    add("--only", choices=ROWS, action="append", help="just this row, or these: it can be repeated")
    add("--quick", action="store_true", help="tiny rounds, to see that all works; installs nothing")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.jobs = 2, 200
    return options


def at_least(minimum: int) -> Callable[[str], int]:
    """A parser for an int that is not below *minimum*."""

    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{number} is too small; expected {minimum} or more")
        return number

    return parse


def measure(row: Row, rounds: int, jobs: int) -> tuple[list[float], list[float]]:
    """What each round of ours and of theirs took; they take turns, also in who goes first."""
    ours: list[float] = []
    theirs: list[float] = []
    with row.open(jobs) as (our_round, their_round):
        turns = [(our_round, ours), (their_round, theirs)]
        for warm_up, _ in turns:
            warm_up()
        for _ in range(rounds):
            for take_round, taken in turns:
                taken.append(take_round())
            turns.reverse()
    return ours, theirs


def summary(row: Row, ours: list[float], theirs: list[float]) -> tuple[str, ...]:
    """The row's cells in the table."""
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    low, ratio, high = quantiles(ratios, n=4, method="inclusive")
    spread = f"{low:.2f}-{high:.2f}"
    ours_and_theirs = row.show(median(ours)), row.show(median(theirs))
    return row.work, row.against, f"{ratio:.2f}", spread, f"{row.aim:.2f}", *ours_and_theirs


def surroundings() -> str:
    """What the numbers depend on."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, Flask {version('flask')}, {platform.platform()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()

"""What a job costs, next to the standard library's pools and to packages that run jobs, too.

::

    make bench
    make bench BENCH_ARGS='--only gather --rounds 50'

Each side runs in a process of its own, with the Python of a virtual environment of its own, which
is made when it is first needed. The sides of a work take turns, round by round. pyperf, which does
the same with more care for one program, measures one benchmark after the other, so that what the
machine does meanwhile meets one and not the other.

After the rows comes how the cost of a job grows, in a quarter of the rounds: see growth.py. All
rows in full size, and the growth in full size, write results/ and docs/benchmarks.md, which tells
how to read them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from environments import python_of, versions_in
from growth import GROWTHS, SIDES, grow
from redis_server import redis_server
from report import cells, growth_cells, write_page
from results import Result, start_run
from rows import ROWS
from turns import take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from results import Run
    from rows import Row

WORKS = list(dict.fromkeys(row.work.name for row in ROWS))
GROWTH = "growth"
JOBS = 10_000
HEADINGS = "work", "against", "ratio", "spread", "aim", "ours", "theirs"
LINE = "{:<17}  {:<53}  {:>5}  {:>14}  {:>5}  {:>9}  {:>9}"


def main() -> None:
    """Measure what was asked for, and print each when it is done."""
    options = parse_options()
    # As Ctrl-C does, ending this process is to end those that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = start_run()
    rows = [row for row in ROWS if not options.only or row.work.name in options.only]
    if rows:
        compare(rows, run, options)
    if not options.only or GROWTH in options.only:
        watch_growth(run, options)


def compare(rows: list[Row], run: Run[Any], options: argparse.Namespace) -> None:
    """Measure the rows, and write down what came out if these are all, in full size."""
    results = []
    sides = sorted({side for row in rows for side in row.sides()})
    with ExitStack() as stack:
        if any(row.work.needs_redis for row in rows):
            os.environ["BENCHMARK_REDIS_URL"] = stack.enter_context(redis_server())
        for side in sides:
            python_of(side)
        print(LINE.format(*HEADINGS), flush=True)
        for row, result in measured(rows, options.rounds, options.jobs):
            results.append(result)
            plain = (cell.replace("`", "").replace("*", "") for cell in cells(row, result)[1:])
            print(LINE.format(row.work.name, *plain), flush=True)
    if options.jobs == JOBS and not options.only:
        write_down(run, sides, results)


def watch_growth(run: Run[Any], options: argparse.Namespace) -> None:
    """Measure how the cost grows, and write down what came out if it is in full size."""
    results = []
    for grown in grow(max(options.rounds // 4, 1), quick=options.jobs < JOBS):
        results.append(grown)
        growth = GROWTHS[grown.name]
        print(f"\n{growth.title}")
        for line in growth_cells(growth, grown):
            print(("{:>16}" + "  {:>18}" * len(grown.points)).format(*line), flush=True)
    if options.jobs == JOBS:
        write_down(run, SIDES, results, "growth-")


def write_down(run: Run[Any], sides: Iterable[str], results: list[Any], prefix: str = "") -> None:
    """Keep what came out, and write the page with it."""
    packages = {side: versions_in(side) for side in sides}
    dataclasses.replace(run, packages=packages, results=results).write(prefix)
    write_page()


def measured(rows: list[Row], rounds: int, jobs: int) -> Iterator[tuple[Row, Result]]:
    """Measure the rows, all of a work at once."""
    for work in dict.fromkeys(row.work for row in rows):
        of_work = [row for row in rows if row.work == work]
        sides = dict.fromkeys(side for row in of_work for side in row.sides())
        in_a_round = max(1, work.jobs * jobs // JOBS)
        taken = take_turns(sides, work.name, rounds=rounds, jobs=in_a_round)
        yield from ((row, Result.of(row, in_a_round, taken)) for row in of_work)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Compare what a job costs, in turns with others; see docs/benchmarks.md."
    )
    add = parser.add_argument
    add("--rounds", type=at_least(2), default=21, metavar="N", help="of each side (21)")
    add(
        "--jobs",
        type=at_least(1),
        default=JOBS,
        metavar="N",
        help=f"jobs in a burst ({JOBS}); other works do theirs in proportion",
    )
    add("--only", choices=[*WORKS, GROWTH], action="append", help="just this; can be repeated")
    add("--quick", action="store_true", help="tiny rounds, to see that all works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.jobs = 2, 200
    return options


def at_least(minimum: int) -> Callable[[str], int]:
    """Make a parser for an int that is not below *minimum*."""

    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{number} is too small; expected {minimum} or more")
        return number

    return parse


if __name__ == "__main__":
    main()

"""How the cost of a job grows: with the jobs of a burst, with the workers, with stored futures.

::

    .venv/bin/python benchmarks/growth.py

A line of a table has what a job costs, the median over the rounds, ours next to the bare pool with
an app context in each job. The sides take turns, each in a process of its own. Below is the power
of x that the cost grows with, for all jobs or for one: the slope of the least-squares line through
the logarithms. All jobs of a burst should cost the power 1 of their number, a straight line; one
job the power 0 of how many futures are stored, which is flat.

What was measured is written to ``results/growth-<Python>.json``, except by a quick run. A million
jobs need about 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from math import log
from pathlib import Path
from statistics import linear_regression, median
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

Points: TypeAlias = list[tuple[int, float]]

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "growth-{}.{}.json".format(*sys.version_info)

JOBS = 10_000  # in a burst, where it is not the jobs that grow
WORKERS = 4
LEAST = 10_000  # jobs for a point, in more rounds where one has less


class Growth(NamedTuple):
    """What grows, up to where, and for whom."""

    title: str
    x_label: str
    xs: tuple[int, ...]
    works: Mapping[str, str]
    """What ``sides/growing.py`` is to do, by the name of the line."""
    is_in_jobs: bool = False

    def arguments(self, x: int) -> tuple[int, int]:
        """What the side is told at its start, and how many jobs in a round."""
        return (WORKERS, x) if self.is_in_jobs else (x, JOBS)


BOTH = {"Flask-Executor": "ours", "ThreadPoolExecutor, app_context()": "pool"}
GROWTHS = (
    Growth(
        "A burst of jobs, 4 workers",
        "jobs",
        (1_000, 10_000, 100_000, 1_000_000),
        BOTH,
        is_in_jobs=True,
    ),
    Growth("A burst of 10,000 jobs", "workers", (1, 2, 4, 8, 16, 32, 64), BOTH),
    Growth(
        "A burst of 10,000 stored jobs, no bound",
        "futures stored before",
        (1, 1_000, 10_000, 100_000),  # not 0, of which there is no logarithm
        {"submit_stored": "stored"},
    ),
    Growth(
        "A burst of stored jobs, 50 futures kept",
        "jobs",
        (1_000, 10_000, 100_000),
        {"submit_stored": "stored-in-default"},
        is_in_jobs=True,
    ),
)


def main() -> None:
    """Measure all, print it, and write it down."""
    parser = argparse.ArgumentParser(description="See how the cost of a job grows.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each side (5)")
    parser.add_argument("--quick", action="store_true", help="small, to see that all works")
    options = parser.parse_args()
    if options.quick:
        for growth in GROWTHS:
            measure(growth._replace(xs=growth.xs[:2]), 1)
        return
    charts = [measure(growth, options.rounds) for growth in GROWTHS]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"charts": charts, **surroundings()}, indent=1) + "\n", "utf-8")
    print(f"\n{options.rounds} rounds; written to {RESULTS.relative_to(HERE.parent)}")


def measure(growth: Growth, rounds: int) -> dict[str, object]:
    """Take all points, and print them; gives what a chart needs."""
    print(f"\n{growth.title}: µs for each")
    print(f"{growth.x_label:>21}", *(f"{name:>34}" for name in growth.works))
    series: dict[str, Points] = {name: [] for name in growth.works}
    for x in growth.xs:
        costs = dict(zip(growth.works, costs_at(growth, x, rounds), strict=True))
        for name, cost in costs.items():
            series[name].append((x, cost))
        print(f"{x:>21,}", *(f"{cost * 1e6:>34.1f}" for cost in costs.values()), flush=True)
    slopes = {name: slope(points, is_in_jobs=growth.is_in_jobs) for name, points in series.items()}
    whose = "all jobs" if growth.is_in_jobs else "one job"
    print(f"{'power of x, ' + whose:>21}", *(f"{each:>34.2f}" for each in slopes.values()))
    return {
        "title": growth.title,
        "x_label": growth.x_label,
        "y_label": "seconds for each job",
        "series": series,
        "slopes": slopes,
    }


def costs_at(growth: Growth, x: int, rounds: int) -> list[float]:
    """What a job costs each of the works at *x*, in seconds."""
    told, jobs = growth.arguments(x)
    with ExitStack() as stack:
        sides = [stack.enter_context(side(work, told)) for work in growth.works.values()]
        taken: list[list[float]] = [[] for _ in sides]
        turns = list(zip(sides, taken, strict=True))
        for take_round in sides:
            take_round(min(jobs, LEAST))  # to warm up
        for _ in range(rounds * max(LEAST // jobs, 1)):
            for take_round, its in turns:
                its.append(take_round(jobs))
            turns.reverse()
    return [median(its) for its in taken]


@contextmanager
def side(work: str, told: int) -> Generator[Callable[[int], float]]:
    """Start a process that does so many jobs at each call; what each of them took, in seconds."""
    command = [sys.executable, "-E", HERE / "sides" / "growing.py", work, str(told)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def take_round(jobs: int) -> float:
            print(jobs, file=stdin, flush=True)
            return float(stdout.readline())

        yield take_round


def slope(points: Points, *, is_in_jobs: bool) -> float:
    """The power of x that the cost grows with: of all jobs if x is their number, else of one."""
    totals = [cost * x if is_in_jobs else cost for x, cost in points]
    xs = [log(x) for x, _ in points]
    return linear_regression(xs, [log(total) for total in totals]).slope


def surroundings() -> dict[str, object]:
    """What the numbers depend on."""
    packages = ("Flask-Executor", "Flask", "Werkzeug")
    return {
        "versions": {
            platform.python_implementation(): platform.python_version(),
            **{package: version(package) for package in packages},
        },
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
    }


if __name__ == "__main__":
    main()

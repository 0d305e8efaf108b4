"""How the cost of a job grows: with the jobs of a burst, the workers, the futures that are kept.

What it grows with is told as a power: the slope of the least-squares line through the logarithms.
All jobs of a burst should cost the power 1 of their number, a straight line; one job the power 0
of all else, which is flat. A million jobs need about 2 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from statistics import linear_regression, median
from typing import TYPE_CHECKING

from results import Grown
from turns import take_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

JOBS = 10_000  # in a burst, where it is not the jobs that grow
LEAST = 10_000  # jobs for a point, in more rounds where one has less
NUMBER_OF_WORKERS = 4
NUMBER_KEPT = 50  # futures, as by default

OURS_AND_POOL = {"ours": "Flask-Executor", "pool": "ThreadPoolExecutor"}
STORED = {"ours": "submit_stored"}


@dataclass(frozen=True, slots=True)
class Growth:
    """What grows, up to where, and who does the work meanwhile.

    :param grows: what there is more and more of; of jobs, it is the cost of all that is looked at
    :param work: that of the sides, which take what grows unless it is the jobs
    :param sides: each with the name of its line
    :param number: what the sides take where it is the jobs that grow, and only there
    """

    name: str
    title: str
    grows: str
    steps: Sequence[int]
    work: str
    sides: Mapping[str, str]
    number: int | None = None

    @property
    def in_jobs(self) -> bool:
        """Whether it is the jobs that grow."""
        return self.number is not None

    def take(self, step: int, rounds: int) -> dict[str, float]:
        """Take the rounds of a step; what a job costs each side, in seconds."""
        jobs, number = (JOBS, step) if self.number is None else (step, self.number)
        rounds *= max(LEAST // jobs, 1)
        taken = take_turns(self.sides, self.work, number, rounds=rounds, jobs=jobs)
        return {side: median(its) for side, its in taken.items()}

    def shown(self, points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
        """Turn what a job costs, in seconds, into what a picture shows: that, or all in seconds."""
        return [(step, cost * (step if self.in_jobs else 1e6)) for step, cost in points]

    def power(self, points: Sequence[tuple[int, float]]) -> float:
        """Tell the power of what grows that the cost grows with."""
        shown = self.shown(points)
        steps, costs = ([log(each) for each in axis] for axis in zip(*shown, strict=True))
        return linear_regression(steps, costs).slope


ALL = (
    Growth(
        "jobs",
        "A burst of more and more jobs",
        "jobs",
        (1_000, 10_000, 100_000, 1_000_000),
        "burst",
        OURS_AND_POOL,
        NUMBER_OF_WORKERS,
    ),
    Growth(
        "workers",
        "A burst of 10,000 jobs on more and more workers",
        "workers",
        (1, 2, 4, 8, 16, 32, 64),
        "burst",
        OURS_AND_POOL,
    ),
    Growth(
        "kept",
        "A burst of 10,000 stored jobs, more and more futures kept",
        "futures kept",
        (NUMBER_KEPT, 1_000, 10_000, 100_000),
        "stored",
        STORED,
    ),
    Growth(
        "stored",
        "A burst of more and more stored jobs, 50 futures kept",
        "jobs",
        (1_000, 10_000, 100_000),
        "stored",
        STORED,
        NUMBER_KEPT,
    ),
)
GROWTHS = {growth.name: growth for growth in ALL}
SIDES = dict.fromkeys(side for growth in ALL for side in growth.sides)


def grow(rounds: int, *, quick: bool) -> Iterator[Grown]:
    """Measure all that grows; a quick run takes two small steps of each."""
    for growth in ALL:
        steps = growth.steps[:2] if quick else growth.steps
        costs = [(step, growth.take(step, rounds)) for step in steps]
        points = {side: [(step, its[side]) for step, its in costs] for side in growth.sides}
        yield Grown(growth.name, rounds, points)

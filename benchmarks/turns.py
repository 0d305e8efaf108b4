"""Sides that take turns: each waits in a process of its own until it is told to do a round."""

from __future__ import annotations

import subprocess
from collections import deque
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from environments import python_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

SIDES = Path(__file__).parent / "sides"
ENOUGH = 10_000  # jobs to warm up


def take_turns(
    sides: Iterable[str], work: str, *numbers: int, rounds: int, jobs: int
) -> dict[str, list[float]]:
    """Do so many rounds of a work on each side; what a job took in each of them.

    Each side does a round before the first that counts, of a few jobs where the others have very
    many. Who goes first changes with every round.

    :param numbers: what the work takes
    """
    taken: dict[str, list[float]] = {side: [] for side in sides}
    with ExitStack() as stack:
        take_round = {side: stack.enter_context(started(side, work, *numbers)) for side in taken}
        for warm_up in take_round.values():
            warm_up(min(jobs, ENOUGH))
        turns = deque(taken)
        for _ in range(rounds):
            for side in turns:
                taken[side].append(take_round[side](jobs))
            turns.rotate()
    return taken


@contextmanager
def started(side: str, work: str, *numbers: int) -> Generator[Callable[[int], float]]:
    """Start a side's process; each call has it do a round of so many jobs.

    :raises RuntimeError: if it has ended, in that call
    """
    # -E, since a PYTHONPATH could put other packages in front of those of the environment.
    command = [str(python_of(side)), "-E", str(SIDES / f"{side}.py"), work, *map(str, numbers)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def take_round(jobs: int) -> float:
            print(jobs, file=stdin, flush=True)
            answer = stdout.readline()
            if not answer:
                raise RuntimeError(f"the side {side!r} has ended in {work!r}; see what it wrote")
            return float(answer)

        yield take_round

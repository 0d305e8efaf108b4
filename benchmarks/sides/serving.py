"""What one side of a comparison does, in a process of its own: rounds, as it is told to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeAlias

Round: TypeAlias = Callable[[int], float]
"""Does so many jobs; what each of them took, in seconds or in bytes."""
Work: TypeAlias = Callable[..., AbstractContextManager[Round]]
"""Prepares the rounds of a work; it may take numbers."""


def serve(works: Mapping[str, Work]) -> None:
    """Prepare the work that the command line names and do a round for each line of input.

    The numbers that the command line has after the name are handed to the work.
    A line is a number of jobs; what each of them took is printed.
    """
    name, *numbers = sys.argv[1:]
    with works[name](*map(int, numbers)) as take_round:
        for line in sys.stdin:
            print(take_round(int(line)), flush=True)

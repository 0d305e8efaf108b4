"""Sides that take turns: each runs in a process and a virtual environment of its own."""

from __future__ import annotations

import sys
import tomllib
import venv
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE, Popen, run

HERE = Path(__file__).parent
WARM_UP = 10_000  # jobs at most


@dataclass(frozen=True, slots=True)
class Side:
    """A program that takes part in comparisons: the side *name* of a script in sides/."""

    script: str
    name: str
    environment: str
    requirements: tuple[str, ...]

    def command(self, work: str, *numbers: int) -> list[str]:
        """Return the command that does the rounds of a work."""
        return [self.python(), f"{HERE}/sides/{self.script}", self.name, work, *map(str, numbers)]

    def python(self) -> str:
        """Return the side's Python; make its environment first if requirements have changed."""
        # The name starts with .venv: git ignores the folder, and `make clean` removes it.
        path = HERE.parent / f".venv-bench-{self.environment}-{sys.implementation.cache_tag}"
        python, made = str(path / "bin" / "python"), path / "made"
        if not made.exists() or made.read_text("utf-8") != repr(self.requirements):
            print(f"Making {path.name}", file=sys.stderr)
            venv.create(path, clear=True, symlinks=True)
            # The pip of this process installs: a pip in each environment would take longer.
            pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check"]
            run([*pip, "--python", python, "install", *self.requirements], check=True)
            made.write_text(repr(self.requirements), "utf-8")
        return python


# All sides have the versions that the environment of this process has.
STOCK = tuple(f"{name}=={version(name)}" for name in ("Flask", "asgiref", "gunicorn"))


def checkout(path: Path, environment: str) -> Side:
    """Make a side of the Flask-Executor in a checkout."""
    project = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))["project"]
    # The dependencies are listed so that a change of them makes a new environment.
    metrics = f"prometheus-client=={version('prometheus-client')}"
    requirements = (f"--editable={path}", *project["dependencies"], *STOCK, metrics)
    return Side("pools.py", "ours", environment, requirements)


POOLS = ("anyio", "asgiref", "pool", "stock_flask", "to_thread")
QUEUES = {
    "rq": ("rq==3.0.0", "redis[hiredis]==8.1.0"),
    "celery": ("celery[redis]==5.7.0", "hiredis"),
    "dramatiq": ("dramatiq[redis]==2.2.1", "hiredis"),
    "huey": ("huey==3.5.4", "redis[hiredis]==8.1.0"),
    # SAQ imports typing_extensions but does not require it.
    "saq": ("saq[redis,hiredis]==0.26.4", "typing_extensions"),
}
OURS = checkout(HERE.parent, "ours")
VERSION_1 = "flask_executor_1"
SIDES = {
    "ours": OURS,
    "unmetered": replace(OURS, name="unmetered"),
    VERSION_1: Side("pools.py", VERSION_1, VERSION_1, ("Flask-Executor==1.0.0", *STOCK)),
    **{name: Side("pools.py", name, "pools", ("anyio==4.16.0", *STOCK)) for name in POOLS},
    **{name: Side("queues.py", name, name, packages) for name, packages in QUEUES.items()},
}


def take_turns(
    sides: Iterable[Side], work: str, *numbers: int, rounds: int, jobs: int
) -> list[list[float]]:
    """Do so many rounds on each side; for each side, the cost of a job in each round.

    Each side does one more round first, to warm up. The order of the sides changes every round.
    """
    commands = [side.command(work, *numbers) for side in sides]
    with ExitStack() as stack:
        started = [Popen(each, stdin=PIPE, stdout=PIPE, text=True) for each in commands]
        processes = [stack.enter_context(process) for process in started]
        for process in processes:
            _take_round(process, min(jobs, WARM_UP))
        costs: list[list[float]] = [[] for _ in processes]
        turns = deque(zip(processes, costs, strict=True))
        for _ in range(rounds):
            for process, its_costs in turns:
                its_costs.append(_take_round(process, jobs))
            turns.rotate()
    return costs


def _take_round(process: Popen[str], jobs: int) -> float:
    """Have a side's process do a round of so many jobs."""
    assert process.stdout is not None
    print(jobs, file=process.stdin, flush=True)
    if not (answer := process.stdout.readline()):
        raise RuntimeError(f"{process.args} failed; see its error above")
    return float(answer)

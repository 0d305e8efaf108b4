"""Flask-Executor 1.0, in an environment of its own, and bursts made in either environment."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

HERE = Path(__file__).parent
# Named as the other environments are, so that git ignores it and `make clean` removes it.
VENV = HERE.parent / f".venv-flask-executor-1.0-{sys.implementation.cache_tag}"
PYTHON = VENV / "bin" / "python"
MADE = VENV / "made"


def is_installed() -> bool:
    """Whether the environment is there and complete."""
    return MADE.exists()


def install() -> None:
    """Make the environment unless it is there, with the same Flask as in this one."""
    if is_installed():
        return
    print(f"Installing Flask-Executor 1.0 into {VENV.name}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    requirements = ["Flask-Executor==1.0.0", f"Flask=={version('flask')}"]
    pip = ["-m", "pip", "-qq", "--disable-pip-version-check"]
    subprocess.run([PYTHON, *pip, "install", *requirements], check=True)
    MADE.touch()


@contextmanager
def bursts_in(python: str | Path, jobs: int) -> Generator[Callable[[], float]]:
    """Start a process of *python* that makes a burst at each call; the seconds for each job."""
    # -E, since a PYTHONPATH could put another flask_executor in front of the installed one.
    command = [python, "-E", HERE / "burst.py"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def burst() -> float:
            print(jobs, file=stdin, flush=True)
            return float(stdout.readline())

        yield burst

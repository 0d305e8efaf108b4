"""What a run has measured, and on what: a file for each Python, of its last run."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rows import Row

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Result:
    """How a row came out.

    :param ours: what a job took, in seconds or bytes; the median over the rounds
    :param ratio: ours by theirs, the median over the rounds; None if there is nothing to compare
    :param spread: the middle half of the rounds' ratios, or of ours if there is nothing to compare
    """

    work: str
    against: str
    jobs: int
    rounds: int
    ours: float
    theirs: float | None
    ratio: float | None
    spread: tuple[float, float]

    @classmethod
    def of(cls, row: Row, jobs: int, taken: dict[str, list[float]]) -> Result:
        """Compare the rounds of the row's sides, each of ours with that of theirs beside it."""
        ours = taken[row.ours]
        if row.theirs is None:
            theirs, ratio = None, None
            low, _, high = quantiles(ours, n=4, method="inclusive")
        else:
            theirs = median(taken[row.theirs])
            ratios = [our / their for our, their in zip(ours, taken[row.theirs], strict=True)]
            low, ratio, high = quantiles(ratios, n=4, method="inclusive")
        names = row.work.name, row.against
        return cls(*names, jobs, len(ours), median(ours), theirs, ratio, (low, high))


@dataclass(frozen=True, slots=True)
class Grown:
    """How the cost of a job came out where something grew.

    :param rounds: for each point, or more where they are short
    :param points: for each side, what grew and what a job took, in seconds; the median
    """

    name: str
    rounds: int
    points: dict[str, list[tuple[int, float]]]


OneResult = TypeVar("OneResult", Result, Grown)


@dataclass(frozen=True, slots=True)
class Run(Generic[OneResult]):
    """A run: its results, and what they depend on.

    :param load: how many processes wanted a core when it began, over a minute
    :param packages: those of each environment, with their versions
    """

    date: str
    command: str
    python: str
    cpu: str
    cores: int | None
    system: str
    load: float
    packages: dict[str, dict[str, str]]
    results: list[OneResult]

    @property
    def minor(self) -> str:
        """Python's version without the last part, such as ``3.11``."""
        return ".".join(self.python.split()[-1].split(".")[:2])

    def write(self, prefix: str = "") -> None:
        """Write the results in place of this Python's last ones.

        :param prefix: of the file's name, for results of another kind
        """
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (RESULTS / f"{prefix}{self.minor}.json").write_text(text, "utf-8")


def start_run() -> Run[Any]:
    """Note what a run depends on, before it makes the machine busy."""
    return Run(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        command=shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cpu=cpu(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        load=os.getloadavg()[0],
        packages={},
        results=[],
    )


def cpu() -> str:
    """Name the processor's model, or its kind where the model is not known."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def read_instructions() -> dict[str, dict[str, int]]:
    """Read how many instructions jobs take, by Python's version, the oldest first."""
    return dict(_files("instructions-"))


def read_runs() -> list[Run[Result]]:
    """Read the last comparison of each Python, the oldest Python first."""
    return list(_read("", Result))


def read_growths() -> dict[str, Run[Grown]]:
    """Read the last run of each Python that saw the cost grow, by the Python's minor version."""
    return {run.minor: run for run in _read("growth-", Grown)}


def _read(prefix: str, kind: type[OneResult]) -> Iterator[Run[OneResult]]:
    for _, run in _files(prefix):
        yield Run(**run | {"results": [kind(**each) for each in run["results"]]})


def _files(prefix: str) -> Iterator[tuple[str, Any]]:
    """Read what is there for each Python, by its minor version, the oldest first."""
    paths = {path.stem.removeprefix(prefix): path for path in RESULTS.glob(f"{prefix}3.*.json")}
    for minor in sorted(paths, key=lambda minor: int(minor.partition(".")[2])):
        yield minor, json.loads(paths[minor].read_text("utf-8"))

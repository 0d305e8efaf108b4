"""Compare Flask-Executor with other ways to do the same work, or two checkouts with each other.

Writes and is explained by docs/reference/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import page
import pictures
from page import GROWTHS, ROWS, WORKS
from turns import HERE, SIDES, Side, checkout, take_turns

LINE = "{:<17}  {:<53}  {:>5}  {:>14}  {:>5}  {:>9}  {:>9}"
GROWTH_JOBS = 10_000  # in a burst where the jobs do not grow; and at least as many for each point
QUICK = 50  # times fewer jobs


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=2), default=21, help="Of each side; 21.")
@click.option("--only", type=click.Choice([*WORKS, "growth"]), multiple=True, help="Repeatable.")
@click.option("--against", type=click.Path(exists=True, path_type=Path), help="Another checkout.")
@click.option("--quick", is_flag=True, help="Two tiny rounds, to see that all works.")
def main(*, rounds: int, only: tuple[str, ...], against: Path | None, quick: bool) -> None:
    """Measure and print everything that the command line asks for."""
    # The end of this process, by SIGTERM as by Ctrl-C, is to end the processes of the sides.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rounds = 2 if quick else rounds
    works = [work for work in WORKS if not only or work in only]
    other = checkout(against.resolve(), "against") if against else None
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) if quick else HERE.parent
        if works:
            about, results = describe_run(), list(compare(works, other, rounds, quick=quick))
            if not only and not other:
                write(root, "rows", about | {"results": results})
        if not other and (not only or "growth" in only):
            about, results = describe_run(), list(grow(max(1, rounds // 4), quick=quick))
            write(root, "growth", about | {"results": results})


def compare(
    works: list[str], other: Side | None, rounds: int, *, quick: bool
) -> Iterator[dict[str, Any]]:
    """Measure and print the rows of works, or a row for each against another checkout."""
    print(LINE.format("work", "against", "ratio", "spread", "aim", "ours", "theirs"))
    path = other.requirements[0].removeprefix("--editable=") if other else ""
    for work in works:
        rows = [{"against": path}] if other else ROWS["rows"][work]
        sides = [other or SIDES[row["theirs"]] for row in rows if other or "theirs" in row]
        jobs = max(1, WORKS[work]["jobs"] // (QUICK if quick else 1))
        ours, *others = take_turns([SIDES["ours"], *sides], work, rounds=rounds, jobs=jobs)
        for row, theirs in zip(rows, others or [None], strict=True):
            result = {"work": work, "against": row["against"], "jobs": jobs, "rounds": rounds}
            result |= compared(ours, theirs)
            cells = [cell.replace("`", "").replace("*", "") for cell in page.cells(result)]
            print(LINE.format(work, *cells[1:]), flush=True)
            yield result


def compared(ours: list[float], theirs: list[float] | None) -> dict[str, Any]:
    """Compare each round of ours with the round of theirs beside it."""
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)] if theirs else ours
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    result = {"ours": median(ours), "theirs": None, "ratio": None, "spread": (low, high)}
    return result | ({"theirs": median(theirs), "ratio": middle} if theirs else {})


def grow(rounds: int, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Measure and print the growths; a quick run takes two steps of each."""
    for name, growth in GROWTHS.items():
        points: dict[str, list[tuple[int, float]]] = {side: [] for side in growth["sides"]}
        for step in growth["steps"][: 2 if quick else None]:
            jobs, number = (step, growth["number"]) if "number" in growth else (GROWTH_JOBS, step)
            more = rounds * max(1, GROWTH_JOBS // jobs)
            sides = [SIDES[side] for side in points]
            taken = take_turns(sides, growth["work"], number, rounds=more, jobs=jobs)
            for its_points, costs in zip(points.values(), taken, strict=True):
                its_points.append((step, median(costs)))
        result = {"name": name, "rounds": rounds, "points": points}
        print(f"\n{growth['title']}")
        for cells in page.growth_cells(result):
            print("".join(f"{cell:>20}" for cell in cells), flush=True)
        yield result


def describe_run() -> dict[str, Any]:
    """Describe the things that the results of a run depend on."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text("utf-8") if info.exists() else "")
    required = {each for side in SIDES.values() for each in side.requirements}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "load": os.getloadavg()[0],
        "packages": sorted(each.replace("==", " ") for each in required if "==" in each),
    }


def write(root: Path, kind: str, run: dict[str, Any]) -> None:
    """Write the results of a run in place of this Python's last results, then the page."""
    results, images = root / "benchmarks" / "results", root / "docs" / "images"
    document = root / "docs" / "reference" / "benchmarks.md"
    for folder in (results, images, document.parent):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run, indent=2, ensure_ascii=False) + "\n"
    (results / "{}-{}.{}.json".format(kind, *sys.version_info)).write_text(text, "utf-8")
    document.write_text(page.render(results), "utf-8")
    pictures.draw(results, images)


if __name__ == "__main__":
    main()

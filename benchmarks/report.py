"""The page of the benchmarks, docs/benchmarks.md, and its pictures, made from all results.

::

    python benchmarks/report.py

The text around the tables is in page.md, beside this file.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from charts import Bar, bars
from results import read_runs
from rows import ROWS, UNITS, show

if TYPE_CHECKING:
    from results import Result, Run
    from rows import Row

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def write_page() -> None:
    """Write the page and its pictures."""
    (DOCS / "images").mkdir(exist_ok=True)
    for name, text in files().items():
        (DOCS / name).write_text(text, "utf-8")


def files() -> dict[str, str]:
    """Make what is written, by its name in docs/."""
    runs = read_runs()
    template = Template((HERE / "page.md").read_text("utf-8"))
    page = template.substitute(runs="\n".join(map(section, runs)), limits=limits())
    return {"benchmarks.md": page.rstrip() + "\n"} | {picture(run): chart(run) for run in runs}


def section(run: Run) -> str:
    """Show a run: what it depends on, the picture, the table."""
    title = f"CPython {run.minor}"
    packages = {f"{name} {version}" for of in run.packages.values() for name, version in of.items()}
    lines = [
        f"## {title}",
        "",
        f"`{run.command}` measured this on {run.date}, with {run.python}, on {run.system} and",
        f"{run.cores} cores of {run.cpu}. The load was {run.load:.1f} when it began.",
        "",
        f"![The ratios of {title} as bars]({picture(run)})",
        "",
        "| work | against | ratio | spread | aim | ours | theirs |",
        "|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(cells(row, result))} |" for row, result in paired(run)),
        "",
        f"Packages: {', '.join(sorted(packages, key=str.lower))}.",
        "",
    ]
    return "\n".join(lines)


def cells(row: Row, result: Result) -> tuple[str, ...]:
    """Write a row's cells; where there is nothing to compare, the aim is one for ours."""
    unit = row.work.unit
    low, high = result.spread
    names = row.work.title, row.against
    if result.ratio is None or result.theirs is None:
        spread = f"{low * UNITS[unit]:.1f} to {high * UNITS[unit]:.1f}"
        return *names, "", spread, f"{row.aim:g} {unit}", show(result.ours, unit), ""
    ours_and_theirs = show(result.ours, unit), show(result.theirs, unit)
    ratio = f"**{result.ratio:.2f}**"
    return *names, ratio, f"{low:.2f} to {high:.2f}", f"{row.aim:.2f}", *ours_and_theirs


def limits() -> str:
    """Say what limits ours, where that is known."""
    known = [row for row in ROWS if row.limit]
    if not known:
        return ""
    items = [f"- {row.work.title}, against {row.against}: {row.limit}" for row in known]
    return "\n".join(["## Where the rest goes", "", *items])


def picture(run: Run) -> str:
    """Name a run's picture."""
    return f"images/benchmarks-{run.minor}.svg"


def chart(run: Run) -> str:
    """Draw a run's ratios, under their works."""
    groups: dict[str, list[Bar]] = {}
    for row, result in paired(run):
        if result.ratio is not None:
            bar = Bar(row.against.replace("`", ""), result.ratio, *result.spread, row.aim)
            groups.setdefault(row.work.title.replace("`", ""), []).append(bar)
    return bars(f"Ours by theirs on CPython {run.minor}: shorter is better", groups)


def paired(run: Run) -> list[tuple[Row, Result]]:
    """Pair the rows with their results, in the order of the rows."""
    results = {(result.work, result.against): result for result in run.results}
    named = {(row.work.name, row.against): row for row in ROWS}
    return [(row, results[name]) for name, row in named.items() if name in results]


if __name__ == "__main__":
    write_page()

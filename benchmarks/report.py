"""The page of the benchmarks, docs/benchmarks.md, and its pictures, made from all results.

::

    python benchmarks/report.py

The text around the tables is in page.md, beside this file.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from charts import Bar, amounts, bars, lines
from growth import GROWTHS
from results import read_growths, read_instructions, read_runs
from rows import READ_BACK, ROWS, UNITS, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from growth import Growth
    from results import Grown, Result, Run
    from rows import Row, Work

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def write_page() -> None:
    """Write the page and its pictures."""
    (DOCS / "images").mkdir(exist_ok=True)
    for name, text in files().items():
        (DOCS / name).write_text(text, "utf-8")


def files() -> dict[str, str]:
    """Make what is written, by its name in docs/."""
    runs, growths, counts = read_runs(), read_growths(), read_instructions()
    sections = [section(run, growths.get(run.minor)) for run in runs]
    template = Template((HERE / "page.md").read_text("utf-8"))
    counted = [part for each in counts.items() for part in instruction_parts(*each)]
    page = template.substitute(
        runs="\n".join(sections), instructions="\n".join(counted), limits=limits()
    )
    pictures = [of_run for run in runs for of_run in (ratios_picture(run), rates_picture(run))]
    for minor, run in growths.items():
        pictures += [growth_picture(minor, grown) for grown in run.results]
    pictures += [instructions_picture(*each) for each in counts.items()]
    return {"benchmarks.md": page.rstrip() + "\n"} | dict(pictures)


def section(run: Run[Result], growth: Run[Grown] | None) -> str:
    """Show what was measured on a Python: what it depends on, the pictures, the tables."""
    title = f"CPython {run.minor}"
    columns = ("work", "against", "ratio", "spread", "aim", "ours", "theirs")
    parts = [
        f"## {title}",
        "",
        *origin(run),
        "",
        f"![Ours by theirs on {title}, as bars]({ratios_picture(run)[0]})",
        "",
        *table(columns, [cells(*pair) for pair in paired(run) if pair[0].work != READ_BACK]),
        "",
        f"### {title}: jobs whose results are read back",
        "",
        f"![Jobs per second on {title}, as bars]({rates_picture(run)[0]})",
        "",
        *table(columns[1:], [cells(*pair)[1:] for pair in paired(run, READ_BACK)]),
        "",
        f"Packages: {packages(run)}.",
        "",
    ]
    return "\n".join(parts + (growth_parts(title, growth) if growth else []))


def growth_parts(title: str, run: Run[Grown]) -> list[str]:
    """Show how the cost grows on a Python."""
    parts = [f"### {title}: how the cost grows", "", *origin(run), ""]
    for grown in run.results:
        growth = GROWTHS[grown.name]
        picture, _ = growth_picture(run.minor, grown)
        heading, *rows = growth_cells(growth, grown)
        parts += [f"![{growth.title}, as lines]({picture})", "", *table(heading, rows), ""]
    return parts


def instruction_parts(minor: str, counts: dict[str, int]) -> list[str]:
    """Show how many instructions jobs take on a Python."""
    picture, _ = instructions_picture(minor, counts)
    rows = [(title, f"{count:,}") for title, count in counts.items()]
    heading = ("for one job", f"instructions on CPython {minor}")
    image = f"![Instructions on CPython {minor}, as bars]({picture})"
    return [image, "", *table(heading, rows), ""]


def origin(run: Run[Any]) -> tuple[str, str]:
    """Say where a run's numbers come from."""
    return (
        f"`{run.command}` measured this on {run.date}, with {run.python}, on {run.system} and",
        f"{run.cores} cores of {run.cpu}. The load was {run.load:.1f} when it began.",
    )


def packages(run: Run[Any]) -> str:
    """List the packages of all environments of a run."""
    all_of_them = {f"{name} {each}" for of in run.packages.values() for name, each in of.items()}
    return ", ".join(sorted(all_of_them, key=str.lower))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a table."""
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def cells(row: Row, result: Result) -> tuple[str, ...]:
    """Write a row's cells; where there is nothing to compare, the aim is one for ours."""
    unit = row.work.unit
    low, high = result.spread
    names = row.work.title, row.against
    if result.ratio is None or result.theirs is None:
        spread = f"{low * UNITS[unit]:.1f} to {high * UNITS[unit]:.1f}"
        return *names, "", spread, f"{row.aim:g} {unit}", show(result.ours, unit), ""
    ours_and_theirs = show(result.ours, unit), show(result.theirs, unit)
    digits = 3 if unit == "1/s" else 2
    ratio, *ends = (f"{each:.{digits}f}" for each in (result.ratio, low, high))
    return *names, f"**{ratio}**", " to ".join(ends), f"{row.aim:.2f}", *ours_and_theirs


def limits() -> str:
    """Say what keeps ours from being less."""
    works = dict.fromkeys(row.work for row in ROWS)
    return "\n".join(f"- **{work.title}**: {work.limit}" for work in works if work.limit)


def ratios_picture(run: Run[Result]) -> tuple[str, str]:
    """Draw a run's ratios, under their works; the picture's name, and the picture."""
    groups: dict[str, list[Bar]] = {}
    for row, result in paired(run):
        if result.ratio is not None and row.work != READ_BACK:
            label = row.against.replace("`", "").removesuffix(", no app context")
            bar = Bar(label, result.ratio, *result.spread, row.aim)
            groups.setdefault(row.work.title.replace("`", ""), []).append(bar)
    title = f"Ours by theirs on CPython {run.minor}: shorter is better"
    return f"images/benchmarks-{run.minor}.svg", bars(title, groups)


def rates_picture(run: Run[Result]) -> tuple[str, str]:
    """Draw how many results a second are read back."""
    pairs = paired(run, READ_BACK)
    each = {row.against: 1 / result.theirs for row, result in pairs if result.theirs}
    title = f"Jobs per second on CPython {run.minor}: longer is better"
    svg = amounts(title, {"Flask-Executor": 1 / pairs[0][1].ours} | each, unit="/s")
    return f"images/benchmarks-{run.minor}-read-back.svg", svg


def instructions_picture(minor: str, counts: dict[str, int]) -> tuple[str, str]:
    """Draw how many instructions jobs take."""
    bare = {title.replace("`", ""): count for title, count in counts.items()}
    svg = amounts(f"Instructions for one job on CPython {minor}", bare, left=400)
    return f"images/benchmarks-{minor}-instructions.svg", svg


def growth_picture(minor: str, grown: Grown) -> tuple[str, str]:
    """Draw how the cost grows with something."""
    growth = GROWTHS[grown.name]
    series = {growth.sides[side]: growth.shown(points) for side, points in grown.points.items()}
    cost = "seconds for all" if growth.in_jobs else "µs for a job"
    svg = lines(f"{growth.title}, CPython {minor}", growth.grows, cost, series, height=320)
    return f"images/benchmarks-{minor}-growth-{grown.name}.svg", svg


def growth_cells(growth: Growth, grown: Grown) -> list[tuple[str, ...]]:
    """Write a growth's table: its heading, a line for each step, and the powers."""
    names = [growth.sides[side] for side in grown.points]
    steps = [
        (f"{points[0][0]:,}", *(show(cost, "µs") for _, cost in points))
        for points in zip(*grown.points.values(), strict=True)
    ]
    powers = [f"{growth.power(points):.2f}" for points in grown.points.values()]
    return [(growth.grows, *names), *steps, ("the power", *powers)]


def paired(run: Run[Result], work: Work | None = None) -> list[tuple[Row, Result]]:
    """Pair the rows, or those of a work, with their results, in the order of the rows."""
    results = {(result.work, result.against): result for result in run.results}
    named = {(row.work.name, row.against): row for row in ROWS if work in {None, row.work}}
    return [(row, results[name]) for name, row in named.items() if name in results]


if __name__ == "__main__":
    write_page()

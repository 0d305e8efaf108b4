"""The text of docs/reference/benchmarks.md, made from page.md, rows.toml and the results."""

from __future__ import annotations

import json
import tomllib
from math import log
from pathlib import Path
from statistics import linear_regression
from typing import Any

from jinja2 import Environment

HERE = Path(__file__).parent
ROWS = tomllib.loads((HERE / "rows.toml").read_text("utf-8"))
WORKS, GROWTHS = ROWS["works"], ROWS["growths"]
# How many of each unit make a second, or a byte.
UNITS = {"µs": 1e6, "ms": 1e3, "B": 1}


def render(results: Path = HERE / "results") -> str:
    """Make the text of the page."""
    template = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(
        (HERE / "page.md").read_text("utf-8"),
        {"cells": cells, "growth_cells": growth_cells, "growths": GROWTHS},
    )
    return template.render(rows=read(results, "rows"), growth=read(results, "growth"))


def read(results: Path, kind: str) -> dict[str, Any]:
    """Read the results of a kind by the Python's minor version, the oldest first."""
    paths = {path.stem.removeprefix(f"{kind}-"): path for path in results.glob(f"{kind}-*.json")}
    minors = sorted(paths, key=lambda minor: int(minor.partition(".")[2]))
    return {minor: json.loads(paths[minor].read_text("utf-8")) for minor in minors}


def cells(row: dict[str, Any]) -> list[str]:
    """Write the cells of a row of results."""
    work, aim, (low, high) = WORKS[row["work"]], aim_of(row), row["spread"]
    names, unit = [work["title"], row["against"]], work["unit"]
    if row["ratio"] is None:
        spread = f"{low * UNITS[unit]:.1f} to {high * UNITS[unit]:.1f}"
        return [*names, "", spread, f"{aim} {unit}", shown(row["ours"], unit), ""]
    digits = 3 if unit == "1/s" else 2
    ratio, low, high = (f"{each:.{digits}f}" for each in (row["ratio"], low, high))
    costs = [shown(row[side], unit) for side in ("ours", "theirs")]
    return [*names, f"**{ratio}**", f"{low} to {high}", f"{aim:.2f}" if aim else "", *costs]


def aim_of(row: dict[str, Any]) -> float | None:
    """Find the aim of a row of results; a comparison of two checkouts has none."""
    aims = (each["aim"] for each in ROWS["rows"][row["work"]] if each["against"] == row["against"])
    return next(aims, None)


def growth_cells(result: dict[str, Any]) -> list[list[str]]:
    """Write the cells of a growth: the heading, a row for each step and the powers."""
    growth, powers = GROWTHS[result["name"]], []
    for side in growth["sides"]:
        logarithms = [(log(step), log(cost)) for step, cost in scaled(result, side)]
        powers.append(f"{linear_regression(*zip(*logarithms, strict=True)).slope:.2f}")
    steps = [
        [f"{points[0][0]:,}", *(shown(cost, "µs") for _, cost in points)]
        for points in zip(*result["points"].values(), strict=True)
    ]
    return [[growth["grows"], *growth["sides"].values()], *steps, ["the power", *powers]]


def scaled(result: dict[str, Any], side: str) -> list[tuple[int, float]]:
    """Take the points of a side: the seconds of all jobs if it is the jobs that grow, else µs."""
    in_jobs = "number" in GROWTHS[result["name"]]
    return [(step, cost * (step if in_jobs else 1e6)) for step, cost in result["points"][side]]


def shown(value: float, unit: str) -> str:
    """Write the cost of a job with its unit."""
    if unit == "1/s":
        return f"{1 / value:,.0f}/s"
    return f"{value * UNITS[unit]:.{0 if unit == 'B' else 1}f} {unit}"


if __name__ == "__main__":
    (HERE.parent / "docs" / "reference" / "benchmarks.md").write_text(render(), "utf-8")

"""The pictures of docs/reference/benchmarks.md, on white, so that a dark page shows them, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from page import GROWTHS, HERE, WORKS, aim_of, read, scaled

BAR, AIM = "#4c8eda", "#d4691e"
SETTINGS = {
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "benchmarks",  # the same results make the same file
}


def draw(results: Path, images: Path) -> None:
    """Draw all pictures from the results."""
    figures = {}
    with mpl.rc_context(SETTINGS):
        for minor, run in read(results, "rows").items():
            rows = [row for row in run["results"] if row["work"] != "read-back"]
            queues = [row for row in run["results"] if row["work"] == "read-back"]
            figures[minor] = ratios(minor, [row for row in rows if row["ratio"] is not None])
            figures[f"{minor}-read-back"] = rates(minor, queues)
        for minor, run in read(results, "growth").items():
            figures[f"{minor}-growth"] = growths(minor, run["results"])
        for name, figure in figures.items():
            figure.savefig(images / f"benchmarks-{name}.svg", metadata={"Date": None})


def ratios(minor: str, rows: list[dict[str, Any]]) -> Figure:
    """Draw the ratios as bars, each with its spread and its aim."""
    figure = Figure(figsize=(8, 0.42 * len(rows) + 1))
    axes, ys = figure.subplots(), range(len(rows))
    axes.barh(ys, [row["ratio"] for row in rows], 0.6, color=BAR, label="ours by theirs")
    spreads = zip(*(row["spread"] for row in rows), strict=True)
    axes.hlines(ys, *spreads, "black", linewidth=1, label="the middle half of the rounds")
    aims = [aim_of(row) for row in rows]
    axes.scatter(aims, ys, 200, AIM, marker="|", linewidth=2.5, label="the aim")
    names = [f"{WORKS[row['work']]['title']}\n{row['against']}: {row['ratio']:.2f}" for row in rows]
    axes.set_yticks(ys, [name.replace("`", "") for name in names])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x")
    figure.legend(loc="outside lower right", ncols=3)
    figure.suptitle(f"Ours by theirs on CPython {minor}: shorter is better")
    return figure


def rates(minor: str, rows: list[dict[str, Any]]) -> Figure:
    """Draw how many jobs per second each job queue runs."""
    figure = Figure(figsize=(8, 2.3))
    axes = figure.subplots()
    values = [1 / rows[0]["ours"], *(1 / row["theirs"] for row in rows)]
    bars = axes.barh(["Flask-Executor", *(row["against"] for row in rows)], values, color=BAR)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4)
    axes.set(xticks=[], xmargin=0.12)
    axes.invert_yaxis()
    figure.suptitle(f"Jobs per second on CPython {minor}: longer is better")
    return figure


def growths(minor: str, results: list[dict[str, Any]]) -> Figure:
    """Draw how the cost grows."""
    figure = Figure(figsize=(8, 6.5))
    for axes, result in zip(figure.subplots(2, 2).flat, results, strict=True):
        growth = GROWTHS[result["name"]]
        for (side, name), marker in zip(growth["sides"].items(), "os", strict=False):
            points = zip(*scaled(result, side), strict=True)
            axes.plot(*points, marker=marker, markersize=4, label=name)
        axes.set(title=growth["title"], xlabel=growth["grows"], xscale="log")
        if "number" in growth:
            axes.set(ylabel="seconds for all jobs", yscale="log")
        else:
            axes.set(ylabel="µs for one job", ylim=(0, None))
        axes.grid()
        axes.legend()
    figure.suptitle(f"How the cost grows on CPython {minor}")
    return figure


if __name__ == "__main__":
    draw(HERE / "results", HERE.parent / "docs" / "images")

"""Plots of measured figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from naruto_vision.io.atomic import atomic_file

Line = Sequence[tuple[float, float]]
_BESIDE = 0.07  # between the bars of neighbouring lines


def save_figure(figure: Figure, path: Path) -> None:
    """Write a plot as the image that the name ends in."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary)


def line_figure(
    lines: Mapping[str, Line], across: str, up: str, *, mark: float | None = None, note: str = ""
) -> Figure:
    """Draw lines over a common axis."""
    figure = Figure(figsize=(6.4, 4.0), dpi=110, layout="constrained")
    axes = figure.subplots()
    shown = {name: line for name, line in lines.items() if line}
    for name, line in shown.items():
        points = ([x for x, _ in line], [y for _, y in line])
        axes.plot(*points, marker="o" if len(line) <= 60 else "", markersize=3.5, linewidth=1.6, label=name)
    if mark is not None:
        axes.axvline(mark, color="0.45", linestyle="--", linewidth=1.0, label=note)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(shown) > 1 or mark is not None:
        axes.legend(frameon=False)
    return figure


def interval_figure(
    lines: Mapping[str, Sequence[tuple[float, float, float, float]]], across: str, up: str, title: str = ""
) -> Figure:
    """Draw lines of (x, value, low, high) with intervals as bars, over a common axis from 0 to 1."""
    figure = Figure(figsize=(7.2, 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for number, (name, line) in enumerate(lines.items()):
        x, value, low, high = zip(*line, strict=True)
        beside = [each + _BESIDE * (number - (len(lines) - 1) / 2) for each in x]
        errors = [[max(0.0, v - each) for v, each in zip(value, low, strict=True)]]
        errors += [[max(0.0, each - v) for v, each in zip(value, high, strict=True)]]
        axes.errorbar(beside, value, errors, marker="o", markersize=3.5, linewidth=1.6, elinewidth=0.7, label=name)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_ylim(0, 1.02)
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure


def grouped_intervals(
    groups: Mapping[str, Sequence[tuple[str, float, float, float, bool]]], across: str, mark: float, note: str
) -> Figure:
    """Draw values of rows (name, value, low, high, filled) with intervals, a colour for each group of rows."""
    rows = sum(map(len, groups.values()))
    figure = Figure(figsize=(8.0, 1.2 + 0.24 * (rows + len(groups))), dpi=110, layout="constrained")
    axes = figure.subplots()
    names: list[str] = []
    for number, (group, lines) in enumerate(groups.items()):
        names.append(group.upper() if len(groups) > 1 else group)
        for name, value, low, high, filled in lines:
            ends, fill = [[max(0.0, value - low)], [max(0.0, high - value)]], None if filled else "white"
            colour = f"C{number % 10}"
            axes.errorbar(value, len(names), xerr=ends, fmt="o", color=colour, markerfacecolor=fill, markersize=5.0)
            names.append(name)
    axes.axvline(mark, color="0.45", linestyle="--", linewidth=1.0, label=note)
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(across)
    axes.grid(alpha=0.25, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="lower left")
    return figure

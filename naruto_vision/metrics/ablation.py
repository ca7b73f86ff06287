"""The cells of an ablation: figures with intervals over scenes, paired tests against a baseline, spread over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from naruto_vision.io.text import csv_text
from naruto_vision.metrics.report import format_interval
from naruto_vision.metrics.stats import Interval, Rate, bootstrap_ratios, holm, sign_flip_exact

SceneSums: TypeAlias = dict[str, tuple[float, float]]
"""Figure → what a scene contributes to its numerator and its denominator."""

MAIN = "object_accuracy"
"""The figure that cells are ordered and compared by."""

OTHER_ROWS = "≠"
BETWEEN = " · "
_SHOWN = {"recall": "detection recall", "shown_accuracy": "shown with the right name"}
_REPLICATES = 2000


class Run(msgspec.Struct):
    """A cell with one seed: its gallery, and what each scene contributes."""

    seed: int
    gallery_rows: int
    labels: int
    rows_sha256: str
    scenes: dict[str, SceneSums]

    def rate(self, figure: str) -> Rate:
        """Return a figure of whole numbers, over all scenes."""
        right, total = np.sum([sums[figure] for sums in self.scenes.values()], axis=0)
        return Rate(round(right), round(total))


@dataclass(frozen=True)
class Cell:
    """A level of each factor, and a run for each seed."""

    levels: Mapping[str, str]
    runs: Sequence[Run]

    def table(self, figures: Sequence[str]) -> NDArray[np.float64]:
        """Return what each scene contributes, the mean over runs: (S, 2, F)."""
        each = [[[run.scenes[scene][name] for name in figures] for scene in run.scenes] for run in self.runs]
        sums: NDArray[np.float64] = np.array(each, dtype=np.float64).mean(axis=0).transpose(0, 2, 1)
        return sums

    def value(self) -> float:
        """Return the object accuracy, the mean over seeds."""
        right, total = self.table([MAIN])[..., 0].sum(axis=0)
        return float(right / total) if total else 0.0

    def differences(self, base: "Cell") -> NDArray[np.int64]:
        """Return in how many right objects each scene differs from a baseline, times ``lcm`` of their runs: (S,)."""
        units = (self.table([MAIN]) - base.table([MAIN]))[:, 0, 0] * lcm(len(self.runs), len(base.runs))
        return units.round().astype(np.int64)

    def has_rows_of(self, other: "Cell") -> bool:
        """Return whether the galleries of two cells have the same rows, seed by seed."""
        return [run.rows_sha256 for run in self.runs] == [run.rows_sha256 for run in other.runs]


def ablation_document(title: str, cells: Sequence[Cell], baseline: Cell | None = None) -> dict[str, Any]:
    """Return an ablation as JSON values, best cell first, in the form of ``tables.table_document``, with more keys.

    Args:
        title: Its title.
        cells: All cells, measured on the same scenes.
        baseline: The cell that the others are compared with; None takes the best one.

    Raises:
        ValueError: If cells have other scenes.
    """
    ordered = sorted(cells, key=lambda cell: -cell.value())
    base = baseline or ordered[0]
    if len({tuple(run.scenes) for cell in cells for run in cell.runs}) != 1:
        raise ValueError("ablation: expected cells of the same scenes, found others")
    varied = [name for name in base.levels if len({cell.levels[name] for cell in cells}) > 1]
    names = [BETWEEN.join(cell.levels[name] for name in varied) or "all" for cell in ordered]
    others = [cell for cell in ordered if cell is not base]
    p_values = [sign_flip_exact(cell.differences(base).tolist()) for cell in others]
    tests = dict(zip(map(id, others), zip(p_values, holm(p_values), strict=True), strict=True))
    documents = [
        _cell_document(name, cell, base, tests.get(id(cell))) for name, cell in zip(names, ordered, strict=True)
    ]
    many = any(len(cell.runs) > 1 for cell in cells)
    columns = ["object accuracy", "95 % over scenes", *(["over seeds"] if many else []), *_SHOWN.values()]
    columns += ["gallery rows", "minus the baseline", "p after Holm"]
    base_name = names[ordered.index(base)]
    run = base.runs[0]
    return {
        "title": f"{title}: {BETWEEN.join(varied)}" if varied else title,
        "columns": columns,
        "rows": {each["name"]: _row(each, many) for each in documents},
        "note": _note(run, base_name, len(others), baseline is None, all(each["same_rows"] for each in documents)),
        "steps": [],
        "made_of": {},
        "baseline": base_name,
        "scenes": len(run.scenes),
        "objects": run.rate(MAIN).total,
        "cells": documents,
    }


def _note(run: Run, base: str, tests: int, chosen: bool, same: bool) -> str:
    text = f"{len(run.scenes)} scenes, {run.rate(MAIN).total} objects, best first; baseline: {base}. "
    text += f"p: exact sign-flip test over scenes, after Holm for {tests} tests."
    if chosen:
        text += " The baseline is the best cell on these scenes, so differences from it are overstated."
    if not same:
        text += f" {OTHER_ROWS}: the gallery has other rows than the baseline's, so this is no fair comparison."
    return text


def _cell_document(name: str, cell: Cell, base: Cell, test: tuple[float, float] | None) -> dict[str, Any]:
    figures = list(next(iter(cell.runs[0].scenes.values())))
    table = cell.table(figures)
    sums = table.sum(axis=0)  # (2, F)
    intervals = bootstrap_ratios(table, _REPLICATES, 0)
    rates = [run.rate(MAIN) for run in cell.runs]
    values = [rate.value or 0.0 for rate in rates]
    apart = cell.table([MAIN]) - base.table([MAIN])
    apart[:, 1] = base.table([MAIN])[:, 1]
    (difference,) = bootstrap_ratios(apart, _REPLICATES, 0, proportions=False)
    return {
        "name": name,
        "levels": dict(cell.levels),
        "figures": {
            figure: {"value": float(above / below) if below else None, **_ends(interval)}
            for figure, above, below, interval in zip(figures, *sums, intervals, strict=True)
        },
        "runs": [
            {
                "seed": run.seed,
                "gallery_rows": run.gallery_rows,
                "labels": run.labels,
                "rows_sha256": run.rows_sha256,
                **{figure: run.rate(figure).as_json() for figure in (MAIN, *_SHOWN)},
            }
            for run in cell.runs
        ],
        "spread": {"n": len(values), "mean": float(np.mean(values)), "low": min(values), "high": max(values)},
        "same_rows": cell.has_rows_of(base),
        "difference": None if test is None else {"value": cell.value() - base.value(), **_ends(difference)},
        "p": None if test is None else test[0],
        "p_holm": None if test is None else test[1],
    }


def _ends(interval: Interval | None) -> dict[str, float | None]:
    return {"low": None, "high": None} if interval is None else {"low": interval.low, "high": interval.high}


def _row(cell: Mapping[str, Any], many: bool) -> list[Any]:
    """Return the figures of a cell's row: rates with counts where there is one run, means where there are several."""
    figures, runs, spread, difference = cell["figures"], cell["runs"], cell["spread"], cell["difference"]
    main, *more = (runs[0][name] if len(runs) == 1 else figures[name]["value"] for name in (MAIN, *_SHOWN))
    over = figures[MAIN]
    seeds = f"{spread['n']}: {spread['low']:.3f} to {spread['high']:.3f}" if spread["n"] > 1 else "1"
    rows = "/".join(dict.fromkeys(str(run["gallery_rows"]) for run in runs)) + f" {OTHER_ROWS}" * (
        not cell["same_rows"]
    )
    return [
        main,
        format_interval(over if over["low"] is not None else None) or "-",
        *([seeds] if many else []),
        *more,
        rows,
        f"{difference['value']:+.3f} {format_interval(difference)}" if difference else "baseline",
        "-" if cell["p_holm"] is None else f"{cell['p_holm']:.2g}",
    ]


def ablation_csv(document: Mapping[str, Any]) -> str:
    """Return an ablation as CSV: a line for each cell, a column for each factor and figure."""
    cells: Sequence[Mapping[str, Any]] = document["cells"]
    figures = list(cells[0]["figures"])
    head = [*cells[0]["levels"], *(f"{name}{end}" for name in figures for end in ("", "_low", "_high"))]
    lines: list[list[object]] = [[*head, "seeds", "seeds_low", "seeds_high", "same_rows", "p", "p_holm"]]
    for cell in cells:
        values = [value for name in figures for value in cell["figures"][name].values()]
        spread = [cell["spread"][name] for name in ("n", "low", "high")]
        values += [*spread, cell["same_rows"], cell["p"], cell["p_holm"]]
        lines.append([*cell["levels"].values(), *("" if value is None else value for value in values)])
    return csv_text(lines)


def learning_curves(document: Mapping[str, Any]) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return object accuracy over images for each class, where galleries of several sizes were measured.

    Returns:
        The levels of the other factors → images, value and interval over scenes, from few images to many.
    """
    cells, lines = document["cells"], dict[str, list[tuple[float, float, float, float]]]()
    varied = {name for name in cells[0]["levels"] if len({cell["levels"][name] for cell in cells}) > 1}
    for cell in cells if "images" in varied else []:
        name = BETWEEN.join(level for factor, level in cell["levels"].items() if factor in varied - {"images"})
        images = float(np.mean([run["gallery_rows"] / run["labels"] for run in cell["runs"]]))
        main = cell["figures"][MAIN]
        value = main["value"] or 0.0
        lines.setdefault(name or "all", []).append((images, value, main["low"] or 0.0, main["high"] or value))
    return {name: sorted(line) for name, line in lines.items()}

"""``naruto-vision ablate``: measure every combination of encoders, segmenters, indexes, merging and decision rules."""

import argparse
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from naruto_vision.cli.console import progress, show
from naruto_vision.cli.reproduce import data_folders, fill_folders, find_table
from naruto_vision.cli.trainer_args import SCENES_CONFIG, find_config, model_section, read_config
from naruto_vision.errors import FormatError
from naruto_vision.io.bundles import packaged_tables
from naruto_vision.io.typed_json import convert_json, read_json
from naruto_vision.io.yaml_files import read_yaml

if TYPE_CHECKING:
    from naruto_vision.data.scenes import SceneDataset
    from naruto_vision.gallery.enrolment import Enrolment
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.metrics.ablation import Cell, Run
    from naruto_vision.modules.ablation import ResultCache
    from naruto_vision.modules.scene_retriever import SceneRetriever

_IMAGES = "images"
_MODELS = ("encoder", "segmenter")
_FACTORS = (*_MODELS, _IMAGES, "index", "merge", "decision", "neighbours", "crop", "more_crops", "embedding", "overlay")
"""Arguments of ``SceneRetriever``, and the images enrolled for each class; models first, to open each once."""


class Grid(msgspec.Struct, forbid_unknown_fields=True):
    """The description of an ablation.

    Args:
        title: Its title.
        data: Arguments of ``GalleryDataModule``: ``root`` to enrol, ``test`` scenes, optionally ``valid`` scenes.
        factors: Argument of ``SceneRetriever``, or ``images``, to its levels: a list, or name → value.
        config: The config of everything else.
        seeds: Which images are drawn, where ``images`` is a number; one run for each.
        skip: Combinations that are left out: factor → level, all of which a cell has.
        baseline: Factor → level of the cell that all others are compared with; empty for the best one.
    """

    title: str
    data: dict[str, Any]
    factors: dict[str, list[Any] | dict[str, Any]]
    config: str = SCENES_CONFIG
    seeds: tuple[int, ...] = (42,)
    skip: list[dict[str, Any]] = []
    baseline: dict[str, Any] = {}

    def levels(self) -> dict[str, dict[str, Any]]:
        """Return factor → name of each level → its value, models first."""
        found = {}
        for factor in sorted(self.factors, key=_FACTORS.index):
            given = self.factors[factor]
            found[factor] = given if isinstance(given, dict) else {_name(value): value for value in given}
        return found

    def cells(self) -> list[dict[str, str]]:
        """Return the level of each factor, for every combination that is not skipped."""
        levels = self.levels()
        cells = [dict(zip(levels, names, strict=True)) for names in product(*levels.values())]
        return [cell for cell in cells if not any(_fits(cell, left_out) for left_out in self.skip)]


def _name(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _fits(cell: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    return all(cell[factor] == _name(level) for factor, level in wanted.items())


def read_grid(path: Path, data: Mapping[str, Path]) -> Grid:
    """Read and check a grid, ``{NAME}`` replaced by the folder of ``--data NAME=DIR``; InputError names the key."""
    grid = convert_json(path, _filled(read_yaml(path), path, data), Grid)
    if bad := [factor for factor in grid.factors if factor not in _FACTORS]:
        raise FormatError(path, f"factors of {', '.join(_FACTORS)}", repr(bad[0]))
    levels = grid.levels()
    if empty := [factor for factor in levels if not levels[factor]]:
        raise FormatError(path, f"levels of {empty[0]}", "none")
    for key, wanted in [*(("skip", each) for each in grid.skip), ("baseline", grid.baseline)]:
        for factor, level in wanted.items():
            if _name(level) not in levels.get(factor, {}):
                known = ", ".join(levels.get(factor, levels))
                raise FormatError(path, f"in {key}: a factor and one of its levels ({known})", f"{factor}: {level}")
    if bad := [name for name, value in levels.get(_IMAGES, {}).items() if type(value) is not int or value < 0]:
        raise FormatError(path, "whole numbers of images for each class (0: all)", repr(bad[0]))
    found = [cell for cell in grid.cells() if _fits(cell, grid.baseline)]
    if not found or (grid.baseline and len(found) > 1) or not grid.seeds:
        raise FormatError(path, "one or more seeds and cells, and one that fits the baseline", f"{len(found)} cells")
    return grid


def _filled(value: Any, path: Path, data: Mapping[str, Path]) -> Any:  # noqa: ANN401 - values of a YAML file
    if isinstance(value, dict):
        return {key: _filled(inner, path, data) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, path, data) for inner in value]
    return fill_folders(value, path, data) if isinstance(value, str) else value


def _options(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(packaged_tables("grids"))
    parser.add_argument("grid", metavar="GRID", help=f"YAML file of a grid, or a packaged one: {names}")
    text = "folder that the grid calls {NAME}; may be given several times"
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DIR", help=text)
    text = "folder of the results (default: runs/ablation/NAME); a stopped run resumes"
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)


def ablate(arguments: argparse.Namespace) -> int:
    """Measure the cells of a grid, and write ``ablation.json``, tables, plots and TensorBoard's hyper-parameters."""
    path = find_table(arguments.grid, "grids")
    grid = read_grid(path, data_folders(arguments.data))
    out: Path = arguments.out or Path("runs/ablation") / path.stem
    logging.getLogger("naruto_vision").setLevel(logging.WARNING)  # lines of each gallery; `main` resets it
    from naruto_vision.io.locks import folder_lock
    from naruto_vision.metrics.ablation import ablation_document
    from naruto_vision.metrics.tables import table_markdown
    from naruto_vision.modules.ablation import ResultCache

    with folder_lock(out, "--out"):
        cache = ResultCache(out / "cache.sqlite")
        try:
            cells = list(_Measurement(grid, path, out, cache).cells())
        finally:
            cache.close()
        baseline = next((cell for cell in cells if grid.baseline and _fits(cell.levels, grid.baseline)), None)
        document = ablation_document(grid.title, cells, baseline)
        _write(out, document)
    show(table_markdown(document).rstrip("\n"))
    show(f"{out}: ablation.json, .md, .csv and .png; tensorboard --logdir {out / 'tensorboard'}")
    return 0


class _Measurement:
    """The runs of a grid; encoders, segmenters, embedded images and galleries are kept for the next run."""

    def __init__(self, grid: Grid, path: Path, out: Path, cache: "ResultCache") -> None:
        from naruto_vision.cli.trainer import parse_class
        from naruto_vision.data.gallery_data import GalleryDataModule
        from naruto_vision.data.scenes import check_names
        from naruto_vision.modules.ablation import scenes_digest

        self._grid, self._path, self._out, self._cache = grid, path, out, cache
        self._config = find_config(grid.config)
        section = {"class_path": "GalleryDataModule", "init_args": {"num_workers": 0, **grid.data}}
        self._data: GalleryDataModule = parse_class(GalleryDataModule, section, path)
        self._plan = self._data.plan
        self._data.plan = replace(self._plan, max_per_class=0)  # all are embedded, and some of them enrolled
        self._data.setup("fit")
        self._scenes = self._data.dataset("test")
        self._valid: SceneDataset | None = self._data.dataset("valid") if self._data.folders["valid"] else None
        classes = self._data.table.classes if self._data.table is not None else ()
        check_names(self._scenes.labels, classes, str(self._data.folders["test"]))
        self._digest = scenes_digest(self._scenes)
        self._models: tuple[tuple[str, ...], SceneRetriever] | None = None
        self._embedded: tuple[str, Enrolment] | None = None
        self._galleries: dict[tuple[str, str, int], Gallery] = {}

    def cells(self) -> "Iterator[Cell]":
        """Measure the cells in turn."""
        from naruto_vision.metrics.ablation import Cell

        levels, cells = self._grid.levels(), self._grid.cells()
        seeds = [self._grid.seeds if levels.get(_IMAGES, {}).get(cell.get(_IMAGES, "")) else (42,) for cell in cells]
        with progress("runs", sum(map(len, seeds))) as advance:
            for cell, own in zip(cells, seeds, strict=True):
                runs = []
                for seed in own:
                    runs.append(self._run(cell, seed))
                    advance()
                yield Cell(cell, runs)

    def _run(self, cell: Mapping[str, str], seed: int) -> "Run":
        """Measure a cell with one seed, or read what an earlier run with the same settings has measured."""
        from naruto_vision.io.atomic import write_json
        from naruto_vision.metrics.ablation import Run
        from naruto_vision.modules.ablation import analyzer_of, digest, measure_cell

        retriever = self._retriever(cell)
        gallery = self._gallery(retriever, cell, seed)
        analyzer = analyzer_of(retriever, gallery, self._cache, self._valid)
        facts = {**analyzer.facts(), "index": retriever.index, "overlay": repr(retriever.overlay), "seed": seed}
        name = digest(facts, gallery.note.get("heads"), self._digest)
        part = self._out / "parts" / f"{name[:32]}.json"
        if not part.exists():
            rows = [[row.path, row.label, row.aug] for row in gallery.rows]
            sums = measure_cell(analyzer, self._scenes)
            run = Run(seed, len(rows), len(gallery.labels), digest(rows), sums)
            write_json(part, msgspec.to_builtins(run), indent=None)
        return read_json(part, Run)

    def _retriever(self, cell: Mapping[str, str]) -> "SceneRetriever":
        """Return the module of a cell; encoder and segmenter are opened when they change."""
        import torch

        from naruto_vision.cli.trainer import parse_class
        from naruto_vision.modules.scene_retriever import SceneRetriever

        levels = self._grid.levels()
        changes: dict[str, Any] = {name: levels[name][level] for name, level in cell.items() if name != _IMAGES}
        changes |= {"gallery": str(self._out / "gallery"), "enrol": "image"}
        models = tuple(cell.get(name, "") for name in _MODELS)
        if self._models is not None and self._models[0] == models:
            opened = self._models[1]
            changes |= {"encoder": opened.encoder, "segmenter": opened.segmenter, "runtime": "torch"}
        section = model_section(read_config(self._config), self._config, changes)
        retriever = parse_class(SceneRetriever, section, self._path)
        retriever.to("cuda" if torch.cuda.is_available() else "cpu")
        self._models = models, retriever
        return retriever

    def _gallery(self, retriever: "SceneRetriever", cell: Mapping[str, str], seed: int) -> "Gallery":
        """Return the gallery of an encoder, of all images or some for each class."""
        from naruto_vision.modules.ablation import embed_gallery, gallery_of

        encoder, images = cell.get("encoder", ""), cell.get(_IMAGES, "")
        if self._embedded is None or self._embedded[0] != encoder:
            self._embedded, self._galleries = (encoder, embed_gallery(retriever, self._data, self._cache)), {}
        key = encoder, images, seed
        if key not in self._galleries:
            count = self._grid.levels()[_IMAGES][images] if images else 0
            plan = replace(self._plan, max_per_class=count, seed=seed) if count else self._plan
            self._galleries[key] = gallery_of(retriever, self._embedded[1], plan)
        return self._galleries[key]


def _write(out: Path, document: Mapping[str, Any]) -> None:
    from naruto_vision.callbacks.tensorboard import write_settings
    from naruto_vision.io.atomic import write_json, write_text
    from naruto_vision.metrics.ablation import BETWEEN, MAIN, ablation_csv, learning_curves
    from naruto_vision.metrics.tables import table_markdown
    from naruto_vision.viz.figures import grouped_intervals, interval_figure, save_figure

    write_json(out / "ablation.json", document)
    write_text(out / "ablation.md", table_markdown(document))
    write_text(out / "ablation.csv", ablation_csv(document))
    groups: dict[str, list[tuple[str, float, float, float, bool]]] = {}
    for cell in document["cells"]:
        parts, main = cell["name"].split(BETWEEN), cell["figures"][MAIN]
        head = BETWEEN.join(parts[:-2])
        value, low, high = (main[name] or 0.0 for name in ("value", "low", "high"))
        groups.setdefault(head, []).append((BETWEEN.join(parts[-2:]), value, low, high, cell["same_rows"]))
    base = next(cell for cell in document["cells"] if cell["name"] == document["baseline"])
    across = f"object accuracy, 95 % over {document['scenes']} scenes; hollow: the gallery has other rows"
    mark, note = base["figures"][MAIN]["value"] or 0.0, f"baseline: {document['baseline']}"
    figures = {"ablation": grouped_intervals(dict(sorted(groups.items())), across, mark, note)}
    if curves := learning_curves(document):
        best = dict(sorted(curves.items(), key=lambda curve: -curve[1][-1][1])[:8])
        figures["learning_curve"] = interval_figure(best, "images for each class", "object accuracy", document["title"])
    for name, figure in figures.items():
        save_figure(figure, out / f"{name}.png")
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    for number, cell in enumerate(document["cells"]):
        values = {name: figure["value"] for name, figure in cell["figures"].items() if figure["value"] is not None}
        write_settings(out / "tensorboard" / f"{number:03d}", cell["levels"], values)


COMMANDS = {"ablate": (_options, ablate)}

"""``naruto-vision evaluate``: predicted scenes against their ground truth."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import add_theme_option, check_sheet_name, progress, share, whole_number
from naruto_vision.cli.data import read_label_map, tell_idle_names
from naruto_vision.errors import InputError, MissingPathError

if TYPE_CHECKING:
    from naruto_vision.data.ground_truth import PredictionFolder
    from naruto_vision.metrics.evaluation import Evaluation
    from naruto_vision.records import LabelledBox


_SHOWN = 5  # names of scenes in one line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--gt", type=Path, required=True, metavar="FILE", help="gt.json: scene to its objects")
    parser.add_argument(
        "--preds-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="JSON of every scene, as predict's --out or its json/",
    )
    parser.add_argument("--compare", type=Path, nargs="+", default=[], metavar="DIR", help="other runs' folders")
    parser.add_argument("--use-overlay", action="store_true", help="score what people are shown: *_overlay.json")
    parser.add_argument(
        "--iou-match", type=share, default=0.5, help="smallest IoU at which a box is an object's (default: 0.5)"
    )
    parser.add_argument(
        "--matching",
        choices=("box", "label"),
        default="box",
        help="match by boxes alone, or let right labels win among boxes that overlap enough (default: box)",
    )
    parser.add_argument(
        "--label-map", default="", metavar="MAP", help="labels to rename on both sides: 'Mira:Myra;Bo:Boh'"
    )
    parser.add_argument(
        "--bootstrap", type=whole_number, default=2000, help="bootstrap replicates; 0: no intervals (default: 2000)"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="random seed of the bootstrap (default: 0)")
    parser.add_argument("--coco", action="store_true", help="COCO's average precision too")
    parser.add_argument(
        "--gt-masks", type=Path, metavar="FILE", help="COCO masks of every figure: counts pieces and over-merges too"
    )
    parser.add_argument("--csv-out", type=Path, metavar="FILE", help="write class,correct,total,accuracy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, with a reason for every box")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="draw the worst scenes: .png, .jpg or .webp")
    parser.add_argument(
        "--scenes-dir", type=Path, metavar="DIR", help="their images, for --sheet (default: images/ beside --gt)"
    )
    add_theme_option(parser)
    parser.add_argument("--verbose", action="store_true", help="print every object with its reason")


def run(arguments: argparse.Namespace) -> int:
    """Read, measure, print and write."""
    from naruto_vision.data.ground_truth import read_gt, rename_labels
    from naruto_vision.io.atomic import write_json, write_text
    from naruto_vision.metrics.report import class_csv, verdict_documents

    names = read_label_map(arguments.label_map)
    images = _images(arguments)
    found = read_gt(arguments.gt)
    truth = rename_labels(found, names)
    if not truth:
        msg = f"{arguments.gt}: expected at least one scene, found none"
        raise InputError(msg)
    runs = run_names([arguments.preds_dir, *arguments.compare])
    folders, evaluations = _evaluate_all(arguments, truth, names, list(runs.values()))
    tell_idle_names(names, [found, *(folder.scenes for folder in folders)])
    documents = [
        _document(arguments, truth, folder, evaluation) for folder, evaluation in zip(folders, evaluations, strict=True)
    ]
    if arguments.gt_masks:
        _count_cuts(arguments, list(truth), list(runs.values()), documents)
    compared = _compared(arguments, list(runs), evaluations)
    scenes = verdict_documents(evaluations[0])
    _print(dict(zip(runs, documents, strict=True)), compared, scenes if arguments.verbose else [])
    if arguments.sheet:
        from naruto_vision.viz.sheets import write_evaluation_sheet

        sys.stdout.write(f"{write_evaluation_sheet(scenes, images, arguments.sheet, arguments.theme)}\n")
    if arguments.csv_out:
        write_text(arguments.csv_out, class_csv(documents[0]))
    if arguments.json:
        others = dict(zip(list(runs)[1:], documents[1:], strict=True))
        first = {"run": next(iter(runs)), **documents[0], "per_scene": scenes}
        write_json(arguments.json, first | {"others": others, "comparisons": compared})
    return 0


def _print(
    runs: Mapping[str, Mapping[str, Any]], compared: Sequence[Mapping[str, Any]], scenes: Sequence[Mapping[str, Any]]
) -> None:
    """Print the tables of every run, how they compare, and the verdicts of these scenes."""
    from rich.console import Console
    from rich.markup import escape

    from naruto_vision.metrics import report

    console = Console()
    lines: list[str] = []
    for name, document in runs.items():
        console.print(report.table_from_json(document, escape(name)))
        console.print(report.reasons_table(document))
        console.print(report.bounds_table(document))
        if "fragments" in document:
            console.print(report.fragments_table(document))
        for line in remarks(document["files"]):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if compared:
        console.print(report.comparison_table(compared))
        lines += report.comparison_remarks(compared, runs)
    for line in [*lines, *report.verdict_lines(scenes)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def remarks(files: Mapping[str, Any]) -> list[str]:
    """Name the scenes without predictions, the files without a scene, and the files that were set aside."""
    lines = []
    for names, words, fate in (
        (files["missing"], "scenes without a file", "counted as scenes without predictions"),
        (files["unknown"], "files of no scene of the ground truth", "passed over"),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"{words}: {len(names)} ({fate}): {', '.join(names[:_SHOWN])}{more}")
    refused = files["refused"]
    if refused:
        lines.append(
            f"{len(refused)} of {files['seen']} files cannot be read; their scenes count as without predictions:"
        )
    return lines + [f"  {row['path']}: {row['reason']}" for row in refused]


def _images(arguments: argparse.Namespace) -> Path:
    """Return the scenes' folder, having checked what ``--sheet`` needs."""
    folder: Path = arguments.scenes_dir or arguments.gt.parent / "images"
    if arguments.sheet:
        check_sheet_name(arguments.sheet)
        if not folder.is_dir():
            raise MissingPathError(folder, "folder of scenes to draw", "say where they are: --scenes-dir DIR")
    return folder


def run_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Name every run by its folder, without the leading parts that all of them share."""
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) != len(whole):
        msg = f"--compare: expected other folders than --preds-dir, found one twice: {', '.join(map(str, folders))}"
        raise InputError(msg)
    if len(whole) == 1:
        return {str(folders[0]): folders[0]}
    shared = Path(os.path.commonpath([folder.parent for folder in whole]))
    return {folder.relative_to(shared).as_posix(): given for folder, given in zip(whole, folders, strict=True)}


def _evaluate_all(
    arguments: argparse.Namespace,
    truth: "Mapping[str, Sequence[LabelledBox]]",
    names: Mapping[str, str],
    paths: Sequence[Path],
) -> "tuple[list[PredictionFolder], list[Evaluation]]":
    from naruto_vision.data.ground_truth import read_prediction_folder, rename_labels
    from naruto_vision.metrics.evaluation import evaluate_scenes

    folders, evaluations = [], []
    with progress("measuring", 2 * len(truth) * len(paths)) as advance:
        for path in paths:
            found = read_prediction_folder(path, list(truth), overlay=arguments.use_overlay, advance=advance)
            folders.append(found)
            scenes = rename_labels(found.scenes, names)
            evaluations.append(evaluate_scenes(truth, scenes, arguments.iou_match, arguments.matching, advance))
    return folders, evaluations


def _count_cuts(
    arguments: argparse.Namespace, scenes: Sequence[str], paths: Sequence[Path], documents: Sequence[dict[str, Any]]
) -> None:
    """Add to each run's document how its segmenter cut the figures."""
    from naruto_vision.data.scene_masks import count_scene_fragments, read_figures

    figures = read_figures(arguments.gt_masks, scenes)
    how = {"iou_match": arguments.iou_match, "shown_only": arguments.use_overlay}
    with progress("comparing masks", len(scenes) * len(paths)) as advance:
        for path, document in zip(paths, documents, strict=True):
            document["fragments"] = count_scene_fragments(path, figures, **how, advance=advance).as_json()


def _document(
    arguments: argparse.Namespace,
    truth: "Mapping[str, Sequence[LabelledBox]]",
    folder: "PredictionFolder",
    evaluation: "Evaluation",
) -> dict[str, Any]:
    from naruto_vision.data.ground_truth import rename_labels
    from naruto_vision.metrics.evaluation import coco_average_precision
    from naruto_vision.metrics.report import evaluation_document

    document = evaluation_document(evaluation, arguments.bootstrap, arguments.seed)
    if arguments.coco:
        document["average_precision"] = coco_average_precision(
            truth, rename_labels(folder.scenes, read_label_map(arguments.label_map))
        )
    document["files"] = {
        **folder.quarantine.counts(),
        "missing": list(folder.missing),
        "unknown": list(folder.unknown),
        "refused": [{"path": row.path, "reason": row.reason} for row in folder.quarantine.rows],
    }
    return document


def _compared(
    arguments: argparse.Namespace, names: Sequence[str], evaluations: "Sequence[Evaluation]"
) -> list[dict[str, Any]]:
    from itertools import combinations

    from naruto_vision.metrics.evaluation import bootstrap_difference
    from naruto_vision.metrics.report import comparison_documents
    from naruto_vision.metrics.stats import compare_runs

    comparisons = compare_runs(names, [evaluation.right_objects() for evaluation in evaluations])
    if not arguments.bootstrap:
        return comparison_documents(comparisons)
    differences = [
        bootstrap_difference(early, late, arguments.bootstrap, arguments.seed)
        for early, late in combinations(evaluations, 2)
    ]
    return comparison_documents(comparisons, differences)

"""``naruto-vision evaluate``: compare predicted scenes with their ground truth."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import (
    add_theme_option,
    count,
    fraction,
    make_table,
    progress,
    sheet_path,
    show,
    warn,
    whole_number,
)
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.names import label_name
from naruto_vision.io.text import abbreviate

if TYPE_CHECKING:
    from naruto_vision.data.ground_truth import PredictionFolder
    from naruto_vision.metrics.evaluation import Evaluation
    from naruto_vision.metrics.stats import Rate
    from naruto_vision.records import LabelledBox

_SHOWN = 5  # names of scenes in one line
_RUN = re.compile(r"(?P<name>[^=]+)=(?P<counts>\d+(/\d+){3})")
_COUNTS = "NAME=RIGHT/MATCHED/SEEN/ALL"


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "ground truth: gt.json, a COCO, CVAT, Label Studio or CSV file, or a folder of images with annotations"
    add("--gt", type=Path, required=True, metavar="PATH", help=text)
    text = "predictions: the --out folder of `predict`, or a folder with one JSON file per scene"
    add("--preds-dir", type=Path, required=True, metavar="DIR", help=text)
    add("--compare", type=Path, nargs="+", default=[], metavar="DIR", help="predictions of other runs to compare with")
    text = "evaluate only the shown regions, *_overlay.json (default: all regions)"
    add("--use-overlay", action="store_true", help=text)
    add("--iou-match", type=fraction, default=0.5, metavar="IOU", help="IoU threshold of a match")
    text = "iou: boxes match by IoU; contains: also where one is mostly inside the other (faces in figures)"
    add("--match", choices=("iou", "contains"), default="iou", help=text)
    text = "box matches by IoU alone; label prefers the right label among predictions above the threshold"
    add("--matching", choices=("box", "label"), default="box", help=text)
    text = "labels to rename in ground truth and predictions: 'Mira:Myra;Bo:Boh'"
    add("--label-map", default="", metavar="MAP", help=text)
    text = "bootstrap replicates over scenes; 0 for no bootstrap intervals"
    add("--bootstrap", type=whole_number, default=2000, metavar="N", help=text)
    add("--seed", type=whole_number, default=0, metavar="N", help="random seed of the bootstrap")
    add("--coco", action="store_true", help="also compute COCO average precision")
    text = "COCO file with the mask of every character: also count characters split into fragments or merged"
    add("--gt-masks", type=Path, metavar="FILE", help=text)
    add("--csv-out", type=Path, metavar="FILE", help="write the accuracy of each class as CSV")
    add("--json-out", type=Path, metavar="FILE", help="write all results, with the verdict on every box")
    add("--sheet", type=sheet_path, metavar="FILE", help="draw the worst scenes: .png, .jpg or .webp")
    text = "scene images for --sheet (default: images/ beside --gt)"
    add("--scenes-dir", type=Path, metavar="DIR", help=text)
    add_theme_option(parser)
    add("--verbose", action="store_true", help="print the verdict on every object and prediction")


def read_label_map(text: str) -> dict[str, str]:
    """Read labels to rename from the command line."""
    names: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(";"))):
        old, colon, new = map(label_name, pair.partition(":"))
        if not (old and colon and new):
            raise InputError(f"--label-map: expected pairs like 'Mira:Myra;Bo:Boh', found {pair!r}")
        if names.setdefault(old, new) != new:
            raise InputError(f"--label-map: {old!r} is renamed to both {names[old]!r} and {new!r}")
    return names


def warn_unused_labels(names: Mapping[str, str], sides: Sequence[Mapping[str, Sequence["LabelledBox"]]]) -> None:
    """Warn of labels in ``--label-map`` that no object or prediction has."""
    found = _labels(sides)
    unused = [old for old, new in names.items() if old not in found and old != new]
    if unused:
        warn(f"--label-map: no object and no prediction has the label {', '.join(unused)}")


def _labels(sides: Sequence[Mapping[str, Sequence["LabelledBox"]]]) -> set[str]:
    return {box.label for side in sides for boxes in side.values() for box in boxes}


def unknown_names(
    truth: Mapping[str, Sequence["LabelledBox"]], predicted: Sequence[Mapping[str, Sequence["LabelledBox"]]]
) -> list[str]:
    """Report names in the ground truth that no prediction has: none of them is most likely an error of spelling."""
    wanted, found = _labels([truth]) - {"unknown"}, _labels(predicted) - {"unknown"}
    absent = sorted(wanted - found)
    if not (absent and found):
        return []
    lists = [abbreviate(names, _SHOWN) for names in (absent, sorted(found))]
    which = f"{len(absent)} of {len(wanted)}" if len(absent) < len(wanted) else "all of them: are the names the same?"
    return [f"names of the ground truth in no prediction: {lists[0]} ({which}); predictions have {lists[1]}"]


def evaluate(arguments: argparse.Namespace) -> int:
    """Read, evaluate, print and write."""
    from naruto_vision.data.ground_truth import read_gt, rename_labels
    from naruto_vision.io.atomic import write_json, write_text
    from naruto_vision.metrics.report import class_csv, verdict_documents

    names = read_label_map(arguments.label_map)
    images = _images(arguments)
    found = read_gt(arguments.gt, arguments.scenes_dir)
    truth = rename_labels(found, names)
    if not truth:
        raise InputError(f"{arguments.gt}: expected at least one scene, found none")
    runs = run_names([arguments.preds_dir, *arguments.compare])
    folders, evaluations = _evaluate_all(arguments, truth, names, list(runs.values()))
    warn_unused_labels(names, [found, *(folder.scenes for folder in folders)])
    show(*unknown_names(truth, [rename_labels(folder.scenes, names) for folder in folders]))
    documents = [
        _document(arguments, truth, names, folder, evaluation)
        for folder, evaluation in zip(folders, evaluations, strict=True)
    ]
    if arguments.gt_masks:
        _count_fragments(arguments, list(truth), list(runs.values()), documents)
    compared = _compared(arguments, list(runs), evaluations)
    scenes = verdict_documents(evaluations[0])
    _print(dict(zip(runs, documents, strict=True)), compared, scenes if arguments.verbose else [])
    if arguments.sheet:
        from naruto_vision.viz.sheets import write_evaluation_sheet

        show(str(write_evaluation_sheet(scenes, images, arguments.sheet, arguments.theme)))
    if arguments.csv_out:
        write_text(arguments.csv_out, class_csv(documents[0]))
    if arguments.json_out:
        others = dict(zip(list(runs)[1:], documents[1:], strict=True))
        first = {"run": next(iter(runs)), **documents[0], "per_scene": scenes}
        write_json(arguments.json_out, first | {"others": others, "comparisons": compared})
    return 0


def _print(
    runs: Mapping[str, Mapping[str, Any]], compared: Sequence[Mapping[str, Any]], scenes: Sequence[Mapping[str, Any]]
) -> None:
    """Print the tables of every run, their comparison, and the verdicts of these scenes."""
    from rich.markup import escape

    from naruto_vision.io.text import printable
    from naruto_vision.metrics import report

    for name, document in runs.items():
        show(report.table_from_json(document, escape(printable(name))), report.reasons_table(document))
        show(report.bounds_table(document))
        if "fragments" in document:
            show(report.fragments_table(document))
        show(*report.weak_lines(document), *remarks(document["files"]))
    if compared:
        show(report.comparison_table(compared), *report.comparison_remarks(compared, runs))
    show(*report.verdict_lines(scenes))


def remarks(files: Mapping[str, Any]) -> list[str]:
    """Name the scenes without predictions, files without a scene, and unreadable files."""
    lines = []
    for names, what, fate in (
        (files["missing"], "scenes without a file", "counted as scenes without predictions"),
        (files["unknown"], "files of no scene of the ground truth", "ignored"),
    ):
        if names:
            lines.append(f"{what}: {len(names)} ({fate}): {abbreviate(names, _SHOWN)}")
    refused = files["refused"]
    if refused:
        scenes = "their scenes count as without predictions"
        lines.append(f"{len(refused)} of {files['seen']} files cannot be read; {scenes}:")
    return lines + [f"  {row['path']}: {row['reason']}" for row in refused]


def _images(arguments: argparse.Namespace) -> Path:
    """Return the folder of scene images, checked if ``--sheet`` needs it."""
    base: Path = arguments.gt if arguments.gt.is_dir() else arguments.gt.parent
    beside = base if arguments.gt.name != "gt.json" and not (base / "images").is_dir() else base / "images"
    folder: Path = arguments.scenes_dir or beside
    if arguments.sheet and not folder.is_dir():
        raise MissingPathError(folder, "folder of scene images", "give --scenes-dir DIR")
    return folder


def run_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Name every run by its folder, relative to their common parent."""
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) != len(whole):
        raise InputError(f"--compare: expected different folders, found one twice: {', '.join(map(str, folders))}")
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
    from naruto_vision.data.ground_truth import read_prediction_folder, read_shown, rename_labels
    from naruto_vision.metrics.evaluation import evaluate_scenes

    folders, evaluations = [], []
    how = arguments.iou_match, arguments.matching, arguments.match
    with progress("evaluating", 2 * len(truth) * len(paths)) as advance:
        for path in paths:
            found = read_prediction_folder(path, list(truth), overlay=arguments.use_overlay, advance=advance)
            folders.append(found)
            scenes = rename_labels(found.scenes, names)
            shown = None if arguments.use_overlay else read_shown(path, list(truth))
            renamed = None if shown is None else rename_labels(shown, names)
            evaluations.append(evaluate_scenes(truth, scenes, *how, advance, renamed))
    return folders, evaluations


def _count_fragments(
    arguments: argparse.Namespace, scenes: Sequence[str], paths: Sequence[Path], documents: Sequence[dict[str, Any]]
) -> None:
    """Add to each run's document how many characters its segmenter fragmented or merged."""
    from naruto_vision.data.scene_masks import count_scene_fragments, read_figures

    figures = read_figures(arguments.gt_masks, scenes)
    how = {"iou_match": arguments.iou_match, "shown_only": arguments.use_overlay}
    with progress("comparing masks", len(scenes) * len(paths)) as advance:
        for path, document in zip(paths, documents, strict=True):
            document["fragments"] = count_scene_fragments(path, figures, **how, advance=advance).as_json()


def _document(
    arguments: argparse.Namespace,
    truth: "Mapping[str, Sequence[LabelledBox]]",
    names: Mapping[str, str],
    folder: "PredictionFolder",
    evaluation: "Evaluation",
) -> dict[str, Any]:
    from naruto_vision.data.ground_truth import rename_labels
    from naruto_vision.metrics.evaluation import coco_average_precision
    from naruto_vision.metrics.report import evaluation_document

    document = evaluation_document(evaluation, arguments.bootstrap, arguments.seed)
    if arguments.coco:
        document["average_precision"] = coco_average_precision(truth, rename_labels(folder.scenes, names))
    document["files"] = {
        **folder.quarantine.counts(),
        "missing": list(folder.missing),
        "unknown": list(folder.unknown),
        "refused": [row._asdict() for row in folder.quarantine.rows],
    }
    return document


def _compared(
    arguments: argparse.Namespace, names: Sequence[str], evaluations: "Sequence[Evaluation]"
) -> list[dict[str, Any]]:

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


def _counts_options(parser: argparse.ArgumentParser) -> None:
    text = (
        "name of a run and its counts of objects: with the right label, matched by a prediction, in scenes with "
        "predictions, in all scenes; for example CLIP=45/50/56/62"
    )
    parser.add_argument("runs", nargs="+", metavar=_COUNTS, help=text)
    parser.add_argument("--json-out", type=Path, metavar="FILE", help="also write the results as JSON")


def read_counts(runs: list[str]) -> "dict[str, dict[str, Rate]]":
    """Read the counts of runs from the command line."""
    from naruto_vision.metrics.stats import Rate

    found: dict[str, dict[str, Rate]] = {}
    for text in runs:
        run = _RUN.fullmatch(text)
        if run is None:
            raise InputError(f"{text}: expected {_COUNTS}, such as CLIP=45/50/56/62")
        right, matched, seen, objects = (int(number) for number in run["counts"].split("/"))
        if not right <= matched <= seen <= objects:
            msg = f"{text}: expected RIGHT <= MATCHED <= SEEN <= ALL, found {right}, {matched}, {seen}, {objects}"
            raise InputError(msg)
        if run["name"] in found:
            raise InputError(f"{run['name']}: two runs have this name; give each its own")
        found[run["name"]] = {
            "object_accuracy": Rate(right, objects),
            "recall": Rate(matched, objects),
            "reference_recall": Rate(matched, seen),
            "class_given_matched": Rate(right, matched),
        }
    if len({rates["object_accuracy"].total for rates in found.values()}) > 1:
        msg = "runs over different objects cannot be compared; give runs with the same number of all objects"
        raise InputError(msg)
    return found


def evaluate_counts(arguments: argparse.Namespace) -> int:
    """Print rates, intervals and whether the runs differ significantly."""
    from naruto_vision.io.atomic import write_json
    from naruto_vision.metrics.report import TITLES, comparison_documents, comparison_table, format_rate
    from naruto_vision.metrics.stats import compare_totals

    runs = read_counts(arguments.runs)
    rows = [
        [TITLES[figure], *(format_rate(rates[figure], digits=4) for rates in runs.values())]
        for figure in next(iter(runs.values()))
    ]
    show(make_table(("figure", *runs), rows, "count/total  value [95 % interval]"))
    compared = comparison_documents(compare_totals(list(runs), [rates["object_accuracy"] for rates in runs.values()]))
    if compared:
        show(comparison_table(compared))
    if arguments.json_out:
        values = {name: {figure: rate.as_json() for figure, rate in rates.items()} for name, rates in runs.items()}
        write_json(arguments.json_out, {"runs": values, "comparisons": compared})
    return 0


def _tracks_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "folder with the true tracks of clip.mp4 as clip.json, as `draw --videos` writes them; or one such file"
    add("--gt", type=Path, required=True, metavar="PATH", help=text)
    add("--preds-dir", type=Path, required=True, metavar="DIR", help="folder that `predict` wrote")
    add("--iou-match", type=fraction, default=0.5, metavar="IOU", help="IoU threshold of a match")
    add("--bootstrap", type=count, default=2000, metavar="N", help="bootstrap replicates over videos")
    add("--json-out", type=Path, metavar="FILE", help="also write the results as JSON")


def evaluate_tracks(arguments: argparse.Namespace) -> int:
    """Compare tracks with their ground truth, and names by track with names by frame."""
    from dataclasses import asdict

    from naruto_vision.data.track_truth import compare_tracks
    from naruto_vision.io.atomic import write_json
    from naruto_vision.metrics.report import format_rate
    from naruto_vision.metrics.stats import Rate
    from naruto_vision.metrics.tracks import track_report

    videos = compare_tracks(arguments.gt, arguments.preds_dir, arguments.iou_match)
    report = track_report(list(videos.values()), arguments.bootstrap)
    counts, document = report.counts, report.as_json()
    low, high = document["idf1"]["interval"] or (0.0, 0.0)
    boxes, clips = document["paired_boxes"], document["paired_videos"]
    rows = [
        ("IDF1", f"{counts.idf1 or 0.0:.3f} [{low:.3f}, {high:.3f}]"),
        ("boxes: true, of tracks, matched", f"{counts.truth}, {counts.found}, {counts.matched}"),
        ("identity switches", counts.switches),
        ("tracks that cross a cut", format_rate(Rate(counts.across_cuts, counts.tracks))),
        ("boxes with the right name, by track", format_rate(Rate(counts.by_track, counts.matched))),
        ("boxes with the right name, by frame", format_rate(Rate(counts.by_frame, counts.matched))),
        ("only by track, only by frame", f"{counts.only_track}, {counts.only_frame} (p = {boxes['p']:.2g})"),
        ("videos better by track, by frame", f"{report.videos_better}, {report.videos_worse} (p = {clips['p']:.2g})"),
    ]
    show(make_table(("figure", "value"), rows, f"Tracks of {len(videos)} videos"))
    if arguments.json_out:
        write_json(arguments.json_out, {**document, "videos": {name: asdict(each) for name, each in videos.items()}})
    return 0


COMMANDS = {
    "evaluate": (_evaluate_options, evaluate),
    "evaluate counts": (_counts_options, evaluate_counts),
    "evaluate tracks": (_tracks_options, evaluate_tracks),
}

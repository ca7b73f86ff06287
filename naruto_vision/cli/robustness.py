"""``naruto-vision robustness``: curves of accuracy over severity, for search and for scenes."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import make_table, progress, show, warn, warn_left_out, whole_number
from naruto_vision.cli.data import add_reading_options, rules_of
from naruto_vision.cli.gallery import add_encoder_options, gallery_encoder
from naruto_vision.cli.trainer_args import (
    GALLERY,
    SCENES_CONFIG,
    check_gallery,
    find_config,
    gallery_place,
    model_section,
    parts_of_gallery,
    read_config,
)
from naruto_vision.cli.video import frame_rate
from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.data.robustness import Measurement
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.recognition.analyzer import SceneAnalyzer
    from naruto_vision.records import ImageArray

_KINDS = ("salt-and-pepper", "blur", "noise", "jpeg", "gamma", "resize", "occlusion")
_AGREEMENT = "agreement with the clean frame"


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "labelled images to search with: a Roboflow export, manifests, or class folders"
    add("--root", type=Path, metavar="DIR", help=text)
    add("--split", choices=("train", "valid", "test"), default="test", help="their split")
    text = "scenes with gt.json to find and name characters in, as `predict` does"
    add("--scenes", type=Path, metavar="DIR", help=text)
    text = "video whose frames are queries; the label of the clean frame counts as true"
    add("--video", type=Path, metavar="FILE", help=text)
    add("--fps", type=frame_rate, default=1.0, metavar="N", help="frames a second of the video")
    add("--gallery", type=gallery_place, default=GALLERY, metavar="DIR", help="gallery folder")
    text = "folder of the results; a stopped run resumes"
    add("--out", type=Path, default=Path("runs/robustness"), metavar="DIR", help=text)
    add("--corruptions", nargs="+", choices=_KINDS, default=_KINDS, metavar="NAME", help=f"some of {', '.join(_KINDS)}")
    text = "images, scenes or frames at most, chosen at random; 0 takes all"
    add("--limit", type=whole_number, default=200, metavar="N", help=text)
    add("--seed", type=whole_number, default=0, metavar="N", help="random seed of the choice and of the corruptions")
    add_encoder_options(parser)
    add_reading_options(parser)


@dataclass(frozen=True)
class _Task:
    """What is measured: names that can be read again for each corruption, and the rows of one corruption."""

    source: Path
    names: list[str]
    measure: Callable[[str, Callable[[], None]], "list[Measurement]"]


def _sample(names: Sequence[str], limit: int, seed: int) -> list[str]:
    """Choose names at random, and keep their order."""
    import numpy as np

    if not limit or len(names) <= limit:
        return list(names)
    chosen = np.random.default_rng(seed).choice(len(names), limit, replace=False)
    return [names[index] for index in sorted(chosen.tolist())]


def _readable(folder: Path, names: Sequence[str], limit: int, seed: int) -> list[str]:
    """Sample images, and leave out with a warning those that cannot be read."""
    from naruto_vision.io.images import read_image
    from naruto_vision.io.quarantine import Quarantine

    chosen, quarantine = _sample(names, limit, seed), Quarantine("images")
    good = [name for name in chosen if quarantine.read(name, partial(read_image, folder / name)) is not None]
    warn_left_out(quarantine)
    quarantine.check(1.0)
    return good


def _stream(folder: Path, names: Sequence[str], advance: Callable[[], None]) -> "Iterator[tuple[str, ImageArray]]":
    from naruto_vision.io.images import read_image

    for name in names:
        yield name, read_image(folder / name)
        advance()


def _search_task(arguments: argparse.Namespace, gallery: "Gallery") -> _Task:
    from naruto_vision.data.readers import read_classes
    from naruto_vision.data.robustness import measure_search, name_images

    encoder = gallery_encoder(arguments, gallery)
    table = read_classes(arguments.root, arguments.split, arguments.reader, rules_of(arguments))
    truth = {row.path: row.label for row in table.rows if row.label in gallery.labels}
    if missing := sorted({row.label for row in table.rows} - set(gallery.labels)):
        warn(f"left out: images of {', '.join(missing)}, which {arguments.gallery} has not")
    if not truth:
        raise InputError(f"{arguments.root}: no image of a label of {arguments.gallery}: {', '.join(gallery.labels)}")
    names = _readable(table.root, list(truth), arguments.limit, arguments.seed)

    def measure(kind: str, advance: Callable[[], None]) -> "list[Measurement]":
        images = _stream(table.root, names, advance)
        return measure_search(name_images(gallery, encoder, images, kind, arguments.seed), truth, kind)

    return _Task(arguments.root, names, measure)


def _video_task(arguments: argparse.Namespace, gallery: "Gallery") -> _Task:
    import numpy as np

    from naruto_vision.data.robustness import CLEAN, measure_search, name_images
    from naruto_vision.io.video_process import IsolatedVideoReader

    encoder = gallery_encoder(arguments, gallery)
    reader = IsolatedVideoReader(arguments.video, fps=arguments.fps)
    names = _sample([f"frame_{index:06d}" for index in reader.indices.tolist()], arguments.limit, arguments.seed)
    reader.pick(np.array([int(name.removeprefix("frame_")) for name in names], np.int64))

    def frames(advance: Callable[[], None] = lambda: None) -> "Iterator[tuple[str, ImageArray]]":
        for frame in reader:
            yield f"frame_{frame.index:06d}", frame.image
            advance()

    truth = {name: labels[0] for name, labels in name_images(gallery, encoder, frames(), CLEAN, arguments.seed)}
    if reader.lost:
        warn(f"{arguments.video}: {reader.lost}")

    def measure(kind: str, advance: Callable[[], None]) -> "list[Measurement]":
        answers = name_images(gallery, encoder, frames(advance), kind, arguments.seed)
        return measure_search(answers, truth, kind, _AGREEMENT)

    return _Task(arguments.video, names, measure)


def _analyzer(arguments: argparse.Namespace, gallery: "Gallery") -> "SceneAnalyzer":
    """Open what ``predict`` uses for this gallery, with its defaults."""
    from naruto_vision.cli.trainer import parse_class
    from naruto_vision.modules.scene_retriever import SceneRetriever

    path, folder = find_config(SCENES_CONFIG), arguments.gallery
    changes = {"gallery": str(folder), **parts_of_gallery(gallery.note, Path(folder).parent)}
    return parse_class(SceneRetriever, model_section(read_config(path), path, changes), path).checked_analyzer()


def _scene_task(arguments: argparse.Namespace, gallery: "Gallery") -> _Task:
    from naruto_vision.data.ground_truth import read_gt
    from naruto_vision.data.robustness import measure_scenes
    from naruto_vision.io.inputs import images_folder

    truth, folder = read_gt(arguments.scenes), images_folder(arguments.scenes)
    names = _readable(folder, list(truth), arguments.limit, arguments.seed)
    analyzer = _analyzer(arguments, gallery)

    def measure(kind: str, advance: Callable[[], None]) -> "list[Measurement]":
        return measure_scenes(analyzer, lambda: _stream(folder, names, advance), truth, kind, arguments.seed)

    return _Task(arguments.scenes, names, measure)


def robustness(arguments: argparse.Namespace) -> int:
    """Measure corruption by corruption, then write the table, the JSON and the curves."""
    tasks = {"root": _search_task, "scenes": _scene_task, "video": _video_task}
    given = [name for name in tasks if getattr(arguments, name) is not None]
    if len(given) != 1:
        msg = "robustness: expected one of --root, --scenes and --video; each needs a folder --out of its own"
        raise InputError(msg)
    check_gallery(arguments.gallery)  # before the slow imports
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.locks import folder_lock

    gallery = Gallery.open(arguments.gallery)
    with folder_lock(arguments.out, "--out"):
        task = tasks[given[0]](arguments, gallery)
        rows = _measure_all(arguments, gallery, given[0], task)
        _write(arguments.out, rows)
    _show(rows, arguments.out)
    return 0


def _measure_all(arguments: argparse.Namespace, gallery: "Gallery", kind: str, task: _Task) -> "list[Measurement]":
    """Measure what an earlier run with the same settings has not; each corruption is kept when it is done."""
    from naruto_vision.data.corruptions import CORRUPTIONS
    from naruto_vision.data.robustness import CLEAN, Measurement, severities
    from naruto_vision.io.atomic import write_json
    from naruto_vision.io.typed_json import read_json

    strengths = {name: list(one.strengths) for name, one in CORRUPTIONS.items()}
    settings = {"task": kind, "source": str(task.source), "names": task.names, "seed": arguments.seed}
    settings |= {"gallery": gallery.content.generation, "encoder": gallery.fingerprint, "strengths": strengths}
    path = arguments.out / "settings.json"
    if path.exists() and read_json(path, dict[str, Any]) != json.loads(json.dumps(settings)):
        msg = f"{arguments.out}: has results of other images, settings or another gallery; give another --out"
        raise InputError(msg)
    write_json(path, settings)
    wanted = (CLEAN, *dict.fromkeys(arguments.corruptions))
    parts = {name: arguments.out / "parts" / f"{name}.json" for name in wanted}
    todo = [name for name in wanted if not parts[name].exists()]
    passes = sum(len(severities(name)) if kind == "scenes" else 1 for name in todo)
    with progress("images", passes * len(task.names)) as advance:
        for name in todo:
            write_json(parts[name], [row.as_json() for row in task.measure(name, advance)])
    return [row for name in wanted for row in read_json(parts[name], list[Measurement])]


def _curves(rows: "Sequence[Measurement]") -> "Mapping[str, Mapping[str, list[Measurement]]]":
    """Return measure → corruption → its rows from severity 0 on."""
    curves: dict[str, dict[str, list[Measurement]]] = {}
    clean = {row.measure: row for row in rows if row.severity == 0}
    for row in rows:
        if row.severity:
            curves.setdefault(row.measure, {}).setdefault(row.corruption, [clean[row.measure]]).append(row)
    return curves


def _write(out: Path, rows: "Sequence[Measurement]") -> None:
    from naruto_vision.io.atomic import write_json, write_text
    from naruto_vision.io.text import csv_text
    from naruto_vision.viz.figures import interval_figure, save_figure

    lines = [row.as_json() for row in rows]
    write_json(out / "robustness.json", lines)
    write_text(out / "robustness.csv", csv_text([list(lines[0]), *(line.values() for line in lines)]))
    for measure, curves in _curves(rows).items():
        drawn = {
            kind: [(row.severity, row.value or 0.0, row.low or 0.0, row.high or 0.0) for row in curve]
            for kind, curve in curves.items()
        }
        figure = interval_figure(drawn, "severity (0: clean)", measure, f"{measure}, n = {rows[0].total}")
        save_figure(figure, out / f"robustness_{measure.replace(' ', '_')}.png")


def _short(bound: float | None) -> str:
    """Write a bound as ".74" or "1", so that seven columns fit a terminal of 80."""
    return "" if bound is None else f"{bound:.2f}".removeprefix("0").replace("1.00", "1")


def _show(rows: "Sequence[Measurement]", out: Path) -> None:
    for measure, curves in _curves(rows).items():
        table = [
            (kind, *(f"{row.count}/{row.total}\n{_short(row.low)}-{_short(row.high)}" for row in curve))
            for kind, curve in curves.items()
        ]
        show(
            make_table(
                (measure, "clean", *map(str, range(1, 6))), table, "by severity, with 95 % intervals below the counts"
            )
        )
    show(f"{out / 'robustness.csv'}, robustness.json and the curves are written")


COMMANDS = {"robustness": (_options, robustness)}

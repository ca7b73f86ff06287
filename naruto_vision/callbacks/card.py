"""``card.md``: what a run was made of, how well it did, where it is weak, and what it must not be used for."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from naruto_vision.data.box_data import BoxDataModule
from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.leaks import GALLERY, AuditItem, AuditItems, audit, collect_items, scan_images
from naruto_vision.data.robustness import Measurement
from naruto_vision.data.scenes import SceneDataModule, SceneDataset
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.info import find_image
from naruto_vision.gallery.store import store_uri
from naruto_vision.io.atomic import write_json, write_text
from naruto_vision.io.text import printable
from naruto_vision.io.typed_json import read_json
from naruto_vision.metrics.report import TITLES
from naruto_vision.metrics.slices import Slice
from naruto_vision.metrics.stats import Rate
from naruto_vision.metrics.tables import table_markdown
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.modules.trial import withheld
from naruto_vision.modules.tuning import PassFigures, Tuner
from naruto_vision.modules.weight_choice import ChooseWeights
from naruto_vision.recognition.writer import software_versions
from naruto_vision.records import UNKNOWN, LabelledImage
from naruto_vision.viz.figures import interval_figure, save_figure

_LOG = logging.getLogger(__name__)
CARD = "card.md"
_SECTIONS = "card.json"
_CURVE = "card_reliability.png"
_ORDER = ("Data", "Leaks", "Validation", "Test", "Classes", "Weak where", "Scores", "Corrupted images", "Not for")
_MOST_IMAGES = 2000  # that are compared in search of leaks, some 10 ms each
_MOST_CLASSES = 15  # in a table, worst first
_FEW = 200  # objects: two runs that differ by 10 in 100 are hardly told apart


class RunCard(Callback):
    """Write ``card.md`` at the end of a fit into the folder of its bundle or gallery, and of a test of weights."""

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the card, unless the run is a trial or was refused."""
        data: Any = getattr(trainer, "datamodule", None)
        known = isinstance(pl_module, Tuner | SceneRetriever)
        if not trainer.is_global_zero or stage not in ("fit", "test") or not known or pl_module.withheld:
            return
        if isinstance(pl_module, Tuner):
            out = Path(pl_module.bundle_dir).parent
            missing = pl_module.export.epoch >= 0 and not (out / CARD).is_file()  # of a run killed after its last step
            if (pl_module.figures is not None or missing) and not withheld(trainer, out / CARD):
                write_card(out, _weights(pl_module, stage), _tuning(trainer, pl_module, data, stage))
        elif isinstance(pl_module, SceneRetriever) and stage == "fit" and store_uri(pl_module.gallery) is None:
            gallery = Gallery.open(pl_module.gallery)
            write_card(
                Path(pl_module.gallery), _name(gallery), {"Data": _gallery_data(gallery, data), **_gallery(gallery)}
            )


def write_card(out: Path, of: str, sections: Mapping[str, str]) -> None:
    """Write ``card.md`` and ``card.json``; sections of an earlier run over the same weights or gallery stay."""
    path, before = out / _SECTIONS, dict[str, Any]()
    if path.is_file():
        before = read_json(path, dict[str, Any])
    kept = before.get("sections") if before.get("of") == of else None
    found = {**(kept if isinstance(kept, dict) else {}), **sections}
    ordered = {name: str(found[name]).strip() for name in _ORDER if found.get(name)}
    versions = ", ".join(f"{name} {number}" for name, number in software_versions().items())
    text = "".join(f"\n## {name}\n\n{section}\n" for name, section in ordered.items())
    write_json(path, {"of": of, "sections": ordered})
    write_text(out / CARD, f"# {of}\n\nMade with {versions}.\n{text}")
    _LOG.info("%s: what this was made of, how well it does, and its limits", out / CARD)


def _cell(text: str) -> str:
    """Escape a label or a path for Markdown: no HTML, link or image, which would load something, and one cell."""
    plain = printable(text, one_line=True).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
    return re.sub(r"[\\|\[\]]", r"\\\g<0>", plain)


def _table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[Any]], note: str = "") -> str:
    return table_markdown({"title": title, "columns": columns, "rows": rows, "note": note})


def _bullets(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines if line)


def _weights(module: Tuner, stage: str) -> str:
    """Describe the weights that a fit left, or that a test measured, so that equal ones have equal text."""
    if isinstance(module, ContrastiveTuner):
        encoder = ClipEncoder(module.bundle_dir) if stage == "fit" else module.encoder
        return f"CLIP, architecture {encoder.describe()['architecture']}, fingerprint {encoder.fingerprint[:16]}"
    model: Any = module.model
    model = type(model)(weights=module.bundle_dir) if stage == "fit" else model
    return f"{type(model).__name__}, fingerprint {model.fingerprint[:16]}"


def _tuning(trainer: pl.Trainer, module: Tuner, data: Any, stage: str) -> dict[str, str]:  # noqa: ANN401 - any data
    """Return the sections of a fit of weights, or of their test."""
    export, figures = module.export, module.figures or PassFigures(0.0)
    if stage == "fit" and export.epoch >= 0:
        figures = export.best if export.kept == 1.0 else export.figures
    total = None if figures.confusion is None else int(figures.confusion.sum())
    rows = {name.replace("_", " "): [round(value, 4)] for name, value in figures.named.items()}
    sections = {"Test" if stage == "test" else "Validation": _table("figure", ["value"], rows)}
    if stage == "fit":
        chosen = next((one for one in getattr(trainer, "callbacks", ()) if isinstance(one, ChooseWeights)), None)
        sections["Validation"] += (
            _choice(chosen) + "\nThese images chose the weights, so that the figures are optimistic.\n"
        )
        sections["Data"] = _tables(data)
        if isinstance(data, ClassDataModule):
            sections["Leaks"] = _split_leaks(data)
    if isinstance(module, ContrastiveTuner) and figures.confusion is not None:
        sections["Classes"] = _classes(figures.confusion, module.classes, "test" if stage == "test" else "validation")
    return {**sections, "Not for": _limits(total, "images")}


def _choice(chosen: ChooseWeights | None) -> str:
    if chosen is None or chosen.chosen is None:
        return ""
    columns = ["named by the training images", "decision rule", "named by class texts"]
    rows = {
        f"{alpha:g}{' (kept)' if alpha == chosen.chosen else ''}": [each.right.as_json(), each.rule, each.by_texts]
        for alpha, each in sorted(chosen.measured.items())
    }
    return "\n" + _table("part of the tuned weights", columns, rows, f"Without an encoder: {chosen.floors}.")


def _tables(data: Any) -> str:  # noqa: ANN401 - any data module
    """Count the images of each split and of their classes, and those that could not be read."""
    rows: dict[str, list[Any]] = {}
    if isinstance(data, ClassDataModule):
        for split, table in data.tables.items():
            counts = Counter(row.label for row in table.rows).most_common()
            most, least = (f"{_cell(name)} {count}" for name, count in (counts[0], counts[-1])) if counts else ("", "")
            bad = data.quarantines.get(split)
            rows[split] = [len(table.rows), len(counts), most, least, bad.quarantined if bad else 0]
        return _table(_cell(str(data.root)), ["images", "classes", "most", "fewest", "unreadable"], rows)
    if isinstance(data, BoxDataModule):
        for part, source in data.sources.items():
            boxes = sum(len(each) for _, each in source.items)
            rows[part] = [len(source.rows), boxes, data.quarantines[part].quarantined]
        return _table(_cell(str(data.root)), ["images", "boxes", "unreadable"], rows)
    return f"{type(data).__name__}; its settings are in the run's `config.yaml` in `lightning_logs`.\n"


def _split_leaks(data: ClassDataModule) -> str:
    """Count the held-out images that are also among the training images."""
    items = collect_items({split: table for split, table in data.tables.items() if len(table)})
    if len(items.items) > _MOST_IMAGES:
        command = f"naruto-vision data audit --root {_cell(str(data.root))}"
        return f"Not looked for among {len(items.items)} images: `{command}` does.\n"
    found = audit(items, scan_images(items.items))
    rows = {
        f"{one.held} in {one.against}": [Rate(one.leaking, one.frames.images).as_json(), one.exact, one.near]
        for one in found.comparisons
    }
    columns = ["equal, similar or a neighbouring frame", "equal", "similar"]
    note = "What is held out and also trained on is recognised more easily than new images."
    absent = f" {found.scanned.absent} images were compared by name alone." if found.scanned.absent else ""
    return _table("images", columns, rows, note + absent) if rows else ""


def _classes(confusion: Tensor, classes: Sequence[str], split: str) -> str:
    """List the classes, worst first, and what they are taken for."""
    counts = confusion.tolist()
    order = sorted(
        (row for row in range(len(classes)) if sum(counts[row])),
        key=lambda row: (counts[row][row] / sum(counts[row]), row),
    )
    rows = {}
    for row in order[:_MOST_CLASSES]:
        wrong = [(count, classes[other]) for other, count in enumerate(counts[row]) if count and other != row]
        taken = ", ".join(f"{_cell(name)} {count}" for count, name in sorted(wrong, key=lambda each: -each[0])[:3])
        rows[_cell(classes[row])] = [Rate(counts[row][row], sum(counts[row])).as_json(), taken]
    rest = len(order) - len(rows)
    note = f"{rest} other classes are better." if rest else ""
    return _table(f"class, {split} images by class texts", ["right", "taken for"], rows, note)


def _name(gallery: Gallery) -> str:
    return f"Gallery of {len(gallery)} entries and {len(gallery.labels)} labels, digest {gallery.digest[:16]}"


def _gallery_data(gallery: Gallery, data: Any) -> str:  # noqa: ANN401 - any data module
    counts, note = Counter(row.label for row in gallery.rows), gallery.note
    rows = {_cell(name): [count] for name, count in counts.most_common()}
    enrolment = note.get("enrolment") or {}
    where = f"From {_cell(str(getattr(data, 'root', None) or note.get('root') or 'images'))}"
    text = ", ".join(
        _cell(f"{value} {name.replace('_', ' ')}") for name, value in enrolment.items() if value and name != "images"
    )
    return _table("label", ["entries"], rows, f"{where}: {text}." if text else f"{where}.")


def _gallery(gallery: Gallery) -> dict[str, str]:
    """Return the sections about a gallery's decision rule and thresholds."""
    heads, thresholds = gallery.note.get("heads") or {}, gallery.thresholds
    rules, total = heads.get("rules") or {}, heads.get("of") or 0
    rows = {
        _cell(f"{rule}{' (used)' if rule == heads.get('decision') else ''}"): [Rate(each["right"], total).as_json()]
        for rule, each in rules.items()
    }
    rows |= {name: [Rate(heads[key], total).as_json()] for key, name in _FLOORS.items() if key in heads and total}
    title = "each gallery image, named by the others"
    table = _table(title, ["right"], rows) if rows else "Too few images to compare decision rules.\n"
    return {
        "Validation": f'{table}\nThresholds for "unknown": {_cell(thresholds.rule or "none")}.\n',
        "Not for": _limits(total, "images", "only on labels that were left out"),
    }


_FLOORS = {"colour": "floor: nearest colours", "majority": "floor: commonest label"}


def scene_card(out: Path, module: SceneRetriever, trainer: pl.Trainer) -> None:
    """Write the card of a test on scenes."""
    gallery, shown, data = module.analyzer.gallery, module.reports["test_shown"], getattr(trainer, "datamodule", None)
    if not isinstance(data, SceneDataModule):
        return
    dataset, results = data.dataset("test"), {"all": module.reports["test"], "shown": shown}
    rows = {
        TITLES[name]: [{**report.rates(), **report.names()}[name].as_json() for report in results.values()]
        for name in TITLES
    }
    unknown = [
        f"{one.count} of {one.total} such objects are shown as it" for one in [shown.per_class.get(UNKNOWN)] if one
    ]
    per_class = sorted(shown.per_class.items(), key=lambda each: (each[1].value or 0.0, each[0]))
    note = (
        f"{shown.counts.scenes} scenes of {_cell(str(dataset.images))}; a box matches from IoU {shown.iou_match:g} on."
    )
    write_card(
        out,
        _name(gallery),
        {
            "Data": _gallery_data(gallery, None),
            "Leaks": _twins(dataset, gallery),
            "Validation": _gallery(gallery)["Validation"],
            "Test": _table("figure", ["every region, best label", "what is shown"], rows, note),
            "Classes": _table(
                "label",
                ["found under it, shown"],
                {_cell(name): [rate.as_json()] for name, rate in per_class[:_MOST_CLASSES]},
            ),
            "Weak where": _weak(module.slices),
            "Scores": _scores(out, module),
            "Corrupted images": _corrupted(out, gallery),
            "Not for": _limits(shown.counts.objects, "objects", *unknown),
        },
    )


def _twins(dataset: SceneDataset, gallery: Gallery) -> str:
    """Count the scenes of which a gallery image is nearly the same."""
    root = Path(str(gallery.note.get("root") or "."))
    paths = dict.fromkeys(row.path for row in gallery.rows)
    scenes = [scene for index, scene in enumerate(dataset.scenes) if not dataset.is_skipped(index)]
    items = [AuditItem("test", LabelledImage(scene, ""), dataset.images / scene) for scene in scenes]
    enrolled = [AuditItem(GALLERY, LabelledImage(path, ""), find_image(root, path)) for path in paths]
    enrolled = [item for item in enrolled if item.file is not None]
    if len(items) + len(enrolled) > _MOST_IMAGES or not enrolled:
        return "" if enrolled else "Not looked for: the images of the gallery are not where they were enrolled from.\n"
    found = AuditItems((*items, *enrolled), ())
    compared = audit(found, scan_images(found.items), numbers="ignore").comparisons
    twins = Rate(sum(one.leaking for one in compared), sum(one.compared for one in compared))
    return _table("scenes", ["with a similar image in the gallery"], {"tested": [twins.as_json()]})


def _weak(slices: Sequence[Slice]) -> str:
    rows = {
        f"{one.by}: {_cell(one.name)}": [one.right.as_json(), one.rest.as_json(), f"{one.p:.3f}"]
        for one in slices
        if one.weak
    }
    tested = f"{len(slices)} parts were compared with the rest: Fisher's exact test, after Holm, objects independent."
    if not rows:
        return f"Nowhere more than by chance at 0.05. {tested}\n"
    return _table("objects", ["right", "all others", "p"], rows, tested)


def _scores(out: Path, module: SceneRetriever) -> str:
    """List and plot how many names are right by score."""
    rows = {f"{one.low:.3f} to {one.high:.3f}": [one.right.as_json()] for one in module.reliability}
    if not rows:
        return ""
    points = [
        ((one.low + one.high) / 2, one.right.value or 0.0, *(one.right.interval or (0.0, 1.0)))
        for one in module.reliability
    ]
    figure = interval_figure({"names that are right": points}, "score", "fraction", f"rule {module.analyzer.decision}")
    default = module.analyzer.gallery.thresholds.default
    if default is not None:
        figure.axes[0].axvline(default, color="0.45", linestyle="--", linewidth=1.0)
    save_figure(figure, out / _CURVE)
    note = "Best label of every region that lies on an object; the dashed line is the common threshold."
    return (
        _table(f"score of {module.analyzer.decision}", ["right"], rows, note)
        + f"\n![fraction of names that are right by score]({_CURVE})\n"
    )


def _corrupted(out: Path, gallery: Gallery) -> str:
    """List what corrupted images cost, if `naruto-vision robustness` has measured it on this gallery."""
    folder = out.parent / "robustness"
    if not all((folder / name).is_file() for name in ("settings.json", "robustness.json")):
        return "Not measured: `naruto-vision robustness --scenes DIR` does, and the next test puts it here.\n"
    settings = read_json(folder / "settings.json", dict[str, Any])
    if (settings.get("gallery"), settings.get("encoder")) != (gallery.content.generation, gallery.fingerprint):
        return f"{_cell(str(folder))} is of another gallery.\n"
    rows: dict[str, list[Any]] = {}
    for one in read_json(folder / "robustness.json", list[Measurement]):
        rows.setdefault(f"{one.measure}, {one.corruption}", []).append(Rate(one.count, one.total).as_json())
    columns = [f"severity {number}" for number in range(1, max(map(len, rows.values())) + 1)]
    return _table(
        "corruption", columns, {name: [*cells, *[None] * (len(columns) - len(cells))] for name, cells in rows.items()}
    )


def _limits(total: int | None, what: str, unknown: str = "no such character was in it") -> str:
    few = total is not None and total < _FEW
    return _bullets(
        [
            f"differences of a few in 100: {total} {what} are too few to see them; read the intervals" if few else "",
            "images of another style, resolution or source than those above, before a test on labelled ones of these",
            f"recognising unknown characters, beyond what was measured: {unknown}",
            "people: nothing here was measured on them",
        ]
    )

"""Write regions as pairs of a crop and a text, for captioning, CLIP training and search."""

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from naruto_vision.errors import BadImageError, InputError
from naruto_vision.export.source import REGION, SceneSource, description_of
from naruto_vision.io.atomic import utf8
from naruto_vision.io.images import encode_image, read_image
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.text import csv_text
from naruto_vision.recognition.coco import CocoObject, CocoScene
from naruto_vision.records import UNKNOWN, ImageArray

_A_FOLDER = 1000
_LOG = logging.getLogger(__name__)


def write_pairs(table: Path, source: SceneSource, scenes: Callable[[], Iterable[CocoScene]]) -> None:
    """Write the crop of every region that has a text, the text beside it, and two tables of all of them.

    ``captions.yaml`` reads ``captions.csv``, Hugging Face's image folders read ``metadata.jsonl``; crops and texts of
    equal names are samples of webdataset. Scenes whose image cannot be read are counted and left out.
    """
    if source.images is None:
        raise InputError("the folder of the scenes is not known, or is not there; give --images DIR")
    count, quarantine, out = 0, Quarantine("scenes"), table.parent
    with table.open("wb") as rows, (out / "metadata.jsonl").open("wb") as lines:
        rows.write(b"path,text\n")
        for scene in scenes():
            texts = [(one, text) for one in scene.objects if (text := _text_of(one))]
            image = _read(source.images, scene, quarantine) if texts else None
            if image is None:
                continue
            for one, text in texts:
                stem = f"{count // _A_FOLDER:05d}/{count:08d}"
                count += 1
                (out / stem).parent.mkdir(exist_ok=True)
                x1, y1, x2, y2 = one.box
                (out / f"{stem}.jpg").write_bytes(encode_image(image[y1 : y2 + 1, x1 : x2 + 1], ".jpg"))
                (out / f"{stem}.txt").write_bytes(utf8(text))
                rows.write(utf8(csv_text([(f"{stem}.jpg", text)])))
                facts = {"scene": scene.file_name, "bbox": one.box, "label": one.label, **one.extra}
                lines.write(utf8(json.dumps({"file_name": f"{stem}.jpg", "text": text, **facts}) + "\n"))
    quarantine.check(1.0)
    if not count:
        msg = "no region has a name or a description; `naruto-vision describe` describes the regions of a run"
        raise InputError(msg)
    if quarantine.quarantined:
        quarantine.write(out / "quarantine.jsonl")
        _LOG.warning("%d scenes cannot be read, see quarantine.jsonl", quarantine.quarantined)


def _text_of(one: CocoObject) -> str:
    """Return "name: description", or the one that there is."""
    name = "" if one.label in {REGION, UNKNOWN} else one.label
    return ": ".join(filter(None, (name, description_of(one).strip())))


def _read(folder: Path, scene: CocoScene, quarantine: Quarantine) -> ImageArray | None:
    path = folder / scene.file_name

    def load() -> ImageArray:
        image = read_image(path)
        if image.shape[:2] != (scene.height, scene.width):
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise BadImageError(path, f"has {size} pixels, its regions are of {scene.width}x{scene.height}")
        return image

    return quarantine.read(path, load)

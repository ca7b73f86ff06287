"""Drift: whether the scenes of a run differ from those at enrolment, by a small sample of both.

``drift.jsonl`` has a line for each sampled scene. The sample are the scenes whose names have the lowest hashes, so it
is the same in a resumed run and in several processes.
"""

import base64
import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import msgspec
import numpy as np

from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.gallery.store import DRIFT
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.images import shrink
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.io.video import is_video_name
from naruto_vision.metrics.stats import holm
from naruto_vision.metrics.two_sample import mmd_test
from naruto_vision.records import ImageArray, ScenePrediction, Vectors

_NAMES = {
    "sharpness": ("image sharpness", ""),
    "luminance": ("image luminance", ""),
    "contrast": ("image contrast", ""),
    "saturation": ("image saturation", ""),
    "regions": ("regions per scene", "segmenter"),
    "area": ("area of the median region", "segmenter"),
    "vectors": ("query vectors", "encoder"),
    "margin": ("margin", "gallery"),
    "unknown": ("unknown share", "gallery"),
}
"""Figure → its name in sentences, and what must be the same on both sides."""

_MADE_WITH = {
    "segmenter": ("segmenter", "merge"),
    "encoder": ("encoder", "arithmetic", "crop", "mirror", "renormalise", "embedding"),
    "gallery": ("gallery", "neighbours", "decision"),
}
"""Keys of a run's identity, for each of these with the keys before them."""

_LEVEL = 0.01  # probability of a false alarm of a run
_FEWEST = 10  # scenes of each side
_SCENES, _REGIONS = 200, 10  # of a sample; regions of a scene whose vectors are kept, the largest ones
_SIDE = 512  # pixels of the longer side on which quality is measured
_MOST_BYTES, _LARGEST = 64 << 20, 1e12  # of a file; figure
_DAMAGED = "the file is damaged: remove it; `naruto-vision validate`, or `predict` into a new --out, writes one"


class _Line(msgspec.Struct):
    scene: str
    made: dict[str, str]
    figures: dict[str, float | None]
    count: Annotated[int, msgspec.Meta(ge=0, le=_REGIONS)]
    vectors: str  # base64 of float16 numbers, ``count`` rows


@dataclass(frozen=True)
class DriftSample:
    """The figures of sampled scenes; the frames of a video are one scene, as they are not independent."""

    scenes: int
    made: Mapping[str, frozenset[str]]  # hashes of the keys of ``_MADE_WITH``; several if scenes differ in them
    values: Mapping[str, list[Any]]  # of each figure the scenes' numbers, or their vectors (R, D), float32


def sampled(scenes: Iterable[str]) -> frozenset[str]:
    """Choose at most 200 scenes, by the hashes of their names."""
    digest = {name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in scenes}
    return frozenset(heapq.nsmallest(_SCENES, digest, key=digest.__getitem__))


def image_quality(image: ImageArray) -> dict[str, float]:
    """Measure an image (H, W, 3), uint8, RGB, at a longer side of at most 512 pixels, in values from 0 to 255."""
    small = shrink(image, _SIDE)
    grey, colours = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    found = {"sharpness": cv2.Laplacian(grey, cv2.CV_64F).var(), "luminance": grey.mean(), "contrast": grey.std()}
    return {name: round(float(value), 4) for name, value in {**found, "saturation": colours[..., 1].mean()}.items()}


def sample_line(
    quality: Mapping[str, float], found: ScenePrediction, identity: Mapping[str, Any], chosen: Thresholds | None = None
) -> dict[str, Any]:
    """Return a scene's line of ``drift.jsonl``; ``identity`` is that of the run, ``chosen`` are later thresholds."""
    made, facts = {}, dict[str, Any]()
    for part, keys in _MADE_WITH.items():
        facts |= {key: identity.get(key) for key in keys}
        made[part] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    areas = [region.area / (found.width * found.height) for region in found.regions]
    margins = [each.margin for each in found.identities if each.margin is not None]
    known = [chosen.accepts(one.label, one.score) if chosen else one.known for one in found.identities]
    figures: dict[str, float | None] = {
        **quality,
        "regions": len(areas),
        "area": float(np.median(areas)) if areas else None,
        "margin": float(np.mean(margins)) if margins else None,
        "unknown": 1 - float(np.mean(known)) if known else None,
    }
    rows = [each.vector for each in found.identities[:_REGIONS] if each.vector is not None]
    vectors = base64.b64encode(np.array(rows, "<f2").tobytes()).decode()
    return {"scene": found.scene, "made": made, "figures": figures, "count": len(rows), "vectors": vectors}


def read_sample(folder: str | Path, scenes: Iterable[str] | None = None) -> DriftSample:
    """Read the sample of a run or a gallery; ``scenes`` are those that count (None: all)."""
    path = Path(folder) / DRIFT
    if not path.is_file():
        hint = "give the --out of an earlier `predict`, or a gallery whose thresholds scenes have chosen"
        raise MissingPathError(path, "sample of scenes", hint)
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise FormatError(path, f"at most {_MOST_BYTES} bytes", str(size), _DAMAGED)
    lines = {line.scene: line for line in read_json_lines(path, _Line, hint=_DAMAGED)}
    chosen = sorted(sampled(lines.keys() if scenes is None else lines.keys() & set(scenes)))
    units, rows = dict[str, list[_Line]](), dict[str, Vectors]()
    for scene in chosen:
        line, video = lines[scene], Path(scene).parent
        units.setdefault(str(video) if is_video_name(video) else scene, []).append(line)
        rows[scene] = _read_vectors(f"{path}: {scene}", line)
        if not all(abs(value) < _LARGEST for value in line.figures.values() if value is not None):  # NaN is not
            raise FormatError(f"{path}: {scene}", f"figures below {_LARGEST:g}", f"{line.figures}"[:80], _DAMAGED)
    if len({rows[scene].shape[1] for scene in chosen if lines[scene].count}) > 1:
        raise FormatError(path, "vectors of one length", "others", _DAMAGED)
    values = dict[str, list[Any]]()
    for name in _NAMES:
        found = [[x for line in unit if (x := line.figures.get(name)) is not None] for unit in units.values()]
        values[name] = [float(np.mean(own)) for own in found if own]
    vectors = [[rows[line.scene] for line in unit if line.count] for unit in units.values()]
    values["vectors"] = [np.concatenate(own) for own in vectors if own]
    made = {part: frozenset(lines[scene].made.get(part, "") for scene in chosen) for part in _MADE_WITH}
    return DriftSample(len(units), made, values)


def _read_vectors(where: str, line: _Line) -> Vectors:
    """Read the vectors of a line: (count, D), float32."""
    try:
        numbers = np.frombuffer(base64.b64decode(line.vectors, validate=True), "<f2").astype(np.float32)
        rows = np.asarray_chkfinite(numbers).reshape(max(line.count, 1), -1)
    except ValueError as error:
        raise FormatError(where, f"{line.count} finite vectors", str(error), _DAMAGED) from None
    if line.count and not rows.size:
        raise FormatError(where, f"{line.count} finite vectors", "none", _DAMAGED)
    return rows


def compare_samples(reference: DriftSample, query: DriftSample, where: str) -> dict[str, Any]:
    """Return the tests of a run's sample against the reference, which is ``where`` ("at enrolment"), for ``run.json``.

    Each figure has a verdict (``drift``, ``none``, ``too few`` or ``not comparable``), numbers of scenes, medians and,
    if it was tested, the statistic (MMD², or the share of pairs in which the run's number is the larger one) and p.
    """
    from scipy.stats import mannwhitneyu  # a second to import; only runs with a reference need it

    figures, tested = dict[str, dict[str, Any]](), list[dict[str, Any]]()
    for name, (_, part) in _NAMES.items():
        before, now = reference.values[name], query.values[name]
        made = reference.made[part] | query.made[part] if part else frozenset()
        sizes = {rows.shape[1] for rows in (*before, *now)} if name == "vectors" else set[int]()
        verdict = "not comparable" if max(len(made), len(sizes)) > 1 else "too few"
        one = figures[name] = {"verdict": verdict, "n_reference": len(before), "n_query": len(now)}
        for key, own in {"reference_median": before, "median": now}.items() if name != "vectors" else ():
            one[key] = float(np.median(own)) if own else None
        if verdict == "not comparable" or min(len(before), len(now)) < _FEWEST:
            continue
        if name == "vectors":
            one["statistic"], one["p"] = mmd_test(before, now)
        else:
            found = mannwhitneyu(now, before)  # p is NaN if all numbers are equal
            one["statistic"] = float(found.statistic) / (len(before) * len(now))
            one["p"] = float(np.nan_to_num(found.pvalue, nan=1.0))
        tested.append(one)
    for one, adjusted in zip(tested, holm([one["p"] for one in tested]), strict=True):
        one |= {"adjusted_p": adjusted, "verdict": "drift" if adjusted < _LEVEL else "none"}
    drifted = any(one["verdict"] == "drift" for one in tested)
    counts = {"n_reference": reference.scenes, "n_query": query.scenes}
    return {"drifted": drifted, "reference": where, "level": _LEVEL, **counts, "figures": figures}


def drift_sentences(drift: Mapping[str, Any]) -> Iterator[str]:
    """Say what has drifted, or that nothing has, and what was not compared."""
    figures, where, sizes = drift["figures"], drift["reference"], (drift["n_query"], drift["n_reference"])
    if min(sizes) < _FEWEST:
        side = "" if sizes[0] < _FEWEST else f" {where}"
        yield f"drift: too few scenes{side} to test ({min(sizes)} < {_FEWEST})"
        return
    for name, one in figures.items():
        if one["verdict"] == "drift":
            difference, numbers = "differ from those", f"MMD² {one['statistic']:.2g}"
            if name != "vectors":
                difference = f"is {'higher' if one['statistic'] > 0.5 else 'lower'} than"
                medians = [
                    f"{one[key]:{'.3g' if one[key] < 1000 else '.0f'}}" for key in ("median", "reference_median")
                ]
                numbers = f"median {' against '.join(medians)}"
            counts = f"{one['n_query']} scenes against {one['n_reference']}"
            yield f"drift: {_NAMES[name][0]} {difference} {where} ({numbers}, {counts}, p = {one['adjusted_p']:.2g})"
    if not drift["drifted"]:
        tested = sum("p" in one for one in figures.values())
        yield f"drift: none in {tested} figures ({sizes[0]} scenes against {sizes[1]} {where})"
    if names := [_NAMES[name][0] for name, one in figures.items() if one["verdict"] == "not comparable"]:
        made = "another segmenter, encoder or gallery, or other settings; `naruto-vision validate` writes a new sample"
        yield f"drift: not compared: {', '.join(names)}, which {where} are of {made}"

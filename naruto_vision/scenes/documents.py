"""The JSON that a scene becomes: for evaluation, for people, and the whole record."""

import json
from collections.abc import Sequence
from typing import Any

from naruto_vision.records import ScenePrediction
from naruto_vision.segmentation.run_lengths import encode_cut

_SHOWN = 5  # neighbours that are written down; more of them may have voted
_DIGITS = 6  # a cosine of float32 vectors has about seven significant digits


def evaluation_document(prediction: ScenePrediction) -> dict[str, Any]:
    """Return every region with its best label, unfiltered: what evaluation reads.

    Args:
        prediction: One scene.

    Returns:
        ``{scene, preds: [{bbox, label, score}]}``, boxes inclusive integers, largest region first.
    """
    preds = [
        {"bbox": list(region.box), "label": identity.label, "score": round(identity.score, _DIGITS)}
        for region, identity in zip(prediction.regions, prediction.identities, strict=True)
    ]
    return {"scene": prediction.scene, "preds": preds}


def overlay_document(prediction: ScenePrediction, shown: Sequence[int]) -> dict[str, Any]:
    """Return the regions that people are shown, named "unknown" where nobody was recognised.

    Args:
        prediction: One scene.
        shown: Indices of the regions, best first.

    Returns:
        The same shape as the evaluation document.
    """
    preds = [
        {
            "bbox": list(prediction.regions[i].box),
            "label": prediction.identities[i].name,
            "score": round(prediction.identities[i].score, _DIGITS),
        }
        for i in shown
    ]
    return {"scene": prediction.scene, "preds": preds}


def record_document(prediction: ScenePrediction, shown: Sequence[int], sha256: str = "") -> dict[str, Any]:
    """Return all that is known of a scene but the times, which differ from run to run.

    Args:
        prediction: One scene.
        shown: Indices of the regions that the overlay has.
        sha256: Of the picture's file; an empty string leaves it out.

    Returns:
        JSON values: size, and for each region box, area, COCO run-length mask, prompt, mask scores, identity,
        margin and the nearest neighbours.
    """
    regions = []
    for index, (region, identity) in enumerate(zip(prediction.regions, prediction.identities, strict=True)):
        regions.append(
            {
                "bbox": list(region.box),
                "area": region.area,
                "mask": encode_cut(region.mask, region.box, prediction.height, prediction.width),
                "prompt": region.prompt,
                "predicted_iou": round(region.predicted_iou, _DIGITS),
                "stability": round(region.stability, _DIGITS),
                "label": identity.label,
                "name": identity.name,
                "score": round(identity.score, _DIGITS),
                "margin": None if identity.margin is None else round(identity.margin, _DIGITS),
                "shown": index in shown,
                "neighbours": [
                    {"id": n.row, "label": n.label, "score": round(n.score, _DIGITS), "path": n.path}
                    for n in identity.neighbours[:_SHOWN]
                ],
            }
        )
    source = {"scene": prediction.scene, **({"sha256": sha256} if sha256 else {})}
    return {**source, "width": prediction.width, "height": prediction.height, "regions": regions}


def as_line(value: dict[str, Any]) -> str:
    """Return one line of JSON Lines, with its line feed.

    Args:
        value: JSON values without NaN.

    Returns:
        Compact UTF-8 text.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"

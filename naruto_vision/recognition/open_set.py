"""Thresholds from the gallery alone: its images named by the others, and its classes taken for unknown ones."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from naruto_vision.gallery.content import rows_changed
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import DEFAULT_AIM, Aim, Thresholds, calibrate_thresholds
from naruto_vision.io.images import split_crop
from naruto_vision.recognition.decision import Rule
from naruto_vision.recognition.heads import VOTES, cross_validate, leave_classes_out, noted_strength

GALLERY = "gallery"
"""Source of thresholds that were chosen on the gallery's own images."""

_FEWEST = 20  # correctly named images; fewer say too little of low scores
_SPARE = 0.95  # of the right names: a gallery has no background and few strangers, so it aims for more


def gallery_thresholds(
    gallery: Gallery,
    decision: Rule,
    aim: Aim = DEFAULT_AIM,
    votes: int = VOTES,
    runs: Sequence[Hashable] | None = None,
    whole: bool = False,
) -> Thresholds:
    """Choose thresholds by leave-one-group-out for known scores and leave-one-class-out for unknown ones.

    Args:
        gallery: The gallery; at most 600 of its rows are named.
        decision: The decision rule.
        aim: What the thresholds are chosen for; wrong names are those of images of left-out classes, and the wrong ones
            of known classes. Thresholds that reach the aim and keep 0.95 of the right names are a range; the highest is
            taken for whole images, and the middle for regions, which score lower. If none keeps as many, the lowest
            that reaches the aim is taken. With fewer than three classes the aim is 0.95 of the right names.
        votes: How many rows vote.
        whole: Whether the queries are whole images, like those of the gallery.
        runs: A key for each row, equal for the frames of one shot; see ``heads.group_rows``.

    Returns:
        The thresholds, whose rule states the evidence; none with fewer than 20 correctly named images.
    """
    strength, vectors, rows = noted_strength(gallery), gallery.vectors, gallery.rows
    asked = None
    if (gallery.note.get("enrol") or {}).get("by") == "both":  # an image has two rows, which are one group
        asked = np.array([(split_crop(row.path)[1] is None) == whole for row in rows])
        rows = tuple(replace(row, path=split_crop(row.path)[0]) for row in rows)
    (known,) = cross_validate([(decision, strength)], vectors, rows, votes=votes, runs=runs, asked=asked)
    unknown = leave_classes_out(decision, strength, vectors, rows, votes, asked)
    right, tested = int(known.right.sum()), len(known.right)
    evidence = f"of {tested} gallery images named by the others, {right} are right"
    if right < _FEWEST:
        words = f"none: {evidence}, too few to choose a threshold; every region counts as known"
        return Thresholds(rule=words, counts={"": {"tested": tested, "right": right}})
    scores, good = np.concatenate([known.scores, unknown.scores]), np.concatenate([known.right, unknown.right])
    names = np.concatenate([known.names, unknown.names])
    if not len(unknown.scores):
        aim = Aim("coverage", _SPARE)
    if good.all():  # one score that nothing reaches stands for the wrong names that do not occur
        scores, good, names = np.append(scores, scores.min() - 1.0), np.append(good, False), np.append(names, "")
    found = calibrate_thresholds(
        scores.tolist(),
        good.tolist(),
        names.tolist(),
        aim=aim,
        decision=decision,
        source=GALLERY,
        of="gallery images",
        spare=_SPARE,
        place=1.0 if whole else 0.5,
    )
    kept, passed = (
        sum(score >= (found.threshold(name) or 0.0) for name, score in zip(names, scores, strict=True))
        for names, scores in ((known.names[known.right], known.scores[known.right]), (unknown.names, unknown.scores))
    )
    words = found.rule.partition(";")[0] + f": {evidence}; keeps {kept} of {right} right names"
    if len(unknown.scores):
        words += f", lets through {passed} of {len(unknown.scores)} images of classes left out"
    return replace(found, rule=words, counts={**found.counts, "": {**found.counts[""], "tested": tested}})


def thresholds_of(gallery: Gallery, decision: Rule, aim: Aim = DEFAULT_AIM) -> Thresholds:
    """Return a gallery's thresholds, chosen again if its own images chose them for other rows or another rule."""
    stored = gallery.thresholds
    if stored.source != GALLERY or (stored.decision == decision and rows_changed(gallery.head.ledger) is None):
        return stored
    return gallery_thresholds(gallery, decision, aim)

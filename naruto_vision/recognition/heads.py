"""Classifiers over a gallery's vectors, and which decision rule names its images best.

All are fitted in closed form, or by a deterministic optimiser, from the gallery's rows, so they follow every edit.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.metrics.stats import Rate, mcnemar_exact
from naruto_vision.recognition.decision import ROW_RULES, Rule, decide
from naruto_vision.records import Neighbour, Vectors

VOTE: Rule = "vote"
"""The rule of galleries without a comparison, and of those on which no head is better."""

VOTES = 20
"""How many gallery rows vote on an image: as many as on a region of a scene."""

NEAR = 0.98
"""Cosine from which two rows count as near duplicates, which must not be in a fit and in its test."""

STRENGTHS = (1e-2, 1e-3, 1e-4)
"""L2 penalties that cross-validation chooses from, for inputs whose mean squared length is 1."""

_SHRINK = 0.1  # of the covariance of all rows
_FOLDS = 8
_CLASS_FOLDS = 16
_COMPARED = 600  # rows, so that enrolment stays fast
_CHANCE = 0.05  # p-value from which on two rules are equally accurate
_PRECISION = 0.9  # of shown names, as the default aim of thresholds
_FEWEST = 20  # tested rows; fewer cannot tell rules apart
LARGEST = 10_000  # rows of a gallery; fitting a classifier to more takes minutes whenever it is opened

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Head:
    """A fitted classifier of unit vectors.

    - ``mean`` and ``prototype``: the score is the mean cosine with the rows of a class, or the cosine with their mean.
    - ``centroid``: the same after rows are whitened by the shrunk covariance of all rows.
    - ``lda``: rows are whitened by the covariance within classes, shrunk as by Ledoit and Wolf (2004); the score is
      the cosine with the mean of the class.
    - ``logreg``: multinomial logistic regression with an L2 penalty; the score is the probability.

    Examples:
        >>> rows = np.eye(4, dtype=np.float32)
        >>> Head.fit("mean", rows, ["ayame", "ayame", "kenta", "kenta"]).by_label(rows[3:])
        [{'ayame': 0.0, 'kenta': 0.5}]
    """

    labels: tuple[str, ...]
    classes: Array
    project: Array | None = None
    shift: Array | float = 0.0
    offset: Array | None = None

    @classmethod
    def fit(cls, rule: Rule, vectors: Vectors, labels: Sequence[str], strength: float | None = None) -> "Head":
        """Fit a classifier to unit rows (N, D) by the label of each; ``strength`` is the penalty of ``logreg``."""
        rows = vectors.astype(np.float64)
        names, index = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
        found, centre, means = tuple(names.tolist()), rows.mean(axis=0), _class_means(rows, index)
        match rule:
            case "logreg":
                weights, offset = _logistic(rows - centre, index, strength or STRENGTHS[1])
                return cls(found, weights, offset=offset - centre @ weights)
            case "lda":
                project = _inverse_root(rows - means[index], None)
                return cls(found, _unit((means - centre) @ project).T, project, centre @ project)
            case "centroid":
                project = _inverse_root(rows - centre, _SHRINK)
                means = _class_means(_unit((rows - centre) @ project), index)
                return cls(found, _unit(means).T, project, centre @ project)
            case _:
                return cls(found, (means if rule == "mean" else _unit(means)).T)

    def scores(self, queries: Vectors) -> Array:
        """Score every class for every query (Q, D): (Q, C), float64, cosines in [-1, 1] or probabilities."""
        rows = queries if self.project is None else _unit(queries @ self.project - self.shift)
        found: Array = rows @ self.classes
        return found if self.offset is None else _softmax(found + self.offset)

    def by_label(self, queries: Vectors) -> list[dict[str, float]]:
        """Score every class for every query (Q, D) under its label."""
        return [dict(zip(self.labels, row, strict=True)) for row in self.scores(queries).tolist()]


def _unit(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Array = rows / np.where(lengths > 0, lengths, 1.0)
    return units


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: Array = powers / powers.sum(axis=1, keepdims=True)
    return chances


def _class_means(rows: Array, index: NDArray[np.int64]) -> Array:
    return np.stack([rows[index == number].mean(axis=0) for number in range(int(index.max()) + 1)])


def _inverse_root(residuals: Array, shrink: float | None) -> Array:
    """Return the inverse square root (D, D) of a covariance shrunk towards a multiple of the identity."""
    count, dim = residuals.shape
    values, axes = _principal(residuals)  # (r,), (D, r)
    level = float(values.sum()) / dim
    if shrink is None:  # Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices"
        square = float((values**2).sum())
        noise = (float((np.einsum("nd,nd->n", residuals, residuals) ** 2).sum()) / count - square) / count
        spread = square - dim * level**2
        shrink = float(np.clip(noise / spread, 0.0, 1.0)) if spread > 0 else 1.0
    rest = max(shrink * level, 1e-9)  # the variance of directions without any; equal rows have none at all
    inside = 1.0 / np.sqrt((1 - shrink) * values + rest) - 1.0 / np.sqrt(rest)
    root: Array = (axes * inside) @ axes.T
    root[np.diag_indices(dim)] += 1.0 / np.sqrt(rest)
    return root


def _principal(rows: Array) -> tuple[Array, Array]:
    """Return the variances (r,) and directions (D, r) of rows (N, D), with r at most min(N, D)."""
    count, dim = rows.shape
    if count >= dim:
        values, axes = np.linalg.eigh(rows.T @ rows / count)
        return np.maximum(values, 0.0), axes
    values, parts = np.linalg.eigh(rows @ rows.T / count)
    kept = values > 1e-10 * max(float(values[-1]), 1e-30)
    return values[kept], rows.T @ parts[:, kept] / np.sqrt(values[kept] * count)


def _logistic(rows: Array, index: NDArray[np.int64], strength: float) -> tuple[Array, Array]:
    """Fit multinomial logistic regression to centred rows (N, D): weights (D, C) and offsets (C,)."""
    basis, rotated = np.linalg.qr(rows.T)  # min(N, D) dimensions, in which all products are the same
    rows = rotated.T
    count, dim = rows.shape
    scale = 1.0 / max(float(np.sqrt((rows**2).sum() / count)), 1e-12)
    rows, classes = rows * scale, int(index.max()) + 1
    target = np.eye(classes)[index]

    def loss(flat: Array) -> tuple[float, Array]:
        weights, offset = flat[:-classes].reshape(dim, classes), flat[-classes:]
        chances = _softmax(rows @ weights + offset)
        value = -np.log(np.maximum(chances[np.arange(count), index], 1e-300)).mean() + strength / 2 * (weights**2).sum()
        wrong = (chances - target) / count
        return float(value), np.concatenate([(rows.T @ wrong + strength * weights).ravel(), wrong.sum(axis=0)])

    flat = minimize(loss, np.zeros((dim + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return basis @ flat[:-classes].reshape(dim, classes) * scale, flat[-classes:]


@lru_cache(maxsize=4)
def _gallery_head(gallery: Gallery, rule: Rule) -> Head:
    return Head.fit(rule, gallery.vectors, [row.label for row in gallery.rows], noted_strength(gallery))


def noted_strength(gallery: Gallery) -> float | None:
    """Return the penalty of ``logreg`` that was chosen when the gallery was enrolled."""
    strength = (gallery.note.get("heads") or {}).get("strength")
    return strength if isinstance(strength, float) and strength > 0 else None


def score_classes(gallery: Gallery, rule: Rule, queries: Vectors) -> list[dict[str, float]]:
    """Score the classes of a gallery for queries (Q, D), as ``decide`` takes them; empty for rules of single rows.

    The classifier is fitted to the gallery's rows on first use, and kept for the next queries.
    """
    return [{} for _ in queries] if rule in ROW_RULES else _gallery_head(gallery, rule).by_label(queries)


def group_rows(
    vectors: Vectors, rows: Sequence[GalleryRow], runs: Sequence[Hashable] | None = None
) -> NDArray[np.int64]:
    """Number the groups of rows that must not be in a fit and in its test: (N,).

    A group has the variants of an image, near duplicates (by cosine), and the rows of equal ``runs`` (None: no run). A
    class with one group only is taken apart into its images.
    """
    runs = [None] * len(rows) if runs is None else runs
    keys: dict[Hashable, int] = {}
    pairs = [(number, keys.setdefault(row.path or number, number)) for number, row in enumerate(rows)]
    images = np.array([first for _, first in pairs])
    pairs += [(number, keys.setdefault(("run", run), number)) for number, run in enumerate(runs) if run is not None]
    pairs += [(a, b) for a, b in np.argwhere(np.triu(vectors @ vectors.T, 1) >= NEAR).tolist()]
    left, right = np.array(pairs).T
    links = coo_matrix((np.ones(len(left)), (left, right)), shape=(len(rows), len(rows)))
    groups: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    labels = np.asarray([row.label for row in rows], dtype=object)
    for label in set(labels.tolist()):
        mine = labels == label
        if len(set(groups[mine].tolist())) == 1:
            groups[mine] = groups.max() + 1 + images[mine]
    return groups


def _folds(groups: NDArray[np.int64], labels: NDArray[np.object_]) -> NDArray[np.int64]:
    """Deal the groups of each label out to the folds in turn: (N,)."""
    dealt: dict[int, int] = {}
    turns: dict[str, int] = {}
    for number, (group, label) in enumerate(zip(groups.tolist(), labels.tolist(), strict=True)):
        if group not in dealt:
            turns.setdefault(label, number)
            dealt[group] = turns[label] % _FOLDS
            turns[label] += 1
    return np.array([dealt[group] for group in groups.tolist()])


@dataclass(frozen=True)
class Tested:
    """Rows named by a rule that was fitted without their group."""

    right: NDArray[np.bool_]
    scores: Array
    names: NDArray[np.object_]

    @property
    def rate(self) -> Rate:
        """How many are named correctly."""
        return Rate(int(self.right.sum()), len(self.right))


def cross_validate(
    rules: Sequence[tuple[Rule, float | None]],
    vectors: Vectors,
    rows: Sequence[GalleryRow],
    groups: NDArray[np.int64] | None = None,
    votes: int = VOTES,
    runs: Sequence[Hashable] | None = None,
    enrolled: Mask | None = None,
    asked: Mask | None = None,
) -> list[Tested]:
    """Name every row by each rule, fitted to the rows of other groups, in 8 folds of whole groups.

    Args:
        rules: The rules, each with the penalty of ``logreg`` (None: the default).
        vectors: Shape (N, D), float32, unit rows.
        rows: Source of each vector.
        groups: The group of each row, as of ``group_rows``; None groups the rows, of which at most 600 are taken.
        votes: How many rows vote.
        runs: As for ``group_rows``, if ``groups`` is None.
        enrolled: Shape (N,), bool: the rows that rules are fitted to; None takes all.
        asked: Shape (N,), bool: the rows that are named; None takes all.

    Returns:
        For each rule the tested rows: those whose class has another group.
    """
    if groups is None:
        chosen = _sample(len(rows))
        vectors, rows = vectors[chosen], [rows[number] for number in chosen]
        enrolled, asked = (mask if mask is None else mask[chosen] for mask in (enrolled, asked))
        groups = group_rows(vectors, rows, None if runs is None else [runs[number] for number in chosen])
    labels = np.asarray([row.label for row in rows], dtype=object)
    folds = _folds(groups, labels)
    right: list[list[NDArray[np.bool_]]] = [[np.zeros(0, dtype=np.bool_)] for _ in rules]
    scores: list[list[Array]] = [[np.zeros(0)] for _ in rules]
    given: list[list[NDArray[np.object_]]] = [[np.zeros(0, dtype=object)] for _ in rules]
    for fold in range(_FOLDS):
        kept = (folds != fold) & (True if enrolled is None else enrolled)
        held = (folds == fold) & np.isin(labels, labels[kept]) & (True if asked is None else asked)
        if not held.any():
            continue
        for number, (rule, strength) in enumerate(rules):
            names, found = name_rows(rule, strength, vectors[kept], labels[kept].tolist(), vectors[held], votes)
            right[number].append(names == labels[held])
            scores[number].append(found)
            given[number].append(names)
    return [
        Tested(np.concatenate(good), np.concatenate(own), np.concatenate(names))
        for good, own, names in zip(right, scores, given, strict=True)
    ]


def class_chances(vectors: Vectors, labels: NDArray[np.object_], groups: NDArray[np.int64], strength: float) -> Array:
    """Return the probability of every class for each row, by ``logreg`` fitted to the rows of other folds.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        labels: Shape (N,): the label of each.
        groups: Shape (N,): the group of each, as of ``group_rows``.
        strength: The L2 penalty.

    Returns:
        Shape (N, C), float64, classes sorted; 0 for a class that is in the row's fold alone.
    """
    names, folds = np.unique(labels), _folds(groups, labels)
    chances = np.zeros((len(vectors), len(names)))
    for fold in np.unique(folds).tolist():
        held, kept = np.flatnonzero(folds == fold), folds != fold
        if kept.any():
            head = Head.fit("logreg", vectors[kept], labels[kept].tolist(), strength)
            chances[np.ix_(held, np.searchsorted(names, list(head.labels)))] = head.scores(vectors[held])
    return chances


def leave_classes_out(
    rule: Rule,
    strength: float | None,
    vectors: Vectors,
    rows: Sequence[GalleryRow],
    votes: int = VOTES,
    asked: Mask | None = None,
) -> Tested:
    """Name rows, or those that are ``asked``, by a rule fitted without their class, so that every name is wrong.

    Up to 16 classes are left out one by one, more of them in 16 groups; at most 600 rows are taken. With fewer than
    three classes there is nothing to tell apart, and no row is named.
    """
    chosen = _sample(len(rows))
    vectors, labels = vectors[chosen], np.asarray([rows[number].label for number in chosen], dtype=object)
    classes, index = np.unique(labels, return_inverse=True)
    names, scores = [np.zeros(0, dtype=object)], [np.zeros(0)]
    for fold in range(min(len(classes), _CLASS_FOLDS) if len(classes) > 2 else 0):
        out = index % _CLASS_FOLDS == fold
        queries = vectors[out & (True if asked is None else asked[chosen])]
        named, found = name_rows(rule, strength, vectors[~out], labels[~out].tolist(), queries, votes)
        names.append(named)
        scores.append(found)
    total = sum(map(len, scores))
    return Tested(np.zeros(total, dtype=np.bool_), np.concatenate(scores), np.concatenate(names))


def _sample(count: int) -> list[int]:
    """Choose at most 600 of some rows, evenly."""
    numbers: list[int] = np.unique(np.linspace(0, count - 1, min(count, _COMPARED)).round().astype(np.int64)).tolist()
    return numbers


def name_rows(
    rule: Rule, strength: float | None, rows: Vectors, labels: list[str], queries: Vectors, votes: int = VOTES
) -> tuple[NDArray[np.object_], Array]:
    """Name queries (Q, D) by a rule that is fitted to rows (N, D): names (Q,) and the score of each."""
    classes = [{}] * len(queries) if rule in ROW_RULES else Head.fit(rule, rows, labels, strength).by_label(queries)
    cosines = queries @ rows.T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :votes].tolist()
    named = [
        decide([Neighbour(i, labels[i], float(own[i])) for i in near], Thresholds(), rule, scores)
        for near, own, scores in zip(nearest, cosines, classes, strict=True)
    ]
    return np.asarray([one.label for one in named], dtype=object), np.asarray([one.score for one in named])


def compare_rules(
    vectors: Vectors,
    rows: Sequence[GalleryRow],
    runs: Sequence[Hashable] | None = None,
    colours: Vectors | None = None,
    enrolled: Mask | None = None,
    asked: Mask | None = None,
) -> dict[str, Any]:
    """Compare the decision rules on a gallery's own rows, and choose the best: JSON values for its note.

    The best rule shows the most right names where nine in ten shown names are right, among rows of known and of
    left-out classes alike. Rules that are less accurate on known rows than the most accurate one, by more than chance
    (McNemar's exact test, p < .05), do not take part; with two classes, none of which can be left out, accuracy alone
    decides.

    A gallery of one class, with more than 10,000 rows, or with fewer than 20 whose class has others, takes ``vote``,
    as does a tie. At most 600 rows are tested.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        rows: Source of each vector.
        runs: A key for each row, equal for the frames of one shot; None for a row of no shot.
        colours: Shape (N, K), float32, unit rows: colour descriptors, whose nearest row is a floor for every rule.
        enrolled: As for ``cross_validate``.
        asked: As for ``cross_validate``.
    """
    comparable = len({row.label for row in rows}) > 1 and len(rows) <= LARGEST
    chosen = _sample(len(rows))
    vectors, rows = vectors[chosen], [rows[number] for number in chosen]
    enrolled, asked = (mask if mask is None else mask[chosen] for mask in (enrolled, asked))
    groups = group_rows(vectors, rows, None if runs is None else [runs[number] for number in chosen])
    rules: list[tuple[Rule, float | None]] = [(VOTE, None), ("centroid", None), ("lda", None)]
    rules += [("logreg", strength) for strength in STRENGTHS]
    tests = cross_validate(rules, vectors, rows, groups, enrolled=enrolled, asked=asked) if comparable else []
    rates = [tested.rate for tested in tests]
    of = rates[0].total if rates else 0
    if of < _FEWEST:
        return {"decision": VOTE, "of": of, "rules": {}}
    best: dict[Rule, tuple[Tested, float | None]] = {}
    for (rule, strength), tested in zip(rules, tests, strict=True):
        if rule not in best or tested.rate.count > best[rule][0].rate.count:
            best[rule] = tested, strength
    table: dict[str, dict[str, Any]] = {
        rule: {"right": tested.rate.count, "interval": list(tested.rate.interval or ())}
        for rule, (tested, _) in best.items()
    }
    top = max((tested for tested, _ in best.values()), key=lambda tested: tested.rate.count)
    for rule, (tested, strength) in best.items():
        lost, won = int((top.right & ~tested.right).sum()), int((tested.right & ~top.right).sum())
        if mcnemar_exact(lost, won) >= _CHANCE:
            unknown = leave_classes_out(rule, strength, vectors, rows, asked=asked)
            table[rule]["shown"] = _shown(tested, unknown) if len(unknown.scores) else 0
    open_set = {rule: (row["shown"], row["right"]) for rule, row in table.items() if "shown" in row}
    winner = max(open_set, key=lambda rule: open_set[rule])  # of equal ones the first
    found = {"decision": winner, "of": of, "strength": best["logreg"][1], "rules": table}
    named = [row.label for number, row in enumerate(rows) if asked is None or asked[number]]
    found["majority"] = min(of, max(map(named.count, set(named))))
    if colours is not None:
        (floor,) = cross_validate([("top1", None)], colours[chosen], rows, groups, enrolled=enrolled, asked=asked)
        found["colour"] = floor.rate.count
    return found


def _shown(known: Tested, unknown: Tested) -> int:
    """Count the right names above the lowest score from which on nine in ten names are right."""
    scores = np.concatenate([known.scores, unknown.scores])
    right = np.concatenate([known.right, unknown.right])[np.argsort(-scores, kind="stable")]
    count = np.cumsum(right)
    return int(count[count >= _PRECISION * np.arange(1, len(count) + 1)].max(initial=0))


def describe_comparison(found: Mapping[str, Any]) -> str:
    """Describe the result of ``compare_rules`` in one line."""
    rules, chosen = found["rules"], found["decision"]
    if not rules:
        if found["of"]:
            return f"decision {chosen}: rules are not compared, which takes {_FEWEST} images; found {found['of']}"
        return f"decision {chosen}: rules are not compared on one class, single images, or over {LARGEST} images"
    order = (chosen, *(name for name in rules if name != chosen))
    counts = [f"{rule} {rules[rule]['right']}" for rule in order]
    counts += [f"by colour alone {found['colour']}"] if "colour" in found else []
    line = f"decision {chosen}: of {found['of']} images named by the others, right are " + ", ".join(counts)
    shown = [f"{rule} {rules[rule]['shown']}" for rule in order if rules[rule].get("shown")]
    return f"{line}; with unknown classes, at 9 in 10 right, shown are " + ", ".join(shown) if shown else line

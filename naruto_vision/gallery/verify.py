"""Integrity checks of a gallery folder."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.gallery.content import GalleryContent, StoredIndex, read_gallery, stored_index
from naruto_vision.gallery.index import Budgets
from naruto_vision.gallery.info import find_image
from naruto_vision.gallery.store import AGAIN, NEGATIVE, STAGING, connected, read_manifest, store_uri
from naruto_vision.io.bundles import has_sha256
from naruto_vision.io.machine import has_package

Verdict: TypeAlias = Literal["ok", "warning", "wrong"]

_BLOCK = 65_536  # vectors that are checked at once
_GROWTH = 0.25  # maximum fraction of changed rows before recall is remeasured


@dataclass(frozen=True)
class Finding:
    """The result of one check and its remedy; a gallery with warnings is usable."""

    check: str
    verdict: Verdict
    text: str


def verify_gallery(
    folder: str | Path, *, fingerprint: str | None = None, images: str | Path | None = None
) -> list[Finding]:
    """Check a gallery; checks of the content are skipped if it cannot be read."""
    findings = [] if store_uri(folder) else [*_files(Path(folder))]
    try:
        content, stored = _read(folder)
    except InputError as error:
        return [*findings, Finding("content", "wrong", str(error))]
    findings.append(_encoder(content, fingerprint))
    own = Finding("index", "ok", "the store's own, which was not checked")
    index = own if store_uri(folder) else _index(content, stored)
    findings += [_ids(content), _vectors(content), index, _thresholds(content), _repeats(content)]
    return findings if images is None else [*findings, _images(content, Path(images))]


def _read(folder: str | Path) -> tuple[GalleryContent, StoredIndex]:
    uri = store_uri(folder)
    if uri is None:
        return read_gallery(folder)
    store = connected(uri)
    return store.content(store.head()), StoredIndex("exact", None)


def _files(root: Path) -> Iterator[Finding]:
    try:
        files = read_manifest(root)["files"]
    except FormatError as error:
        yield Finding("manifest", "wrong", str(error))
        return
    wrong = [name for name, digest in files.items() if not has_sha256(root / name, digest)]
    waiting = [name for name in wrong if has_sha256(root / STAGING / name, files[name])]
    if wrong == waiting and wrong:
        text = f"{len(wrong)} of {len(files)} wait in {STAGING}: an edit was stopped; the next edit moves them"
        yield Finding("hashes", "warning", text)
    elif wrong:
        yield Finding("hashes", "wrong", f"{', '.join(sorted(set(wrong) - set(waiting)))} changed or missing; {AGAIN}")
    else:
        yield Finding("hashes", "ok", f"{len(files)} of {len(files)} files have the hash they were written with")


def _encoder(content: GalleryContent, fingerprint: str | None) -> Finding:
    own = content.fingerprint[:12]
    if fingerprint is None:
        return Finding("encoder", "ok", f"{own}, not compared with an encoder; --encoder NAME does")
    if fingerprint == content.fingerprint:
        return Finding("encoder", "ok", f"{own}, the one given")
    text = f"built by {own}, given {fingerprint[:12]}: use the encoder that built it, or enrol again"
    return Finding("encoder", "wrong", text)


def _ids(content: GalleryContent) -> Finding:
    unique = len(np.unique(content.ids))
    text = f"{unique} of {len(content.ids)} unique, below {content.next_id}; {len(content.removed)} kept for rollbacks"
    return Finding("ids", "ok" if unique == len(content.ids) else "wrong", text)


def _vectors(content: GalleryContent) -> Finding:
    rows, dim = content.vectors.shape
    blocks = (content.vectors[start : start + _BLOCK].astype(np.float64) for start in range(0, rows, _BLOCK))
    furthest = max(float(np.abs(np.linalg.norm(block, axis=1) - 1.0).max()) for block in blocks)
    return Finding("vectors", "ok", f"{rows} of length {dim}, at most {furthest:.1e} from 1")


def _index(content: GalleryContent, stored: StoredIndex) -> Finding:
    if stored.data is None:
        return Finding("index", "ok", "none stored: every row is compared")
    if not has_package("faiss"):
        return Finding("index", "warning", "not checked: FAISS is not installed (pip install 'naruto-vision[cpu]')")
    try:
        stored_index(stored, content)
    except ValueError as error:
        return Finding("index", "wrong", f"{error}; run `naruto-vision gallery reindex GALLERY`")
    return _recall(stored.kind, stored.budgets, len(content.rows))


def _recall(kind: str, budgets: Budgets, rows: int) -> Finding:
    """Report the recall of a valid index, and whether the measurement is current."""
    text = f"{kind}: holds the gallery's {rows} vectors"
    if not budgets:
        return Finding("index", "ok", text)
    recalls = " and ".join(f"{budget.recall:.3f} for {name} queries" for name, budget in budgets.items())
    then = budgets["image"].rows
    text = f"{text}; recall@10 {recalls}, measured at {then} entries"
    if abs(rows - then) <= _GROWTH * then:
        return Finding("index", "ok", text)
    return Finding("index", "warning", f"{text}; measure again with `naruto-vision gallery reindex GALLERY`")


def _thresholds(content: GalleryContent) -> Finding:
    if content.stale_since is not None:
        text = f"entries changed in generation {content.stale_since}, after they were chosen; choose them again with "
        return Finding("thresholds", "warning", text + "`naruto-vision validate` on scenes with ground truth")
    others = sorted(set(content.thresholds.classes) - {row.label for row in content.rows})
    if others:
        return Finding("thresholds", "warning", f"for labels that the gallery lacks: {', '.join(others)}")
    return Finding("thresholds", "ok", content.thresholds.rule)


def _repeats(content: GalleryContent) -> Finding:
    """Count vectors with several labels, whose scores are always equal."""
    seen: dict[bytes, set[str]] = {}
    for vector, row in zip(content.vectors, content.rows, strict=True):
        if row.aug != NEGATIVE:
            seen.setdefault(vector.tobytes(), set()).add(row.label)
    shared = [labels for labels in seen.values() if len(labels) > 1]
    if not shared:
        count = len({row.label for row in content.rows})
        return Finding("labels", "ok", f"{count} labels, no vector under two of them")
    pair, count = Counter(" = ".join(sorted(labels)) for labels in shared).most_common(1)[0]
    text = f"{len(shared)} vectors have several labels, {count} as {pair}; relabel or remove the wrong ones"
    return Finding("labels", "warning", text)


def _images(content: GalleryContent, root: Path) -> Finding:
    if not root.is_dir():
        raise MissingPathError(root, "folder of the gallery's images")
    paths = sorted({row.path for row in content.rows})
    missing = [path for path in paths if find_image(root, path) is None]
    text = f"{len(paths) - len(missing)} of {len(paths)} are there"
    if not missing:
        return Finding("images", "ok", text)
    return Finding("images", "warning", f"{text}; first missing {missing[0]} (searches do not need them)")


def worst(findings: list[Finding]) -> Verdict:
    """Return the worst verdict."""
    order: Callable[[Verdict], int] = ("ok", "warning", "wrong").index
    return max((finding.verdict for finding in findings), key=order)

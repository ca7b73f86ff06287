"""Index folders of the reference system: read where whole, refused where not, and held against their encoder."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.reference_index import ReferenceIndex, check_encoder, read_reference_index
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray, Vectors


class GridEncoder(Encoder):
    """The colours of a coarse grid, as a unit vector; mirroring changes it."""

    dim = 48

    def __init__(self, tint: float = 0.0) -> None:
        super().__init__()
        self.tint = nn.Parameter(torch.tensor(tint))

    def preprocess(self, image: ImageArray) -> Tensor:
        small = cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(small).permute(2, 0, 1).float() / 255 - 0.5

    def encode_images(self, pixels: Tensor) -> Tensor:
        return nn.functional.normalize((pixels * (1 + self.tint * pixels**2)).flatten(1), dim=-1)

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "grid"}


def write_index(folder: Path, vectors: Vectors, records: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    np.save(folder / "embeddings.npy", vectors)
    (folder / "meta.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    counts = {label: sum(r["label"] == label for r in records) for label in sorted({r["label"] for r in records})}
    (folder / "stats.json").write_text(json.dumps({"counts": counts, "total": len(records)}))
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(4, 8))
    vectors = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    records = [{"path": f"a\\{n}.jpg", "label": "a" if n < 3 else "b", "aug": "none"} for n in range(4)]
    records[2]["aug"] = "gamma"
    return write_index(tmp_path / "index", vectors, records)


def test_vectors_rows_and_order_are_kept(index: Path, tmp_path: Path) -> None:
    found = read_reference_index(index, tmp_path)
    assert np.allclose(found.vectors, np.load(index / "embeddings.npy", allow_pickle=False), atol=1e-7)
    assert [row.path for row in found.rows] == ["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/3.jpg"]
    assert [row.aug for row in found.rows] == ["none", "none", "gamma", "none"]


def test_half_and_double_precision_are_read(index: Path, tmp_path: Path) -> None:
    whole = np.load(index / "embeddings.npy", allow_pickle=False)
    for kind in (np.float16, np.float64):
        np.save(index / "embeddings.npy", whole.astype(kind))
        found = read_reference_index(index, tmp_path).vectors
        assert found.dtype == np.float32
        assert np.allclose(found, whole, atol=1e-3)


def test_a_gallery_folder_is_itself_an_index_folder_of_the_reference(tmp_path: Path) -> None:
    rows = [GalleryRow("x.png", "a"), GalleryRow("y.png", "b", "gamma")]
    gallery = Gallery.build(np.eye(2, 5, dtype=np.float32), rows, fingerprint="0" * 64)
    gallery.save(tmp_path / "gallery")
    found = read_reference_index(tmp_path / "gallery", tmp_path)
    assert found.rows == tuple(rows)
    assert np.array_equal(found.vectors, gallery.vectors)


def spoil(name: str, text: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("embeddings.npy", b"\x93NUMPY\x01\x00"), "an array of numbers"),
        (lambda folder: np.save(folder / "embeddings.npy", np.eye(4, dtype=np.int64)), "floats of shape"),
        (lambda folder: np.save(folder / "embeddings.npy", np.eye(3, dtype=np.float32)), "3 rows, as embeddings"),
        (lambda folder: np.save(folder / "embeddings.npy", 2 * np.eye(4, dtype=np.float32)), "length 1, found 2"),
        (lambda folder: np.save(folder / "embeddings.npy", np.array([{}])), "an array of numbers"),
        (spoil("embeddings.npy", b"PK\x03\x04 broken"), "an array of numbers"),
        (spoil("meta.jsonl", '{"path": "a"}\n'), "path, label and aug in each line, found something else in line 1"),
        (spoil("meta.jsonl", '{"path": \n'), "in line 1"),
        (spoil("stats.json", '{"total": 5}'), "total 4"),
        (spoil("stats.json", '{"counts": {"a": 4}}'), "counts"),
        (spoil("stats.json", "[]"), "an object"),
        (spoil("faiss_meta.json", '{"metric": "ip", "kind": "flat", "dim": 9, "size": 4}'), "dim 8"),
        (spoil("faiss_meta.json", '{"metric": "cosine"}'), "metric ip or l2"),
        (spoil("faiss_meta.json", '{"metric": ["ip"]}'), "metric ip or l2"),
    ],
)
def test_folders_that_do_not_agree_are_refused(
    index: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(index)
    with pytest.raises(InputError, match=message):
        read_reference_index(index, tmp_path)


def test_missing_files_are_named(index: Path, tmp_path: Path) -> None:
    (index / "meta.jsonl").unlink()
    with pytest.raises(MissingPathError, match=r"meta\.jsonl"):
        read_reference_index(index, tmp_path)
    (index / "embeddings.npy").unlink()
    with pytest.raises(MissingPathError, match=r"embeddings\.npy"):
        read_reference_index(index, tmp_path)
    with pytest.raises(MissingPathError, match="index folder"):
        read_reference_index(tmp_path / "nowhere", tmp_path)


def made_by(encoder: Encoder, folder: Path, *, mirror: bool) -> tuple[ReferenceIndex, Callable[[str], Path | None]]:
    rng = np.random.default_rng(4)
    images = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(12)]
    for number, image in enumerate(images):
        write_image(folder / f"{number}.png", image)
    (folder / "5.png").write_bytes(b"broken since")
    rows = tuple(GalleryRow(f"{number}.png", "a") for number in range(12))
    vectors = embed_images(encoder, images, mirror=mirror).numpy()
    return ReferenceIndex(vectors, rows), lambda path: folder / path if path != "0.png" else None


@pytest.mark.parametrize("mirror", [True, False])
def test_the_encoder_is_found_out_and_whether_it_mirrored(tmp_path: Path, mirror: bool) -> None:
    index, find = made_by(GridEncoder(), tmp_path, mirror=mirror)
    check = check_encoder(index, GridEncoder(), find)
    assert (check.checked, check.mirror, check.agrees) == (8, mirror, True)
    other = check_encoder(index, GridEncoder(tint=-9.0), find)
    assert not other.agrees
    assert other.lowest is not None


def test_without_images_nothing_is_known(tmp_path: Path) -> None:
    index, _ = made_by(GridEncoder(), tmp_path, mirror=True)
    check = check_encoder(index, GridEncoder(), lambda _path: None)
    assert (check.checked, check.lowest, check.agrees) == (0, None, False)


def test_a_byte_order_mark_is_no_damage(index: Path, tmp_path: Path) -> None:
    text = (index / "meta.jsonl").read_bytes()
    (index / "meta.jsonl").write_bytes(b"\xef\xbb\xbf" + text)
    assert len(read_reference_index(index, tmp_path).rows) == 4
    (index / "meta.jsonl").write_bytes(b"\xff" + text)
    with pytest.raises(FormatError, match="line 1"):
        read_reference_index(index, tmp_path)

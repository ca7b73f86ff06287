"""What an encoder's vectors tell of labels and copies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from naruto_vision.data.label_check import VectorAudit, audit_vectors, embed_items
from naruto_vision.data.leaks import AuditItem, scan_images
from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray, LabelledImage, Vectors

RED, GREEN = (220, 60, 60), (60, 200, 60)


class MeanColour(Encoder):
    """The mean colour of an image around grey, as a unit vector."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.scale = nn.Parameter(torch.ones(1))

    @override
    def preprocess(self, image: ImageArray) -> Tensor:
        self.seen += 1
        return torch.from_numpy(image.mean(axis=(0, 1)) - 128).float()[:, None, None]

    @override
    def encode_images(self, pixels: Tensor) -> Tensor:
        return nn.functional.normalize(pixels.mean(dim=(2, 3)), dim=-1)

    @override
    def describe(self) -> dict[str, str]:
        return {"kind": "mean colour"}


def around(angle: float, seed: int) -> list[float]:
    turned = np.radians(angle + np.random.default_rng(seed).uniform(-8, 8))
    return [float(np.cos(turned)), float(np.sin(turned))]


def items_of(labels: list[str], part: str = "train") -> list[AuditItem]:
    return [AuditItem(part, LabelledImage(f"{n}.png", label), Path(f"{n}.png")) for n, label in enumerate(labels)]


def two_clusters(labels: list[str], **options: object) -> VectorAudit:
    """Audit images of which the first half lies around 0 degrees and the second around 90."""
    half = len(labels) // 2
    angles = [0.0] * half + [90.0] * half
    vectors: Vectors = np.array([around(angle, seed) for seed, angle in enumerate(angles)], dtype=np.float32)
    return audit_vectors(items_of(labels), list(range(len(labels))), vectors, **options)  # type: ignore[arg-type]  # two


def test_a_image_among_those_of_another_class_is_suspected() -> None:
    labels = ["ayame"] * 8 + ["kenta"] * 8
    assert two_clusters(labels).suspects == []
    labels[3] = "kenta"
    (suspect,) = two_clusters(labels).suspects
    assert (suspect.index, suspect.rival, suspect.lead) == (3, "ayame", 0.75)
    assert suspect.votes == {"ayame": 7, "kenta": 1}  # the seven others of its cluster, and one beyond


def test_the_likeliest_mistake_comes_first_and_every_image_once() -> None:
    labels = ["ayame"] * 8 + ["kenta"] * 8
    labels[2] = labels[5] = "kenta"
    found = two_clusters(labels, neighbours=5)
    assert {one.index for one in found.suspects} == {2, 5}
    leads = [one.lead for one in found.checked]
    assert leads == sorted(leads, reverse=True)
    assert sorted(one.index for one in found.checked) == list(range(16))


def test_nobody_votes_for_themselves() -> None:
    found = two_clusters(["ayame"] * 4 + ["kenta"] * 4)
    for one in found.checked:
        assert one.index not in {near.index for near in one.nearest}
        assert len(one.nearest) == found.neighbours == sum(one.votes.values())


@pytest.mark.parametrize(
    ("count", "classes", "asked", "voting"), [(16, 2, 10, 8), (16, 2, 3, 3), (6, 6, 10, 1), (2, 1, 10, 1)]
)
def test_no_more_vote_than_a_class_has_images(count: int, classes: int, asked: int, voting: int) -> None:
    labels = [f"class {n % classes}" for n in range(count)]
    vectors = np.array([around(10.0 * n, n) for n in range(count)], dtype=np.float32)
    assert audit_vectors(items_of(labels), list(range(count)), vectors, neighbours=asked).neighbours == voting


def test_where_all_are_of_one_class_there_is_no_rival() -> None:
    found = two_clusters(["ayame"] * 6)
    assert {(one.rival, one.lead) for one in found.checked} == {("", -1.0)}


def test_near_copies_count_across_parts_only_and_each_pair_once() -> None:
    items = [*items_of(["ayame", "ayame"]), *items_of(["ayame", "ayame"], "test")]
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    found = audit_vectors(items, [0, 1, 2, 3], vectors)
    assert sorted((first, other.index) for first, other in found.near) == [(0, 2), (1, 2)]
    assert audit_vectors(items, [0, 1, 2, 3], vectors, near_cosine=-1.0).near[-1][1].cosine == pytest.approx(0.0)


def test_json_and_table_tell_the_same() -> None:
    labels = ["ayame"] * 8 + ["kenta"] * 8
    labels[3] = "kenta"
    found = two_clusters(labels, neighbours=5)
    (suspect,) = found.as_json()["suspects"]
    assert (suspect["path"], suspect["label"], suspect["rival"]) == ("3.png", "kenta", "ayame")
    titles, first, *rest = found.rows()
    assert len(rest) == 15
    told = dict(zip(titles, first, strict=True))
    assert (told["path"], told["suspect"], told["votes"]) == ("3.png", "1", "ayame 5")
    assert {row[titles.index("suspect")] for row in rest} == {"0"}


def drawn(folder: Path, name: str, colour: tuple[int, int, int]) -> Path:
    write_image(folder / name, np.full((8, 8, 3), colour, dtype=np.uint8))
    return folder / name


def test_every_file_is_embedded_once_and_broken_ones_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"x")
    red, green = drawn(tmp_path, "red.png", RED), drawn(tmp_path, "green.png", GREEN)
    files = [("train", red), ("train", tmp_path / "broken.png"), ("test", green), ("gallery", red), ("test", None)]
    items = [AuditItem(part, LabelledImage("p", "ayame"), file) for part, file in files]
    encoder = MeanColour()
    steps: list[int] = []
    places, vectors = embed_items(items, scan_images(items), encoder, lambda: steps.append(1))
    assert places == [0, 2]
    assert (encoder.seen, len(steps)) == (2, 2)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0, 1.0])


def test_one_image_has_no_neighbours(tmp_path: Path) -> None:
    items = [AuditItem("train", LabelledImage("p", "ayame"), drawn(tmp_path, "red.png", RED))]
    with pytest.raises(InputError, match="two or more that can be read, found 1"):
        embed_items(items, scan_images(items), MeanColour())
    with pytest.raises(InputError, match="found 0"):
        embed_items([], scan_images([]), MeanColour())

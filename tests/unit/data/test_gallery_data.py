"""The gallery's images and their variants."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from naruto_vision.data.gallery_data import GalleryBatch, GalleryDataModule
from naruto_vision.errors import InputError
from naruto_vision.gallery.enrolment import GAMMA_RANGE, EnrolmentConfig, GammaMode, apply_gamma, draw_gamma
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray

in_process = partial(GalleryDataModule, num_workers=0)


def pixels_of(image: ImageArray) -> Tensor:
    return torch.from_numpy(image[:4, :4].copy()).permute(2, 0, 1).float()


def gallery(root: Path) -> Path:
    for number, name in enumerate(["b/0.png", "b/1.png", "a/0.png", "a/1.png", "a/2.png"]):
        path = root / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((40, 30, 3), number, dtype=np.uint8))
    write_image(root / "train" / "a" / "3.png", np.full((40, 30, 3), 4, dtype=np.uint8))
    return root


def test_every_image_once_in_order(tmp_path: Path) -> None:
    data = GalleryDataModule(str(gallery(tmp_path)), enrol_batch_size=4)
    data.setup("fit")
    batches = list(data.gallery_loader(pixels_of))
    assert [type(batch) for batch in batches] == [GalleryBatch] * 2
    assert [label for batch in batches for label in batch.labels] == ["a"] * 4 + ["b"] * 2
    assert [path for batch in batches for path in batch.paths][:2] == ["a/0.png", "a/1.png"]
    assert torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0].tolist() == [2, 3, 4, 4, 0, 1]
    assert data.quarantine is not None
    assert data.quarantine.counts() == {"seen": 6, "ok": 6, "quarantined": 0}


def test_bad_images_are_set_aside_up_to_a_share(tmp_path: Path) -> None:
    gallery(tmp_path)
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="1 of 6 gallery images"):
        list(in_process(str(tmp_path)).gallery_loader(pixels_of))
    data = in_process(str(tmp_path), max_bad_fraction=0.2)
    data.setup("fit")
    (batch,) = data.gallery_loader(pixels_of)
    assert batch.pixels[:, 0, 0, 0].tolist() == [2, 4, 4, 0, 1]
    assert data.quarantine is not None
    assert data.quarantine.quarantined == 1
    for name in ("0", "1"):
        (tmp_path / "train" / "b" / f"{name}.png").write_bytes(b"")
    with pytest.raises(InputError, match="class 'b': none of 2 gallery images can be read"):
        list(in_process(str(tmp_path), max_bad_fraction=0.9).gallery_loader(pixels_of))


def test_fit_needs_a_root_and_the_other_verbs_do_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data\.root DIR"):
        GalleryDataModule().setup("fit")
    write_image(tmp_path / "scene.png", np.zeros((8, 8, 3), dtype=np.uint8))
    data = GalleryDataModule(predict=str(tmp_path), num_workers=0)
    data.setup("predict")
    assert [batch[0].scene for batch in data.predict_dataloader()] == ["scene.png"]
    assert data.val_dataloader() == []


def test_tensors_move_and_scenes_stay(tmp_path: Path) -> None:
    data = GalleryDataModule(str(gallery(tmp_path)))
    data.setup("fit")
    (batch,) = data.gallery_loader(pixels_of)
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.pixels.device.type == "meta"
    assert moved.labels == batch.labels
    scenes: list[object] = []
    assert data.transfer_batch_to_device(scenes, torch.device("meta"), 0) is scenes


COUNTS = {"ann": 5, "bob": 2}


def _pixels(image: ImageArray) -> Tensor:
    return torch.from_numpy(image[:2, :2].copy()).permute(2, 0, 1).float()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, count in COUNTS.items():
        for k in range(count):
            image = np.full((6, 6, 3), 100 + 10 * k + len(name), dtype=np.uint8)
            write_image(tmp_path / "train" / name / f"{k}.png", image)
            write_image(tmp_path / "test" / name / f"t{k}.png", image)
    return tmp_path


def _enrolled(data: GalleryDataModule) -> list[tuple[str, str, str]]:
    batches: list[GalleryBatch] = list(data.gallery_loader(_pixels))
    return [row for one in batches for row in zip(one.labels, one.paths, one.augs, strict=True)]


@pytest.mark.parametrize(("gamma", "augs"), [("none", ["none"]), ("add", ["none", "gamma"]), ("replace", ["gamma"])])
def test_every_image_has_the_variants_that_were_asked_for(root: Path, gamma: GammaMode, augs: list[str]) -> None:
    rows = _enrolled(in_process(str(root), plan=EnrolmentConfig(gamma=gamma), enrol_batch_size=3))
    paths = [f"{name}/{k}.png" for name, count in COUNTS.items() for k in range(count)]
    assert rows == [(path.split("/")[0], path, aug) for path in paths for aug in augs]


def test_a_variant_has_the_brightness_that_its_path_and_seed_decide(root: Path) -> None:
    plan = EnrolmentConfig(gamma="add", seed=9)
    [batch] = in_process(str(root), plan=plan).gallery_loader(_pixels)
    plain, changed = batch.pixels[0::2], batch.pixels[1::2]
    for k, path in enumerate(batch.paths[0::2]):
        image = plain[k].permute(1, 2, 0).to(torch.uint8).numpy()
        expected = apply_gamma(image, draw_gamma(path, 9))
        assert torch.equal(changed[k], _pixels(expected))
    assert not torch.equal(plain, changed)


def test_gammas_differ_by_path_and_seed_and_stay_in_their_range() -> None:
    drawn = [draw_gamma(f"{k}.png", seed) for k in range(200) for seed in (0, 1)]
    assert len(set(drawn)) > 350
    assert GAMMA_RANGE[0] <= min(drawn)
    assert max(drawn) <= GAMMA_RANGE[1]
    assert abs(np.mean(drawn) - 1.0) < 0.01
    assert draw_gamma("é.png", 3) == draw_gamma("é.png", 3)
    assert draw_gamma("\udcff.png", 3) > 0  # a name that is not UTF-8


def test_only_the_cap_of_each_class_is_embedded_and_the_rest_is_counted(root: Path) -> None:
    data = in_process(str(root), plan=EnrolmentConfig(max_per_class=1, presample=3))
    rows = _enrolled(data)
    assert [label for label, _, _ in rows] == ["ann"] * 3 + ["bob"] * 2
    assert data.counts() == {"listed": 7, "not_sampled": 2, "quarantined": 0}


def test_counts_hold_what_could_not_be_read_too(root: Path) -> None:
    (root / "train" / "bob" / "0.png").write_bytes(b"broken")
    data = in_process(str(root), plan=EnrolmentConfig(max_per_class=1, presample=4), max_bad_fraction=0.5)
    data.setup("fit")
    assert len(_enrolled(data)) == 5
    assert data.counts() == {"listed": 7, "not_sampled": 1, "quarantined": 1}


def test_another_split_can_be_enrolled(root: Path) -> None:
    rows = _enrolled(in_process(str(root), split="test"))
    assert all(path.split("/")[1].startswith("t") for _, path, _ in rows)


@pytest.mark.parametrize("world", [2, 9])
def test_every_process_enrols_its_own_share_and_none_is_left_without_a_batch(root: Path, world: int) -> None:
    everything: list[tuple[str, str, str]] = []
    for rank in range(world):
        data = in_process(str(root))
        vars(data)["trainer"] = SimpleNamespace(global_rank=rank, world_size=world)
        batches = list(data.gallery_loader(_pixels))
        assert len(batches) == 1
        everything += [row for one in batches for row in zip(one.labels, one.paths, one.augs, strict=True)]
        if rank >= 7:
            assert batches[0].pixels.shape == (0, 3, 1, 1)
    assert sorted(everything) == sorted(_enrolled(in_process(str(root))))


def test_nothing_has_been_read_before_setup(root: Path) -> None:
    data = in_process(str(root))
    with pytest.raises(InputError, match=r"nothing has been read; call setup\('fit'\) first"):
        _ = data.images_root
    data.setup("fit")
    assert data.images_root == root / "train"
    table = data.table
    data.setup("fit")
    assert data.table is table  # read once


def test_names_are_mended_before_they_are_enrolled(root: Path) -> None:
    rows = _enrolled(in_process(str(root), aliases={"bob": "Robert"}))
    assert {label for label, _, _ in rows} == {"ann", "Robert"}


def test_nothing_to_enrol_names_root_and_split(root: Path) -> None:
    data = in_process(str(root))
    data.setup("fit")
    assert data.table is not None
    data.table = data.table.with_rows([])
    with pytest.raises(InputError, match=rf"{root}: no images to enrol in split 'train'"):
        data.gallery_loader(_pixels)


def test_the_loader_of_training_wants_an_encoder(root: Path) -> None:
    with pytest.raises(InputError, match="expected a module with an `encoder`"):
        in_process(str(root)).train_dataloader()

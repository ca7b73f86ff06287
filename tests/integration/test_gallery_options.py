"""Enrolling with options, through the command line: manifests in, a gallery folder in the reference's layout out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from naruto_vision.cli.main import main
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.encoders.opening import open_encoder, open_recipe
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.gallery.enrolment import Enrolment, EnrolmentConfig, GammaMode, apply_gamma, draw_gamma
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import read_image, write_image

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise with one repeated and one broken image, their manifests, and a small bundle."""
    root = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("valid", 1)):
        for label in ("ayame", "kenta"):
            for number in range(count):
                image = rng.integers(0, 256, (20, 16, 3), dtype=np.uint8)
                write_image(root / "data" / split / label / f"{number}.png", image)
    train = root / "data" / "train" / "ayame"
    (train / "3.png").write_bytes((train / "1.png").read_bytes())
    (train / "5.png").write_bytes(b"no image")
    assert main(["data", "prepare", "--root", str(root / "data"), "--out", str(root / "manifests")]) == 0
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save(root / "bundle")
    return root


def enrol(world: Path, name: str, *options: str) -> Gallery:
    """Build a gallery, or open the one that an earlier test has built with the same options."""
    words = ["fit", "--config", "gallery-reference.yaml", "--data.root", str(world / "manifests")]
    words += ["--data.num_workers=0", "--data.max_bad_fraction=0.3", "--model.encoder.init_args.pretrained="]
    words += ["--model.encoder.init_args.model", str(world / "bundle"), "--model.gallery", str(world / name)]
    if not (world / name).exists():
        assert main([*words, *QUIET, *options]) == 0
    return Gallery.open(world / name)


def stats(world: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world / name / "stats.json").read_text())
    return found


def test_a_gallery_is_built_from_a_manifest(world: Path) -> None:
    gallery = enrol(world, "index")
    assert [row.label for row in gallery.rows] == ["ayame"] * 4 + ["kenta"] * 6
    assert all(row.path.endswith(".png") for row in gallery.rows)
    assert gallery.fingerprint == ClipEncoder(str(world / "bundle")).fingerprint


def test_the_preset_has_the_reference_defaults() -> None:
    config = yaml.safe_load(config_path("gallery-reference.yaml").read_text(encoding="utf-8"))
    encoder, data = config["model"]["init_args"]["encoder"], config["data"]["init_args"]
    assert encoder["init_args"] == {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}
    assert config["model"]["init_args"]["mirror"] is True
    assert data["enrol_batch_size"] == 64
    expected = {"max_per_class": 120, "presample": 3, "dedup_threshold": 0.998}
    assert data["plan"] == {**expected, "gamma": "none", "seed": 42}


def test_backends_open_by_the_names_of_the_reference(world: Path) -> None:
    clip = open_encoder(str(world / "bundle"))
    assert isinstance(clip, ClipEncoder)
    assert open_recipe(clip.recipe).fingerprint == clip.fingerprint
    dino = open_encoder("dinov2_vits14", "random")
    assert isinstance(dino, DinoEncoder)
    assert dino.model == "vit_small_patch14_dinov2.lvd142m"
    assert dino.recipe == {}  # random weights cannot be opened again
    with pytest.raises(InputError, match="expected the recipe"):
        open_recipe({"kind": "clip", "model": 3})


def test_the_cap_and_the_seed_are_options(world: Path) -> None:
    one = enrol(world, "capped", "--data.plan.max_per_class=2", "--data.plan.presample=1", "--data.plan.seed=1")
    other = enrol(world, "other", "--data.plan.max_per_class=2", "--data.plan.presample=1", "--data.plan.seed=4")
    assert stats(world, "other")["counts"]["kenta"] == stats(world, "capped")["counts"]["kenta"] == 2
    assert {row.path for row in one.rows} != {row.path for row in other.rows}
    enrolment = stats(world, "capped")["enrolment"]
    assert enrolment["not_sampled"] == 12 - 4
    assert enrolment["listed"] == enrolment["not_sampled"] + enrolment["quarantined"] + enrolment["images"]


def test_gamma_variants_are_added(world: Path) -> None:
    plain = enrol(world, "index")
    added = enrol(world, "added", "--data.plan.gamma=add")
    assert len(added) == 2 * len(plain)
    assert stats(world, "added")["aug"] == {"gamma": 10, "none": 10}
    assert np.allclose(added.vectors[::2], plain.vectors, atol=1e-6)
    row = added.rows[1]
    image = read_image(next(world.rglob(row.path)))
    changed = apply_gamma(image, draw_gamma(row.path, 42))
    expected = embed_images(ClipEncoder(str(world / "bundle")).eval(), [changed], mirror=True).numpy()
    assert np.allclose(added.vectors[1], expected, atol=1e-5)


def test_replace_reproduces_the_reference(world: Path) -> None:
    added = enrol(world, "added", "--data.plan.gamma=add")
    replaced = enrol(world, "replaced", "--data.plan.gamma=replace")
    assert {row.aug for row in replaced.rows} == {"gamma"}
    assert np.allclose(replaced.vectors, added.vectors[1::2], atol=1e-6)


def test_the_mirrored_view_is_averaged_and_can_be_left_out(world: Path) -> None:
    encoder = ClipEncoder(str(world / "bundle")).eval()
    averaged, plain = enrol(world, "index"), enrol(world, "unmirrored", "--model.mirror=false")
    pixels = encoder.preprocess(read_image(next(world.rglob(plain.rows[0].path))))
    with torch.inference_mode():
        one, other = encoder.encode_images(torch.stack([pixels, pixels.flip(-1)])).numpy()
    assert np.allclose(plain.vectors[0], one, atol=1e-5)
    mean = (one + other) / np.linalg.norm(one + other)
    assert np.allclose(averaged.vectors[0], mean, atol=1e-5)
    assert not np.allclose(averaged.vectors[0], plain.vectors[0], atol=1e-3)
    assert (averaged.note["mirror"], plain.note["mirror"]) == (True, False)


def test_vectors_are_units_and_corrupt_images_are_skipped_and_counted(world: Path) -> None:
    gallery = enrol(world, "index")
    assert np.allclose(np.linalg.norm(gallery.vectors, axis=1), 1.0, atol=1e-6)
    assert not any(row.path.endswith("ayame/5.png") for row in gallery.rows)
    assert stats(world, "index")["enrolment"]["quarantined"] == 1


def test_near_duplicates_are_counted(world: Path) -> None:
    gallery = enrol(world, "index")
    assert not any(row.path.endswith("ayame/3.png") for row in gallery.rows)  # the same pixels as 1.png
    assert stats(world, "index")["enrolment"]["near_duplicates"] == 1
    assert len(enrol(world, "doubles", "--data.plan.dedup_threshold=0")) == len(gallery) + 1


def test_embeddings_are_float_unit_rows(world: Path) -> None:
    gallery = enrol(world, "index")
    stored = np.load(world / "index" / "embeddings.npy", allow_pickle=False)
    assert stored.dtype == np.float32
    assert stored.shape == (10, 16)
    assert np.array_equal(stored, gallery.vectors)


def test_meta_names_path_label_and_aug(world: Path) -> None:
    enrol(world, "added", "--data.plan.gamma=add")
    lines = [json.loads(line) for line in (world / "added" / "meta.jsonl").read_text().splitlines()]
    assert all({"path", "label", "aug"} <= line.keys() for line in lines)
    assert {line["aug"] for line in lines} == {"none", "gamma"}
    assert len(lines) == len(np.load(world / "added" / "embeddings.npy", allow_pickle=False))


def test_stats_have_counts_and_total(world: Path) -> None:
    enrol(world, "index")
    found = stats(world, "index")
    assert (found["counts"], found["total"]) == ({"ayame": 4, "kenta": 6}, 10)


def test_the_same_images_give_the_same_bytes(world: Path) -> None:
    enrol(world, "added", "--data.plan.gamma=add")
    enrol(world, "again", "--data.plan.gamma=add")
    for name in ("embeddings.npy", "meta.jsonl", "stats.json", "manifest.json"):
        assert (world / "added" / name).read_bytes() == (world / "again" / name).read_bytes()


def whole_from_shares(data: GalleryDataModule, encoder: ClipEncoder, world_size: int) -> Gallery:
    """Embed share by share, as so many processes do, and build from all of them."""
    loader = data.gallery_loader(encoder.preprocess)
    whole = Enrolment()
    for rank in range(world_size):
        for place in type(loader.sampler)(len(loader.dataset), rank, world_size):
            batch = loader.collate_fn([loader.dataset[place]])[0]
            if batch is None or not batch.labels:  # the image that cannot be read
                continue
            with torch.inference_mode():
                whole.add(encoder.encode_images(batch.pixels), batch.labels, batch.paths, batch.augs)
    return whole.build(encoder.fingerprint, "exact", data.plan)


@pytest.mark.parametrize("gamma", ["add", "replace"])
def test_any_number_of_processes_gives_the_same_gallery(world: Path, gamma: GammaMode) -> None:
    plan = EnrolmentConfig(max_per_class=2, presample=2, dedup_threshold=0.998, gamma=gamma)
    data = GalleryDataModule(str(world / "manifests"), max_bad_fraction=0.5, plan=plan)
    data.setup("fit")
    encoder = ClipEncoder(str(world / "bundle")).eval()
    digests = {whole_from_shares(data, encoder, world_size).digest for world_size in (1, 2, 3, 5)}
    assert len(digests) == 1


def test_batches_do_not_show(world: Path) -> None:
    one = enrol(world, "batches of one", "--data.enrol_batch_size=1")
    other = enrol(world, "index")
    assert one.rows == other.rows
    assert np.allclose(one.vectors, other.vectors, atol=1e-6)


def test_flawed_and_mislabelled_images_are_left_out_counted_and_named(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(3)
    for label, colour in (("ayame", (200, 60, 60)), ("kenta", (60, 60, 200))):
        for number in range(9):
            mine = colour if number < 8 else (200, 60, 60)  # the last of kenta shows ayame
            image = np.clip(np.array(mine) + rng.integers(-50, 50, (32, 32, 3)), 0, 255).astype(np.uint8)
            write_image(world / "dirty" / "train" / label / f"{number}.png", image)
    grey = np.repeat(rng.integers(0, 256, (32, 32, 1), dtype=np.uint8), 3, axis=2)
    write_image(world / "dirty" / "train" / "ayame" / "9.png", grey)
    words = ["fit", "--config", "gallery.yaml", "--data.root", str(world / "dirty"), "--data.num_workers=0", *QUIET]
    words += ["--model.encoder=ClipEncoder", "--model.encoder.init_args.model", str(world / "bundle")]
    words += ["--model.gallery", str(world / "clean")]
    assert main([*words, "--data.plan.suspects=true", "--data.plan.gates=true"]) == 0
    capsys.readouterr()
    assert main(["gallery", "list", str(world / "clean"), "--rows", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    reasons = {(one["label"], Path(one["path"]).name): one["reason"] for one in found["left_out"]}
    assert reasons == {("ayame", "9.png"): "grey", ("kenta", "8.png"): "suspect label"}
    assert found["labels"] == {"ayame": 9, "kenta": 8}
    counts = stats(world, "clean")["enrolment"]
    assert (counts["images"], counts["grey"], counts["suspect label"], counts["kept"]) == (19, 1, 1, 17)
    assert main(["gallery", "list", str(world / "clean")]) == 0
    assert "left out at enrolment: 1 grey, 1 suspect label" in capsys.readouterr().out
    assert main(words) == 0  # the next generation
    again = Gallery.open(world / "clean")
    assert (len(again), again.generation > 1, "left_out" in again.note) == (19, True, False)

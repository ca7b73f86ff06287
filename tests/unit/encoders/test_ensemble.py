from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.encoders.backbone import TimmEncoder
from naruto_vision.encoders.base import Encoder, embed_images, encode_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.ensemble import TUNED, ClipEnsemble, EnsembleEncoder
from naruto_vision.encoders.int8 import Int8Encoder
from naruto_vision.encoders.opening import open_recipe
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.io.machine import cpu_features

IMAGES = [np.random.default_rng(seed).integers(0, 256, (40 + seed, 60, 3), dtype=np.uint8) for seed in range(3)]


def _members() -> list[Encoder]:
    torch.manual_seed(0)
    odd = TimmEncoder("test_convnext.r160_in1k", "random", image_size=33)  # 96 of tiny-clip is even
    return [ClipEncoder("tiny-clip").eval(), odd.eval()]


def test_a_cosine_is_the_weighted_mean_of_the_members() -> None:
    members = _members()
    found = embed_images(EnsembleEncoder(members, [1, 3]).eval(), IMAGES)
    own = [embed_images(member, IMAGES) for member in members]
    assert torch.allclose(found @ found.T, 0.25 * own[0] @ own[0].T + 0.75 * own[1] @ own[1].T, atol=1e-5)
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)


@torch.inference_mode()
def test_mirroring_flips_the_pixels_of_every_member() -> None:
    encoder = EnsembleEncoder(_members()).eval()
    pixels = torch.stack([encoder.preprocess(image) for image in IMAGES])
    flipped = encoder.mirrored(pixels)
    own = [torch.stack([member.preprocess(image) for image in IMAGES]).flip(-1) for member in encoder.members]
    assert torch.equal(flipped, torch.cat([part.flatten(1) for part in own], dim=1))
    both = encode_images(encoder, pixels, mirror=True)
    assert torch.allclose(both, encode_images(encoder, flipped, mirror=True), atol=1e-5)
    assert not torch.allclose(both, encode_images(encoder, pixels), atol=1e-3)


def test_batched_preprocessing_is_that_of_single_images() -> None:
    encoder = EnsembleEncoder(_members())
    preparation = encoder.preparation
    assert preparation is not None
    whole = [torch.from_numpy(image).permute(2, 0, 1) for image in IMAGES]
    pixels = torch.stack([encoder.preprocess(image) for image in IMAGES])
    assert (preparation.normalise(preparation.levels(whole)) - pixels).abs().mean() < 2 / 255


def test_texts_rank_images_as_the_member_that_reads_them() -> None:
    clip, other = _members()
    encoder = EnsembleEncoder([other, clip], [0.5, 0.5]).eval()
    with torch.inference_mode():
        texts = encoder.encode_texts(["pink hair", "an orange cap"])
        scores = texts @ embed_images(encoder, IMAGES).T
        own = clip.encode_texts(["pink hair", "an orange cap"]) @ embed_images(clip, IMAGES).T
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-6)
    assert torch.allclose(scores, own * 0.5**0.5, atol=1e-5)
    assert not EnsembleEncoder([other]).has_text
    with pytest.raises(InputError, match="no text tower"):
        EnsembleEncoder([other]).encode_texts(["x"])


def test_a_recipe_opens_the_same_encoder() -> None:
    packaged = ClipEnsemble("tiny-clip", share=0.25)
    plain = EnsembleEncoder([ClipEncoder("tiny-clip"), TimmEncoder()], [1, 3])
    assert packaged.fingerprint == plain.fingerprint
    for encoder in (packaged, plain):
        assert open_recipe(encoder.recipe).fingerprint == encoder.fingerprint
    assert ClipEnsemble("tiny-clip").fingerprint != packaged.fingerprint
    assert EnsembleEncoder(_members()).recipe == {}  # random weights cannot be opened again


def test_the_tuned_clip_takes_the_place_of_the_packaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ClipEnsemble().recipe["model"] == "tiny-clip"
    sizes = TinySizes(embed_dim=16, image_size=24, vision_width=32, vision_layers=1, text_width=32, text_layers=1)
    ClipEncoder("tiny-clip", "random", sizes=sizes).save(TUNED)
    assert ClipEnsemble().recipe["model"] == TUNED
    assert ClipEnsemble().dim == 16 + 1280


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_cannot_be_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="a weight above 0 for each of 2 members"):
        EnsembleEncoder(_members(), weights)


def test_no_members_and_members_without_a_square_input_are_refused() -> None:
    with pytest.raises(InputError, match="0 members"):
        EnsembleEncoder([])
    inner: Any = EnsembleEncoder(_members())
    with pytest.raises(InputError, match="found EnsembleEncoder"):
        EnsembleEncoder([inner])


@pytest.mark.skipif(not cpu_features()["VNNI"], reason="needs a CPU with VNNI")
def test_int8_changes_the_vectors_little() -> None:
    encoder = ClipEnsemble("tiny-clip").eval()
    cosines = (embed_images(Int8Encoder(encoder), IMAGES) * embed_images(encoder, IMAGES)).sum(dim=1)
    assert (cosines > 0.99).all()
    assert (cosines < 1.0 - 1e-7).any()

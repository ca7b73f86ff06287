"""Vectors of regions from one pass over the scene, in place of a pass for each crop."""

import math

import numpy as np
import pytest
import torch
from packaged_models import tiny_sam

import naruto_vision as nv
from naruto_vision.encoders.dense import dense_vectors
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.decision import ScoredRegion, check_decision, thresholds_from
from naruto_vision.segmentation.crops import DenseEmbedder, embed_regions

SMALL = TinySizes(image_size=24, patch_size=12, vision_width=32, vision_layers=2, text_width=32, text_layers=1)
CROPS = [nv.CropConfig(), nv.CropConfig(background=128)]


def encoders() -> tuple[nv.ClipEncoder, nv.TimmEncoder]:
    torch.manual_seed(0)
    clip = nv.ClipEncoder("tiny-clip", "random", sizes=SMALL).eval()
    return clip, nv.TimmEncoder("test_efficientnet.r160_in1k", "random", image_size=64).eval()


def scenes() -> list[tuple[np.ndarray, list[nv.Region]]]:
    generator = np.random.default_rng(0)
    boxes = [[(0, 0, 30, 30), (20, 10, 59, 39)], [], [(5, 5, 20, 35)]]
    return [
        (
            generator.integers(0, 256, (48, 64, 3), dtype=np.uint8),
            [nv.Region(box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), np.bool_)) for box in own],
        )
        for own in boxes
    ]


def test_members_that_pool_by_the_mean_take_one_pass_and_the_others_crops() -> None:
    clip, convolutions = encoders()
    ensemble = nv.EnsembleEncoder([clip, convolutions], weights=[0.3, 0.7])
    found = DenseEmbedder(ensemble)(scenes(), CROPS, mirror=True)
    assert [one.shape for one in found] == [(1, len(regions), ensemble.dim) for _, regions in scenes()]
    for one, (image, regions) in zip(found, scenes(), strict=True):
        if not regions:
            continue
        views = embed_regions(clip, [(image, regions)], CROPS, mirror=True)[0].mean(dim=0)
        own = torch.nn.functional.normalize(views, dim=-1), dense_vectors(convolutions, image, regions, mirror=True)
        expected = torch.cat([math.sqrt(0.3) * own[0], math.sqrt(0.7) * own[1]], dim=1)
        assert torch.allclose(one[0], expected, atol=1e-5)
        assert torch.allclose(one[0].norm(dim=-1), torch.ones(len(regions)), atol=1e-5)


def test_an_encoder_of_a_class_token_is_refused() -> None:
    clip, _ = encoders()
    with pytest.raises(InputError, match=r"model\.embedding dense: .* found ClipEncoder; use crops"):
        DenseEmbedder(clip)


def test_an_analyzer_takes_either_and_says_which() -> None:
    _, encoder = encoders()
    (image, regions), *_ = scenes()
    vectors = nv.embed_images(encoder, [image[:31, :31], image[10:40, 20:60]]).numpy()
    rows = [nv.GalleryRow("a.png", "a"), nv.GalleryRow("b.png", "b")]
    gallery = nv.Gallery.build(vectors, rows, fingerprint=encoder.fingerprint)
    segmenter = nv.Segmenter(nv.GridPrompter(2), tiny_sam())
    crops, dense = (nv.SceneAnalyzer(segmenter, encoder, gallery, embedding=how) for how in ("crops", "dense"))
    assert len(dense.identify(image, regions)) == len(crops.identify(image, regions)) == 2
    assert dense.identify(image, regions)[0].score != crops.identify(image, regions)[0].score
    assert (dense.facts()["embedding"], "embedding" in crops.facts()) == ("dense", False)


def test_thresholds_of_scenes_are_valid_for_one_embedding() -> None:
    scored = [ScoredRegion("a", 0.9, right=True), ScoredRegion("a", 0.1, right=False)]
    dense, crops = (thresholds_from(scored, "vote", embedding=how) for how in ("dense", "crops"))
    check_decision(dense, "vote", "dense")
    check_decision(crops, "vote")
    check_decision(Thresholds(0.5, source="gallery"), "vote", "dense")
    assert (dense.as_json()["embedding"], "embedding" in crops.as_json()) == ("dense", False)
    with pytest.raises(InputError, match=r"model\.embedding crops: .* chosen for dense; .*--model\.embedding crops"):
        check_decision(dense, "vote")
    with pytest.raises(InputError, match=r"model\.embedding dense: .* chosen for crops"):
        check_decision(crops, "vote", "dense")

"""Official sizes and layouts with random weights: they load by their true key names and predict one scene."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from segment_anything import sam_model_registry

from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import StateDictError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.bundles import config_path
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sam_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b_01ec64.pth"
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "open_clip_pytorch_model.bin"
    torch.save(open_clip.create_model("ViT-B-32", pretrained=None).state_dict(), path)
    return path


def test_vit_b_and_b_32_predict_one_scene_of_640_pixels(sam_file: Path, clip_file: Path) -> None:
    cast = read_cast(config_path("cast.yaml"))
    encoder = ClipEncoder("ViT-B-32", str(clip_file))
    views = [draw_scene(seed, cast, size=96).image for seed in range(3)]
    vectors = embed_images(encoder, views, mirror=True).numpy()
    rows = [GalleryRow(path=f"{i}.png", label=name) for i, name in enumerate(cast.names[:3])]
    gallery = Gallery.build(vectors, rows, fingerprint=encoder.fingerprint)
    # random weights answer with noise: bars that let everything through
    model = SamModel("vit_b", weights=sam_file)
    segmenter = Segmenter(GridPrompter(2), model, predicted_iou=-1e9, stability=0.0, box_nms=0.99)
    prediction = SceneAnalyzer(segmenter, encoder, gallery)(draw_scene(9, cast, size=640).image, "scene.png")
    assert (prediction.width, prediction.height) == (640, 640)
    assert len(prediction.regions) >= 1
    assert all(identity.label in cast.names for identity in prediction.identities)
    assert np.isfinite([identity.score for identity in prediction.identities]).all()


@pytest.mark.parametrize("kind", ["sam", "clip"])
def test_a_missing_and_an_extra_key_are_refused_by_name(kind: str, sam_file: Path, clip_file: Path) -> None:
    source = sam_file if kind == "sam" else clip_file
    state = torch.load(source, weights_only=True)
    gone = sorted(state)[len(state) // 2]
    for change, name in (({gone: None}, gone), ({"somebody.elses.weight": torch.zeros(2)}, "somebody.elses.weight")):
        changed = {key: value for key, value in {**state, **change}.items() if value is not None}
        file = source.with_name("changed.pth")
        torch.save(changed, file)
        with pytest.raises(StateDictError) as caught:
            SamModel("vit_b", weights=file) if kind == "sam" else ClipEncoder("ViT-B-32", str(file))
        assert name in str(caught.value)
        assert str(file) in str(caught.value)

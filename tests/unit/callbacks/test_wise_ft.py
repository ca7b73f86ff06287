import numpy as np
import pytest
import torch
from PIL import Image

from naruto_vision.callbacks.wise_ft import WisePoint, choose_point, interpolate
from naruto_vision.callbacks.zero_shot import ZeroShotProbe, folder_probe, kept_share, synthetic_probe
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)


def _encoder() -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder("tiny-clip", "random", sizes=SIZES)


def _point(alpha: float, accuracy: float, loss: float, retention: float) -> WisePoint:
    return WisePoint(alpha, accuracy - 1e-6 * loss, {"accuracy": accuracy}, retention)


def test_weights_are_mixed_and_counts_are_not() -> None:
    start = {"weight": torch.tensor([0.0, 2.0]), "count": torch.tensor(3)}
    tuned = {"weight": torch.tensor([1.0, 4.0]), "count": torch.tensor(9)}
    mixed = interpolate(start, tuned, 0.25)
    assert mixed["weight"].tolist() == [0.25, 2.5]
    assert mixed["count"].item() == 9
    assert torch.equal(interpolate(start, tuned, 1.0)["weight"], tuned["weight"])
    with pytest.raises(InputError, match="names in one only"):
        interpolate({"other": torch.zeros(1)}, tuned, 0.5)
    with pytest.raises(InputError, match="0 to 1 expected"):
        interpolate(start, tuned, 1.5)


def test_the_best_mixture_that_keeps_enough_is_chosen() -> None:
    points = [_point(0.0, 0.5, 1.0, 1.0), _point(0.5, 0.8, 0.6, 0.95), _point(1.0, 0.9, 0.4, 0.6)]
    assert choose_point(points, 0.9).alpha == 0.5
    assert choose_point(points, 0.0).alpha == 1.0
    assert choose_point(points, 1.0).alpha == 0.0
    assert choose_point([_point(0.4, 0.8, 0.6, 1.0), _point(0.2, 0.8, 0.6, 1.0)], 0.0).alpha == 0.2
    assert choose_point([_point(0.4, 0.8, 0.5, 1.0), _point(0.2, 0.8, 0.6, 1.0)], 0.0).alpha == 0.4
    with pytest.raises(InputError, match="no mixture keeps 90%"):
        choose_point([_point(1.0, 0.9, 0.4, 0.6)], 0.9)


def test_a_probe_counts_images_whose_text_is_nearest() -> None:
    encoder = _encoder()
    probe = synthetic_probe(encoder, 6)
    assert probe.pixels.shape == (6, 3, 24, 24)
    with torch.no_grad():
        images = encoder.encode_images(probe.pixels)
        texts = encoder.encode_texts([own[0] for own in probe.texts])
    expected = ((images @ texts.T).argmax(dim=1) == torch.arange(6)).float().mean().item()
    assert probe.accuracy(encoder) == pytest.approx(expected)
    assert torch.equal(synthetic_probe(encoder, 6).pixels, probe.pixels)
    assert not torch.equal(synthetic_probe(encoder, 6, seed=1).pixels, probe.pixels)
    with pytest.raises(InputError, match="at least 2 answers"):
        ZeroShotProbe(torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.int64), (("a",),))


def test_a_probe_of_ones_own_images(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("others")
    for place, name in enumerate(("cat", "dog", "dog")):
        for split in ("train", "valid"):
            file = root / split / name / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20, 3), 40 * place + 5, dtype=np.uint8)).save(file)
    probe = folder_probe(_encoder(), str(root))
    assert probe.labels.tolist() == [0, 1, 1]
    assert probe.texts[1][0] == "dog"
    assert 0.0 <= probe.accuracy(_encoder()) <= 1.0


def test_nothing_to_lose_is_nothing_lost() -> None:
    assert kept_share(0.3, 0.6) == pytest.approx(0.5)
    assert kept_share(0.0, 0.0) == 1.0

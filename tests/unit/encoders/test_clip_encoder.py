import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip.factory
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.nn.functional import normalize

from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import FormatError, InputError, MissingPathError, StateDictError

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=2, text_width=32, text_layers=1
)
SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture
def small_architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-small-test", SMALL)
    return "ViT-small-test"


def _tiny() -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder("tiny-clip", "random", sizes=SIZES).eval()


def _image(height: int = 40, width: int = 20) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_images_and_texts_become_unit_vectors_of_one_space() -> None:
    encoder = _tiny()
    vectors = embed_images(encoder, [_image(), _image(10, 30)])
    texts = encoder.encode_texts(["short pink hair", "koba"])
    assert vectors.shape == texts.shape == (2, encoder.dim)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)


def test_leaving_out_shared_padding_changes_no_text_vector() -> None:
    encoder = _tiny()
    texts = ["pink hair", "a", "a girl with short pink hair in a red dress"]
    whole = normalize(encoder.clip.encode_text(encoder.tokenizer(texts)), dim=-1)
    assert torch.allclose(encoder.encode_texts(texts), whole, atol=1e-5)


def test_preprocessing_is_that_of_open_clip_and_keeps_tall_figures_whole() -> None:
    encoder = _tiny()
    pixels = encoder.preprocess(_image(40, 20))
    own = PreprocessCfg(size=24, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="longest", fill_color=128)
    expected = image_transform_v2(own, is_train=False)(Image.fromarray(_image(40, 20)))
    assert torch.equal(pixels, expected)
    assert float(pixels[:, :, 0].abs().max()) < 0.01  # the bar at the side is grey, about zero


def test_a_bundle_brings_back_the_same_encoder(tmp_path: Path) -> None:
    encoder = _tiny()
    encoder.save(tmp_path / "bundle", {"classes": ["a", "b"]})
    again = ClipEncoder(str(tmp_path / "bundle"))
    assert again.fingerprint == encoder.fingerprint
    assert again.info["classes"] == ["a", "b"]


def test_a_half_bundle_is_widened_and_stays_what_it_is(tmp_path: Path) -> None:
    encoder = _tiny()
    encoder.save(tmp_path / "half", dtype=torch.float16)
    again = ClipEncoder(str(tmp_path / "half"))
    assert next(again.parameters()).dtype == torch.float32
    assert again.fingerprint != encoder.fingerprint  # rounding the weights makes another encoder
    again.save(tmp_path / "half2", dtype=torch.float16)
    assert ClipEncoder(str(tmp_path / "half2")).fingerprint == again.fingerprint


def test_the_fingerprint_covers_weights_and_preprocessing(tmp_path: Path) -> None:
    encoder = _tiny()
    before = encoder.fingerprint
    encoder.save(tmp_path / "bundle")
    record = tmp_path / "bundle" / "model.json"
    info = json.loads(record.read_text())
    info["preprocessing"]["fill_color"] = 0
    record.write_text(json.dumps(info))
    assert ClipEncoder(str(tmp_path / "bundle")).fingerprint != before
    with torch.no_grad():
        encoder.clip.visual.proj[0, 0] += 1e-3
    assert encoder.fingerprint != before


def test_a_record_of_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    _tiny().save(tmp_path / "bundle")
    record = tmp_path / "bundle" / "model.json"
    info = json.loads(record.read_text())
    for change in ({"architecture": "os.system"}, {"sizes": {"depth": 3}}, {"preprocessing": {"mode": "CMYK"}}):
        record.write_text(json.dumps(info | change))
        with pytest.raises(FormatError, match=r"model\.json"):
            ClipEncoder(str(tmp_path / "bundle"))


def test_wrong_names_are_answered_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean ViT-B-32"):
        ClipEncoder("ViT-B-33")
    with pytest.raises(InputError, match=r"run: naruto-vision weights download ViT-B-32\.openai"):
        ClipEncoder("ViT-B-32")
    with pytest.raises(MissingPathError, match="no such model bundle"):
        ClipEncoder(str(tmp_path / "nowhere"))
    _tiny().save(tmp_path / "bundle")
    with pytest.raises(InputError, match="weights of its own"):
        ClipEncoder(str(tmp_path / "bundle"), "openai")


def _official_state(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {key: value.clone() for key, value in open_clip.create_model(name).state_dict().items()}


def test_a_local_file_in_open_clips_layout_is_loaded_key_for_key(tmp_path: Path, small_architecture: str) -> None:
    state = _official_state(small_architecture)
    path = tmp_path / "open_clip_pytorch_model.bin"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    encoder = ClipEncoder(small_architecture, str(path))
    assert all(torch.equal(value, state[name]) for name, value in encoder.clip.state_dict().items())
    assert encoder.describe()["quick_gelu"] is False


def test_missing_extra_and_reshaped_keys_are_named(tmp_path: Path, small_architecture: str) -> None:
    state = _official_state(small_architecture)
    path = tmp_path / "weights.pt"
    torch.save({name: value for name, value in state.items() if name != "ln_final.bias"}, path)
    with pytest.raises(StateDictError, match=r"1 missing \(ln_final.bias\)"):
        ClipEncoder(small_architecture, str(path))
    torch.save(state | {"visual.surprise": torch.zeros(1)}, path)
    with pytest.raises(StateDictError, match=r"1 unexpected \(visual.surprise\)"):
        ClipEncoder(small_architecture, str(path))
    torch.save(state | {"text_projection": torch.zeros(3, 3)}, path)
    with pytest.raises(StateDictError, match="of another shape"):
        ClipEncoder(small_architecture, str(path))


@pytest.mark.filterwarnings("ignore")
def test_openais_torchscript_file_switches_quick_gelu_on(tmp_path: Path, small_architecture: str) -> None:
    model = open_clip.create_model(small_architecture, force_quick_gelu=True).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = torch.randn(2, 3, 32, 32)
    expected = normalize(model.encode_image(pixels), dim=-1)
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    del model.attn_mask  # OpenAI's modules hold their mask outside the state
    traced = torch.jit.trace_module(model, {"encode_image": (pixels,)})
    path = tmp_path / "ViT-small-test.pt"
    torch.jit.save(traced, str(path))

    encoder = ClipEncoder(small_architecture, str(path)).eval()
    assert encoder.describe()["quick_gelu"] is True
    assert all(torch.equal(value, state[name]) for name, value in encoder.clip.state_dict().items())
    assert torch.allclose(encoder.encode_images(pixels), expected, atol=1e-5)
    encoder.save(tmp_path / "bundle")
    assert ClipEncoder(str(tmp_path / "bundle")).fingerprint == encoder.fingerprint


def test_half_precision_weights_are_widened(tmp_path: Path, small_architecture: str) -> None:
    state = {name: value.half() for name, value in _official_state(small_architecture).items()}
    torch.save(state, tmp_path / "half.pt")
    encoder = ClipEncoder(small_architecture, str(tmp_path / "half.pt"))
    assert {value.dtype for value in encoder.clip.state_dict().values()} == {torch.float32}


@pytest.mark.slow
def test_vit_b_32_in_the_official_layout(tmp_path: Path) -> None:
    state = _official_state("ViT-B-32")
    torch.save(state, tmp_path / "ViT-B-32.pt")
    encoder = ClipEncoder("ViT-B-32", str(tmp_path / "ViT-B-32.pt")).eval()
    assert embed_images(encoder, [_image()]).shape == (1, 512)
    assert encoder.encode_texts(["Koba of the Hill"]).shape == (1, 512)
    del state["logit_scale"]
    torch.save(state, tmp_path / "ViT-B-32.pt")
    with pytest.raises(StateDictError, match="logit_scale"):
        ClipEncoder("ViT-B-32", str(tmp_path / "ViT-B-32.pt"))

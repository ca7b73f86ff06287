"""SAM 2's memory: official files, the answers of transformers' own loop, what is forgotten."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.stock import official_state
from torch import Tensor

from naruto_vision.errors import FormatError, MissingPackageError, MissingPathError, StateDictError
from naruto_vision.records import ImageArray, Mask
from naruto_vision.segmentation.sam2 import SIZES, Sam2Architecture, Sam2Size, as_square
from naruto_vision.segmentation.sam2_video import Sam2Memory, build_video_network

SMALL = Sam2Size(
    width=16, heads=1, blocks=(1, 2, 3, 1), global_blocks=(4,), windows=(8, 4, 6, 2), position_grid=4, image_size=64,
    decoder_width=128, decoder_heads=2, decoder_mlp=48, iou_hidden=16,
)  # fmt: skip
FRAMES = [np.roll(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8), 2 * k, 1) for k in range(22)]
MASK = np.zeros((40, 60), np.bool_)
MASK[8:30, 10:32] = True


def _network(*, new: bool = True) -> Any:
    """Random weights whose masks change from frame to frame, and have edges inside the image."""
    torch.manual_seed(3)
    network = build_video_network(SMALL, new=new)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    network.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(9.0)  # visible
    network.shared_image_embedding.load_state_dict(network.prompt_encoder.shared_embedding.state_dict())
    return network


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a file in the official layout, of a size that is small here."""
    monkeypatch.setitem(SIZES, "small", SMALL)
    path = tmp_path / "sam2.1_hiera_small.pt"
    torch.save({"model": official_state(_network())}, path)
    return path


@pytest.mark.parametrize(
    ("architecture", "new", "count", "digest"),
    [
        ("tiny", True, 471, "bac6d522c4ff90fe9980fe55056dc14f71966e17c16d772f18674d978c0471ad"),
        ("small", True, 519, "c9876e8c1ec0adc34129db2418ca9d7118e5b69cdaae84f5d96b11736c3b3e02"),
        ("base_plus", True, 615, "e2d94a28cde080da1e50ee1a2514e30d1f9b87c12fd36dff1c71ab181c0708f3"),
        ("large", True, 903, "e5145693245ec4454c0f612349dadd98dc692ceb26c117646a6069c4abfbedcc"),
        ("tiny", False, 468, "5e523b8dafb774df3a42353563bf71d1fce1c41e2f8b3755a33f266c8a67e9c5"),
        ("large", False, 900, "eb5893e1dfbfb6662eeaede4c9c9582392673c139ef76eaa0246fbb4fe7efb96"),
    ],
)
def test_names_and_shapes_are_those_of_the_official_video_code(
    architecture: Sam2Architecture, new: bool, count: int, digest: str
) -> None:
    """The digests were made from the state dicts of the original predictor, built from its own YAML files."""
    with torch.device("meta"):
        state = official_state(build_video_network(SIZES[architecture], new=new))
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()) == (count, digest)


def _follow(memory: Sam2Memory, frames: list[ImageArray], mask: Mask = MASK) -> list[dict[int, Mask]]:
    found = [memory.follow(frames[0])]
    memory.add(7, mask)
    return found + [memory.follow(frame) for frame in frames[1:]]


def _stock(network: Any, frames: list[ImageArray]) -> list[Mask]:
    """Follow one mask with the whole video in one session, of which nothing is forgotten."""
    import transformers

    video = torch.cat([as_square(frame, SMALL.image_size, torch.device("cpu")) for frame in frames])
    session = transformers.Sam2VideoInferenceSession(video, 40, 60, dtype=torch.float32)
    side = {"height": SMALL.image_size, "width": SMALL.image_size}
    processor = transformers.Sam2VideoProcessor(
        transformers.Sam2ImageProcessor(size=side), transformers.Sam2VideoVideoProcessor(), SMALL.image_size
    )
    processor.process_new_mask_for_video_frame(session, 0, [1], [MASK])
    found = list(network.propagate_in_video_iterator(session, start_frame_idx=0))
    return [
        (torch.nn.functional.interpolate(each.pred_masks, (40, 60), mode="bilinear")[0, 0] > 0).numpy()
        for each in found
    ]


@pytest.mark.parametrize("new", [True, False], ids=["2.1", "2.0"])
def test_masks_are_those_of_transformers_which_forgets_nothing(file: Path, new: bool) -> None:
    network = _network(new=new)
    torch.save({"model": official_state(network)}, file)
    expected = _stock(network, FRAMES)
    found = _follow(Sam2Memory(file), FRAMES)
    assert found[0] == {}
    assert all(0.02 < mask.mean() < 0.98 for mask in expected)
    assert len({mask.tobytes() for mask in expected}) == len(FRAMES)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert np.array_equal(ours[7], theirs)


def test_objects_do_not_depend_on_others_and_are_forgotten_alone(file: Path) -> None:
    alone = _follow(Sam2Memory(file), FRAMES[:6])
    memory = Sam2Memory(file)
    memory.follow(FRAMES[0])
    memory.add(7, MASK)
    memory.add(3, MASK[::-1, ::-1].copy())
    together = [memory.follow(frame) for frame in FRAMES[1:4]]
    memory.keep({7})
    together += [memory.follow(frame) for frame in FRAMES[4:6]]
    assert [sorted(each) for each in together] == [[3, 7]] * 3 + [[7]] * 2
    for ours, theirs in zip(together, alone[1:], strict=True):
        assert np.array_equal(ours[7], theirs[7])
    memory.keep(())
    assert memory.follow(FRAMES[6]) == {}


def test_an_object_that_is_not_there_has_no_mask(file: Path) -> None:
    network = _network()
    network.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(-99.0)
    torch.save({"model": official_state(network)}, file)
    assert _follow(Sam2Memory(file), FRAMES[:4]) == [{}] * 4


def _bytes(value: object, seen: set[int]) -> int:
    """Add up the tensors that are reachable from an object, except the network."""
    if id(value) in seen or isinstance(value, torch.nn.Module):
        return 0
    seen.add(id(value))
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        known, _ = storage.data_ptr() in seen, seen.add(storage.data_ptr())
        return 0 if known else storage.nbytes()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    inside = vars(value).values() if hasattr(value, "__dict__") else ()
    return sum(_bytes(each, seen) for each in (*parts, *inside))


def test_memory_does_not_grow_with_the_length_of_a_shot(file: Path) -> None:
    memory, sizes = Sam2Memory(file), list[int]()
    memory.follow(FRAMES[0])
    memory.add(1, MASK)
    for k in range(1, 60):
        memory.follow(FRAMES[k % len(FRAMES)])
        sizes.append(_bytes(memory, set()))
    assert sizes[20] > sizes[0]
    assert max(sizes[20:]) == sizes[20]


@pytest.mark.parametrize("kind", ["missing", "extra", "reshaped", "points"])
def test_one_wrong_key_is_enough_to_refuse_and_is_named(file: Path, kind: str) -> None:
    state = official_state(_network())
    name = "memory_attention.layers.2.cross_attn_image.out_proj.weight"
    match kind:
        case "missing":
            del state[name]
        case "extra":
            name = "memory_encoder.other.weight"
            state[name] = torch.zeros(1)
        case "reshaped":
            state["memory_encoder.out_proj.weight"], name = torch.zeros(2, 3), "memory_encoder.projection.weight"
        case _:
            state["sam_prompt_encoder.point_embeddings.2.weight"] = torch.zeros(2, 3)
            name = "prompt_encoder.point_embed.weight"
    torch.save({"model": state}, file)
    with pytest.raises(
        StateDictError, match=rf"{file.name}: not weights of SAM 2 small for videos: 1 .*{re.escape(name)}"
    ):
        Sam2Memory(file)


def test_what_cannot_be_opened_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingPathError, match=r"run: naruto-vision weights download sam2\.1_hiera_tiny$"):
        Sam2Memory("sam2.1_hiera_tiny")
    torch.save({"image_encoder.pos_embed": torch.zeros(1)}, "mine.pt")
    with pytest.raises(FormatError, match=r"official file of SAM 2 .*, found image_encoder\.pos_embed"):
        Sam2Memory("mine.pt")
    monkeypatch.setattr("naruto_vision.io.machine.has_package", lambda _name: False)
    with pytest.raises(MissingPackageError, match=r"transformers is not installed; run: .*naruto-vision\[sam2\]"):
        Sam2Memory("mine.pt")
